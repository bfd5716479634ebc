"""Reads a raw table's data files, and builds the tree over the rows they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from pipelines.integrity.verifier import diagnosis, operator_acts, rows
from pipelines.integrity.verifier.job import ACTS, Case, Crew, Verdict
from pipelines.integrity.verifier.log_reader import HASH, WIDTH, leaf_tiles
from pipelines.integrity.verifier.rows import Leaves, Task
from pipelines.integrity.verifier.tree import Board, Span, Tree, minus

_TASK_ROWS = 65_536
_TASK_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFiles:
    """The files of a table as its log lists them."""

    tasks: Sequence[Task]
    count: int
    """Rows in all, by the log's statistics."""
    derived: int
    """Rows that have their events."""


def read(case: Case, crew: Crew, verdict: Verdict, board: Board) -> TableFiles:
    """Put every row's leaf on the board."""
    try:
        held = _held(case, verdict)
    except (DeltaError, OSError) as error:
        said = " ".join(str(error).split())[:200]
        gone = isinstance(error, TableNotFoundError)
        what = "the table is gone" if gone else f"the table's log cannot be read: {said}"
        verdict.found("deleted" if gone else "unreadable", 0, what)
        return TableFiles(tasks=(), count=0, derived=0)
    for found in crew.map(rows.leaves, held.tasks, held.count - board.start):
        verdict.read += len(found.seqs)
        verdict.events += found.events
        _put(board, found)
        for odd in found.odd:
            verdict.found(odd.kind, odd.seq, odd.detail)
        case.progress(case.table, verdict.read, board.size - board.start)
    return held


def _put(board: Board, found: Leaves) -> None:
    if found.seqs:
        board.put(found.seqs, found.hashes)


def _held(case: Case, verdict: Verdict) -> TableFiles:
    handle = DeltaTable(case.place.uri(case.table), storage_options=case.options)
    if handle.protocol().min_reader_version > 1:
        detail = "the log asks for features the writer never uses, such as hidden rows"
        verdict.found("log", None, detail)
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    if files.is_empty():
        return TableFiles(tasks=(), count=0, derived=0)
    events, derived = _event_files(case)
    wanted = files
    if verdict.first and "max.seq" in files.columns:
        wanted = files.filter(pl.col("max.seq").fill_null(verdict.first) >= verdict.first)
    base = handle.table_uri.rstrip("/").removeprefix("file://")
    tasks = [
        Task(
            table=case.table,
            files=[f"{base}/{path}" for path in batch["path"]],
            options=case.place.options,
            day=_day(batch["partition.date"][0]),
            events=events.get(_day(batch["partition.date"][0]), ()) if case.kind else None,
            kind=case.kind or "",
            first=verdict.first,
            derived=derived,
        )
        for batch in _batches(wanted)
    ]
    return TableFiles(tasks=tasks, count=int(files["num_records"].sum()), derived=derived)


def _event_files(case: Case) -> tuple[dict[date, list[str]], int]:
    """The files of `events` by day, and how many rows of this table have their events."""
    if case.kind is None:
        return {}, 0
    try:
        handle = DeltaTable(case.place.uri("events"), storage_options=case.options)
    except TableNotFoundError:
        return {}, 0
    base = handle.table_uri.rstrip("/").removeprefix("file://")
    found: dict[date, list[str]] = {}
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    if files.height:
        for path, day in files.select("path", "partition.date").iter_rows():
            found.setdefault(_day(day), []).append(f"{base}/{path}")
    return found, handle.transaction_version(case.name) or 0


def _batches(files: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Files of one day, some 65,000 rows together."""
    for day in files.sort("path").partition_by("partition.date"):
        rows_before = day["num_records"].fill_null(_TASK_ROWS).cum_sum() // _TASK_ROWS
        bytes_before = day["size_bytes"].cum_sum() // _TASK_BYTES
        yield from day.with_columns(batch=rows_before + bytes_before).partition_by("batch")


def _day(value: Any) -> date:
    return value if isinstance(value, date) else date.fromisoformat(str(value))


def build_tree(
    case: Case, crew: Crew, verdict: Verdict, board: Board, before: Mapping[Span, bytes]
) -> Tree:
    """Report rows that are gone or doubled, and build the tree over all others."""
    removed = operator_acts.removed(case.place.shelf(ACTS), case.shelf, case.table, case.place.keys)
    verdict.removed = sum(until - first for first, until in removed)
    gaps = list(board.gaps())
    _report_gaps(case, verdict, board, minus(gaps, removed))
    for seq in sorted(board.twice)[:1]:
        verdict.found("duplicated", seq, f"row {seq:,} is there {_times(board.twice.count(seq))}")
    _fill(case, board, gaps)
    step = _TASK_ROWS * HASH
    chunks = [bytes(board.hashes[at : at + step]) for at in range(0, len(board.hashes), step)]
    blocks = [
        root for part in crew.map(rows.subtree, chunks, board.size - board.start) for root in part
    ]
    return Tree(board=board, blocks=blocks, before=before)


def _times(count: int) -> str:
    return "twice" if count == 1 else f"{count + 1} times"


def _report_gaps(case: Case, verdict: Verdict, board: Board, gaps: Sequence[Span]) -> None:
    for first, until in gaps[:1]:
        fields = diagnosis.entry_of(case.shelf, board.size, first)
        who = f" (event_id {fields[-1]})" if fields else ""
        count = sum(end - begin for begin, end in gaps)
        if until == board.size:
            what = f"the newest {count:,} rows, from {first:,}{who}, are gone"
            verdict.found("truncated", first, f"{what}: deleted, rolled back, or a commit was lost")
        else:
            more = f" and {count - 1:,} others" if count > 1 else ""
            verdict.found("deleted", first, f"row {first:,}{who}{more} gone")


def _fill(case: Case, board: Board, gaps: Sequence[Span]) -> None:
    """Leaves of rows that are gone, from the tiles; the root will tell whether they are true."""
    if not gaps:
        return
    for index, hashes in enumerate(leaf_tiles(case.shelf, board.size)):
        for first, until in gaps:
            low, high = max(first, index * WIDTH), min(until, (index + 1) * WIDTH)
            for seq in range(low, high):
                at = (seq - index * WIDTH) * HASH
                board.fill(seq, hashes[at : at + HASH])
