"""Exports of a whole lake: an engine reads and writes time ranges, which this process joins.

All ranges are read at the version of `events` that was the newest at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import polars as pl

from pipelines.engines import Engine
from pipelines.errors import LakeError
from pipelines.lake import events as events_table
from pipelines.lake import identity_table, tables, versions, workers
from pipelines.lake.tables import Lake
from pipelines.mapping import export
from pipelines.mapping.export import Range, Wanted
from pipelines.search.people import People

_PARQUET = "parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Versions:
    """The versions that all ranges are read at."""

    lake: str
    events: int
    identities: int | None
    """None: there is no such table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Errand:
    """A range for a worker to write."""

    at: _Versions
    wanted: Wanted
    form: str
    span: Range


def chunks(
    lake: Lake,
    wanted: Wanted,
    form: str,
    engine: Engine,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[bytes]:
    """Return the bytes of an export, piece by piece: the result of `export.chunks`, byte for byte.

    Raises LakeError if there are no events, and ConfigurationError for an invalid search.
    """
    tables.existing(lake, events_table.TABLE.name)
    at = _newest(lake)
    events = _matching(at, wanted)
    return _written(events, at, wanted, form, engine=engine, progress=progress)


def _written(
    events: pl.LazyFrame,
    at: _Versions,
    wanted: Wanted,
    form: str,
    *,
    engine: Engine,
    progress: Callable[[int], None],
) -> Iterator[bytes]:
    spans, columns = export.ranges(events), export.empty(events)
    errands = [_Errand(at=at, wanted=wanted, form=form, span=span) for span in spans]

    def pieces() -> Iterator[bytes]:
        found = engine.map(_piece, errands, sum(span.events for span in spans))
        for span, piece in zip(spans, found, strict=True):
            yield piece
            progress(span.events)

    if form == _PARQUET:
        yield from export.written(map(workers.unpacked, pieces()), form, columns)
    else:
        yield from export.written(iter(()), form, columns)
        yield from pieces()


def _piece(errand: _Errand) -> bytes:
    rows = export.between(_matching(errand.at, errand.wanted), errand.span)
    return workers.packed(rows) if errand.form == _PARQUET else export.body(rows, errand.form)


def _newest(lake: Lake) -> _Versions:
    events, identities = (
        versions.newest(lake, table.name) for table in (events_table.TABLE, identity_table.TABLE)
    )
    return _Versions(
        lake=workers.address(lake),
        events=events.number if events else 0,
        identities=identities.number if identities else None,
    )


def _matching(at: _Versions, wanted: Wanted) -> pl.LazyFrame:
    events = versions.pinned(workers.lake(at.lake), events_table.TABLE.name, at.events)
    if events is None:
        raise LakeError("events: the table was deleted while it was being exported")
    return export.matching(events.scan(), wanted, _people(at))


@lru_cache(maxsize=1)
def _people(at: _Versions) -> People:
    if at.identities is None:
        return identity_table.people_of(None)
    found = versions.pinned(workers.lake(at.lake), identity_table.TABLE.name, at.identities)
    return identity_table.people_of(found.scan() if found else None)
