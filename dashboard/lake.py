"""Read-only access to the lake: versions of `events`, its other tables and raw records.

A snapshot is pinned to one version of `events` and caches results for it: they are valid as long as
the version is, without a timeout, and all queries of a page see the same table.
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
from pipelines.integrity.verifier.log_reader import LogFiles
from pipelines.lake import rollup
from pipelines.schemas import EVENTS, ROLLUPS

P = ParamSpec("P")
R = TypeVar("R")

UNREADABLE = (DeltaError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)


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
    """`events` at one version, with the rollups of its files."""

    def __init__(self, table: DeltaTable, counts: Counts) -> None:
        self.version: int = table.version()
        self.rows: int = table.count()
        self.days = sorted(date.fromisoformat(part["date"]) for part in table.partitions())
        self.committed_at = _committed_at(table)
        self._events = pl.scan_delta(table)
        self.counts = counts
        # Cached on the instance: the results go when a newer version replaces it.
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
        """Return `question(events, ...)`, computed once per version; do not modify the result."""
        answer: R = self._answer(question, args, tuple(kwargs.items()))
        return answer

    def _compute(self, question: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        rows = self.counts if question in queries.OF_COUNTS else self._events
        return question(rows, *args, **dict(kwargs))


class Lake:
    """An open lake: one table handle per process, refreshed by every `look`."""

    def __init__(self, root: str, options: Mapping[str, str]) -> None:
        self.root = root.rstrip("/")
        self._options = dict(options)
        # Streamlit runs each session in a thread of its own.
        self._lock = threading.Lock()
        self._head: DeltaTable | None = None
        self._snapshot: Snapshot | None = None
        self._answers: dict[tuple[str, Callable[..., Any]], tuple[Any, ...]] = {}
        self.access = Notes(f"{self.root}/access", options, ACCESS)
        self.views = Notes(f"{self.root}/views", options, VIEWS)

    @property
    def shelf(self) -> LogFiles:
        """The lake's files outside its Delta tables, such as checkpoints."""
        return LogFiles(root=self.root, options=self._options)

    def look(self) -> Snapshot | None:
        """Return the newest version of `events`; None if the table does not exist yet."""
        with self._lock:
            try:
                version = self._newest()
            except TableNotFoundError:
                self._head = self._snapshot = None
                return None
            if self._snapshot is None or self._snapshot.version != version:
                # A handle of its own, since `_head` moves to later versions.
                table = self._open("events", version)
                self._snapshot = Snapshot(table, self._counts(table))
            return self._snapshot

    def forget(self) -> None:
        """Drop the handle after a failure, so that the next `look` reopens the table."""
        with self._lock:
            self._head = self._snapshot = None

    def record(self, integration: str, stream: str, day: date, seq: int) -> Record | None:
        """Return one row of a raw table; None if it does not exist.

        Raises FileNotFoundError for a name that cannot be a folder.
        """
        # The names come from an event: they must not lead outside `raw`.
        if not all(_is_a_name(part) for part in (integration, stream)):
            raise FileNotFoundError(f"{integration}/{stream} is not the name of a raw table")
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
        """Return `question(rows, ...)` for any other table; None if the table does not exist."""
        try:
            opened = self._open(table)
        except TableNotFoundError:
            return None
        # One answer per question is kept, for the version and the arguments of its last use.
        key, about = (table, question), (opened.version(), args)
        if self._answers.get(key, (None,))[0] != about:
            self._answers[key] = about, question(pl.scan_delta(opened), *args, **kwargs)
        answer: R = self._answers[key][1]
        return answer

    def _counts(self, table: DeltaTable) -> Counts:
        rollups = self._rolled_up()
        known = rollups.filter(pl.col("part") == rollup.FILES).collect()
        files = pl.DataFrame(table.get_add_actions(flatten=True))
        spans = known.select("path", "file", "since", "until", "held")
        # Files that are not rolled up yet keep nulls.
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
        # Older versions of auditlake wrote fewer columns.
        lacking = ROLLUPS.keys() - rows.collect_schema().keys()
        return rows.with_columns(pl.lit(None, ROLLUPS[name]).alias(name) for name in lacking)

    def _read(self, paths: Sequence[str]) -> pl.LazyFrame:
        """Return the rows of these data files of `events`."""
        if not paths:
            return pl.LazyFrame(schema=EVENTS)
        # Delta logs percent-encode paths.
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
    """Return the process's one open lake at `root`."""
    return Lake(root, dict(options))


def _committed_at(table: DeltaTable) -> datetime:
    return datetime.fromtimestamp(table.history(1)[0]["timestamp"] / 1000, UTC)


def _is_a_name(part: str) -> bool:
    return bool(part) and not part.startswith(".") and "/" not in part and "\\" not in part
