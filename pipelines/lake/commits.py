"""The fenced write: every commit that adds rows to a Delta table of the lake is made here.

Rows, position and fence are one commit. A batch is written through the same handle that was read
to decide about it, with an app transaction whose version is the number of rows after it. A writer
that loses a race decides again on the new state. The cursor and the fetched spans are stored in
the commit's metadata; the spans are copied to `coverage`, which also stores the cursor of rounds
without new rows. If both are lost, the stream starts over, and known rows are skipped.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import polars as pl
from arro3.core import Schema as ArrowSchema
from arro3.core import Table as ArrowTable
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.schema import ArrayType, PrimitiveType, Schema, StructType
from deltalake.schema import Field as DeltaField

from pipelines import disk, schemas
from pipelines.errors import LakeError
from pipelines.lake import formats, handles, log, parquet, power_cuts, tables
from pipelines.lake.tables import Lake
from pipelines.settings import telemetry

ROWS = "auditlake.rows"
_BATCH = "auditlake.batch"
_RACES = 50
_UNFLUSHED = 8
"""Commits that writers who commit at once may not have flushed yet."""
_complete: dict[tuple[object, ...], int] = {}
"""Id and columns of each table that has them all -> the version from which this is known."""
_flushed: dict[Path, int] = {}
"""The newest version of each table that this process has flushed."""
# Another writer moved this fence or removed rows we read, changed the settings, or has just created
# the table that this handle was created for.
_LOST_RACES = ("oncurrent transaction", "etadata changed since", "rotocol changed since")
# The hooks list the whole log after every commit, which costs more than the commit itself.
_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_APPEND_ONLY = "delta.appendOnly"
STATISTICS = "delta.dataSkippingStatsColumns"
SETTINGS = {
    _APPEND_ONLY: "true",
    "delta.checkpointInterval": "100",
    "delta.logRetentionDuration": "interval 7 days",
    # Until then, every checkpoint lists each file that was compacted away.
    "delta.deletedFileRetentionDuration": "interval 1 days",
    # Statistics of text columns would bloat the log, and no query uses them.
    STATISTICS: "seq,time,ingested_at,via",
}
DERIVED = {
    **SETTINGS,
    _APPEND_ONLY: "false",
    # With these, replacing rows of one stream does not conflict with appends of other streams.
    STATISTICS: "integration,stream,seq,time,ingested_at",
}
DERIVED_PLAIN = {**DERIVED, STATISTICS: "integration,stream,date"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """The result of a write."""

    frame: pl.DataFrame
    """The new rows, as written."""
    version: int
    """The table's version afterwards; the same as before if no row was new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table's definition, with which the first write creates it."""

    name: str
    schema: dict[str, pl.DataType]
    about: str
    partitions: tuple[str, ...] = ("date",)
    settings: dict[str, str] = field(default_factory=lambda: SETTINGS)

    @property
    def properties(self) -> dict[str, str]:
        """Return the properties of the Delta table; statistics are of columns that it has."""
        found = {**self.settings, **formats.properties()}
        wanted = found.pop(STATISTICS, "").split(",")
        if columns := [name for name in wanted if name in self.schema]:
            found[STATISTICS] = ",".join(columns)
        return found


class Decision(NamedTuple):
    """A commit to be made: its rows, and the value of the fence afterwards."""

    rows: pl.DataFrame
    after: int
    replaces: str | None = None
    """SQL that selects the rows to be replaced."""
    also_fences: Mapping[str, int] = {}
    """App ids of other streams with rows in this commit -> their fences afterwards."""


Decide = Callable[[DeltaTable, int], Decision | None]
"""(handle, value of the fence) -> the commit to make, or None if there is nothing to write."""


def fence(handle: DeltaTable, app: str) -> int:
    """Return the fence of `app`: the number of raw rows that this table accounts for."""
    known = _fences(handle)
    if app not in known:
        known[app] = log.fence(handle, app)
    return known[app]


def _fences(handle: DeltaTable) -> dict[str, int]:
    """Return the fences that are known of the handle's version."""
    return tables.cached(handle, "fences", dict)


def write(lake: Lake, table: Table, app: str, decide: Decide, metadata: dict[str, str]) -> Appended:
    """Commit the decision about the table's newest state; decide again after each lost race.

    Raises LakeError.
    """
    with tables.store_errors(table.name):
        for _ in range(_RACES):
            handle = _open_or_create(lake, table)
            decision = decide(handle, fence(handle, app))
            if decision is None:
                frame = pl.DataFrame(schema=table.schema)
            else:
                frame = decision.rows.select(pl.col(c).cast(t) for c, t in table.schema.items())
                properties = _properties(app, decision, metadata)
                before, fences = handle.version(), _fences(handle)
                # Only the handle that was decided on conflicts with every commit made since.
                with _traced(table, frame, decision.replaces) as span:
                    chosen = decision._replace(rows=frame)
                    made = _write_once(lake, table, handle, chosen, properties)
                    span.set("auditlake.lost_race", not made)
                if not made:
                    continue
                if handle.version() == before + 1:  # no other commit has moved a fence
                    _fences(handle).update(fences | {app: decision.after, **decision.also_fences})
            done = Appended(frame=frame, version=handle.version())
            tables.release(lake, table.name, handle)
            return done
    raise _lost(table)


