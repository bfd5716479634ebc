"""The table `text_index`: the filters of texts per data file of `events`, kept by maintenance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from pipelines.lake import commits, per_file, tables, text_index
from pipelines.lake.commits import DERIVED, STATISTICS, Table
from pipelines.lake.tables import Lake
from pipelines.schemas import TEXT_INDEX

TABLE = Table(
    name="text_index",
    schema=TEXT_INDEX,
    about="Filters that show which data files of events cannot contain a text",
    partitions=(),
    settings={**DERIVED, STATISTICS: "file,date"},
)
_AT_ONCE = 500_000
"""Rows whose filters are committed together: the most that is lost if maintenance is killed."""


def indexed(lake: Lake) -> tuple[pl.DataFrame, int]:
    """Return the data files in the table (file, path, current), and the number for the next one."""
    handle = tables.newest(lake, TABLE.name)
    if handle is None:
        schema = {"file": pl.Int64(), "path": pl.String(), "current": pl.Boolean()}
        return pl.DataFrame(schema=schema), 0
    following = commits.fence(handle, TABLE.name)
    current = pl.col("layout").eq_missing(text_index.LAYOUT) & (pl.col("file") < following)
    found = pl.scan_delta(handle).select("file", "path", current=current)
    return found.collect(), following


def index(lake: Lake, today: date) -> None:
    """Add new files of past days, and delete those that are gone. Raises LakeError.

    Filters of an older layout are computed again.
    """
    try:
        _index(lake, today)
    except FileNotFoundError:  # retention also deletes files that are being read
        _index(lake, today)


def forget(lake: Lake) -> None:
    """Delete the filters of files that `events` lacks, and the former files of this table."""
    per_file.forget(lake, TABLE, lambda lake: indexed(lake)[0])


def _index(lake: Lake, today: date) -> None:
    known, first = indexed(lake)
    files = per_file.event_files(lake)
    present = known.filter("current").join(files, on="path", how="semi")
    gone = known.join(present, on="file", how="anti")["file"].to_list()
    past = files.filter(pl.col("date") < today)
    for batch in per_file.batches(past, present, first, _AT_ONCE):
        rows = pl.concat([_row(lake, file) for file in batch.iter_slices(1)])
        _append(lake, first, rows, gone)
        first, gone = first + batch.height, []
    if gone:
        _append(lake, first, pl.DataFrame(schema=TEXT_INDEX), gone)


def _row(lake: Lake, file: pl.DataFrame) -> pl.DataFrame:
    read = per_file.rows_of_files(lake, file).select(text_index.COLUMNS)
    events = read.collect(engine="streaming")
    # An incomplete filter would hide the rows that were not read.
    if events.height != file["rows"].item():
        raise per_file.incomplete()
    known = file.select("file", "path", "date", layout=pl.lit(text_index.LAYOUT))
    held = [pl.lit(part).alias(name) for name, part in text_index.filters(events).items()]
    return known.with_columns(held).cast(TEXT_INDEX)  # type: ignore[arg-type]  # polars: as classes


def _append(lake: Lake, first: int, rows: pl.DataFrame, gone: Sequence[int]) -> None:
    files = range(first, first + rows.height)
    per_file.append(lake, TABLE, files, rows, paths=rows["path"], gone=gone)
