"""Joins the files of days that are over, and packs them as files that stay.

Each step is one commit for some days, and their rows are compared before and after it: whenever
this is killed, the table is whole, and the next run continues.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import polars as pl
from deltalake import DeltaTable, PostCommitHookProperties, WriterProperties

from pipelines.clock import unix_time
from pipelines.errors import LakeError
from pipelines.lake import commits, parquet, tables
from pipelines.lake.tables import Lake

NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_KEYS = (
    ("event_uid",),
    ("integration", "stream", "event_id", "way", "time"),  # echoes
    ("event_id",),
)
"""Unique keys; the first one whose columns a table has is unique within each partition."""
_FILES_CLOSED, _FILES_OPEN = 4, 64
"""A partition with more files is compacted: of a past day, or of today."""
_ROWS_AT_ONCE = 100_000
"""Rows of several days that are joined in one commit; a longer day has one of its own."""
_ROWS_OF_RUN = 500_000
"""Rows of a table that one run packs, so that an old lake delays nobody."""
_DAY_AT_MOST = 2**25
"""Bytes of a day that is sorted in memory; the files of a longer one are only joined."""

Filters = tuple[tuple[str, str, str | list[str]], ...]
"""The partitions that a step is about; none for a whole table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Figures that a compaction must not change."""

    rows: int
    distinct: int
    """Rows with different keys."""
    seq_sum: int = 0
    """The sum of `seq`, if the table has it."""
    content: int = 0
    """A hash of all values, independent of the order of rows."""


def compact(
    lake: Lake, table: str, today: date, quiet: timedelta, handle: DeltaTable | None = None
) -> None:
    """Join the files of partitions with too many of them, after packing what is due.

    An open `handle` may be given, which has all that is committed here afterwards. A past day has
    one file for good once nothing has been added for the time `quiet`. Raises LakeError if rows
    changed, and the store's errors if another writer replaced the same files.
    """
    settled = int((unix_time() - quiet.total_seconds()) * 1000)
    handle = handle or opened(lake, table)
    _pack(lake, handle, table, today, settled)
    files, packed = _files(handle), _packed(handle)
    if lake.local is None and _is_scattered(files):
        _join(lake, handle, table, (), parquet.fresh(table))
        return
    for filters in _crowded(files, today, settled, packed):
        # Days that are packed later are joined at a level that costs little.
        final = packed == parquet.ALL_DAYS or all(day < packed for day in _days(filters))
        properties = parquet.packed(table) if final else parquet.fresh(table)
        _join(lake, handle, table, filters, properties)


def _days(filters: Filters) -> list[str]:
    return [day for name, _, days in filters if name == "date" for day in days]


def _pack(lake: Lake, handle: DeltaTable, table: str, today: date, settled: int) -> None:
    """Write the next past days as files that stay, some of them a run.

    The table states how far this has come. Where all days were packed when they were joined, there
    is nothing to do but for those of an older lake.
    """
    files, packed = _files(handle), _packed(handle)
    if packed == parquet.ALL_DAYS or not {"partition.date", "max.seq"} <= set(files.columns):
        return
    days = files.group_by(day="partition.date").agg(
        pl.col("rows", "size_bytes").sum(), newest=pl.col("modification_time").max()
    )
    due = days.filter(pl.col("day").cast(pl.String) >= packed).sort("day")
    ready = pl.col("day") < today
    if parquet.is_packed_later(table):
        ready &= pl.col("newest") <= settled
    due = due.filter(ready.cum_min())
    done = due.filter(pl.col("rows").cum_sum() - pl.col("rows") < _ROWS_OF_RUN)
    for part in _together(done.filter(pl.col("size_bytes") <= _DAY_AT_MOST)):
        _join(lake, handle, table, _of_days(part["day"]), parquet.packed(table), again=True)
    if done.height == due.height and not parquet.is_packed_later(table):
        commits.set_packed(lake, handle, parquet.ALL_DAYS)
    elif done.height:
        until = done["day"][-1] + timedelta(days=1)
        commits.set_packed(lake, handle, str(until))


def _packed(handle: DeltaTable) -> str:
    return str(handle.metadata().configuration.get(parquet.PACKED, ""))


def _files(handle: DeltaTable) -> pl.DataFrame:
    """Return the data files: size_bytes, rows, modification_time, and their partition."""
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    return files.with_columns(rows=pl.col("num_records").fill_null(_ROWS_AT_ONCE))


def _is_by_day(files: pl.DataFrame) -> bool:
    return [name for name in files.columns if name.startswith("partition.")] == ["partition.date"]


def _is_scattered(files: pl.DataFrame) -> bool:
    """Return whether a small table, such as `coverage`, has many more files than partitions.

    It is read whole, and in an object store each file takes a request.
    """
    if _is_by_day(files) or files["size_bytes"].sum() > tables.WHOLE:
        return False
    columns = [name for name in files.columns if name.startswith("partition.")]
    least = files.select(columns).n_unique() if columns else 1
    return files.height > least + _FILES_CLOSED


def _crowded(files: pl.DataFrame, today: date, settled: int, packed: str) -> Iterator[Filters]:
    """Yield the partitions with too many files; days together as far as they are short."""
    columns = [name for name in files.columns if name.startswith("partition.")]
    if not columns:
        if files.height > _FILES_OPEN:
            yield ()
        return
    found = files.group_by(columns).agg(
        pl.len(), pl.col("rows").sum(), newest=pl.col("modification_time").max()
    )
    most = pl.lit(_FILES_OPEN)
    if files.schema[columns[0]] == pl.Date():
        day = pl.col(columns[0])
        is_packed = (pl.col("newest") <= settled) & (day.cast(pl.String) < packed)
        closed = pl.when(is_packed).then(1).otherwise(_FILES_CLOSED)
        most = pl.when(day < today).then(closed).otherwise(most)
    found = found.filter(pl.col("len") > most).sort(columns)
    if _is_by_day(files):
        days = found.rename({"partition.date": "day"})
        later = pl.col("day").cast(pl.String) >= packed
        for part in (*_together(days.filter(~later)), *_together(days.filter(later))):
            yield _of_days(part["day"])
        return
    for row in found.select(columns).iter_rows():
        names = (name.removeprefix("partition.") for name in columns)
        yield tuple((name, "=", str(value)) for name, value in zip(names, row, strict=True))


def _together(days: pl.DataFrame) -> list[pl.DataFrame]:
    """Return the days, which have `rows`, in parts of about as many rows as one step takes."""
    before = pl.col("rows").cum_sum() - pl.col("rows")
    return days.with_columns(part=before // _ROWS_AT_ONCE).partition_by("part")


def _of_days(days: pl.Series) -> Filters:
    return (("date", "in", [str(day) for day in days]),)


def _join(
    lake: Lake,
    handle: DeltaTable,
    table: str,
    filters: Filters,
    properties: WriterProperties,
    *,
    again: bool = False,
) -> None:
    """Join the files of some partitions; if `again`, write those with a single file, too."""
    before, rows = handle.version(), _count(handle, filters)
    given: dict[str, Any] = {
        "partition_filters": list(filters) or None,
        "writer_properties": properties,
        "post_commithook_properties": NO_HOOKS,
    }
    if again:
        handle.optimize.z_order(["seq"], **given)
    else:
        handle.optimize.compact(**given)
    commits.sync(lake, handle, before)
    # Without commits of others in between, the counts have to be equal, not only plausible.
    _compare(table, rows, _count(handle, filters), alone=handle.version() == before + 1)


def _count(handle: DeltaTable, filters: Filters) -> Count:
    ours = (
        pl.col(name).cast(pl.String).is_in([value] if isinstance(value, str) else value)
        for name, _, value in filters
    )
    found = pl.scan_delta(handle).filter(*ours)
    columns = found.collect_schema()
    key = next((key for key in _KEYS if set(key) <= set(columns)), None)
    within = [name for name, *_ in filters if key and name not in key]
    distinct = pl.struct(*key, *within).n_unique() if key else pl.len()
    seq_sum = pl.col("seq").sum() if "seq" in columns else pl.lit(0)
    figures = {"rows": pl.len(), "distinct": distinct, "seq_sum": seq_sum}
    content = pl.struct(pl.all()).hash().sum()
    return Count(**found.select(**figures, content=content).collect().row(0, named=True))


def _compare(table: str, before: Count, after: Count, *, alone: bool) -> None:
    """Raise LakeError unless the rows are the same, apart from those others wrote meanwhile."""
    fewer = after.rows < before.rows or (alone and after.rows > before.rows)
    differs = (after.seq_sum, after.content) != (before.seq_sum, before.content)
    if fewer or (alone and differs) or after.rows != after.distinct:
        raise LakeError(
            f"{table}: {before.rows:,} rows before a compaction, {after.rows:,} after, of which "
            f"{after.distinct:,} are distinct{', with other values' * (alone and differs)}; no "
            "file was deleted: stop all writers and report it"
        )


def opened(lake: Lake, table: str) -> DeltaTable:
    handle = tables.open_table(lake, table)
    if handle is None:
        raise LakeError(f"{table} was deleted during maintenance: run it again")
    return handle
