"""Opens the lake in a worker of an engine, which knows only its place, and packs its rows."""

from __future__ import annotations

import io
from functools import cache

import polars as pl

from pipelines import settings
from pipelines.lake import tables
from pipelines.lake.tables import Lake
from pipelines.settings import folders

_own: dict[str, Lake] = {}
"""The lakes of this process by address: an engine runs small work here."""


def address(lake: Lake) -> str:
    """Return the description of the lake for a worker: nothing secret."""
    _own[lake.address] = lake
    return lake.address


def lake(address: str) -> Lake:
    """Return the lake at an address, with the options of its store that this machine knows."""
    return _own.get(address) or _configured(address)


@cache
def _configured(address: str) -> Lake:
    path = folders.path_from_environment()
    if "://" in address and path.exists():
        known = tables.configured(settings.load(path))
        if known.address == address:
            return Lake(address, known.storage_options)
    # The store itself looks for variables such as AWS_ACCESS_KEY_ID.
    return Lake(address)


def packed(rows: pl.DataFrame) -> bytes:
    """Return rows in the form in which a worker returns them: pickled, they take thrice as much."""
    stream = io.BytesIO()
    rows.write_ipc_stream(stream, compression="lz4")
    return stream.getvalue()


def unpacked(rows: bytes) -> pl.DataFrame:
    return pl.read_ipc_stream(rows)
