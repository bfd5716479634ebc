"""The fenced write: every commit to a Delta table of the lake is made here.

Rows, position and fence are one commit: a batch is written through the very handle it was decided
on, with an app transaction whose version is the number of rows after it. A writer that loses a
race decides again on the new state. The cursor and the spans that were fetched travel in the
commit's metadata; the spans are copied from there to `coverage`, which also holds the cursor of
rounds without new rows. Where both are lost, the stream starts over, and the anti-join skips the
rows that are already stored.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import polars as pl
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.schema import ArrayType, PrimitiveType, Schema, StructType
from deltalake.schema import Field as DeltaField

from pipelines import disk
from pipelines.errors import LakeError
from pipelines.lake import handles, tables
from pipelines.lake.tables import Lake

ROWS = "auditlake.rows"
_BATCH = "auditlake.batch"
_RACES = 50
# Of this fence, or it removed rows that were read; a retention run changes the table's properties.
_LOST_RACES = ("oncurrent transaction", "etadata changed since")
_QUIET = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_PARQUET = WriterProperties(
    compression="ZSTD",
    compression_level=1,
    # No two records are equal, and nobody asks for the least.
    column_properties={
        "raw": ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE")
    },
)
_SETTINGS = {
    "delta.appendOnly": "true",
    "delta.checkpointInterval": "100",
    "delta.logRetentionDuration": "interval 7 days",
    # Each file that was made one with others is a row of all checkpoints for so long.
    "delta.deletedFileRetentionDuration": "interval 1 days",
    # Statistics of texts nobody looks up would fill the log.
    "delta.dataSkippingStatsColumns": "seq,time,ingested_at",
}
DERIVED = {
    **_SETTINGS,
    "delta.appendOnly": "false",
    # By these a replacement of one log's rows stays out of the way of the others' appends.
    "delta.dataSkippingStatsColumns": "integration,stream,seq,time,ingested_at",
}
DERIVED_PLAIN = {**DERIVED, "delta.dataSkippingStatsColumns": "integration,stream,date"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    frame: pl.DataFrame
    """The rows that were new, as written."""
    version: int
    """The table's version afterwards; unchanged where nothing was new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    name: str
    schema: dict[str, pl.DataType]
    about: str
    partitions: tuple[str, ...] = ("date",)
    settings: dict[str, str] = field(default_factory=lambda: _SETTINGS)


class Decision(NamedTuple):
    """The rows to write, the fence's number afterwards, and in place of which rows, as SQL."""

    rows: pl.DataFrame
    after: int
    instead_of: str | None = None
    beside: Mapping[str, int] = {}
    """Fences of other logs that have rows in it, and their numbers afterwards."""


Decide = Callable[[DeltaTable, int], Decision | None]


def fence(handle: DeltaTable, app: str) -> int:
    return handle.transaction_version(app) or 0


def write(lake: Lake, table: Table, app: str, decide: Decide, metadata: dict[str, str]) -> Appended:
    """Write what `decide` makes of the table's state, in one commit no other writer overlaps."""
    with tables.store_errors(table.name):
        for _ in range(_RACES):
            handle = _open_or_create(lake, table)
            decided = decide(handle, fence(handle, app))
            if decided is None:
                as_it_was = Appended(
                    frame=pl.DataFrame(schema=table.schema), version=handle.version()
                )
                tables.release(lake, table.name, handle)
                return as_it_was
            frame = decided.rows.select(pl.col(c).cast(t) for c, t in table.schema.items())
            properties = CommitProperties(
                custom_metadata={
                    **metadata,
                    ROWS: str(decided.after),
                    _BATCH: uuid.uuid4().hex,
                },
                app_transactions=[
                    Transaction(*fence) for fence in {app: decided.after, **decided.beside}.items()
                ],
                max_commit_retries=100,
            )
            if _write_once(lake, handle, frame, decided.instead_of, properties):
                done = Appended(frame=frame, version=handle.version())
                tables.release(lake, table.name, handle)
                return done
    raise LakeError(f"{table.name}: other writers won {_RACES} races in a row; try again")


def add_missing_columns(lake: Lake, table: Table) -> None:
    """Give a table that an older version made the columns that were added since."""
    with tables.store_errors(table.name):
        handle = _open_or_create(lake, table)
        there = {field.name for field in handle.schema().fields}
        ours = _delta_schema(table.schema).fields
        if added := [field for field in ours if field.name not in there]:
            handle.alter.add_columns(added)


def _open_or_create(lake: Lake, table: Table) -> DeltaTable:
    found = tables.acquire(lake, table.name)
    if found is not None:
        return found
    with suppress(CommitFailedError):  # another writer has just created it
        return DeltaTable.create(
            lake.uri(table.name),
            schema=_delta_schema(table.schema),
            mode="ignore",
            partition_by=list(table.partitions) or None,
            description=table.about,
            configuration=table.settings,
            storage_options=lake.storage_options,
        )
    return DeltaTable(lake.uri(table.name), storage_options=lake.storage_options)


def _write_once(
    lake: Lake,
    handle: DeltaTable,
    frame: pl.DataFrame,
    instead_of: str | None,
    properties: CommitProperties,
) -> bool:
    """Write through the handle the batch was decided on; False where another writer was first."""
    before = handle.version()
    write = partial(
        write_deltalake,
        handle,
        frame,
        commit_properties=properties,
        post_commithook_properties=_QUIET,
        writer_properties=_PARQUET,
    )
    try:
        if instead_of:
            write(mode="overwrite", predicate=instead_of)
        else:
            write(mode="append")
    except CommitFailedError as error:
        if any(lost in str(error) for lost in _LOST_RACES):
            return False
        raise
    except (DeltaError, OSError):
        # A step after the commit may have failed although the commit is durable.
        handle.update_incremental()
        ours = (properties.custom_metadata or {})[_BATCH]
        if all(commit.get(_BATCH) != ours for commit in handle.history(20)):
            raise
    _make_durable(lake, handle, before)
    return True


def _make_durable(lake: Lake, handle: DeltaTable, before: int) -> None:
    """Make the new versions safe against power loss, and a checkpoint now and then."""
    sync(lake, handle, before)
    if handle.version() // handles.CHECKPOINT_EVERY > before // handles.CHECKPOINT_EVERY:
        with suppress(DeltaError, OSError):  # the next one does as well
            handle.create_checkpoint()


def sync(lake: Lake, handle: DeltaTable, before: int) -> None:
    """Make the versions after `before` safe against power loss, where the lake is on a disk."""
    if lake.local is not None:
        for version in range(before + 1, handle.version() + 1):
            _sync_version(Path(handle.table_uri.removeprefix("file://")), version)


def _sync_version(table: Path, version: int) -> None:
    """fsync a commit, its data files and their folders: delta-rs leaves that to the kernel."""
    commit = table / "_delta_log" / f"{version:020}.json"
    with suppress(FileNotFoundError):  # already tidied up by maintenance
        actions = map(json.loads, commit.read_text(encoding="utf-8").splitlines())
        added = [table / unquote(a["add"]["path"]) for a in actions if "add" in a]
        for path in (*added, *{p.parent for p in added}, commit, commit.parent):
            disk.sync(path)


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
