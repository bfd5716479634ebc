"""The one door to Delta: tables are created, appended to and read here, and nowhere else.

Rows, position and fence are one commit: a batch is written through the very handle it was decided
on, with an app transaction whose version is the number of rows after it. A writer that lost a race
decides anew. The position lives in the commit's metadata; where log clean-up took it, the stream
begins again and the anti-join drops what is already here.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import polars as pl
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import ArrayType, PrimitiveType, Schema, StructType
from deltalake.schema import Field as DeltaField

from pipelines.errors import LakeError
from pipelines.event import EVENTS, RAW, REJECTED

_CURSOR = "auditlake.cursor"
_BATCH = "auditlake.batch"
_CHECKPOINT_EVERY = 100
_RACES = 50
_QUIET = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_PARQUET = WriterProperties(compression="ZSTD", compression_level=1)
_SETTINGS = {
    "delta.appendOnly": "true",
    "delta.checkpointInterval": "100",
    # Statistics of texts nobody looks up would fill the log.
    "delta.dataSkippingStatsColumns": "seq,time,ingested_at",
}


class Log(NamedTuple):
    """A stream's place in the lake: raw/<integration>/<stream>."""

    integration: str
    stream: str

    @property
    def table(self) -> str:
        return f"raw/{self.integration}/{self.stream}"

    @property
    def app(self) -> str:
        """The app id of the fence that all writers of this log's rows share."""
        return f"{self.integration}/{self.stream}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a stream has come."""

    rows: int = 0
    cursor: str | None = None
    version: int = -1
    about: str = ""
    """What the table was made for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    frame: pl.DataFrame
    """The rows that were new, as written."""
    version: int
    """The table's version afterwards; unchanged where nothing was new."""


@dataclass(frozen=True, slots=True)
class Lake:
    """Where the tables are; opens nothing by itself."""

    root: str
    storage_options: dict[str, str] | None = field(default=None, repr=False)

    @property
    def local(self) -> Path | None:
        return None if "://" in self.root else Path(self.root)

    def uri(self, table: str) -> str:
        return f"{self.root.rstrip('/')}/{table}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    name: str
    schema: dict[str, pl.DataType]
    about: str
    partitioned: bool = True


_EVENTS = _Table(name="events", schema=EVENTS, about="Events of all integrations, from raw")
_REJECTED = _Table(name="rejected", schema=REJECTED, about="What was no record", partitioned=False)
_Decide = Callable[[DeltaTable, int], tuple[pl.DataFrame, int] | None]


def open_table(lake: Lake, table: str) -> DeltaTable | None:
    """A handle at the newest version, or None where there is no such table yet."""
    with _told(table):
        try:
            return DeltaTable(lake.uri(table), storage_options=lake.storage_options)
        except TableNotFoundError:
            return None


def scan(lake: Lake, table: str) -> pl.LazyFrame | None:
    """The rows of a table as they are now, or None where there is no such table yet."""
    handle = open_table(lake, table)
    return None if handle is None else pl.scan_delta(handle)


def position(lake: Lake, log: Log) -> Position:
    """Where `log` stands; `cursor` is None where no commit in the log says so any more."""
    handle = open_table(lake, log.table)
    if handle is None:
        return Position()
    with _told(log.table):
        return Position(
            rows=_done(handle, log.app),
            cursor=_cursor(handle),
            version=handle.version(),
            about=handle.metadata().description or "",
        )


def append_raw(
    lake: Lake,
    log: Log,
    batch: pl.DataFrame,
    cursor: str | None,
    *,
    about: str = "",
    keep_cursor: bool = False,
) -> Appended:
    """Commit the new rows of `batch` (event.RAW but `seq`) together with `cursor`.

    Rows whose event_id is already in their date are dropped. Where nothing is left, nothing is
    written, unless `keep_cursor` says the position itself is worth a commit.
    """
    batch = batch.unique("event_id", keep="first", maintain_order=True)

    def decide(handle: DeltaTable, rows: int) -> tuple[pl.DataFrame, int] | None:
        fresh = _unknown(handle, batch) if rows else batch
        if fresh.is_empty() and not (keep_cursor and cursor != _cursor(handle)):
            return None
        seq = pl.int_range(rows, rows + pl.len(), dtype=pl.Int64).alias("seq")
        return fresh.with_columns(seq), rows + fresh.height

    table = _Table(name=log.table, schema=RAW, about=about)
    return _fenced(lake, table, log.app, decide, {} if cursor is None else {_CURSOR: cursor})


