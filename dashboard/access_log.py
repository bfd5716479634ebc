"""The two tables that the dashboard itself writes, which only ever grow: who looked, and views.

`access` says who looked at what, since whoever reads logs leaves one; `views` names addresses of
pages worth returning to.
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
    "time": Timestamp,  # when it was asked
    "who": pl.String(),  # the e-mail address of the sign-in, or the account on this machine
    "what": pl.String(),  # "searched", "opened", "looked up", "exported" or "refused"
    "about": pl.String(),  # the address of the search, the event's name, the file's form
    "events": pl.Int64(),  # how many events that was
    "version": pl.Int64(),  # of the table `events` that was shown
}
VIEWS: dict[str, pl.DataType] = {
    "time": Timestamp,  # when it was saved
    "who": pl.String(),  # by whom
    "name": pl.String(),  # the newest row of a name counts
    "address": pl.String(),  # the page's parameters; "" where the view was removed
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One thing that somebody looked at; the columns of ACCESS say what the fields mean."""

    who: str
    what: str
    about: str
    events: int | None = None
    version: int | None = None


class Notes:
    """One such table; it is made when first written."""

    def __init__(
        self, uri: str, options: Mapping[str, str], schema: Mapping[str, pl.DataType]
    ) -> None:
        self._uri = uri
        self._options = dict(options) or None
        self._schema = dict(schema)

    def add(self, now: datetime, **row: Any) -> None:
        """Committed on return. Raises what the store raises: what is not recorded is not shown."""
        write_deltalake(
            self._uri,
            pl.DataFrame([{"time": now, **row}], schema=self._schema),
            mode="append",
            configuration={"delta.appendOnly": "true"},
            storage_options=self._options,
        )

    def record(self, now: datetime, seen: Seen) -> None:
        self.add(now, **asdict(seen))

    def newest(self, most: int) -> pl.DataFrame:
        try:
            table = DeltaTable(self._uri, storage_options=self._options)
        except TableNotFoundError:
            return pl.DataFrame(schema=self._schema)
        return pl.scan_delta(table).sort("time", descending=True).head(most).collect()


def saved(rows: pl.DataFrame) -> list[tuple[str, str]]:
    """(name, address) of the views there are, by name; `rows` are of VIEWS, newest first."""
    newest = rows.unique("name", keep="first", maintain_order=True).filter(pl.col("address") != "")
    return newest.sort("name").select("name", "address").rows()
