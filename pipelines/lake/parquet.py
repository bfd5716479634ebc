"""How data files are written and read: one source of Parquet properties for all writers.

Fresh files are written at a level that costs little, since maintenance soon replaces them. Packed
files stay, so they are worth more time.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import polars as pl
from deltalake import ColumnProperties, DeltaTable, WriterProperties

from pipelines.schemas import EVENTS, RAW, Schema

PACKED = "auditlake.packed"
"""The property of a table that names the days which are packed: those before a date, or all."""
ALL_DAYS = "all"
"""Of tables that are packed as soon as their files are joined, unless they are of an older lake."""

_FRESH = 1
_PACKED = {"raw": 12, "rollups": 9, "text_index": 9}
"""Levels of zstd beyond which the files hardly get smaller; 3 in all other tables."""
_WIDE_PAGES = 64 * 2**20
"""Bytes of a page, so that zstd finds what repeats in the whole row group."""
_ROWS_OF_GROUP = {"raw": 2_000, "events": 20_000}
"""Rows that are read for one; the large pages of `raw` make a reader decompress all of them."""
_DISTINCT = frozenset(("raw", "raw_sha256", "event_id", "event_uid", "correlation_id"))
"""Columns whose values mostly differ, so that a dictionary is wasted."""
_ASCENDING = frozenset(("time", "ingested_at", "seq"))
_NEVER_PRUNED = frozenset(
    name
    for schema in (RAW, EVENTS)
    for name, dtype in schema.items()
    if dtype != pl.Date() and name not in _ASCENDING | {"integration", "stream", "via"}
)
"""Columns without minima and maxima: their values are in no order in a file.

Those of `via` show if there are pushed rows, since "webhook" is its greatest value."""


def fresh(table: str) -> WriterProperties:
    """Return how new rows of a table are written."""
    kind = _kind(table)
    level = _PACKED[kind] if kind in ("rollups", "text_index") else _FRESH
    return WriterProperties(
        compression="ZSTD", compression_level=level, column_properties=_columns(kind, small=False)
    )


def packed(table: str) -> WriterProperties:
    """Return how maintenance writes the rows of a table."""
    kind = _kind(table)
    wide = kind in _ROWS_OF_GROUP
    return WriterProperties(
        compression="ZSTD",
        compression_level=_PACKED.get(kind, 3),
        data_page_size_limit=_WIDE_PAGES if wide else None,
        dictionary_page_size_limit=_WIDE_PAGES // 8 if wide else None,
        data_page_row_count_limit=max(_ROWS_OF_GROUP.values()) if wide else None,
        max_row_group_size=_ROWS_OF_GROUP.get(kind),
        column_properties=_columns(kind, small=True),
    )


def scan(
    handle: DeltaTable,
    filters: list[tuple[str, str, str]] | None = None,
    files: Collection[str] | None = None,
) -> pl.LazyFrame:
    """Return the rows of a table, or of the partitions that meet all `filters`.

    If the names of `files` are given, of those alone.

    `pl.scan_delta` imports PyArrow, which takes longer than to read a small table.
    """
    schema = dict(pl.Schema(handle.schema().to_arrow()))
    names = handle.metadata().partition_columns
    found = handle.file_uris(filters)
    if files is not None:
        found = [file for file in found if file.rpartition("/")[2] in files]
    return scan_files(found, schema, names, handle._storage_options)


def scan_files(
    files: list[str],
    schema: Schema,
    partitioned_by: Collection[str],
    options: dict[str, str] | None,
) -> pl.LazyFrame:
    """Return the rows of data files at these paths, with the partitions that the paths name.

    A column that a file lacks is null in its rows; one that `schema` lacks is left out.
    """
    if not files:
        return pl.LazyFrame(schema=schema)
    rows = pl.scan_parquet(
        files,
        schema={name: dtype for name, dtype in schema.items() if name not in partitioned_by},
        hive_schema={name: schema[name] for name in partitioned_by} or None,
        hive_partitioning=bool(partitioned_by),
        missing_columns="insert",
        extra_columns="ignore",
        storage_options=options,
    )
    return rows.select(*schema)


def properties(table: str) -> dict[str, str]:
    """Return the properties of a new table that this module reads."""
    return {} if is_packed_later(table) else {PACKED: ALL_DAYS}


def is_packed_later(table: str) -> bool:
    """Return whether days are packed once nothing arrives any more, even those with one file.

    That pays for `raw` only: other tables hardly get smaller.
    """
    return _kind(table) == "raw"


def _kind(table: str) -> str:
    return table.partition("/")[0]


def _columns(kind: str, *, small: bool) -> dict[str, ColumnProperties] | None:
    schema = {"raw": RAW, "events": EVENTS}.get(kind)
    if schema is None:
        return None
    return {name: _column(name, small=small) for name in schema if name != "date"}


def _column(name: str, *, small: bool) -> ColumnProperties:
    statistics: Literal["NONE", "CHUNK"] = "NONE" if name in _NEVER_PRUNED else "CHUNK"
    if small and name in _ASCENDING:
        return ColumnProperties(
            dictionary_enabled=False, encoding="DELTA_BINARY_PACKED", statistics_enabled="CHUNK"
        )
    if small and name in _DISTINCT:
        # Lengths apart from the texts: zstd needs two bytes less for each digest and id.
        return ColumnProperties(
            dictionary_enabled=False,
            encoding="DELTA_LENGTH_BYTE_ARRAY",
            statistics_enabled=statistics,
        )
    dictionary = False if name in _DISTINCT else None
    return ColumnProperties(dictionary_enabled=dictionary, statistics_enabled=statistics)
