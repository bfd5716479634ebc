"""Which data files of a table may hold certain rows, by the statistics in its log.

Opening every file to look at its own statistics, as `pl.scan_delta` does, costs more the more
files there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable

from pipelines.lake import parquet, tables
from pipelines.lake.tables import Lake
from pipelines.schemas import Schema

_ROWS_PER_CONDITION = 10
"""How many rows are read in the time that Polars takes to look at a file with a condition."""
_MOST_ROWS = 100_000
_GRAIN = timedelta(milliseconds=1)
_PARTITION = "date"


def files(handle: DeltaTable) -> pl.DataFrame:
    """Return the data files with their statistics, one row per file."""
    return tables.cached(
        handle, "files", lambda: pl.DataFrame(handle.get_add_actions(flatten=True))
    )


def files_of_day(lake: Lake, table: str, day: date) -> list[str]:
    """Return the names of the data files of a day; a file never changes."""
    files = (
        handle.file_uris([("date", "=", str(day))])
        if (handle := tables.newest(lake, table))
        else []
    )
    return sorted(file.rpartition("/")[2] for file in files)


def of_days(found: pl.DataFrame, days: pl.Series) -> pl.DataFrame:
    """Return the files of these days."""
    return found.filter(pl.col(f"partition.{_PARTITION}").cast(pl.Date).is_in(days.implode()))


def overlapping(found: pl.DataFrame, column: str, first: Any, last: Any) -> pl.DataFrame:
    """Return the files that may have values of a column from `first` to `last`, if there is one."""
    if not {f"min.{column}", f"max.{column}"} <= set(found.columns):
        return found
    if isinstance(first, datetime):
        # Delta truncates the statistics of a timestamp to milliseconds.
        first -= _GRAIN
    least, most = pl.col(f"min.{column}"), pl.col(f"max.{column}")
    found = found.filter((most >= first).fill_null(True))
    return found if last is None else found.filter((least <= last).fill_null(True))


def containing(found: pl.DataFrame, column: str, values: pl.Series) -> pl.DataFrame:
    """Return the files that may have one of these values in a column."""
    if not {f"min.{column}", f"max.{column}"} <= set(found.columns):
        return found
    least, most = found[f"min.{column}"], found[f"max.{column}"]
    wanted = values.sort()
    some = wanted.search_sorted(least, "left") < wanted.search_sorted(most, "right")
    return found.filter(some | least.is_null() | most.is_null())


def with_values(found: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return the files that may have a value in a column."""
    if f"null_count.{column}" not in found.columns:
        return found
    some = pl.col(f"null_count.{column}") < pl.col("num_records")
    return found.filter(some.fill_null(True))


def is_worth_reading(found: pl.DataFrame, conditions: int) -> bool:
    """Return whether reading whole files costs less than looking for rows that meet conditions."""
    rows = found["num_records"]
    most = min(_ROWS_PER_CONDITION * conditions * found.height, _MOST_ROWS)
    return not rows.has_nulls() and int(rows.sum()) <= most


def names(found: pl.DataFrame) -> set[str]:
    """Return the names of files, without their folders."""
    return set(found["path"].str.split("/").list.last())


def scan(lake: Lake, table: str, schema: Schema, found: pl.DataFrame) -> pl.LazyFrame:
    """Return the rows of these files of a table, which is partitioned by `date` if it has one."""
    files = [f"{lake.uri(table)}/{unquote(path)}" for path in found["path"]]
    partitioned_by = [name for name in schema if name == _PARTITION]
    return parquet.scan_files(files, schema, partitioned_by, lake.scan_options)


def matching(
    lake: Lake, table: str, schema: Schema, found: pl.DataFrame, conditions: Sequence[pl.Expr]
) -> pl.LazyFrame:
    """Return the rows of these files that meet one of these conditions. Raises LakeError."""
    rows = scan(lake, table, schema, found)
    if is_worth_reading(found, len(conditions)):
        with tables.store_errors(table):
            rows = rows.collect().lazy()
    return rows.filter(pl.any_horizontal(conditions))