def _traced(
    table: Table, rows: pl.DataFrame, replaces: str | None
) -> AbstractContextManager[telemetry.Span]:
    about = {
        "db.system.name": "delta",
        "db.operation.name": "replace" if replaces else "append",
        "db.collection.name": table.name,
        "auditlake.rows": rows.height,
    }
    return telemetry.span("commit", about)


def _lost(table: Table) -> LakeError:
    return LakeError(
        f"{table.name}: lost {_RACES} commit races in a row to other writers; try again"
    )


def _properties(app: str, decision: Decision, metadata: dict[str, str]) -> CommitProperties:
    fences = {app: decision.after, **decision.also_fences}
    return CommitProperties(
        custom_metadata={
            **metadata,
            ROWS: str(decision.after),
            power_cuts.FENCES: str(len(fences)),
            _BATCH: uuid.uuid4().hex,
        },
        app_transactions=[Transaction(*fence) for fence in fences.items()],
        max_commit_retries=100,
    )


def append(lake: Lake, table: Table, rows: pl.DataFrame) -> None:
    """Append rows without a fence: concurrent appends do not conflict. Raises LakeError."""
    batch = CommitProperties(custom_metadata={_BATCH: uuid.uuid4().hex}, max_commit_retries=100)
    with tables.store_errors(table.name):
        for _ in range(_RACES):
            handle = _open_or_create(lake, table)
            with _traced(table, rows, None) as span:
                made = _write_once(lake, table, handle, Decision(rows, 0), batch)
                span.set("auditlake.lost_race", not made)
            if made:
                tables.release(lake, table.name, handle)
                return
    raise _lost(table)


def is_append_only(handle: DeltaTable) -> bool:
    return bool(handle.metadata().configuration.get(_APPEND_ONLY) == "true")


def set_append_only(lake: Lake, table: str, *, wanted: bool) -> DeltaTable:
    """Set the property of an existing table, and return a handle at its newest version."""
    handle = tables.open_at(lake, table)
    # A change of properties makes every commit in progress start again, so only where needed.
    if is_append_only(handle) != wanted:
        before = handle.version()
        handle.alter.set_table_properties({_APPEND_ONLY: str(wanted).lower()})
        sync(lake, handle, before)
    return handle


def set_packed(lake: Lake, handle: DeltaTable, days: str) -> None:
    """Record which days of a table are packed (`parquet.PACKED`)."""
    before = handle.version()
    handle.alter.set_table_properties({parquet.PACKED: days}, raise_if_not_exists=False)
    sync(lake, handle, before)


def _open_or_create(lake: Lake, table: Table) -> DeltaTable:
    tables.require_safe_store(lake)
    found = tables.acquire(lake, table.name)
    if found is not None:
        return _grown(lake, table, found)
    if lake.local is not None:
        lake.local.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(CommitFailedError):  # another writer has just created it
        created = DeltaTable.create(
            lake.uri(table.name),
            schema=_delta_schema(table),
            mode="ignore",
            partition_by=list(table.partitions) or None,
            name=table.name,
            description=table.about,
            configuration={**table.properties, **parquet.properties(table.name)},
            storage_options=lake.storage_options,
            raise_if_key_not_exists=False,  # the format is a property of ours
            # With retries, a second CREATE TABLE would follow the first and replace the table's id.
            commit_properties=CommitProperties(max_commit_retries=0),
        )
        sync(lake, created, -1)
        return tables.scannable(lake, created)
    return _grown(lake, table, tables.open_at(lake, table.name))


def _grown(lake: Lake, table: Table, handle: DeltaTable) -> DeltaTable:
    """Complete a table that an older auditlake created: columns, then properties.

    Raises NewerLake if a newer one has written it.
    """
    for _ in range(_RACES):
        present = handle.metadata().id, *table.schema
        known = _complete.get(present, handle.version() + 1)
        if known <= handle.version() and formats.of(handle) == formats.FORMAT:
            return handle
        before = handle.version()
        with suppress(CommitFailedError):  # another writer may have just done it
            _complete_columns(table, handle)
            if formats.of(handle) < formats.FORMAT:
                handle.alter.set_table_name(table.name)
                handle.alter.set_table_properties(table.properties, raise_if_not_exists=False)
            sync(lake, handle, before)
            _complete[present] = handle.version()
            return handle
        handle = tables.open_at(lake, table.name)
    raise _lost(table)


