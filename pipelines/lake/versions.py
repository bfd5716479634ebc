"""Tables pinned to one version, so that several queries see the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from pipelines.lake import log, tables
from pipelines.lake.tables import Lake


@dataclass(frozen=True, slots=True, eq=False)
class TableVersion:
    """A table as of one commit; later commits do not change it."""

    _handle: DeltaTable

    @property
    def number(self) -> int:
        number: int = self._handle.version()
        return number

    @property
    def id(self) -> str:
        """Return the table's own id, which differs if it was created again."""
        return str(self._handle.metadata().id)

    @property
    def committed_at(self) -> datetime:
        return datetime.fromtimestamp(next(log.history(self._handle))["timestamp"] / 1000, UTC)

    def scan(self) -> pl.LazyFrame:
        return pl.scan_delta(self._handle)

    def count(self) -> int:
        """Return the number of rows, from the log's statistics."""
        count: int = self._handle.count()
        return count

    def dates(self) -> list[date]:
        """Return the values of the partition column `date`, sorted."""
        return sorted(date.fromisoformat(part["date"]) for part in self._handle.partitions())

    def files(self) -> pl.DataFrame:
        """Return the data files with their statistics, one row per file."""
        return pl.DataFrame(self._handle.get_add_actions(flatten=True))

    def fence(self, app: str) -> int:
        """Return the number in the newest app transaction of `app`, or 0."""
        return tables.cached(self._handle, ("fence", app), lambda: log.fence(self._handle, app))


def newest(lake: Lake, table: str) -> TableVersion | None:
    """Return the newest version, or None if there is no such table.

    Raises LakeError, also for a newest commit that a power cut left empty.
    """
    handle = tables.newest(lake, table)
    return None if handle is None else TableVersion(handle)


def pinned(lake: Lake, table: str, version: int | None = None) -> TableVersion | None:
    """Like `newest`, or an older version; raises the store's own errors (tables.STORE_ERRORS)."""
    try:
        return TableVersion(tables.open_at(lake, table, version))
    except TableNotFoundError:
        return None


class Head:
    """A table that stays open, so that a look for its newest version reads only new commits."""

    def __init__(self, lake: Lake, table: str) -> None:
        self._lake = lake
        self._table = table
        self._handle: DeltaTable | None = None
        self._commit: list[dict[str, Any]] = []

    def newest(self) -> tuple[str, int] | None:
        """Return the id of the table and its newest version, or None if there is no such table.

        Raises the store's own errors; call `forget` after one. Not safe to share by threads.
        """
        try:
            self._update()
        except TableNotFoundError:
            self._handle = None
        if self._handle is None:
            return None
        self._commit = self._handle.history(1)
        return str(self._handle.metadata().id), self._handle.version()

    def forget(self) -> None:
        """Reopen the table at the next look."""
        self._handle = None

    def _update(self) -> None:
        # An update finds no new commits where a table was removed, and adds those of another.
        if self._handle is None or self._handle.history(1) != self._commit:
            self._handle = tables.open_at(self._lake, self._table)
        else:
            self._handle.update_incremental()
