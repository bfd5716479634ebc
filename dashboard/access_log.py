"""The two append-only tables that the dashboard writes: `access` and `views`.

`access` is the audit log of the dashboard itself; `views` stores addresses of pages under names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import polars as pl
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError

Timestamp = pl.Datetime("us", "UTC")
ACCESS: dict[str, pl.DataType] = {
    "time": Timestamp,  # when it was requested
    "who": pl.String(),  # e-mail address of the sign-in, or local account
    "what": pl.String(),  # "searched", "opened", "looked up", "exported" or "refused"
    "about": pl.String(),  # the search's parameters, the event's uid or the file format
    "events": pl.Int64(),  # number of events
    "version": pl.Int64(),  # of the table `events` that was shown
}
VIEWS: dict[str, pl.DataType] = {
    "time": Timestamp,  # when it was saved
    "who": pl.String(),  # who saved it
    "name": pl.String(),  # the newest row per name is valid
    "address": pl.String(),  # the page's parameters; "" removes the view
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One row of `access`; ACCESS describes the fields."""

    who: str
    what: str
    about: str
    events: int | None = None
    version: int | None = None


class Notes:
    """One such table, created by its first row."""

    def __init__(
        self, uri: str, options: Mapping[str, str], schema: Mapping[str, pl.DataType]
    ) -> None:
        self._uri = uri
        self._options = dict(options) or None
        self._schema = dict(schema)

    def add(self, now: datetime, **row: Any) -> None:
        """Append a row, committed on return. Raises the store's errors: no record, no access."""
        write_deltalake(
            self._uri,
            pl.DataFrame([{"time": now, **row}], schema=self._schema),
            mode="append",
            # Only a guard against accidents: writers can change the setting.
            configuration={"delta.appendOnly": "true"},
            storage_options=self._options,
        )

    def record(self, now: datetime, seen: Seen) -> None:
        self.add(now, **asdict(seen))

    def newest(self, most: int) -> pl.DataFrame:
        """Return at most `most` rows, newest first; none if the table does not exist."""
        try:
            table = DeltaTable(self._uri, storage_options=self._options)
        except TableNotFoundError:
            return pl.DataFrame(schema=self._schema)
        return pl.scan_delta(table).sort("time", descending=True).head(most).collect()


def saved(rows: pl.DataFrame) -> list[tuple[str, str]]:
    """Return (name, address) of each view, sorted by name; `rows` are of VIEWS, newest first."""
    newest = rows.unique("name", keep="first", maintain_order=True).filter(pl.col("address") != "")
    return newest.sort("name").select("name", "address").rows()
