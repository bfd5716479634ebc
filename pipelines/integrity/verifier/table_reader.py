"""Reads the data files of a raw table and builds the Merkle tree over its rows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from pipelines.integrity.verifier import diagnosis, findings, operator_acts, rows, superseded
from pipelines.integrity.verifier.job import ACTS, FINDINGS, Crew, Job, TableReport
from pipelines.integrity.verifier.log_reader import HASH, WIDTH, LogFiles, leaf_tiles
from pipelines.integrity.verifier.operator_acts import Removed
from pipelines.integrity.verifier.rows import Bounds, Leaves, Task
from pipelines.integrity.verifier.tree import LeafBuffer, Span, Tree, minus

_TASK_ROWS = 65_536
_TASK_BYTES = 64 * 2**20
_FEW = 2**20  # rows, whose leaves take 32 MiB
_SEARCHED = ("seq", "time", "ingested_at", "found_at", "via")
"""The columns whose statistics tell a reader which files it needs."""
_BYTES_OF_ROW = 16  # half of the SHA-256 in it, which cannot be compressed


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFiles:
    """The data files of `events` at one version."""

    by_day: Mapping[date, list[str]] = field(default_factory=dict)
    derived: int = 0
    """Rows of the raw table that have been mapped to events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFiles:
    """The data files of a table, as listed in its Delta log."""

    tasks: Sequence[Task]
    count: int
    """Rows in all files, by the statistics in the Delta log."""
    events: EventFiles
    uncompared: dict[int | None, list[int]] = field(default_factory=dict)
    """Mapping version, other than the current -> seqs of events whose values were not compared."""


def has_room(case: Job, size: int, verdict: TableReport) -> bool:
    """Return False, with a finding, if no files here could have so many rows.

    Whoever has the key can sign any number, for which there might be no memory.
    """
    if size - verdict.first <= _FEW:
        return True
    lake = LogFiles(root=case.place.root, options=case.place.options or {})
    # The leaves of removed rows are in the tiles only.
    leaves = lake.size(f"integrity/{case.name}/tile/0") // HASH
    if size <= lake.size(case.table) // _BYTES_OF_ROW + leaves:
        return True
    detail = f"the checkpoint covers {size:,} rows, more than all files can contain"
    verdict.found("truncated", 0, detail)
    return False


def read(case: Job, crew: Crew, verdict: TableReport, board: LeafBuffer) -> TableFiles:
    """Read all rows, put their leaves on the board, and report problems in the verdict.

    Return the files of the table; none if the table is missing or its Delta log unreadable.
    """
    try:
        held = _list_files(case, verdict)
    except (DeltaError, OSError) as error:
        reason = rows.reason_of(error)
        gone = isinstance(error, TableNotFoundError)
        detail = "the table is missing" if gone else f"cannot read the table's Delta log: {reason}"
        verdict.found("deleted" if gone else "unreadable", 0, detail)
        return TableFiles(tasks=(), count=0, events=EventFiles())
    work = findings.leaves if case.table == FINDINGS else rows.leaves
    for found in crew.map(work, held.tasks, held.count - board.start):
        verdict.read += len(found.seqs)
        verdict.events += found.events
        for version, seqs in found.uncompared.items():
            held.uncompared.setdefault(version, []).extend(seqs)
        _put(board, found)
        for odd in found.odd:
            verdict.found(odd.kind, odd.seq, odd.detail)
        case.progress(case.table, verdict.read, board.size - board.start)
    return held


def _put(board: LeafBuffer, found: Leaves) -> None:
    if found.seqs:
        board.put(found.seqs, found.hashes)