def append_events(
    lake: Lake, log: Log, first: int, until: int, derive: Callable[[], pl.DataFrame]
) -> Appended:
    """Commit the events of the raw rows from `first` up to `until`, unless they are there."""

    def decide(_: DeltaTable, done: int) -> tuple[pl.DataFrame, int] | None:
        return (derive(), until) if done == first else None

    return _fenced(lake, _EVENTS, log.app, decide, {})


def append_rejected(lake: Lake, log: Log, batch: pl.DataFrame) -> Appended:
    """Commit what could not be read as a record (event.REJECTED), each once."""
    batch = batch.unique("raw_sha256", keep="first", maintain_order=True)

    def decide(handle: DeltaTable, done: int) -> tuple[pl.DataFrame, int] | None:
        ours = (pl.col("integration") == log.integration) & (pl.col("stream") == log.stream)
        known = pl.scan_delta(handle).filter(ours).select("raw_sha256").collect()
        fresh = batch.join(known, on="raw_sha256", how="anti", maintain_order="left")
        return None if fresh.is_empty() else (fresh, done + fresh.height)

    return _fenced(lake, _REJECTED, log.app, decide, {})


def raw_rows(lake: Lake, log: Log, first: int, until: int) -> pl.DataFrame:
    """Raw rows with `first` <= seq < `until`, in the order of seq."""
    found = scan(lake, log.table)
    if found is None:
        return pl.DataFrame(schema=RAW)
    with _told(log.table):
        return found.filter(pl.col("seq").is_between(first, until, "left")).sort("seq").collect()


def derived(lake: Lake, log: Log) -> int:
    """How many rows of `log` have their events in `events`."""
    handle = open_table(lake, _EVENTS.name)
    return 0 if handle is None else _done(handle, log.app)


def _unknown(handle: DeltaTable, batch: pl.DataFrame) -> pl.DataFrame:
    """The rows of `batch` the table does not hold: the same id has the same time, so its date."""
    if batch.is_empty():
        return batch
    known = (
        pl.scan_delta(handle)
        .filter(
            pl.col("date").is_in(batch["date"].unique().to_list()),
            pl.col("time").is_between(batch["time"].min(), batch["time"].max()),
        )
        .select("event_id")
        .collect()
    )
    return batch.join(known, on="event_id", how="anti", maintain_order="left")


def _done(handle: DeltaTable, app: str) -> int:
    return handle.transaction_version(app) or 0


def _cursor(handle: DeltaTable) -> str | None:
    """The position in the newest commit that holds one; compaction by others holds none."""
    for limit in (1, None):
        for commit in handle.history(limit):
            if _CURSOR in commit:
                return str(commit[_CURSOR])
    return None


def _fenced(
    lake: Lake, table: _Table, app: str, decide: _Decide, metadata: dict[str, str]
) -> Appended:
    """Append what `decide` makes of the table's state, in one commit no other writer overlaps."""
    with _told(table.name):
        for _ in range(_RACES):
            handle = _opened(lake, table)
            decided = decide(handle, _done(handle, app))
            if decided is None:
                return Appended(frame=pl.DataFrame(schema=table.schema), version=handle.version())
            frame = decided[0].select(pl.col(c).cast(t) for c, t in table.schema.items())
            if _commit(lake, handle, frame, Transaction(app, decided[1]), metadata):
                return Appended(frame=frame, version=handle.version())
    raise LakeError(f"{table.name}: other writers won {_RACES} races in a row; try again")


