"""Housekeeping that keeps the lake fast and small, and never changes a row.

A table's many small files become few, its log is shortened, what killed writers left is removed.
One at a time; safe beside writers and readers. The rows are counted before and after.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
from deltalake import (
    DeltaTable,
    PostCommitHookProperties,
    WriterProperties,
)
from deltalake.exceptions import CommitFailedError

from pipelines.errors import LakeError
from pipelines.lake import commits, coverage, events, raw, reconciliation, rollup_table, tables
from pipelines.lake.tables import Lake, StreamKey

_QUIET = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_PARQUET = WriterProperties(compression="ZSTD", compression_level=3)
_KEYS = (
    ("event_uid",),
    ("integration", "stream", "event_id", "way", "time"),  # echoes
    ("event_id",),
)
"""No two rows of a partition are equal in the first of these that the table has."""
_TEMPORARY = re.compile(r"#\d+$")
_FILES_CLOSED, _FILES_OPEN = 4, 64
"""So many files of a past day, or of today, are worth making one."""
_CHECKPOINTS, _VERSIONS_APART = 20, 500
"""So many checkpoints stay, and of the older ones one in so many versions."""
_VERSIONS = 3000
"""So many versions can be read back at least: whoever opens a table lists all their commits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How long what is no longer needed stays; the log says for itself (logRetentionDuration)."""

    files: timedelta = timedelta(days=7)
    temporary: timedelta = timedelta(hours=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidied:
    """What was done to one table."""

    table: str
    files_before: int
    files_after: int
    log_before: int
    log_after: int
    removed: int
    """Files that no version in the log needs, and what killed writers left."""
    seconds: float
    busy: str | None = None
    """Why something was left for the next time."""


def maintain(
    lake: Lake, keys: Sequence[StreamKey], today: date, keep: Keep | None = None
) -> Iterator[Tidied]:
    """Every table, one after the other. Raises LakeError where rows are not what they were."""
    with _alone(lake):
        for table in tables_of(lake, keys):
            # A folder without a commit: a writer is creating the table, or was killed doing so.
            if tables.open_table(lake, table) is not None:
                yield _tidy(lake, table, today, keep or Keep())
        rollup_table.roll_up(lake, today)


def _tidy(lake: Lake, table: str, today: date, keep: Keep) -> Tidied:
    started = time.monotonic()
    if table.startswith("raw/"):
        raw.flush_coverage(lake, StreamKey(*table.split("/")[1:]))
    handle = _opened(lake, table)
    before, log = handle.get_add_actions(flatten=True), _log_files(handle)
    busy = None
    try:
        for part in _worth(pl.DataFrame(before), today):
            _compact(lake, table, part)
    except CommitFailedError as error:
        busy = f"another writer was at it: {str(error)[:100]}"
    handle = _opened(lake, table)
    handle.create_checkpoint()
    handle.cleanup_metadata()
    _thin_out(lake, table)
    _shorten(lake, table, handle.version())
    removed = _vacuum(handle, keep) + _sweep(lake, table, keep)
    return Tidied(
        table=table,
        files_before=before.num_rows,
        files_after=handle.get_add_actions().num_rows,
        log_before=log,
        log_after=_log_files(handle),
        removed=removed,
        seconds=time.monotonic() - started,
        busy=busy,
    )


def _worth(files: pl.DataFrame, today: date) -> list[tuple[tuple[str, str, str], ...]]:
    """The partitions with so many files that one is better, as filters for the compaction."""
    columns = [name for name in files.columns if name.startswith("partition.")]
    if not columns:
        return [()] if files.height > _FILES_OPEN else []
    counted = files.group_by(columns).len()
    return [
        tuple(
            (name.removeprefix("partition."), "=", str(value))
            for name, value in zip(columns, row[:-1], strict=True)
        )
        for row in counted.sort(columns).iter_rows()
        if row[-1] > (_FILES_CLOSED if isinstance(row[0], date) and row[0] < today else _FILES_OPEN)
    ]


def _compact(lake: Lake, table: str, part: Sequence[tuple[str, str, str]]) -> None:
    handle = _opened(lake, table)
    before, rows = handle.version(), _count(handle, part)
    handle.optimize.compact(
        partition_filters=list(part) or None,
        writer_properties=_PARQUET,
        post_commithook_properties=_QUIET,
    )
    commits.sync(lake, handle, before)
    _compare(table, rows, _count(handle, part), alone=handle.version() == before + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    rows: int
    different: int
    """How many of them differ in what names them."""
    places: int = 0
    """The sum of `seq`, where there is one: the same rows have the same places."""


def _count(handle: DeltaTable, part: Sequence[tuple[str, str, str]]) -> Count:
    found = pl.scan_delta(handle).filter(
        *(pl.col(name).cast(pl.String) == value for name, _, value in part)
    )
    columns = found.collect_schema()
    key = next((key for key in _KEYS if set(key) <= set(columns)), None)
    different = pl.struct(key).n_unique() if key else pl.len()
    places = pl.col("seq").sum() if "seq" in columns else pl.lit(0)
    rows, distinct, seqs = (
        found.select(pl.len().alias("rows"), different.alias("n"), places.alias("seq"))
        .collect()
        .row(0)
    )
    return Count(rows=rows, different=distinct, places=seqs)


def _compare(table: str, before: Count, after: Count, *, alone: bool) -> None:
    """Are the rows what they were, but for those that others wrote meanwhile?"""
    fewer = after.rows < before.rows or (alone and after.rows > before.rows)
    moved = alone and after.places != before.places
    if fewer or moved or after.rows != after.different:
        raise LakeError(
            f"{table}: {before.rows:,} rows before a compaction, {after.rows:,} after, of which "
            f"{after.different:,} differ; no file was removed: stop all writers and report this"
        )


def _thin_out(lake: Lake, table: str) -> None:
    """Of the checkpoints, which are many, those that a reader of now or of a version needs stay."""
    if lake.local is None:
        return
    for path, following in pairwise(_checkpoints(lake.local / table)[1:-_CHECKPOINTS]):
        if _version(path) // _VERSIONS_APART == _version(following) // _VERSIONS_APART:
            path.unlink(missing_ok=True)


def _shorten(lake: Lake, table: str, newest: int) -> None:
    """Remove the commits before an old checkpoint, once that was seen to hold the table."""
    if lake.local is None:
        return
    folder = lake.local / table
    old = [v for v in map(_version, _checkpoints(folder)) if v <= newest - _VERSIONS]
    if not old:
        return
    DeltaTable(lake.uri(table), version=old[-1])
    for path in (folder / "_delta_log").glob("*"):
        if path.name[:20].isdigit() and _version(path) < old[-1]:
            path.unlink(missing_ok=True)


def _checkpoints(table: Path) -> list[Path]:
    return sorted((table / "_delta_log").glob("*.checkpoint.parquet"))


def _version(file: Path) -> int:
    return int(file.name.partition(".")[0])


def _vacuum(handle: DeltaTable, keep: Keep) -> int:
    hours = int(keep.files.total_seconds() // 3600)
    return len(
        handle.vacuum(
            retention_hours=hours,
            dry_run=False,
            enforce_retention_duration=False,
            post_commithook_properties=_QUIET,
            full=True,
        )
    )


def _sweep(lake: Lake, table: str, keep: Keep) -> int:
    """Half-written files of writers that were killed."""
    if lake.local is None:
        return 0
    removed = 0
    for path in (lake.local / table).rglob("*#*"):
        with suppress(FileNotFoundError):
            old = time.time() - path.stat().st_mtime > keep.temporary.total_seconds()
            if old and _TEMPORARY.search(path.name):
                path.unlink()
                removed += 1
    return removed


def _opened(lake: Lake, table: str) -> DeltaTable:
    handle = tables.open_table(lake, table)
    if handle is None:
        raise LakeError(f"{table} is gone")
    return handle


def _log_files(handle: DeltaTable) -> int:
    return len(handle.history())


@contextmanager
def _alone(lake: Lake) -> Iterator[None]:
    """One maintenance of a lake at a time, on this machine."""
    path = (lake.local or Path(os.environ.get("TMPDIR", "/tmp"))) / ".maintenance.lock"  # noqa: S108
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LakeError("maintenance of this lake is under way already") from None
        yield


def tables_of(lake: Lake, keys: Sequence[StreamKey]) -> list[str]:
    """The tables there are: on a disk all, elsewhere those of `logs` and the common ones."""
    if lake.local is not None:
        found = lake.local.glob("**/_delta_log")
        return sorted(str(path.parent.relative_to(lake.local)) for path in found)
    known = [
        *(key.table for key in keys),
        *(events.TABLE.name, raw.REJECTED_TABLE.name, coverage.TABLE.name),
        *(reconciliation.ECHOES_TABLE.name, reconciliation.RECONCILED_TABLE.name),
        *(rollup_table.TABLE.name, "access", "views"),
    ]
    return [table for table in known if tables.open_table(lake, table) is not None]
