"""Tables pinned to one version, so that several queries see the same rows."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Protocol, TypeVar

import msgspec
import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from pipelines.lake import formats, log, parquet, pruning, tables
from pipelines.lake.tables import Lake
from pipelines.schemas import Schema

T = TypeVar("T")


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

    @property
    def description(self) -> str:
        return self._handle.metadata().description or ""

    def scan(self) -> pl.LazyFrame:
        return pl.scan_delta(self._handle)

    def count(self) -> int:
        """Return the number of rows, from the log's statistics."""
        count: int = self._handle.count()
        return count

    def dates(self) -> list[date]:
        """Return the values of the partition column `date`, sorted."""
        return sorted(date.fromisoformat(part["date"]) for part in self._handle.partitions())

    def whole(self, lake: Lake) -> pl.LazyFrame:
        """Return the rows of a small table, as `tables.read_whole` does."""
        return tables.read_whole(lake, self._handle)

    def partitions(self) -> list[dict[str, str]]:
        """Return the values of the partition columns, each combination once."""
        return self._handle.partitions()

    def since(self, day: date, via: str | None = None) -> pl.LazyFrame:
        """Return the rows of the days from `day` on.

        If `via` is given, files are left out whose statistics exclude it.
        """
        days = [("date", ">=", str(day))]
        if via is None:
            return parquet.scan(self._handle, days)
        return parquet.scan(self._handle, days, pruning.names(_having(self.files(), day, via)))

    def files(self) -> pl.DataFrame:
        """Return the data files with their statistics, one row per file."""
        return pl.DataFrame(self._handle.get_add_actions(flatten=True))

    def history(self) -> Iterator[dict[str, Any]]:
        """Yield the metadata of the commits, newest first, as far as the log reaches."""
        return log.history(self._handle)

    def answer(self, key: str, read: Callable[[], T]) -> T:
        """Return the result of `read` at this version, which is computed once."""
        return tables.cached(self._handle, key, read)

    def fence(self, app: str) -> int:
        """Return the number in the newest app transaction of `app`, or 0."""
        # Commits note those that they have made there.
        known: dict[str, int] = tables.cached(self._handle, "fences", dict)
        if app not in known:
            known[app] = log.fence(self._handle, app)
        return known[app]


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


class Logged(Protocol):
    """A table as far as its log describes it."""

    @property
    def number(self) -> int: ...
    @property
    def description(self) -> str: ...
    def answer(self, key: str, read: Callable[[], T]) -> T: ...
    def fence(self, app: str) -> int: ...
    def history(self) -> Iterator[dict[str, Any]]: ...
    def files(self) -> pl.DataFrame: ...
    def since(self, day: date, via: str | None = None) -> pl.LazyFrame: ...
    def whole(self, lake: Lake) -> pl.LazyFrame: ...
    def partitions(self) -> list[dict[str, str]]: ...


class _Listed:
    """A table in an object store whose log is read here; where that fails, it is opened."""

    def __init__(self, lake: Lake, table: str, head: log.Head, schema: Schema) -> None:
        self._lake = lake
        self._table = table
        self._head = head
        self._schema = schema

    @property
    def number(self) -> int:
        return self._head.version

    @property
    def description(self) -> str:
        with suppress(*log.FAILURES):
            return self._head.description()
        return self._opened().description

    def answer(self, key: str, read: Callable[[], T]) -> T:
        """Return the result of `read` at this version, which is computed once."""
        return self._head.answer(key, read)

    def fence(self, app: str) -> int:
        with suppress(*log.FAILURES):
            return self._head.fence(app)
        return self._opened().fence(app)

    def history(self) -> Iterator[dict[str, Any]]:
        last = self.number + 1
        with suppress(*log.FAILURES):
            for info in self._head.history():
                last = info["version"]
                yield info
            return
        yield from (info for info in self._opened().history() if info["version"] < last)

    def files(self) -> pl.DataFrame:
        """Return path, day, size and statistics of each data file."""
        with suppress(*log.FAILURES):
            return _described(self._head.files())
        return self._opened().files()

    def since(self, day: date, via: str | None = None) -> pl.LazyFrame:
        """Return the rows of the days from `day` on, as `TableVersion.since` does."""
        with suppress(*log.FAILURES):
            found = _having(_described(self._head.files()), day, via)
            return pruning.scan(self._lake, self._table, self._schema, found)
        return self._opened().since(day, via)

    def whole(self, lake: Lake) -> pl.LazyFrame:
        """Return the rows of a small table; each file takes one request."""
        with suppress(*log.FAILURES):
            files = self._head.files()
            if sum(file.size for file in files) <= tables.WHOLE:
                return self._head.answer("whole", lambda: self._joined(lake, files)).lazy()
        return self._opened().whole(lake)

    def _joined(self, lake: Lake, files: Sequence[log.File]) -> pl.DataFrame:
        found = tables.at_once(lake, self._rows, files)
        return pl.concat([pl.DataFrame(schema=self._schema), *found], how="diagonal")

    def _rows(self, file: log.File) -> pl.DataFrame:
        values = {name: pl.lit(value) for name, value in (file.partition or {}).items()}
        return pl.read_parquet(io.BytesIO(self._head.content(file.path))).with_columns(**values)

    def partitions(self) -> list[dict[str, str]]:
        """Return the values of the partition columns, each combination once."""
        with suppress(*log.FAILURES):
            found = {tuple((file.partition or {}).items()) for file in self._head.files()}
            return [{name: value or "" for name, value in each} for each in found]
        return self._opened().partitions()

    def check_format(self) -> None:
        """Raise NewerLake if a newer auditlake has written the table."""
        properties = None
        with suppress(*log.FAILURES):
            properties = self._head.properties()
        if properties is None:
            self._opened()  # checks it
        else:
            formats.check_properties(self._table, properties)

    def _opened(self) -> TableVersion:
        return TableVersion(tables.open_at(self._lake, self._table, self.number))