def _opened(lake: Lake, table: _Table) -> DeltaTable:
    found = open_table(lake, table.name)
    if found is not None:
        return found
    return DeltaTable.create(
        lake.uri(table.name),
        schema=_delta_schema(table.schema),
        mode="ignore",
        partition_by=["date"] if table.partitioned else None,
        description=table.about,
        configuration=_SETTINGS,
        storage_options=lake.storage_options,
    )


def _commit(
    lake: Lake,
    handle: DeltaTable,
    frame: pl.DataFrame,
    fence: Transaction,
    metadata: dict[str, str],
) -> bool:
    """Write through the handle the batch was decided on; False where another writer was first."""
    batch, before = uuid.uuid4().hex, handle.version()
    properties = CommitProperties(
        custom_metadata={**metadata, _BATCH: batch},
        app_transactions=[fence],
        max_commit_retries=100,
    )
    try:
        write_deltalake(
            handle,
            frame,
            mode="append",
            commit_properties=properties,
            post_commithook_properties=_QUIET,
            writer_properties=_PARQUET,
        )
    except CommitFailedError as error:
        if "Concurrent transaction failed" in str(error):
            return False
        raise
    except (DeltaError, OSError):
        # A step after the commit may have failed although the commit is durable.
        handle.update_incremental()
        if all(commit.get(_BATCH) != batch for commit in handle.history(20)):
            raise
    _settle(lake, handle, before)
    return True


def _settle(lake: Lake, handle: DeltaTable, before: int) -> None:
    """Make the new versions safe against power loss, and a checkpoint now and then."""
    if lake.local is not None:
        for version in range(before + 1, handle.version() + 1):
            _to_disk(Path(handle.table_uri.removeprefix("file://")), version)
    if handle.version() // _CHECKPOINT_EVERY > before // _CHECKPOINT_EVERY:
        with suppress(DeltaError, OSError):  # the next one does as well
            handle.create_checkpoint()


def _to_disk(table: Path, version: int) -> None:
    """fsync a commit, its data files and their folders: delta-rs leaves that to the kernel."""
    commit = table / "_delta_log" / f"{version:020}.json"
    with suppress(FileNotFoundError):  # already tidied up by maintenance
        actions = map(json.loads, commit.read_text(encoding="utf-8").splitlines())
        added = [table / unquote(a["add"]["path"]) for a in actions if "add" in a]
        for path in (*added, *{p.parent for p in added}, commit, commit.parent):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@contextmanager
def _told(table: str) -> Iterator[None]:
    """What the store says, as one line with the remedy."""
    try:
        yield
    except (DeltaError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        said = " ".join(str(error).split())[:300]
        raise LakeError(f"{table}: {said}: {_remedy(said)}") from error


def _remedy(said: str) -> str:
    match said.lower():
        case text if "no space left" in text or "os error 28" in text:
            return "free some space; nothing acknowledged is lost"
        case text if "permission denied" in text or "read-only" in text or "os error 13" in text:
            return "give this user write access to lake.root"
        case text if "not a directory" in text or "file exists" in text or "os error 20" in text:
            return "set lake.root to a folder"
    return "check lake.root and lake.storage_options, then run it again"


def _delta_schema(schema: dict[str, pl.DataType]) -> Schema:
    return Schema([DeltaField(name, _delta_type(dtype)) for name, dtype in schema.items()])


def _delta_type(dtype: pl.DataType) -> PrimitiveType | ArrayType | StructType:
    match dtype:
        case pl.List():
            return ArrayType(_delta_type(dtype.inner))  # type: ignore[arg-type]  # polars types it loosely
        case pl.Struct():
            return StructType([DeltaField(f.name, _delta_type(f.dtype)) for f in dtype.fields])  # type: ignore[arg-type]  # polars types it loosely
        case pl.Datetime():
            return PrimitiveType("timestamp")
    return PrimitiveType(_PRIMITIVES[dtype])


_PRIMITIVES: dict[pl.DataType, str] = {
    pl.String(): "string",
    pl.Binary(): "binary",
    pl.Date(): "date",
    pl.Int32(): "integer",
    pl.Int64(): "long",
}
