"""The dashboard's one door to the lake, which opens events and records for reading only.

A snapshot is pinned to a version of `events` and keeps the answers given about it: a number
says what may be remembered, no clock does, and two questions of one page see the same table.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Concatenate, ParamSpec, TypeVar, overload
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from dashboard import queries
from dashboard.access_log import ACCESS, VIEWS, Notes
from dashboard.counts import Counts
from pipelines.integrity.verifier.log_reader import Shelf
from pipelines.lake import rollup
from pipelines.schemas import EVENTS, ROLLUPS

P = ParamSpec("P")
R = TypeVar("R")

UNREADABLE = (DeltaError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A row of a raw table: what the vendor sent, and how it came here."""

    raw: str
    via: str
    ingested_at: datetime
    raw_sha256: str

    def intact(self) -> bool:
        return hashlib.sha256(self.raw.encode()).hexdigest() == self.raw_sha256


class Snapshot:
    """`events` at one version, with what `rollups` tells of its files."""

    def __init__(self, table: DeltaTable, counts: Counts) -> None:
        self.version: int = table.version()
        self.rows: int = table.count()
        self.days = sorted(date.fromisoformat(part["date"]) for part in table.partitions())
        self.committed_at = _committed_at(table)
        self._events = pl.scan_delta(table)
        self.counts = counts
        self._answer = functools.lru_cache(maxsize=256)(self._compute)

    @property
    def events(self) -> pl.LazyFrame:
        return self._events

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

    def ask(self, question: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """`question(events, ...)`, computed once a version; the answer is not to be changed."""
        answer: R = self._answer(question, args, tuple(kwargs.items()))
        return answer

    def _compute(self, question: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        asked = self.counts if question in queries.OF_COUNTS else self._events
        return question(asked, *args, **dict(kwargs))


class Lake:
    """An open lake: one handle for the process, brought up to date at every look."""

    def __init__(self, root: str, options: Mapping[str, str]) -> None:
        self.root = root.rstrip("/")
        self._options = dict(options)
        self._lock = threading.Lock()
        self._head: DeltaTable | None = None
        self._snapshot: Snapshot | None = None
        self._told: dict[tuple[str, Callable[..., Any]], tuple[Any, ...]] = {}
        self.access = Notes(f"{self.root}/access", options, ACCESS)
        self.views = Notes(f"{self.root}/views", options, VIEWS)

    @property
    def shelf(self) -> Shelf:
        """The lake's files beside its tables, such as its checkpoints."""
        return Shelf(root=self.root, options=self._options)

    def look(self) -> Snapshot | None:
        """The newest version of `events`; None while there is no such table."""
        with self._lock:
            try:
                version = self._newest()
            except TableNotFoundError:
                self._head = self._snapshot = None
                return None
            if self._snapshot is None or self._snapshot.version != version:
                table = self._open("events", version)
                self._snapshot = Snapshot(table, self._counts(table))
            return self._snapshot

    def forget(self) -> None:
        """Let go of the handle: after a failure the next look opens the table anew."""
        with self._lock:
            self._head = self._snapshot = None

    def record(self, integration: str, stream: str, day: date, seq: int) -> Record | None:
        """One row of a raw table, if it is there.

        Raises FileNotFoundError where the names are no folder's.
        """
        if not all(_is_a_name(part) for part in (integration, stream)):
            raise FileNotFoundError(f"no raw table is called {integration}/{stream}")
        try:
            table = self._open(f"raw/{integration}/{stream}")
        except TableNotFoundError:
            return None
        found = (
            pl.scan_delta(table)
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
        """`question(rows, ...)` of any other table as it is now; None while there is none."""
        try:
            opened = self._open(table)
        except TableNotFoundError:
            return None
        key, about = (table, question), (opened.version(), args)
        if self._told.get(key, (None,))[0] != about:
            self._told[key] = about, question(pl.scan_delta(opened), *args, **kwargs)
        answer: R = self._told[key][1]
        return answer

    def _counts(self, table: DeltaTable) -> Counts:
        rollups = self._rolled_up()
        known = rollups.filter(pl.col("part") == rollup.FILES).collect()
        files = pl.DataFrame(table.get_add_actions(flatten=True))
        spans = known.select("path", "file", "since", "until", "held")
        return Counts(
            files.select("path", date="partition.date").join(spans, on="path", how="left"),
            self._read,
            rollups,
            known["file"].to_list(),
        )

    def _rolled_up(self) -> pl.LazyFrame:
        try:
            rows = pl.scan_delta(self._open("rollups"))
        except TableNotFoundError:
            return pl.LazyFrame(schema=ROLLUPS)
        # An older version made it with fewer columns.
        lacking = ROLLUPS.keys() - rows.collect_schema().keys()
        return rows.with_columns(pl.lit(None, ROLLUPS[name]).alias(name) for name in lacking)

    def _read(self, paths: Sequence[str]) -> pl.LazyFrame:
        """The rows of these data files of `events`."""
        if not paths:
            return pl.LazyFrame(schema=EVENTS)
        return pl.scan_parquet(
            [f"{self.root}/events/{unquote(path)}" for path in paths],
            schema={name: dtype for name, dtype in EVENTS.items() if name != "date"},
            hive_schema={"date": EVENTS["date"]},
            hive_partitioning=True,
            storage_options=self._options or None,
        )

    def _newest(self) -> int:
        if self._head is None:
            self._head = self._open("events")
        else:
            self._head.update_incremental()
        version: int = self._head.version()
        return version

    def _open(self, path: str, version: int | None = None) -> DeltaTable:
        return DeltaTable(f"{self.root}/{path}", version, storage_options=self._options or None)


@functools.lru_cache(maxsize=4)
def held_open(root: str, options: tuple[tuple[str, str], ...]) -> Lake:
    """The one open lake of the process for that root."""
    return Lake(root, dict(options))


def _committed_at(table: DeltaTable) -> datetime:
    return datetime.fromtimestamp(table.history(1)[0]["timestamp"] / 1000, UTC)


def _is_a_name(part: str) -> bool:
    return bool(part) and not part.startswith(".") and "/" not in part and "\\" not in part
