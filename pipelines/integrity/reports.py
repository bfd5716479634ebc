"""Runs verifications, and stores the last report on each table in the lake.

The stored reports are for the dashboard and prove nothing: anyone who can write to the lake can
forge them. To be sure, run a verification.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from pipelines import registry
from pipelines.clock import utc_now
from pipelines.errors import AuditlakeError
from pipelines.integrity import files, keys, last_signed
from pipelines.integrity.verifier import (
    identities,
    proofs,
    rollups,
    text_index,
    verify,
    witnesses,
)
from pipelines.integrity.verifier.data_files import Kept
from pipelines.integrity.verifier.job import (
    ACTS,
    FINDINGS,
    IDENTITIES,
    Crew,
    Job,
    LakeView,
    Progress,
    TableReport,
)
from pipelines.integrity.verifier.log_reader import LogFiles
from pipelines.lake import coverage, findings, raw, reconciliation, streams, tables
from pipelines.lake.tables import Lake
from pipelines.settings import IntegritySettings

Document = dict[str, Any]

_UNKNOWN = "{0} {1} is no known stream: configure integrations.{0} with its kind"
_REPORTS = "verification.json"
_MAX_BYTES = 16_384


def place(
    lake: Lake,
    chosen: IntegritySettings,
    vkeys: Sequence[str] = (),
    witness_keys: Sequence[str] = (),
    quorum: int | None = None,
) -> LakeView:
    """Return the verifier's view of the lake.

    `vkeys` replace the trusted keys, and `witness_keys` the witnesses, if given. Raises
    ConfigurationError for keys or a quorum of witnesses that cannot be used, or a newer lake.
    """
    tables.refuse_newer(lake)
    by_default = len(witness_keys) if witness_keys else chosen.quorum or len(chosen.witnesses)
    view = LakeView(
        root=lake.root,
        options=lake.scan_options,
        memory=last_signed.folder(lake, chosen),
        keys=list(vkeys) or keys.trusted_anew(chosen),
        name=chosen.name,
        anchors=chosen.anchors,
        witnesses=list(witness_keys) or chosen.witnesses,
        quorum=quorum or by_default,
        network=chosen.network,
    )
    witnesses.check_keys(view)
    return view


def verdicts(
    where: LakeView,
    tables: Iterable[str],
    kinds: Mapping[str, str],
    crew: Crew,
    *,
    since: Mapping[str, Sequence[str]] | None = None,
    full: bool = False,
    progress: Progress = lambda _table, _read, _all: None,
) -> Iterator[TableReport]:
    """Verify the tables and yield one report per table.

    `kinds` maps integrations to their kinds, `since` tables to checkpoints the auditor kept.
    """
    lake = LogFiles(root=where.root, options=where.options or {})
    where = replace(where, kept=Kept())
    obstacle = cache(lake.obstacle)
    differing: list[str] = []
    for table in tables:
        if reason := next(filter(None, map(obstacle, _folders(table))), None):
            yield _unreadable(table, reason)
            continue
        if table in RECOMPUTED:
            verdict = RECOMPUTED[table](where, full)
            if table == "events" and differing:
                verdict.found("events", None, f"differ from {', '.join(differing)}: see there")
            yield verdict
            continue
        kept = (since or {}).get(table, ())
        if table == ACTS:
            yield verify.verify_acts(where, kept)
            continue
        kind = None if table == FINDINGS else _kind(kinds, table)
        case = Job(place=where, table=table, kind=kind, since=kept, full=full, progress=progress)
        verdict = verify.verify(case, crew)
        if kind is None and table != FINDINGS:
            verdict.uncompared = verdict.size
            verdict.notes.append(f"events not compared: {_UNKNOWN.format(*table.split('/')[1:])}")
        if any(each.kind == "events" for each in verdict.findings):
            differing.append(table)
        yield verdict


def _folders(table: str) -> list[str]:
    """Return the folders with the files that the verification of a table reads."""
    if table in RECOMPUTED:
        return [table, "events"]
    signed = [f"integrity/{table.removeprefix('raw/')}", f"integrity/{ACTS}"]
    if table in (ACTS, FINDINGS):
        return [*signed, *([table] if table == FINDINGS else [])]
    return [*signed, table, "events"]


def _unreadable(table: str, reason: str) -> TableReport:
    verdict = TableReport(table=table, at=utc_now())
    verdict.found("unreadable", None, reason)
    return verdict


def _kind(kinds: Mapping[str, str], table: str) -> str | None:
    """Return the kind of a table's integration; None if it or the stream is not known."""
    _, name, stream = table.split("/")
    known = registry.kinds().get(kinds.get(name, name))
    streams = known.streams(None) if known else ()
    return known.kind if known and any(each.name == stream for each in streams) else None


RECOMPUTED: dict[str, Callable[[LakeView, bool], TableReport]] = {
    "events": lambda where, _full: rollups.verify_events(where, lambda: verify.tables(where)),
    "rollups": lambda where, full: rollups.verify_rollups(where, full=full),
    text_index.TABLE: lambda where, full: text_index.verify(where, full=full),
    IDENTITIES: lambda where, _full: identities.verify(where),
}
"""The derived tables that a verification computes again."""


