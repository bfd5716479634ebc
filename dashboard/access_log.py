"""The append-only tables that the dashboard writes: `access`, `views`, `triage` and `exceptions`.

`access` is the audit log of the dashboard itself; `views` stores addresses of pages under names.
The others hold the decisions about findings.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import polars as pl

from dashboard import sight
from dashboard.sight import EVERYTHING, Sight
from pipelines import schemas
from pipelines.lake import commits, tables
from pipelines.lake.commits import Table
from pipelines.lake.tables import Lake
from pipelines.lake.versions import Head

# Only a guard against accidents: writers can change the setting.
_SETTINGS = {"delta.appendOnly": "true"}
ACCESS = Table(
    name="access",
    about="Searches, opened events and exports, with the user",
    schema=schemas.ACCESS,
    partitions=(),
    settings=_SETTINGS,
)
VIEWS = Table(
    name="views",
    about="Saved views",
    schema=schemas.VIEWS,
    partitions=(),
    settings=_SETTINGS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One row of `access`; schemas.ACCESS describes the fields."""

    who: str
    what: str
    about: str
    events: int | None = None
    version: int | None = None


class Notes:
    """One such table, created by its first row.

    For a read-only lake it is kept in the lake `instead`, and shown with the rows of the first. A
    limited visitor reads their own rows only: those of others quote their searches.
    """

    def __init__(
        self,
        lake: Lake,
        table: Table,
        instead: Lake | None = None,
        sight: Sight = EVERYTHING,
    ) -> None:
        self._lake = instead or lake
        self._lakes = [lake, instead] if instead else [lake]
        self._table = table
        self._sight = sight
        self.elsewhere = instead is not None
        """Whether rows are kept outside the lake, where only the dashboard finds them."""
        self._heads = [Head(each, table.name) for each in self._lakes]
        self._lock = threading.Lock()
        self._known: tuple[list[tuple[str, int] | None], pl.DataFrame] | None = None

    def add(self, now: datetime, **row: Any) -> None:
        """Append a row, committed on return. Raises LakeError: no record, no access."""
        self.add_all(now, [row])

    def add_all(self, now: datetime, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows in one commit. Raises LakeError."""
        made = pl.DataFrame([{"time": now, **row} for row in rows], schema=self._table.schema)
        commits.append(self._lake, self._table, made)

    def record(self, now: datetime, seen: Seen) -> None:
        self.add(now, **asdict(seen))

    def newest(self, most: int, who: str = "") -> pl.DataFrame:
        """Return at most `most` rows, newest first; none if the table does not exist.

        For a limited visitor, those of `who`.
        """
        only = who if self._sight.limited else None
        rows = pl.concat(sight.notes(lake, self._table, only) for lake in self._lakes)
        found: pl.DataFrame = rows.sort("time", descending=True).head(most).collect()
        return self._sight.answer(found)

    def every(self) -> pl.DataFrame:
        """Return the rows of all users, oldest first, as they were at the newest commit.

        The caller leaves out rows that a limited visitor must not see.
        """
        with self._lock:
            try:
                versions = [head.newest() for head in self._heads]
            except tables.STORE_ERRORS:
                for head in self._heads:
                    head.forget()
                raise
            if self._known is None or self._known[0] != versions:
                rows = pl.concat(sight.notes(lake, self._table, None) for lake in self._lakes)
                self._known = versions, rows.sort("time", maintain_order=True).collect()
            return self._known[1]

    def is_of_another(self, name: str, who: str) -> bool:
        """Return True if a limited visitor must not replace a view: the newest is not theirs."""
        if not self._sight.limited:
            return False
        rows = pl.concat(sight.notes(lake, self._table, None) for lake in self._lakes)
        newest = rows.filter(name=name).sort("time", descending=True).head(1).collect()
        return bool(newest.height and newest["address"][0] and newest["who"][0] != who)


def saved(rows: pl.DataFrame) -> list[tuple[str, str]]:
    """Return (name, address) of each view, sorted by name; `rows` are of VIEWS, newest first."""
    newest = rows.unique("name", keep="first", maintain_order=True).filter(pl.col("address") != "")
    return newest.sort("name").select("name", "address").rows()
