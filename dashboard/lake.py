"""Read-only access to the lake: versions of `events`, its other tables and raw records.

A snapshot is pinned to one version of `events` and caches results for it: they are valid as long as
the version is, without a timeout, and all queries of a page see the same table. There is one open
lake per `Sight`, so visitors with different roles share no result.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

import polars as pl

from dashboard import findings, listing, patience, queries, significant, volumes
from dashboard.access_log import ACCESS, VIEWS, Notes
from dashboard.counts import Counts
from dashboard.entities import Entity
from dashboard.queries import Query
from dashboard.sight import EVERYTHING, SMALL, Door, Opened, Raws, Sight
from pipelines.detections.backtest import Part
from pipelines.detections.overlay import Rulebook
from pipelines.errors import LakeError
from pipelines.integrity.verifier.log_reader import LogFiles
from pipelines.lake import rollup, tables
from pipelines.lake.findings import EXCEPTIONS, TRIAGE
from pipelines.lake.tables import StreamKey
from pipelines.lake.versions import Head
from pipelines.schemas import COVERAGE
from pipelines.search import people
from pipelines.search.people import NOBODY, People

P = ParamSpec("P")
R = TypeVar("R")

_ROWS = list(COVERAGE).index("rows")
_OF_COUNTS = queries.OF_COUNTS | {listing.page, listing.newest_so_far, significant.found}
_OF_FILES = {volumes.of_table}
"""Questions that choose the data files to read; their answers have no persons."""
_OF_PEOPLE = (Query, Entity)
UNREADABLE = (*tables.STORE_ERRORS, LakeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A row of a raw table: the vendor's record and how it arrived."""

    raw: str
    via: str
    ingested_at: datetime
    raw_sha256: str

    def intact(self) -> bool:
        """Return True if the record still has the hash that was stored with it."""
        return hashlib.sha256(self.raw.encode()).hexdigest() == self.raw_sha256