def derived(where: LakeView) -> list[str]:
    """Return the derived tables of this lake that a verification computes again."""
    return [table for table in _shared(where) if table in RECOMPUTED]


_UNSIGNED = (
    *("access", "views"),
    *(coverage.TABLE.name, raw.REJECTED_TABLE.name, streams.TABLE.name),
    *(reconciliation.ECHOES_TABLE.name, reconciliation.RECONCILED_TABLE.name),
    *(each.name for each in findings.TABLES if each != findings.FINDINGS),
)


def not_covered(where: LakeView) -> list[str]:
    """Return the tables that are neither signed nor computed again, missing ones included.

    Anyone who can forge one of them can also delete it.
    """
    return sorted({*_UNSIGNED, *_shared(where)} - {*RECOMPUTED, FINDINGS})


def _shared(where: LakeView) -> list[str]:
    """Return the tables other than those in raw."""
    pairs = LogFiles(root=where.root, options=where.options or {}).pairs()
    folders = (pair.split("/") for pair in pairs)
    return sorted(table for table, below in folders if below == "_delta_log")


def kept_checkpoints(where: LakeView, paths: Iterable[Path]) -> dict[str, list[str]]:
    """Return the checkpoints found in these files and folders, by table.

    Raises AuditlakeError if a path contains none.
    """
    found: dict[str, list[str]] = {}
    for path in paths:
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        notes = [note for file in files if (note := _note(file))]
        if not notes:
            raise AuditlakeError(f"{path}: contains no checkpoint")
        for note in notes:
            found.setdefault(verify.table_of(where, note), []).append(note)
    return found


def _note(file: Path) -> str | None:
    """Return the checkpoint in a file, or None if it contains something else."""
    with suppress(proofs.Invalid, UnicodeDecodeError):
        text = file.read_text(encoding="utf-8") if file.stat().st_size < _MAX_BYTES else ""
        proofs.checkpoint_in(text.partition("\n\n")[0] + "\n")
        return text
    return None


def line(verdict: TableReport) -> str:
    """Return the report on a table as one line of text."""
    if verdict.first_bad:
        first = verdict.first_bad
        others = f" (and {len(verdict.findings) - 1} more findings)" * (len(verdict.findings) > 1)
        return f"{verdict.table}: {first.kind.upper()}: {first.detail}{others}"
    if verdict.uncompared:
        return f"{verdict.table}: NOT COMPARED: {verdict.uncompared:,} rows of events, see below"
    if verdict.table in RECOMPUTED:
        return f"{verdict.table}: ok, {_recomputed(verdict)}"
    since = f", {verdict.read:,} read from row {verdict.first:,}" if verdict.first else ""
    by_policy = verdict.removed - verdict.erased - verdict.lost
    removed = f", {by_policy:,} removed by retention" if by_policy else ""
    removed += f", {verdict.erased:,} erased on request" if verdict.erased else ""
    removed += f", {verdict.lost:,} lost in a restore" if verdict.lost else ""
    known = len(verdict.compared_with)
    seen = f", agrees with {known} known checkpoint{'s' if known != 1 else ''}"
    seen += f", {verdict.witnessed}" * bool(verdict.witnessed)
    return f"{verdict.table}: ok, {verdict.size:,} signed{since}{removed}{seen}"


def _recomputed(verdict: TableReport) -> str:
    if verdict.table == IDENTITIES:
        return f"{verdict.read:,} rows follow from events"
    if verdict.table == "events":
        return f"{verdict.read:,} rows, in the files and with the statistics that its log states"
    since = f" from file {verdict.first:,} on" if verdict.first else ""
    return f"the aggregates of {verdict.size:,} files, counted again{since}"


def document(verdict: TableReport) -> Document:
    """Return the report on a table as a JSON document."""
    return {"ok": verdict.ok, **asdict(verdict), "at": verdict.at.isoformat()}


def kept(lake: Lake) -> list[Document]:
    """Return the stored report of the last verification of each table."""
    found: list[Document] = json.loads(files.of(lake, "integrity").get(_REPORTS) or "[]")
    return found


def _failed_in_full(former: Document) -> bool:
    """Return whether the stored report is the failure of a run that read all rows."""
    return former.get("ok") is False and not former.get("first")


def keep(lake: Lake, found: Iterable[TableReport]) -> None:
    """Store these reports in the lake, replacing earlier ones on the same tables.

    A failure that a full run found is replaced by another failure, or by the next full run.
    """
    before = {held["table"]: held for held in kept(lake)}
    for verdict in found:
        fresh, former = document(verdict), before.get(verdict.table, {})
        all_read = not verdict.first  # an incremental run keeps the time of the last full one
        if verdict.ok and not all_read and _failed_in_full(former):
            continue
        fresh["full_at"] = fresh["at"] if all_read else former.get("full_at")
        if not all_read:  # nor were the records of earlier rows looked at again
            fresh["differing"] = {**former.get("differing", {}), **fresh["differing"]}
        before[verdict.table] = fresh
    held = [before[table] for table in sorted(before)]
    files.of(lake, "integrity").put(_REPORTS, json.dumps(held, indent=2).encode())
