"""Verifications of a lake as its operator runs them, and what the last one said of each table.

That is kept in the lake for the dashboard to show. It proves nothing: whoever can write to the lake
can write it too, so who has to be sure verifies.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.errors import AuditlakeError
from pipelines.integrity import files, keys, last_signed
from pipelines.integrity.verifier import audit, verify
from pipelines.integrity.verifier.verify import Case, Crew, Place, Verdict
from pipelines.lake.tables import Lake
from pipelines.settings import IntegritySettings

Document = dict[str, Any]

_KEPT = "verification.json"
_LONGEST = 16_384


def place(lake: Lake, chosen: IntegritySettings, vkeys: Sequence[str] = ()) -> Place:
    """The lake as a verifier sees it."""
    return Place(
        root=lake.root,
        options=lake.storage_options,
        memory=last_signed.folder(lake, chosen),
        keys=list(vkeys) or keys.trusted(chosen),
        name=chosen.name,
        anchors=chosen.anchors,
    )


def verdicts(
    where: Place,
    tables: Iterable[str],
    kinds: Mapping[str, str],
    crew: Crew,
    *,
    since: Mapping[str, Sequence[str]] | None = None,
    full: bool = False,
    progress: verify.Progress = lambda _table, _read, _all: None,
) -> Iterator[Verdict]:
    """The verdict on each table; `kinds` by integration, checkpoints somebody kept by table."""
    for table in tables:
        kept = (since or {}).get(table, ())
        if table == verify.ACTS:
            yield verify.verify_acts(where, kept)
            continue
        kind = kinds.get(table.split("/")[1])
        case = Case(place=where, table=table, kind=kind, since=kept, full=full, progress=progress)
        yield verify.verify(case, crew)


def kept_checkpoints(where: Place, paths: Iterable[Path]) -> dict[str, list[str]]:
    """The checkpoints in these files, and in the files of these folders, by table."""
    found: dict[str, list[str]] = {}
    for path in paths:
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        notes = [note for file in files if (note := _note(file))]
        if not notes:
            raise AuditlakeError(f"{path}: there is no checkpoint")
        for note in notes:
            found.setdefault(verify.table_of(where, note), []).append(note)
    return found


def _note(file: Path) -> str | None:
    """The checkpoint in a file; None where something else is in it."""
    with suppress(audit.Invalid, UnicodeDecodeError):
        text = file.read_text(encoding="utf-8") if file.stat().st_size < _LONGEST else ""
        audit.checkpoint_in(text.partition("\n\n")[0] + "\n")
        return text
    return None


def line(verdict: Verdict) -> str:
    """A verdict for people to read."""
    if verdict.first_bad:
        first = verdict.first_bad
        others = f" (and {len(verdict.findings) - 1} more findings)" * (len(verdict.findings) > 1)
        return f"{verdict.table}: {first.kind.upper()}: {first.detail}{others}"
    since = f", {verdict.read:,} read since {verdict.first:,}" if verdict.first else ""
    removed = f", {verdict.removed:,} removed by policy" if verdict.removed else ""
    seen = f", agrees with {len(verdict.compared_with)} kept checkpoints"
    return f"{verdict.table}: ok, {verdict.size:,} signed{since}{removed}{seen}"


def document(verdict: Verdict) -> Document:
    """A verdict for machines to read."""
    return {"ok": verdict.ok, **asdict(verdict), "at": verdict.at.isoformat()}


def kept(lake: Lake) -> list[Document]:
    """What the last verification said of each table."""
    found: list[Document] = json.loads(files.of(lake, "integrity").get(_KEPT) or "[]")
    return found


def keep(lake: Lake, found: Iterable[Verdict]) -> None:
    """Put these verdicts in the place of the former ones on the same tables."""
    before = {held["table"]: held for held in kept(lake)}
    for verdict in found:
        fresh, former = document(verdict), before.get(verdict.table, {})
        all_read = not verdict.first
        fresh["full_at"] = fresh["at"] if all_read else former.get("full_at")
        before[verdict.table] = fresh
    held = [before[table] for table in sorted(before)]
    files.of(lake, "integrity").put(_KEPT, json.dumps(held, indent=2).encode())