class Snapshot:
    """`events` at one version, with the rollups of its files and the persons known meanwhile.

    Both are read when a question first needs them.
    """

    def __init__(
        self,
        table: Opened,
        counts: Callable[[Opened, People], Counts],
        persons: Callable[[], People],
    ) -> None:
        self.version = table.number
        self.committed_at = table.committed_at
        self._table = table
        self._sight = table.sight
        self._open_counts = counts
        self._open_persons = persons
        self._counts: Counts | None = None
        self._people: People | None = None
        self._lock = threading.RLock()
        # Cached on the instance: the results go when a newer version replaces it.
        self._answer = functools.lru_cache(maxsize=256)(self._compute)
        self.rows, self.days = _extent(table, lambda: self.counts)

    @property
    def people(self) -> People:
        with self._lock:
            if self._people is None:
                self._people = self._open_persons()
            return self._people

    @property
    def counts(self) -> Counts:
        with self._lock:
            if self._counts is None:
                self._counts = self._open_counts(self._table, self.people)
            return self._counts

    @property
    def events(self) -> pl.LazyFrame:
        return self.people.named(self._table.scan())

    def derived(self, log: tuple[str, str]) -> int:
        """Return how many raw rows of a stream have their events in this version."""
        return self._table.fence(StreamKey(*log).app)

    @overload
    def ask(
        self,
        question: Callable[Concatenate[pl.LazyFrame, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...

    @overload
    def ask(
        self,
        question: Callable[Concatenate[queries.Counts, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...

    @overload
    def ask(
        self,
        question: Callable[Concatenate[volumes.Table, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...

    def ask(self, question: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """Return `question(events, ...)`, computed once per version; do not modify the result."""
        answer: R = self._answer(question, args, tuple(kwargs.items()))
        return answer

    def _compute(self, question: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        patience.check()
        rows = self._rows(question)
        return self._sight.answer(question(rows, *map(self.resolved, args), **dict(kwargs)))

    def _rows(self, question: Callable[..., Any]) -> Any:
        if question in _OF_COUNTS:
            return self.counts
        return self._table if question in _OF_FILES else self.events

    def resolved(self, argument: Any) -> Any:
        """Return a query or an entity with the persons of its accounts; anything else as it is."""
        return argument.resolved(self.people) if isinstance(argument, _OF_PEOPLE) else argument


class Lake:
    """An open lake: one table handle per process, refreshed by every `look`."""

    def __init__(
        self,
        root: str,
        options: Mapping[str, str],
        notes: str | None = None,
        sight: Sight = EVERYTHING,
    ) -> None:
        self.root = root.rstrip("/")
        self.sight = sight
        self._tables = tables.Lake(root, dict(options) or None)
        self._door = Door(self._tables, sight)
        # Streamlit runs each session in a thread of its own.
        self._lock = threading.Lock()
        self._head = Head(self._tables, "events")
        self._identities = Head(self._tables, "identities")
        self._naming = threading.Lock()
        self._people: tuple[tuple[str, int] | None, People] | None = None
        self._snapshot: Snapshot | None = None
        self._pinned: tuple[str, int] | None = None
        self.seen: int | None = None
        """The version of `events` with rows that was read last, even if it is gone by now."""
        self._answers: dict[tuple[str, Callable[..., Any]], tuple[Any, ...]] = {}
        self._pending: dict[tuple[str, str], tuple[int, tuple[tuple[Any, ...], ...]]] = {}
        instead = tables.Lake(notes) if notes else None
        self.access = Notes(self._tables, ACCESS, instead, sight)
        self.views = Notes(self._tables, VIEWS, instead, sight)
        self.triage = Notes(self._tables, TRIAGE, instead, sight)
        self.exceptions = Notes(self._tables, EXCEPTIONS, instead, sight)
        self._heads: dict[str, Head] = {}
        self._cases: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame] | None = None

    @property
    def shelf(self) -> LogFiles:
        """The lake's files outside its Delta tables, such as checkpoints."""
        return LogFiles(root=self.root, options=self._tables.storage_options or {})

    def look(self) -> Snapshot | None:
        """Return the newest version of `events`; None if the table does not exist yet."""
        with self._lock:
            newest = self._head.newest()
            if self._snapshot is None or self._pinned != newest or self._renamed():
                self._pinned, self._snapshot = newest, self._pin(newest and newest[1])
            if self._snapshot and self._snapshot.rows:
                self.seen = self._snapshot.version
            return self._snapshot

    def forget(self) -> None:
        """Drop the handle after a failure, so that the next `look` reopens the table."""
        with self._lock:
            self._head.forget()
            self._heads.clear()
            self._snapshot = None
        with self._naming:
            self._identities.forget()
            self._people = None

    def count(self, table: str) -> int | None:
        """Return the number of rows of a table; None if it does not exist."""
        opened = self._open(table)
        return None if opened is None else opened.count()

    def record(self, integration: str, stream: str, day: date, seq: int) -> Record | None:
        """Return one row of a raw table; None if it does not exist.

        Raises FileNotFoundError for a name that cannot be a folder.
        """
        # The names come from an event: they must not lead outside `raw`.
        if not all(_is_a_name(part) for part in (integration, stream)):
            raise FileNotFoundError(f"{integration}/{stream} is not the name of a raw table")
        table = self._open(f"raw/{integration}/{stream}")
        if table is None:
            return None
        found = (
            table.scan()
            .filter(pl.col("date") == day, pl.col("seq") == seq)
            .select("raw", "via", "ingested_at", "raw_sha256")
            .head(1)
            .collect()
        )
        return Record(**found.row(0, named=True)) if found.height else None

    def ask(
        self,
        table: str,
        question: Callable[Concatenate[pl.LazyFrame, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R | None:
        """Return `question(rows, ...)` for any other table; None if the table does not exist."""
        if (read := self._read(table)) is None:
            return None
        number, rows = read

        def find() -> R:
            return self.sight.answer(question(rows, *args, **kwargs))

        return self._kept((table, question), (number, args), find)

    def _kept(self, key: tuple[str, Any], about: tuple[Any, ...], find: Callable[[], R]) -> R:
        """Return what `find` found for the key, for the same version and arguments: `about`."""
        if self._answers.get(key, (None,))[0] != about:
            self._answers[key] = about, find()
        answer: R = self._answers[key][1]
        return answer

    def newest_pushes(self, raws: Raws, since: date) -> dict[tuple[str, str], datetime | None]:
        """Return when each of these streams last received a pushed record, from a day on."""

        def one(key: StreamKey) -> datetime | None:
            table = raws[key]
            return self._kept(
                (key.app, queries.newest_push),
                (table.number, since),
                lambda: queries.newest_push(table.since(since, "webhook"), since),
            )

        return dict(zip(raws, tables.at_once(self._tables, one, raws), strict=True))

    def recent(
        self,
        table: str,
        question: Callable[Concatenate[pl.LazyFrame, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R | None:
        """As `ask`, of a table that stays open: to ask again costs a look for new commits."""
        with self._lock:
            head = self._heads.setdefault(table, Head(self._tables, table))
            try:
                newest = head.newest()
            except tables.STORE_ERRORS:
                del self._heads[table]
                raise
        if newest is None:
            return None
        key, about = (table, question), (newest, args)
        if self._answers.get(key, (None,))[0] != about:
            opened = self._open(table, newest[1])
            if opened is None:
                return None
            self._answers[key] = about, self.sight.answer(question(opened.scan(), *args, **kwargs))
        answer: R = self._answers[key][1]
        return answer

    def cases(self) -> pl.DataFrame:
        """Return all findings with the decisions about each, as `findings.decided` does."""
        found = self.recent("findings", findings.newest)
        if found is None:
            return findings.NONE
        triage = self.triage.every()
        if self._cases is None or self._cases[0] is not found or self._cases[1] is not triage:
            joined = self.sight.answer(findings.decided(found, triage))
            self._cases = found, triage, joined
        return self._cases[2]

    def pending(self, recorded: Mapping[tuple[str, str], int]) -> tuple[tuple[Any, ...], ...]:
        """Return the rows (schemas.COVERAGE) that only raw commits contain so far.

        `recorded` has the number of raw rows up to which `coverage` is complete. A raw table is
        read only if its stream has events that were not there at the last call.
        """
        newest: dict[tuple[str, str], int] = {}
        for log, seen in recorded.items():
            derived = self._snapshot.derived(log) if self._snapshot else 0
            before, found = self._pending.get(log, (-1, ()))
            kept = tuple(row for row in found if row[_ROWS] > seen)
            if derived != before:
                newest[log] = max(seen, *(row[_ROWS] for row in kept), 0)
            self._pending[log] = derived, kept
        for log, fresh in self._door.pending(newest).items() if newest else ():
            derived, kept = self._pending[log]
            self._pending[log] = derived, (*kept, *fresh.iter_rows())
        return tuple(row for log in recorded for row in self._pending[log][1])

    def raws(self, logs: Iterable[tuple[str, str]]) -> Raws:
        """Return the raw tables of these streams that exist, as their logs describe them."""
        return self._door.raws(logs)

    def behind(self, raws: Raws) -> set[tuple[str, str]]:
        """Return the streams with records that have no events yet."""
        return self._door.behind(raws)

    def backtest(
        self, book: Rulebook, rule: str, since: datetime, until: datetime
    ) -> Iterator[Part]:
        """Evaluate a rule on stored events, as `Door.backtest` does; for a thread of its own."""
        return self._door.backtest(book, rule, since, until)

    def _pin(self, version: int | None) -> Snapshot | None:
        # A handle of its own, since `_head` moves to later versions.
        table = None if version is None else self._open("events", version)
        if table is None:
            self._head.forget()
            return None
        return Snapshot(table, self._counts, self._persons)

    def _persons(self) -> People:
        """Return the persons of `identities`, which is read the first time."""
        with self._naming:
            if self._people is None:
                version = self._identities.newest()
                table = None if version is None else self._open("identities", version[1])
                known = NOBODY if table is None else people.people(table.scan().collect())
                self._people = version, known
            return self._people[1]

    def _renamed(self) -> bool:
        """Return True, and forget the persons, if `identities` has changed since it was read."""
        with self._naming:
            if self._people is None or self._people[0] == self._identities.newest():
                return False
            self._people = None
            return True

    def _counts(self, table: Opened, known: People) -> Counts:
        rollups = self._door.rollups()
        files = rollups.filter(pl.col("part") == rollup.FILES).collect()
        current = files.filter(layout=rollup.LAYOUT)
        spans = current.select("path", "file", "since", "until", "held")
        # Files that are not rolled up yet keep nulls.
        return Counts(
            table.files().join(spans, on="path", how="left"),
            self._door,
            rollups,
            files["file"].to_list(),
            known,
            index=self._door.text_index(),
        )

    def _read(self, table: str) -> tuple[int, pl.LazyFrame] | None:
        """Return the version and the rows of a table, or None if it does not exist."""
        if table in SMALL:
            return self._door.small(table)
        opened = self._open(table)
        return None if opened is None else (opened.number, opened.scan())

    def _open(self, table: str, version: int | None = None) -> Opened | None:
        return self._door.open(table, version)


def _extent(table: Opened, counts: Callable[[], Counts]) -> tuple[int, list[date]]:
    """Return the number of rows and the days that have any, from the table's log where it can."""
    days = table.dates()
    if not table.sight.limited or not days:
        return table.count(), days
    first, last = (datetime.combine(day, time(), UTC) for day in (days[0], days[-1]))
    seen = queries.days(counts(), Query(since=first, until=last + timedelta(days=1)))
    return sum(n for _, n in seen), sorted(day for day, _ in seen)


@functools.lru_cache(maxsize=16)
def held_open(
    root: str,
    options: tuple[tuple[str, str], ...],
    notes: str | None = None,
    sight: Sight = EVERYTHING,
) -> Lake:
    """Return the process's one lake at `root` for this sight, with its notes in `notes` if any."""
    return Lake(root, dict(options), notes, sight)


def _is_a_name(part: str) -> bool:
    return bool(part) and not part.startswith(".") and "/" not in part and "\\" not in part
