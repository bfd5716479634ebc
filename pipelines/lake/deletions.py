"""Deletes rows permanently: the rows in one commit, and then the files that held them.

delta-rs deletes nothing from a table that is append-only, and rewrites strings as views that not
every reader knows. On a disk, a table gets a commit made here, so that it stays append-only for
everybody else at any moment. An object store has no such commit: there the property is lifted for
the deletion.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from pipelines import disk
from pipelines.clock import unix_time
from pipelines.errors import LakeError
from pipelines.lake import commits, tables
from pipelines.lake.tables import Lake

_RACES = 10
Action = dict[str, dict[str, Any]]
"""A line of a commit."""


def delete(lake: Lake, table: str, predicate: str) -> None:
    """Permanently delete rows, and every file that held one: `delete_rows`, then `vacuum`."""
    delete_rows(lake, table, predicate)
    vacuum(lake, table)


def delete_rows(lake: Lake, table: str, predicate: str) -> None:
    """Delete the rows that meet an SQL predicate, in one commit; nothing if there is no table.

    Older versions still have them, until `vacuum`. Raises LakeError.
    """
    handle = tables.open_table(lake, table)
    if handle is None:
        return
    with tables.store_errors(table):
        if lake.local is not None:
            _rewrite(lake, handle, table, predicate)
        elif commits.is_append_only(handle):
            _delete_unprotected(lake, table, predicate)
        else:
            _delete(lake, handle, table, predicate)


def vacuum(lake: Lake, table: str) -> None:
    """Delete the files that only older versions of the table need."""
    handle = tables.open_table(lake, table)
    if handle is not None:
        with tables.store_errors(table):
            handle.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)


def forget_history(lake: Lake, table: str) -> None:
    """Delete the older versions from the log of a table, whose statistics contain texts.

    In an object store they stay until the log is trimmed.
    """
    handle = tables.open_table(lake, table)
    if handle is None or lake.local is None:
        return
    commits.checkpoint(lake, handle)
    for path in (_folder(handle) / "_delta_log").glob("*"):
        version = path.name[:20]
        if version.isdigit() and int(version) < handle.version():
            path.unlink(missing_ok=True)


def _delete(lake: Lake, handle: DeltaTable, table: str, predicate: str) -> None:
    before = handle.version()
    for _ in range(_RACES):
        with suppress(CommitFailedError):  # compaction or another writer was first
            handle.delete(predicate)
            commits.sync(lake, handle, before)
            return
        handle.update_incremental()
    raise _lost(table)


def _delete_unprotected(lake: Lake, table: str, predicate: str) -> None:
    try:
        for _ in range(_RACES):
            # Maintenance sets it again, since a deletion that was killed may have left it lifted.
            handle = commits.set_append_only(lake, table, wanted=False)
            with suppress(CommitFailedError):
                handle.delete(predicate)
                return
    finally:
        commits.set_append_only(lake, table, wanted=True)
    raise _lost(table)


def _rewrite(lake: Lake, handle: DeltaTable, table: str, predicate: str) -> None:
    """Commit the files with such rows again without them."""
    for _ in range(_RACES):
        actions = [each for pair in _rewritten(handle, predicate) for each in pair]
        if not actions or _commit(handle, actions):
            return
        handle.update_incremental()
    raise _lost(table)


def _rewritten(handle: DeltaTable, predicate: str) -> Iterator[list[Action]]:
    """Yield, for each file with such rows, its removal and the file that replaces it, if any."""
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    partitions = [name for name in files.columns if name.startswith("partition.")]
    for file in files.iter_rows(named=True):
        place = {name.removeprefix("partition."): file[name] for name in partitions}
        path = _folder(handle) / unquote(file["path"])
        given = [pl.lit(value).alias(name) for name, value in place.items()]
        rows = pl.scan_parquet(path, hive_partitioning=False)
        doomed = pl.sql_expr(predicate)
        seen = rows.with_columns(given)
        if seen.filter(doomed).select(pl.len()).collect().item():
            left = seen.filter(doomed.ne_missing(other=True)).drop(place).collect()
            values = {name: None if v is None else str(v) for name, v in place.items()}
            yield [_removal(file, values), *_replacement(handle, file["path"], values, left)]


def _removal(file: dict[str, Any], values: dict[str, str | None]) -> Action:
    return {
        "remove": {
            "path": file["path"],
            "deletionTimestamp": _now(),
            "dataChange": True,
            "extendedFileMetadata": True,
            "partitionValues": values,
            "size": file["size_bytes"],
        }
    }


def _replacement(
    handle: DeltaTable, path: str, values: dict[str, str | None], rows: pl.DataFrame
) -> Iterator[Action]:
    if rows.is_empty():
        return
    folder = path.rpartition("/")[0]
    name = f"part-00000-{uuid.uuid4()}-c000.zstd.parquet"
    made = f"{folder}/{name}" if folder else name
    file = _folder(handle) / unquote(made)
    plain = rows.to_arrow(compat_level=pl.CompatLevel.oldest())  # as commits do
    pq.write_table(plain, file, compression="zstd", compression_level=3)
    # Before the commit that adds it.
    disk.sync(file)
    disk.sync(file.parent)
    yield {
        "add": {
            "path": made,
            "partitionValues": values,
            "size": file.stat().st_size,
            "modificationTime": _now(),
            "dataChange": True,
            "stats": json.dumps(_statistics(handle, rows)),
        }
    }


def _statistics(handle: DeltaTable, rows: pl.DataFrame) -> dict[str, Any]:
    wanted = handle.metadata().configuration.get(commits.STATISTICS, "").split(",")
    columns = [rows[name] for name in wanted if name in rows.columns]
    return {
        "numRecords": rows.height,
        "minValues": {each.name: _plain(each.min()) for each in columns},
        "maxValues": {each.name: _plain(each.max()) for each in columns},
        "nullCount": {each.name: each.null_count() for each in columns},
    }


def _plain(value: Any) -> Any:
    """Return a time or day as Delta's statistics have it, and any other value as it is."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%S.%fZ}"
    return value.isoformat() if isinstance(value, date) else value


def _commit(handle: DeltaTable, actions: list[Action]) -> bool:
    """Commit after the version that the handle has read; return False if another was first."""
    # Without the predicate, which may contain what is to be deleted.
    info = {"timestamp": _now(), "operation": "DELETE", "operationParameters": {}}
    lines = [json.dumps(each).encode() + b"\n" for each in [{"commitInfo": info}, *actions]]
    newest = _folder(handle) / "_delta_log" / f"{handle.version() + 1:020}.json"
    try:
        disk.write_atomically(newest, lines, mode=disk.READABLE, overwrite=False)
    except FileExistsError:
        return False
    return True


def _folder(handle: DeltaTable) -> Path:
    return Path(handle.table_uri.removeprefix("file://"))


def _now() -> int:
    return int(unix_time() * 1000)


def _lost(table: str) -> LakeError:
    return LakeError(f"{table}: lost {_RACES} races against other writers: run it again")