def _list_files(case: Job, verdict: TableReport) -> TableFiles:
    # Events first: rows that land meanwhile lie beyond `derived`, and replace no older version yet.
    events = _event_files(case, verdict)
    handle = DeltaTable(case.place.uri(case.table), storage_options=case.options)
    _refuse_features(handle, verdict)
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    if files.is_empty():
        return TableFiles(tasks=(), count=0, events=events)
    wanted = files
    # Statistics can be forged: a full run ignores them, and this one compares row counts later.
    if verdict.first and "max.seq" in files.columns:
        wanted = files.filter(pl.col("max.seq").fill_null(verdict.first) >= verdict.first)
    by_day = _by_day(handle, wanted)
    replaced = superseded.find(case, verdict, by_day, _by_day(handle, files), events.derived)
    # After events: an act that comes later has removed none of those.
    removed = removed_rows(case).rows if case.kind else ()
    base = handle.table_uri.rstrip("/").removeprefix("file://")
    tasks = [
        Task(
            table=case.table,
            files=[f"{base}/{path}" for path in batch["path"]],
            day_files=by_day[day],
            options=case.place.options,
            day=day,
            events=events.by_day.get(day, ()) if case.kind else None,
            kind=case.kind or "",
            first=verdict.first,
            derived=events.derived,
            superseded=replaced.get(day, ()),
            removed=removed,
            kept=case.place.kept,
            bounds=_bounds(base, batch),
        )
        for batch in _batches(wanted)
        for day in [_day(batch["partition.date"][0])]
    ]
    return TableFiles(tasks=tasks, count=int(files["num_records"].sum()), events=events)


def _bounds(base: str, files: pl.DataFrame) -> dict[str, Bounds]:
    """Return the statistics of files in the Delta log, by which others choose what they read."""
    names = [name for name in _SEARCHED if f"min.{name}" in files.columns]
    return {
        f"{base}/{file['path']}": {n: (file[f"min.{n}"], file.get(f"max.{n}")) for n in names}
        for file in files.iter_rows(named=True)
    }


def _refuse_features(handle: DeltaTable, verdict: TableReport) -> None:
    # With deletion vectors, Delta readers skip rows that a reader of the plain files still sees.
    if handle.protocol().min_reader_version > 1:
        detail = "the Delta log requires features the writer never uses, such as deletion vectors"
        verdict.found("log", None, detail)


def _event_files(case: Job, verdict: TableReport) -> EventFiles:
    if case.kind is None:
        return EventFiles()
    try:
        handle = case.place.events()
    except TableNotFoundError:
        return EventFiles()
    _refuse_features(handle, verdict)
    return EventFiles(
        by_day=_by_day(handle, pl.DataFrame(handle.get_add_actions(flatten=True))),
        derived=handle.transaction_version(case.name) or 0,
    )


def _by_day(handle: DeltaTable, files: pl.DataFrame) -> dict[date, list[str]]:
    base = handle.table_uri.rstrip("/").removeprefix("file://")
    found: dict[date, list[str]] = {}
    if files.height:
        for path, day in files.select("path", "partition.date").iter_rows():
            found.setdefault(_day(day), []).append(f"{base}/{path}")
    return found


