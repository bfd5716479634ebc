"""Verifies the events of a raw table as a whole: which mapping versions made them, and how many."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from pipelines import registry
from pipelines.integrity.verifier import known_checkpoints, operator_acts, rows, table_reader
from pipelines.integrity.verifier.job import ACTS, Job, LakeView, TableReport
from pipelines.integrity.verifier.operator_acts import Mappings
from pipelines.integrity.verifier.proofs import Invalid
from pipelines.integrity.verifier.table_reader import TableFiles

_MAPPED = "mapped-"  # in the name of a log that began with an act about its mapping version
_REMOVING = 60.0  # seconds to wait for retention to delete the events of rows it has deleted
_WAITING = 20.0  # seconds to wait for the events of rows that are just being stored


def recorded(case: Job) -> Mappings | None:
    """Return the acts about the table's mapping versions; None if they are not as signed.

    To be called before `events` is opened: a later act may concern events that are not seen yet.
    """
    try:
        return operator_acts.mappings(case.place.shelf(ACTS), case.name, case.place.keys)
    except Invalid:
        return None


def check(case: Job, verdict: TableReport, held: TableFiles, before: Mappings | None) -> None:
    """Report events that nothing accounts for, and count those whose values were not compared."""
    if case.kind is None:
        return
    _judge(case, verdict, held.uncompared, before)
    if before and held.events.derived < before.start:
        detail = f"events: of {held.events.derived:,} rows; of {before.start:,} when it was signed"
        verdict.found("events", held.events.derived, detail)
    if held.tasks and not any(each.kind == "events" for each in verdict.findings):
        _count(case, verdict, held)
    verdict.derived = min(held.events.derived, verdict.size)
    if verdict.derived < verdict.size and not _is_derived(case, verdict.size):
        behind = verdict.size - verdict.derived
        verdict.uncompared += behind
        verdict.notes.append(
            f"{behind:,} rows from {verdict.derived:,} have no events yet: a round is running, or "
            "was killed and the next one derives them"
        )


def _judge(
    case: Job,
    verdict: TableReport,
    others: Mapping[int | None, Sequence[int]],
    before: Mappings | None,
) -> None:
    """Report events of other mapping versions, unless the signed acts allow them."""
    marked = verdict.origin.rpartition("/")[2].startswith(_MAPPED)
    if not others and not marked:
        return
    lost = before is None or (before.newest is None and (marked or _known_outside(case.place)))
    if lost:
        detail = "the signed acts about its mapping versions are missing or altered"
        verdict.found("acts", None, detail)
    current = registry.kind(case.kind or "").mapping_version
    for version, seqs in others.items():
        forged = _unexcused(version, seqs, current, before or Mappings())
        # Recorded meanwhile, if an auditlake of another version has just been started.
        after = recorded(case) if forged else None
        forged = _unexcused(version, forged, current, after or Mappings())
        if forged:
            verdict.found("events", min(forged), _forged(version, forged, current))
    _count_uncompared(verdict, others, before)


def _unexcused(version: int | None, seqs: Sequence[int], current: int, acts: Mappings) -> list[int]:
    return [seq for seq in seqs if not acts.excuses(version, seq, current)]


def _forged(version: int | None, seqs: Sequence[int], current: int) -> str:
    return (
        f"events: {len(seqs):,} of mapping version {version} from row {min(seqs):,}, where the "
        f"signed acts allow only version {current}: forged, or made by another auditlake; "
        "`auditlake renormalise` derives them again"
    )


def _count_uncompared(
    verdict: TableReport, others: Mapping[int | None, Sequence[int]], before: Mappings | None
) -> None:
    if not others:
        return
    count = sum(map(len, others.values()))
    names = ", ".join(str(version) for version in sorted(others, key=str))
    detail = f"{count:,} rows of events not compared: mapping version {names}"
    if before and before.newest is None:
        detail += "; this lake was signed without acts about its mapping versions"
    else:
        verdict.uncompared += count
    verdict.notes.append(f"{detail}: run `auditlake renormalise`")


def _known_outside(place: LakeView) -> bool:
    """Return True if a record outside the lake contains acts."""
    logs = known_checkpoints.logs(place.memory, place.name, place.anchors)
    return bool(known_checkpoints.remembered(place.memory, f"raw/{ACTS}")) or any(
        name.startswith(f"{ACTS}/") for name in logs
    )


def _count(case: Job, verdict: TableReport, held: TableFiles) -> None:
    """Report events that belong to no row; all others were compared with their rows."""
    _, integration, stream = case.table.split("/")
    ours = (pl.col("integration") == integration) & (pl.col("stream") == stream)
    # Negative seqs and nulls are counted too: they can only be forged.
    verified = pl.col("seq").is_between(0, verdict.first, "left").fill_null(value=False)
    try:
        # The files that were compared: a newer version may have other events of the same rows.
        files = [file for day in held.events.by_day.values() for file in day]
        kept, trusting = case.place.kept, bool(verdict.first)
        read = rows.event_rows(files, case.options, kept, use_statistics=trusting)
        found = read.filter(ours, ~verified).select("seq").collect()
        extra = found.height - verdict.events
        if extra and _being_removed(case, ours & ~verified, found, extra):
            return
    except rows.UNREADABLE as error:
        reason = rows.reason_of(error)
        verdict.found("events", None, f"cannot read events: {reason}")
        return
    if extra:
        verdict.found("events", None, f"events: {extra:,} events belong to no row of this table")


def _being_removed(case: Job, condition: pl.Expr, found: pl.DataFrame, extra: int) -> bool:
    """Wait for a retention run to delete the `extra` events; return True once they are gone."""
    removed = table_reader.removed_rows(case).rows
    gone = [pl.col("seq").is_between(first, until, "left") for first, until in removed]
    if not gone or found.filter(pl.any_horizontal(gone)).height != extra:
        return False
    deadline = time.monotonic() + _REMOVING
    while left := _newest(case, condition & pl.any_horizontal(gone)):
        if time.monotonic() >= deadline:
            break
        time.sleep(0.5)
    return not left


def _newest(case: Job, condition: pl.Expr) -> int:
    """Return the number of such events in the newest version."""
    events = DeltaTable(case.place.uri("events"), storage_options=case.options)
    count: int = pl.scan_delta(events).filter(condition).select(pl.len()).collect().item()
    return count


def _is_derived(case: Job, size: int) -> bool:
    """Wait briefly for the events of `size` rows; return True if they are there."""
    deadline = time.monotonic() + _WAITING
    while True:
        if _derived(case) >= size:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)


def _derived(case: Job) -> int:
    try:
        handle = DeltaTable(case.place.uri("events"), storage_options=case.options)
    except (DeltaError, OSError):
        return 0
    return handle.transaction_version(case.name) or 0
