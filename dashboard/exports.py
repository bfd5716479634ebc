"""A whole result as a file to take away."""

from __future__ import annotations

import io

import polars as pl

from dashboard import escaping

MOST = 5_000_000  # events in one file, which is built in memory


def csv(rows: pl.LazyFrame) -> bytes:
    """UTF-8 with a header, times in ISO 8601, no cell a spreadsheet would compute."""
    schema = rows.collect_schema()
    flat = rows.with_columns(_as_json(name) for name in schema if schema[name].is_nested())
    texts = [name for name in schema if schema[name].is_nested() or schema[name] == pl.String]
    file = io.BytesIO()
    flat.with_columns(escaping.cells(name) for name in texts).sink_csv(
        file, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ"
    )
    return file.getvalue()


def parquet(rows: pl.LazyFrame) -> bytes:
    file = io.BytesIO()
    rows.sink_parquet(file)
    return file.getvalue()


def _as_json(column: str) -> pl.Expr:
    wrapped = pl.struct(column).struct.json_encode()
    return wrapped.str.strip_prefix(f'{{"{column}":').str.strip_suffix("}").alias(column)