_FILE = {"path": pl.String(), "size_bytes": pl.Int64(), "partition.date": pl.Date()}
_STATISTICS = {
    "seq": pl.Int64(),
    "time": pl.Datetime("us", "UTC"),
    "ingested_at": pl.Datetime("us", "UTC"),
    "via": pl.String(),
}


class _Statistics(msgspec.Struct):
    min: dict[str, Any] = msgspec.field(name="minValues", default_factory=dict)
    max: dict[str, Any] = msgspec.field(name="maxValues", default_factory=dict)


def _described(files: Sequence[log.File]) -> pl.DataFrame:
    found = [msgspec.json.decode(file.stats or "{}", type=_Statistics) for file in files]
    days = [(file.partition or {}).get("date") for file in files]
    columns: dict[str, list[Any]] = {
        "path": [file.path for file in files],
        "size_bytes": [file.size for file in files],
        "partition.date": [day and date.fromisoformat(day) for day in days],
    }
    for end in ("min", "max"):
        for name, dtype in _STATISTICS.items():
            values = (getattr(each, end).get(name) for each in found)
            columns[f"{end}.{name}"] = [
                datetime.fromisoformat(value) if value and dtype.is_temporal() else value
                for value in values
            ]
    types = {
        f"{end}.{name}": dtype for end in ("min", "max") for name, dtype in _STATISTICS.items()
    }
    return pl.DataFrame(columns, {**_FILE, **types})


def _having(files: pl.DataFrame, day: date, via: str | None) -> pl.DataFrame:
    """Return the files of the days from `day` on that may have rows with this `via`."""
    found = files.filter(pl.col("partition.date") >= day)
    return found if via is None else pruning.overlapping(found, "via", via, via)


def logged(lake: Lake, names: Collection[str], below: str, schema: Schema) -> dict[str, Logged]:
    """Return those of these tables that exist; all are below a folder, and partitioned by `date`.

    In an object store, one listing shows the newest version of each. Raises LakeError.
    """
    if lake.local is not None:
        opened = {name: newest(lake, name) for name in names}
        return {name: table for name, table in opened.items() if table is not None}
    heads = log.heads(lake.root, lake.storage_options or {}, below)
    return {name: _Listed(lake, name, heads[name], schema) for name in names if name in heads}


def listed(lake: Lake, table: str, schema: Schema) -> Logged | None:
    """Return the newest version of a table, or None if there is no such table.

    Of an object store, only its log is read. Raises LakeError and NewerLake.
    """
    if lake.local is not None:
        return newest(lake, table)
    if (head := log.head(lake.root, lake.storage_options or {}, table)) is None:
        return None
    found = _Listed(lake, table, head, schema)
    found.check_format()
    return found


@contextmanager
def glimpsed(lake: Lake, table: str, schema: Schema) -> Iterator[Logged | None]:
    """Yield the newest version of a table, or None if there is no such table.

    In an object store, one that is not open is not opened: its log is read. Raises LakeError and
    NewerLake.
    """
    if lake.local is None and not tables.is_open(lake, table):
        yield listed(lake, table, schema)
    else:
        with tables.borrowed(lake, table) as handle:
            yield None if handle is None else TableVersion(handle)


class Head:
    """A table that stays open, so that a look for its newest version reads only new commits."""

    def __init__(self, lake: Lake, table: str) -> None:
        self._lake = lake
        self._table = table
        self._handle: DeltaTable | None = None
        self._commit: list[dict[str, Any]] = []

    def newest(self) -> tuple[str, int] | None:
        """Return the id of the table and its newest version, or None if there is no such table.

        Raises the store's own errors, or LakeError for an object store; call `forget` after one.
        Not safe to share by threads.
        """
        if self._lake.local is None:  # others may have it open, and one listing shows its state
            found = newest(self._lake, self._table)
            return None if found is None else (found.id, found.number)
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
