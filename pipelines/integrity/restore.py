"""Replaces the tables of a lake by those of a backup, as a recorded and signed act.

The signed log of a stream stays, with the hashes of the rows that the backup lacks: the act lists
them, and new rows continue after them. Where the log itself is lost, it begins again under a new
name with that of the backup, and the act names the newest checkpoint of the former one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.errors import ConfigurationError, LakeError
from pipelines.integrity import (
    backup,
    keys,
    last_signed,
    mappings,
    note,
    operator_acts,
    removals,
    removing,
    signer,
)
from pipelines.integrity.files import Disk
from pipelines.integrity.note import Head
from pipelines.integrity.signer import SignedLog
from pipelines.lake import (
    commits,
    findings,
    maintenance,
    tables,
)
from pipelines.lake.commits import Decision, Table
from pipelines.lake.tables import Lake, Numbered, StreamKey
from pipelines.schemas import RAW

# If this is killed between two tables, the lake has too few of these rows rather than too many.
_FIRST = backup.BEFORE_ROWS


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The effect of a restore on one stream, or on the findings."""

    log: Numbered
    rows: int
    """The rows that the backup has, or that were removed from it."""
    head: Head | None
    """The newest checkpoint known of the signed log; None if nothing was signed."""
    kept: Head | None
    """The checkpoint in the backup."""
    whole: bool
    """Whether the signed log is still there up to `head`."""

    @property
    def lost(self) -> range:
        """The rows that were signed and that the backup lacks, by number."""
        return range(self.rows, max(self.rows, self.head.size if self.head else 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The backup to restore, who restores it, and why."""

    who: str
    why: str
    source: Path


def chosen(source: Path) -> Path:
    """Return the backup at `source`, or the newest in it. Raises ConfigurationError."""
    found = source if (source / backup.MANIFEST).exists() else backup.newest(source)
    if found is None:
        raise ConfigurationError(f"{source} contains no complete backup")
    return found


def plans(lake: Lake, source: Path) -> list[Plan]:
    """Return the effect of restoring a backup on each of its streams. Raises LakeError."""
    copy = Lake(str(source), None, lake.integrity)
    found = maintenance.tables_of(copy, [])
    logs: list[Numbered] = [
        StreamKey(*table.split("/")[1:]) for table in found if table.startswith("raw/")
    ]
    logs += [findings.LOG] if findings.LOG.table in found else []
    return [_plan(lake, copy, log) for log in logs]


def restore(lake: Lake, request: Request, now: datetime) -> list[Plan]:
    """Replace the tables by those of a backup, record and sign it, and return its effects.

    Nothing else may write to the lake meanwhile. The former tables are moved to a folder next to
    the lake. After a kill, call it again. Raises LakeError and ConfigurationError.
    """
    if lake.local is None:
        raise ConfigurationError("lake.root is in an object store: restore its bucket instead")
    source, root = request.source, lake.local.resolve()
    if source.resolve().is_relative_to(root):
        raise ConfigurationError(f"{source} is inside the lake: move it out")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = plans(lake, source)
    since = _acts_since(lake, source)
    draft = root.with_name(f".{root.name}.restoring")
    former = root.with_name(f"{root.name}.before-restore-{now:%Y-%m-%dT%H%M%SZ}")
    _prepare(source, draft, found)
    _restore_logs(lake, request, found, former, now)
    for plan in found:
        _record(lake, request, plan, now)
    for table in _in_order(maintenance.tables_of(Lake(str(draft)), [])):
        _replace(root / table, draft / table, former / table)
    shutil.rmtree(draft)
    for plan in found:
        _sign(lake, plan, now)
        if isinstance(plan.log, StreamKey):
            _record_mapping(lake, plan.log, since, now)
    removing.finish(lake, now)
    return found


def _plan(lake: Lake, copy: Lake, log: Numbered) -> Plan:
    rows, kept = _rows(copy, log), signer.of(lake, log.app)
    if kept is None:
        return Plan(log=log, rows=rows, head=None, kept=None, whole=True)
    theirs = _checkpoint(copy, log.app)
    head = signer.newest_signed(kept)
    if head and theirs and head.origin != theirs.origin:
        raise LakeError(
            f"{log.table}: the backup is of another signed log, {theirs.origin}, and this lake's "
            f"is {head.origin}: set another lake.root to restore it there"
        )
    # Equal, the log is whole with the tiles of the backup.
    whole = head is not None and (head == theirs or backup.is_whole(Disk(_folder(kept)), head))
    return Plan(log=log, rows=rows, head=head, kept=theirs, whole=whole)


def _rows(lake: Lake, log: Numbered) -> int:
    with tables.store_errors(log.table), tables.borrowed(lake, log.table) as handle:
        return commits.fence(handle, log.app) if handle else 0


def _checkpoint(copy: Lake, name: str) -> Head | None:
    """Return the checkpoint in a backup. Raises LakeError if its log is not as it was signed."""
    folder = Disk(Path(copy.root) / backup.SIGNED / name)
    text = folder.get("checkpoint")
    if text is None:
        return None
    head = note.opened(text, keys.trusted(copy.integrity) if copy.integrity else ())
    if head is None or not backup.is_whole(folder, head):
        raise LakeError(f"{copy.root}: {name}: the signed log is not as it was signed")
    return head


def _prepare(source: Path, draft: Path, found: Sequence[Plan]) -> None:
    """Copy the tables, and let those with lost rows continue after them."""
    shutil.rmtree(draft, ignore_errors=True)
    for table in maintenance.tables_of(Lake(str(source)), []):
        shutil.copytree(source / table, draft / table)
    for plan in found:
        if plan.whole and plan.lost:
            _continue_at(Lake(str(draft)), plan.log, plan.lost.stop)
    os.sync()


def _continue_at(draft: Lake, log: Numbered, rows: int) -> None:
    of_raw = Table(name=log.table, schema=RAW, about="")
    table = findings.FINDINGS if log == findings.LOG else of_raw
    none = pl.DataFrame(schema=table.schema)
    commits.write(draft, table, log.app, lambda _handle, _rows: Decision(none, rows), {})


def _restore_logs(
    lake: Lake, request: Request, found: Sequence[Plan], former: Path, now: datetime
) -> None:
    """Put the signed logs of the backup in the place of those that are lost."""
    _restore_acts(lake, request, former, now)
    for plan in found:
        kept = signer.of(lake, plan.log.app)
        if kept and plan.kept and not _is_there(kept, plan):
            _replace_log(lake, request.source, kept.name, former)


def _is_there(kept: SignedLog, plan: Plan) -> bool:
    return plan.head is not None and backup.is_whole(Disk(_folder(kept)), plan.head)


def _folder(kept: SignedLog) -> Path:
    if not isinstance(kept.folder, Disk):
        raise LakeError(f"{kept.name}: its signed log is not on a disk")
    return kept.folder.root


def _replace_log(lake: Lake, source: Path, name: str, former: Path) -> None:
    copy, path = source / backup.SIGNED / name, Path(lake.root) / backup.SIGNED / name
    if path.exists():
        (former / backup.SIGNED / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.rename(former / backup.SIGNED / name)
    shutil.copytree(copy, path)


def _restore_acts(lake: Lake, request: Request, former: Path, now: datetime) -> None:
    kept = signer.of(lake, signer.ACTS)
    theirs = _checkpoint(Lake(str(request.source), None, lake.integrity), signer.ACTS)
    if kept is None or theirs is None:
        return
    head = signer.newest_signed(kept)
    if head and backup.is_whole(Disk(_folder(kept)), head):
        return
    _replace_log(lake, request.source, signer.ACTS, former)
    # Those of an act that was not published yet are about a log of the former name.
    shutil.rmtree(_folder(kept) / "claims", ignore_errors=True)
    if head != theirs:
        last_signed.forget(kept.place, kept.table)
        act = {**_about(request), "table": kept.table, **_former(head, theirs)}
        operator_acts.begin_again(lake, act, theirs, now)


def _about(request: Request) -> dict[str, Any]:
    made = json.loads((request.source / backup.MANIFEST).read_bytes())["at"]
    return {"act": removals.RESTORED, "backup": str(made), "who": request.who, "why": request.why}


def _record(lake: Lake, request: Request, plan: Plan, now: datetime) -> None:
    """Record and sign the lost rows of a stream, or the checkpoint of its lost log."""
    kept = signer.of(lake, plan.log.app)
    about = _about(request)
    if kept and plan.head and plan.whole:
        removing.record(lake, plan.log, plan.lost, about, now)
    elif kept and plan.kept:
        about = {**about, **_former(plan.head, plan.kept)}
        _begin_again(lake, kept, plan.kept, about, now)


def _begin_again(
    lake: Lake, kept: SignedLog, former: Head, about: Mapping[str, Any], now: datetime
) -> None:
    """Continue the log of the backup under another name, and record and sign which it was."""
    was_mapped = former.origin.rpartition("/")[2].startswith(signer.MAPPED)
    fresh = signer.new_head(kept, signer.MAPPED if was_mapped else "")
    act = {**about, "table": kept.table}
    operator_acts.record(lake, {**act, "origin": fresh.origin}, now)
    last_signed.forget(kept.place, kept.table)
    with last_signed.alone(kept.place, kept.table):
        head = replace(former, origin=fresh.origin)
        signer.announce(kept, head, now, kept.folder.get("checkpoint"))


def _former(head: Head | None, kept: Head) -> dict[str, Any]:
    """Return the newest checkpoint known of a lost log, and how many entries the backup has."""
    return {"former": (head or kept).text, "kept": kept.size}


def _in_order(found: Sequence[str]) -> list[str]:
    first = [table.name for table in _FIRST if table.name in found]
    return [*first, *(table for table in found if table not in first)]


def _replace(table: Path, restored: Path, former: Path) -> None:
    if table.exists():
        former.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        table.rename(former)
    table.parent.mkdir(parents=True, exist_ok=True)
    try:
        restored.rename(table)
    except OSError as error:
        raise LakeError(
            f"{table}: something has written to it meanwhile: stop it and run this again"
        ) from error


def _sign(lake: Lake, plan: Plan, now: datetime) -> None:
    """Sign the rows that a killed writer had left unsigned in the backup."""
    rows = _rows(lake, plan.log)
    if rows and signer.of(lake, plan.log.app):
        signer.sign(lake, plan.log, rows, now)


def _acts_since(lake: Lake, source: Path) -> list[dict[str, Any]]:
    """Return the acts that were recorded after the backup was made, as far as they are left."""
    theirs = _checkpoint(Lake(str(source), None, lake.integrity), signer.ACTS)
    with suppress(LakeError):
        return operator_acts.recorded(lake)[theirs.size if theirs else 0 :]
    return []


def _record_mapping(
    lake: Lake, log: StreamKey, since: Sequence[dict[str, Any]], now: datetime
) -> None:
    """Record that events of older mapping versions may be there again, if that can be."""
    for version in _newest_mapping(log, since):
        mappings.record(lake, log, version, now)


def _newest_mapping(log: StreamKey, since: Sequence[dict[str, Any]]) -> Iterator[int]:
    for act in reversed(since):
        if act.get("act") in mappings.KINDS and act.get("log") == log.app:
            yield act["version"]
            return