def _complete_columns(table: Table, handle: DeltaTable) -> None:
    present = {field.name: field for field in handle.schema().fields}
    if formats.of(handle) < formats.FORMAT or not present.keys() >= table.schema.keys():
        # Delta refuses another description of a column that has one.
        described = {name: field for name, field in present.items() if field.metadata}
        fields = [described.get(field.name, field) for field in _delta_schema(table).fields]
        write_deltalake(
            handle,
            ArrowTable.from_batches([], schema=Schema(fields).to_arrow()),
            mode="append",
            schema_mode="merge",
            post_commithook_properties=_NO_HOOKS,
        )


def _write_once(
    lake: Lake,
    table: Table,
    handle: DeltaTable,
    decision: Decision,
    properties: CommitProperties,
) -> bool:
    """Write through the handle that was decided on; return False if another writer was first."""
    before = handle.version()
    write = partial(
        write_deltalake,
        handle,
        _arrow(decision.rows, handle),
        commit_properties=properties,
        post_commithook_properties=_NO_HOOKS,
        writer_properties=parquet.fresh(table.name),
    )
    try:
        if decision.replaces:
            write(mode="overwrite", predicate=decision.replaces)
        else:
            write(mode="append")
    except CommitFailedError as error:
        if any(lost in str(error) for lost in _LOST_RACES):
            return False
        raise
    except (DeltaError, OSError):
        # A step after the commit may have failed, so only the log shows whether it was made.
        handle.update_incremental()
        ours = (properties.custom_metadata or {})[_BATCH]
        if all(commit.get(_BATCH) != ours for commit in handle.history(20)):
            # Another commit may have removed the files that were to be rewritten, and a vacuum too.
            if handle.version() > before:
                return False
            raise
    _make_durable(lake, handle, before)
    return True


def _arrow(frame: pl.DataFrame, handle: DeltaTable) -> ArrowTable:
    """Return the rows with the types of the table, without pyarrow, which takes 40 MB of memory."""
    # Plain strings: not every reader of Parquet knows the views that Polars has.
    rows, types = ArrowTable.from_arrow(frame), handle.schema().to_arrow()
    fields = [types.field(name) for name in frame.columns]
    columns = [rows.column(field.name).cast(field.type) for field in fields]
    return ArrowTable.from_arrays(columns, schema=ArrowSchema(fields))


def _make_durable(lake: Lake, handle: DeltaTable, before: int) -> None:
    """Flush the new versions to disk, and write a checkpoint every CHECKPOINT_EVERY versions."""
    sync(lake, handle, before)
    # Every reader has to read the commits since the last checkpoint, so keep them few.
    if handle.version() // handles.CHECKPOINT_EVERY > before // handles.CHECKPOINT_EVERY:
        with suppress(DeltaError, OSError):  # optional: the next checkpoint contains it all
            checkpoint(lake, handle)


def checkpoint(lake: Lake, handle: DeltaTable) -> None:
    """Write a checkpoint of the handle's version, and flush it to disk."""
    handle.create_checkpoint()
    if lake.local is not None:
        log = Path(handle.table_uri.removeprefix("file://")) / "_delta_log"
        for path in (*log.glob(f"{handle.version():020}.*checkpoint*"), log / "_last_checkpoint"):
            disk.sync(path)
        disk.sync(log)


def sync(lake: Lake, handle: DeltaTable, before: int) -> None:
    """Flush the versions after `before` to disk; an object store is durable by itself.

    So are those before it that other writers may not have flushed yet: without them, the table
    could not be read.
    """
    if lake.local is not None:
        table, newest = Path(handle.table_uri.removeprefix("file://")), handle.version()
        known = max(_flushed.get(table, before - 1), before - _UNFLUSHED)
        for version in range(max(0, min(known, before) + 1), newest + 1):
            _sync_version(table, version)
        _flushed[table] = newest


def _sync_version(table: Path, version: int) -> None:
    """fsync a commit, its data files and their folders, since delta-rs never does."""
    commit = table / "_delta_log" / f"{version:020}.json"
    with suppress(FileNotFoundError):  # maintenance has already removed it
        actions = map(json.loads, commit.read_text(encoding="utf-8").splitlines())
        added = [table / unquote(a["add"]["path"]) for a in actions if "add" in a]
        folders = {path.parent for path in (*added, commit)}
        for path in (*added, commit, *folders):
            disk.sync(path)
        for folder in folders:
            disk.sync_above(folder)


def _delta_schema(table: Table) -> Schema:
    """Return the schema of a table, with the description of each column as its comment."""
    found = schemas.descriptions(table.name)
    comments = {name: {"comment": found[name]} for name in found}
    return Schema(
        [
            DeltaField(name, _delta_type(dtype), metadata=comments.get(name, {}))
            for name, dtype in table.schema.items()
        ]
    )


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
    pl.Boolean(): "boolean",
    pl.Float64(): "double",
    pl.String(): "string",
    pl.Binary(): "binary",
    pl.Date(): "date",
    pl.Int32(): "integer",
    pl.Int64(): "long",
}
