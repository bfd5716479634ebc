"""The events committed since the last look, each once.

The fences of their streams distinguish new rows from rewritten ones: compaction and renormalising
write files with rows from below a fence, which are never new.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from pipelines.lake import events, per_file, tables, versions
from pipelines.lake.tables import Lake, StreamKey
from pipelines.lake.versions import Head, TableVersion
from pipelines.schemas import EVENTS

_Fences = dict[StreamKey, int]


class Follower:
    """The table `events` from its newest version on; not safe to share by threads."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._head = Head(lake, events.TABLE.name)
        self._first = self._last = self._at(self._head.newest())
        self._paths = _paths(self._last)
        self._fences: _Fences = {}

    def held(self) -> pl.LazyFrame:
        """Return the events that were committed before the first look."""
        return self._first.scan() if self._first else pl.LazyFrame(schema=EVENTS)

    def fresh(self, select: Callable[[pl.LazyFrame], pl.LazyFrame]) -> pl.DataFrame:
        """Return the selection of the events committed since the last look.

        Raises the store's own errors; the next look then returns what this one could not.
        """
        table = self._at(self._head.newest())
        if table is None or (self._last and table.number == self._last.number):
            return select(pl.LazyFrame(schema=EVENTS)).collect()
        paths = _paths(table)
        rows, fences = self._rows(table, paths - self._paths)
        found = select(rows).collect(engine="streaming")
        # Only now: after a failure, the same rows are read again.
        self._last, self._paths = table, paths
        self._fences.update(fences)
        return found

    def _rows(self, table: TableVersion, paths: set[str]) -> tuple[pl.LazyFrame, _Fences]:
        """Return the new rows in the data files `paths`, and the fences of their streams."""
        if not paths:
            return pl.LazyFrame(schema=EVENTS), {}
        files = pl.DataFrame({"path": sorted(paths)}).with_columns(file=pl.lit(0, pl.Int64))
        rows = per_file.rows_of_files(self._lake, files).select(*EVENTS)
        names = rows.select("integration", "stream").unique().collect().iter_rows()
        fences = {key: table.fence(key.app) for key in (StreamKey(*name) for name in names)}
        new = [
            tables.of_stream(key) & pl.col("seq").is_between(self._before(key), fence, "left")
            for key, fence in fences.items()
        ]
        return rows.filter(pl.any_horizontal(False, *new)), fences

    def _before(self, key: StreamKey) -> int:
        if key in self._fences:
            return self._fences[key]
        return self._first.fence(key.app) if self._first else 0

    def _at(self, newest: tuple[str, int] | None) -> TableVersion | None:
        return newest and versions.pinned(self._lake, events.TABLE.name, newest[1])


def _paths(table: TableVersion | None) -> set[str]:
    return set(table.files()["path"]) if table else set()