def _batches(files: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield groups of files of one day, about 65,000 rows or 64 MiB each."""
    for day in files.sort("path").partition_by("partition.date"):
        rows_before = day["num_records"].fill_null(_TASK_ROWS).cum_sum() // _TASK_ROWS
        bytes_before = day["size_bytes"].cum_sum() // _TASK_BYTES
        yield from day.with_columns(batch=rows_before + bytes_before).partition_by("batch")


def _day(value: Any) -> date:
    return value if isinstance(value, date) else date.fromisoformat(str(value))


def build_tree(
    case: Job,
    crew: Crew,
    verdict: TableReport,
    board: LeafBuffer,
    before: Mapping[Span, bytes],
    *,
    gone: Sequence[Span] = (),
) -> Tree:
    """Report missing, restored and duplicate rows, and return the tree over the leaves of all.

    `gone` are the rows that were deleted before any file was read.
    """
    removed = removed_rows(case)
    verdict.removed = sum(until - first for first, until in removed.rows)
    verdict.erased = sum(until - first for first, until in removed.erased)
    verdict.lost = sum(until - first for first, until in removed.lost)
    gaps = list(board.gaps())
    _report_gaps(case, verdict, board, minus(gaps, removed.rows))
    _report_restored(verdict, board, minus(_from(gone, board), gaps))
    for seq in sorted(board.twice)[:1]:
        verdict.found("duplicated", seq, f"row {seq:,} is present {_times(board.twice.count(seq))}")
    _fill_from_tiles(case, board, gaps)
    step = _TASK_ROWS * HASH
    chunks = [bytes(board.hashes[at : at + step]) for at in range(0, len(board.hashes), step)]
    blocks = [
        root for part in crew.map(rows.subtree, chunks, board.size - board.start) for root in part
    ]
    return Tree(board=board, blocks=blocks, before=before)


def _from(spans: Sequence[Span], board: LeafBuffer) -> list[Span]:
    """Return the part of the spans that the board covers."""
    cut = [(max(first, board.start), min(until, board.size)) for first, until in spans]
    return [(first, until) for first, until in cut if first < until]


def _report_restored(verdict: TableReport, board: LeafBuffer, spans: Sequence[Span]) -> None:
    for first, _ in spans[:1]:
        count = sum(until - begin for begin, until in spans)
        more = f" and {count - 1:,} others" if count > 1 else ""
        detail = f"row {first:,}{more} was deleted by a recorded act, but is there again"
        verdict.found("restored", first, detail)


def removed_rows(case: Job) -> Removed:
    """Return the rows that recorded acts remove from the table."""
    return operator_acts.removed(case.place.shelf(ACTS), case.shelf, case.table, case.place.keys)


def _times(count: int) -> str:
    return "twice" if count == 1 else f"{count + 1} times"


def _report_gaps(case: Job, verdict: TableReport, board: LeafBuffer, gaps: Sequence[Span]) -> None:
    for first, until in gaps[:1]:
        fields = diagnosis.entry_of(case.shelf, board.size, first, elsewhere=elsewhere(case))
        who = diagnosis.who(fields)
        count = sum(end - begin for begin, end in gaps)
        if until == board.size:
            detail = f"the newest {count:,} rows, from {first:,}{who}, are missing"
            detail += ": deleted, rolled back, or lost with a commit"
            verdict.found("truncated", first, detail)
        else:
            more = f" and {count - 1:,} others" if count > 1 else ""
            verdict.found("deleted", first, f"row {first:,}{who}{more} missing")


def _fill_from_tiles(case: Job, board: LeafBuffer, gaps: Sequence[Span]) -> None:
    """Take the leaves of missing rows from the tiles; the root check shows if they are genuine."""
    if not gaps:
        return
    ends = [until for _, until in gaps]
    for index, hashes in enumerate(leaf_tiles(case.shelf, board.size)):
        start, end = index * WIDTH, (index + 1) * WIDTH
        # Erasures leave many small gaps: only those of this tile are looked at.
        for number in range(bisect_right(ends, start), len(gaps)):
            first, until = gaps[number]
            if first >= end:
                break
            for seq in range(max(first, start), min(until, end)):
                at = (seq - index * WIDTH) * HASH
                board.fill(seq, hashes[at : at + HASH])


def field_reader(case: Job) -> Callable[[int], list[str]]:
    """Return a function that reads a row's current fields, to show which of them differ.

    It returns nothing for a row that cannot be read again.
    """

    def fields(seq: int) -> list[str]:
        with suppress(*rows.UNREADABLE):
            handle = DeltaTable(case.place.uri(case.table), storage_options=case.options)
            # The files themselves: their sizes in the Delta log may be wrong.
            files = pl.scan_parquet(handle.file_uris(), storage_options=case.options)
            found = files.filter(pl.col("seq") == seq)
            return [] if case.table == FINDINGS else rows.fields(found.collect())
        return []

    return fields


def elsewhere(case: Job) -> Callable[[int], list[str]]:
    """Return a function that reads a row's stored digest, and what its event repeats of it.

    In the order of `field_reader`, with empty texts for what is not known.
    """

    def fields(seq: int) -> list[str]:
        if case.table == FINDINGS:
            return []
        digest = time = arrival = identity = ""
        with suppress(*rows.UNREADABLE):
            handle = DeltaTable(case.place.uri(case.table), storage_options=case.options)
            files = pl.scan_parquet(handle.file_uris(), storage_options=case.options)
            stored = files.filter(pl.col("seq") == seq).select("raw_sha256").collect()
            digest = str(stored.row(0)[0] or "")
        with suppress(*rows.UNREADABLE):
            handle = DeltaTable(case.place.uri("events"), storage_options=case.options)
            events = rows.event_rows(handle.file_uris(), case.options, None, use_statistics=False)
            _, integration, stream = case.table.split("/")
            ours = events.filter(integration=integration, stream=stream, seq=seq)
            times = pl.col("time", "ingested_at").dt.epoch("us")
            time, arrival, identity = map(str, ours.select(times, "event_id").collect().row(0))
        return [digest, time, arrival, "", identity] if digest or identity else []

    return fields
