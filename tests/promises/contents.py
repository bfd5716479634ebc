"""The contents of a lake's files as text, to search them for values that have to be gone."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl


def texts(frame: pl.DataFrame) -> Iterator[str]:
    """Yield the text of every cell, nested ones and bytes included."""
    for name, dtype in frame.schema.items():
        column = frame[name].drop_nulls()
        if dtype == pl.Binary:
            yield from (value.decode(errors="replace") for value in column)
        elif dtype.is_nested():
            yield from (json.dumps(value, default=str) for value in column.to_list())
        else:
            yield from column.cast(pl.String)


def content(path: Path) -> str:
    if path.suffix == ".parquet":
        return "\n".join(texts(pl.read_parquet(path, hive_partitioning=False)))
    data = path.read_bytes()
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode(errors="replace")
