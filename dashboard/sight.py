"""Which integrations a visitor may see, and the only way of the dashboard to the lake's tables.

Every table is opened here, and its rows are filtered before anything else is computed. A table
without the column `integration` cannot be read by visitors who may not see all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TypeVar, cast
from urllib.parse import unquote

import polars as pl

from pipelines.detections import backtest, interrupted
from pipelines.detections.backtest import Part
from pipelines.detections.detector import exceptions_of
from pipelines.detections.overlay import Rulebook
from pipelines.detections.sources import Reader
from pipelines.lake import coverage, identity_table, pruning, raw, rollup, tables, versions
from pipelines.lake.commits import Table
from pipelines.lake.tables import Lake, StreamKey
from pipelines.lake.versions import Logged, TableVersion
from pipelines.schemas import (
    COVERAGE,
    EVENTS,
    RECONCILED,
    ROLLUPS,
    STREAMS,
    TEXT_INDEX,
    Schema,
)

T = TypeVar("T")

Raws = Mapping[StreamKey, Logged]
"""Raw tables, as their logs describe them."""
_RAW = "raw/"
_EVENTS = "events"
_ROLLUPS = "rollups"
_TEXT_INDEX = "text_index"
_FINDINGS = "findings"
SMALL: dict[str, Schema] = {
    "coverage": COVERAGE,
    "streams": STREAMS,
    "reconciliation": RECONCILED,
}
"""Tables that are read as a whole, each file with one request."""
# They have no values of events: the extent of each data file, and which words it cannot contain.
_PRUNING = (rollup.FILES, rollup.TEXTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """The integrations that a visitor may see; None for all, also of those to come."""

    integrations: frozenset[str] | None = None

    @property
    def limited(self) -> bool:
        return self.integrations is not None

    def has(self, integration: str) -> bool:
        return self.integrations is None or integration in self.integrations

    def has_log(self, log: str) -> bool:
        """Return True if the log, such as okta/system_log, is of such an integration."""
        return self.has(log.partition("/")[0])

    def rows(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Return the rows of these integrations."""
        return rows if self.integrations is None else rows.filter(self._seen(self.integrations))

    def aggregates(self, rollups: pl.LazyFrame) -> pl.LazyFrame:
        """Return the rows of `rollups` that count nothing else, and those that only exclude files.

        Aggregates that do not name their integration are left out.
        """
        if self.integrations is None:
            return rollups
        pruning = pl.col("part").is_in(_PRUNING)
        return rollups.filter(pruning | self._seen(self.integrations).fill_null(False))

    def findings(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Return the findings about events of these integrations alone.

        A correlation belongs to the integrations of all of its events, which begin with the name.
        """
        if self.integrations is None:
            return rows
        names = pl.element().str.split(":").list.first()
        known = names.is_in(sorted(self.integrations))
        theirs = pl.col("event_uids").list.eval(known).list.all().fill_null(False)
        return self.rows(rows).filter(theirs)

    def answer(self, found: T) -> T:
        """Return an answer, a table of it built from its values alone.

        Below a null, the buffers of a filtered column may keep the text of a row that was left out,
        and Streamlit sends whole buffers to the browser.
        """
        if self.limited and isinstance(found, pl.DataFrame):
            return cast(T, pl.DataFrame(found.to_dict(as_series=False), found.schema))
        return found

    def _seen(self, integrations: frozenset[str]) -> pl.Expr:
        return pl.col("integration").is_in(sorted(integrations))


EVERYTHING = Sight()
NOTHING = Sight(integrations=frozenset())


class Opened:
    """One version of a table, as a visitor may see it."""

    def __init__(self, name: str, table: TableVersion, sight: Sight, lake: Lake) -> None:
        self._name = name
        self._table = table
        self._lake = lake
        self.sight = sight

    @property
    def number(self) -> int:
        return self._table.number

    @property
    def committed_at(self) -> datetime:
        return self._table.committed_at

    def scan(self) -> pl.LazyFrame:
        rows = self._table.scan()
        if self._name == _ROLLUPS:
            return self.sight.aggregates(rollup.completed(rows))
        if self._name == _FINDINGS:
            return self.sight.findings(rows)
        # A raw table is of one integration, which was checked when it was opened.
        return rows if self._name.startswith(_RAW) else self.sight.rows(rows)

    def dates(self) -> list[date]:
        """Return the dates of all of its data files, sorted, whichever rows they have."""
        return self._table.dates()

    def count(self) -> int:
        """Return the number of rows."""
        if self.sight.limited and not self._name.startswith(_RAW):
            counted: int = self.scan().select(pl.len()).collect().item()
            return counted
        return self._table.count()

    def files(self) -> pl.DataFrame:
        """Return the data files of the table, whichever rows they have: path, date, rows."""
        return self._table.files().select("path", date="partition.date", rows="num_records")

    def statistics(self) -> pl.DataFrame:
        """Return the data files of `events` with the log's statistics.

        Without those that are known to have no row that the visitor may see.
        """
        files, own = self._table.files(), self.sight.integrations
        if own is None or "min.integration" not in files.columns:
            return files
        hidden = ~pl.col("min.integration").is_in(sorted(own))
        alone = pl.col("min.integration") == pl.col("max.integration")
        return files.filter(~(alone & hidden).fill_null(False))

    def read(self, files: pl.DataFrame) -> pl.LazyFrame:
        """Return the rows of these data files of `events`, some of `statistics`."""
        return self.sight.rows(pruning.scan(self._lake, _EVENTS, EVENTS, files))

    def fence(self, app: str) -> int:
        return self._table.fence(app)


class Door:
    """The tables of a lake, as a visitor may see them."""

    def __init__(self, lake: Lake, sight: Sight) -> None:
        self._lake = lake
        self.sight = sight

    def open(self, table: str, version: int | None = None) -> Opened | None:
        """Return a table; None if it does not exist, or is a raw table of another integration."""
        if table.startswith(_RAW) and not self.sight.has_log(table.removeprefix(_RAW)):
            return None
        opened = self._opened(table, version)
        return None if opened is None else Opened(table, opened, self.sight, self._lake)

    def _opened(self, table: str, version: int | None) -> TableVersion | None:
        if self._lake.local is None:  # others may have the newest one open
            found = versions.newest(self._lake, table)
            if found is None or version in (None, found.number):
                return found
        return versions.pinned(self._lake, table, version)

    def small(self, table: str) -> tuple[int, pl.LazyFrame] | None:
        """Return the version and the rows of one of `SMALL`; None if it does not exist.

        Of an object store, its log is not opened but read.
        """
        found = versions.listed(self._lake, table, SMALL[table])
        return None if found is None else (found.number, self.sight.rows(found.whole(self._lake)))

    def rollups(self) -> pl.LazyFrame:
        """Return the rows of `rollups`, as in `Sight.aggregates`."""
        opened = self.open(_ROLLUPS)
        return pl.LazyFrame(schema=ROLLUPS) if opened is None else opened.scan()

    def text_index(self) -> pl.LazyFrame:
        """Return the rows of `text_index`, which only exclude files, whatever the visitor may see.

        Empty if an older auditlake has maintained the lake.
        """
        opened = self._opened(_TEXT_INDEX, None)
        return pl.LazyFrame(schema=TEXT_INDEX) if opened is None else opened.scan()

    def read(self, paths: Sequence[str], *, numbered: str | None = None) -> pl.LazyFrame:
        """Return the rows of these data files of `events`.

        If a column `numbered` is given, it has the place of each row in the files, from 0.
        """
        if not paths:
            return pl.LazyFrame(schema=EVENTS)
        # Delta logs percent-encode paths.
        rows = pl.scan_parquet(
            [f"{self._lake.root.rstrip('/')}/events/{unquote(path)}" for path in paths],
            schema={name: dtype for name, dtype in EVENTS.items() if name != "date"},
            hive_schema={"date": EVENTS["date"]},
            hive_partitioning=True,
            missing_columns="insert",  # files that an older auditlake wrote
            row_index_name=numbered,
            storage_options=self._lake.scan_options,
        )
        return self.sight.rows(rows)

    def raws(self, logs: Iterable[tuple[str, str]]) -> Raws:
        """Return the raw tables of these streams that exist, as their logs describe them."""
        return raw.logs(self._lake, [StreamKey(*log) for log in logs if self.sight.has(log[0])])

    def pending(self, newest: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], pl.DataFrame]:
        """Return the coverage (schemas.COVERAGE) in raw commits of more than `newest` rows."""
        seen = {StreamKey(*log): rows for log, rows in newest.items() if self.sight.has(log[0])}
        raws = self.raws(seen)

        def one(key: StreamKey) -> pl.DataFrame:
            return coverage.pending_of(raws.get(key), key, seen[key])

        found = dict(zip(seen, tables.at_once(self._lake, one, seen), strict=True))
        return {log: found.get(StreamKey(*log), pl.DataFrame(schema=COVERAGE)) for log in newest}

    def behind(self, raws: Raws) -> set[tuple[str, str]]:
        """Return the streams with records that have no events yet."""
        derived = versions.newest(self._lake, _EVENTS)

        def lacks(key: StreamKey) -> bool:
            return raws[key].fence(key.app) > (derived.fence(key.app) if derived else 0)

        lacking = zip(raws, tables.at_once(self._lake, lacks, raws), strict=True)
        return {key for key, lacks_some in lacking if lacks_some}

    def backtest(
        self, book: Rulebook, rule: str, since: datetime, until: datetime
    ) -> Iterator[Part]:
        """Evaluate a rule on the events of these integrations, as `backtest.run` does.

        A correlation counts their events alone, and accounts are resolved by their persons.
        """
        persons = self.open(identity_table.TABLE.name)
        people = identity_table.people_of(persons.scan() if persons else None)
        reader = Reader(self._lake, people)
        return backtest.run(
            self._lake,
            book.ruleset,
            [rule],
            since,
            until,
            exceptions=exceptions_of(self._lake, book),
            reader=reader,
            keys=[log.key for log in reader.logs() if self.sight.has(log.key.integration)],
            kept=interrupted.of(self._lake),
        )


def notes(lake: Lake, table: Table, who: str | None) -> pl.LazyFrame:
    """Return the rows of a table of `access_log`; only those that `who` wrote, if given.

    These tables name no integration, and quote all visitors.
    """
    opened = versions.pinned(lake, table.name)
    rows = pl.LazyFrame(schema=table.schema) if opened is None else opened.scan()
    rows = rows.select(*table.schema)  # an older table has them in another order
    return rows if who is None else rows.filter(pl.col("who") == who)
