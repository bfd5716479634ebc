"""Maintenance: compact files, trim Delta logs and delete orphans, without changing a row.

Only one maintenance runs at a time; readers and writers may continue. Rows are counted before and
after each compaction.
"""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import chain, pairwise
from urllib.parse import unquote

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from pipelines import disk
from pipelines.clock import unix_time
from pipelines.engines import Engine
from pipelines.errors import LakeError
from pipelines.lake import (
    commits,
    compaction,
    coverage,
    events,
    findings,
    identity_table,
    lease,
    object_store,
    raw,
    reconciliation,
    rollup_table,
    streams,
    tables,
    text_index_table,
)
from pipelines.lake.tables import Lake, StreamKey
from pipelines.settings import folders

_APPEND_ONLY = (
    *("access", "views", coverage.TABLE.name),
    *(raw.REJECTED_TABLE.name, reconciliation.ECHOES_TABLE.name),
)
"""A deletion in an object store that was killed may have left these open to changes."""
_LOG = "_delta_log/"
_TEMPORARY = re.compile(r"#\d+$")
_CHECKPOINTS, _VERSIONS_APART = 20, 500
"""The newest checkpoints are all kept; of older ones, one per so many versions."""
_VERSIONS = 3000
"""Versions that stay readable at least; opening a table lists the commits of them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MinimumAge:
    """The age at which files are deleted or joined; delta.logRetentionDuration governs the log."""

    files: timedelta = timedelta(days=7)
    temporary: timedelta = timedelta(hours=6)
    quiet: timedelta = timedelta(hours=6)
    """The time without new rows after which all files of a past day are joined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceResult:
    """The effect of maintenance on one table."""

    table: str
    files_before: int
    files_after: int
    log_before: int
    log_after: int
    removed: int
    """Files that no version in the log needs, and temporary files of killed writers."""
    seconds: float
    busy: str | None = None
    """Why the compaction was left for the next run, or None."""


def maintain(
    lake: Lake,
    keys: Sequence[StreamKey],
    today: date,
    keep: MinimumAge | None = None,
    engine: Engine | None = None,
) -> Iterator[MaintenanceResult]:
    """Maintain every table and yield the results; an engine counts the rows of new files.

    Raises LakeError if rows changed.
    """
    with _exclusive_lock(lake):
        for table in tables_of(lake, keys):
            # A folder without a commit: a writer is creating the table, or was killed doing so.
            if (handle := tables.open_table(lake, table)) is not None:
                yield _maintain(lake, table, handle, today, keep or MinimumAge())
        rollup_table.roll_up(lake, today, engine)
        text_index_table.index(lake, today)
        identity_table.derive(lake)


def _maintain(
    lake: Lake, table: str, handle: DeltaTable, today: date, keep: MinimumAge
) -> MaintenanceResult:
    started = time.monotonic()
    # Cursors and coverage must be in `coverage` before the log that contains them is trimmed.
    if table.startswith("raw/"):
        raw.flush_coverage(lake, StreamKey(*table.split("/")[1:]))
    if table == findings.FINDINGS.name:
        findings.flush(lake)
    kept_safe = table.startswith("raw/") or table in _APPEND_ONLY
    if kept_safe and not commits.is_append_only(handle):
        handle = commits.set_append_only(lake, table, wanted=True)
    before, log_before = handle.get_add_actions(flatten=True), _log(lake, table)
    busy = None
    try:
        compaction.compact(lake, table, today, keep.quiet, handle)
    except (CommitFailedError, FileNotFoundError) as error:  # the latter after retention
        busy = f"another writer changed the same files: {str(error)[:100]}"
    if lake.local is not None:
        handle = compaction.opened(lake, table)
    # Flushed before the commits are deleted that it replaces.
    if lake.local is not None or f"{handle.version():020}.checkpoint.parquet" not in log_before:
        commits.checkpoint(lake, handle)
    handle.cleanup_metadata()
    written = _written(lake, table)
    names = _log(lake, table, written)
    names = _without(lake, table, names, _superfluous(names))
    names = _without(lake, table, names, _outdated(lake, table, names, handle.version()))
    removed = _vacuum(handle, keep, written) + _sweep(lake, table, keep)
    files_after = handle.get_add_actions().num_rows
    tables.share(lake, table, handle)
    return MaintenanceResult(
        table=table,
        files_before=before.num_rows,
        files_after=files_after,
        log_before=_commits(log_before),
        log_after=_commits(names),
        removed=removed,
        seconds=time.monotonic() - started,
        busy=busy,
    )


def _superfluous(names: Sequence[str]) -> list[str]:
    """Return most of the older checkpoints: one per _VERSIONS_APART is enough for old versions."""
    old = _checkpoints(names)[1:-_CHECKPOINTS]
    return [
        name
        for name, following in pairwise(old)
        if _version(name) // _VERSIONS_APART == _version(following) // _VERSIONS_APART
    ]


def _outdated(lake: Lake, table: str, names: Sequence[str], newest: int) -> list[str]:
    """Return the commits before an old checkpoint, if the table can be opened from there."""
    old = [v for v in map(_version, _checkpoints(names)) if v <= newest - _VERSIONS]
    if not old:
        return []
    tables.open_at(lake, table, old[-1])  # raises if the checkpoint is damaged
    numbered = (name for name in names if name[:20].isdigit())
    return [name for name in numbered if _version(name) < old[-1]]


def _written(lake: Lake, table: str) -> dict[str, datetime] | None:
    """Return the objects of a table with the times when they were written; None on a disk."""
    if lake.local is not None:
        return None
    return object_store.written(lake.uri(table), lake.storage_options or {})


def _log(lake: Lake, table: str, written: Iterable[str] | None = None) -> list[str]:
    """Return the names of the files of a table's log, sorted; from all `written`, if given."""
    if lake.local is not None:
        return sorted(path.name for path in (lake.local / table / "_delta_log").iterdir())
    if written is None:
        return object_store.names(lake.uri(f"{table}/_delta_log"), lake.storage_options or {})
    return sorted(path[len(_LOG) :] for path in written if path.startswith(_LOG))


def _without(lake: Lake, table: str, names: Sequence[str], unwanted: Collection[str]) -> list[str]:
    """Delete files of a table's log, and return the names of the others."""
    if lake.local is not None:
        for name in unwanted:
            (lake.local / table / "_delta_log" / name).unlink(missing_ok=True)
    elif unwanted:
        log = lake.uri(f"{table}/_delta_log")
        object_store.delete(log, lake.storage_options or {}, list(unwanted))
    return [name for name in names if name not in unwanted]


def _commits(names: Sequence[str]) -> int:
    return sum(name[:20].isdigit() and name[20:] == ".json" for name in names)


def _checkpoints(names: Sequence[str]) -> list[str]:
    return [name for name in names if name.endswith(".checkpoint.parquet")]


def _version(name: str) -> int:
    return int(name.partition(".")[0])


def _vacuum(handle: DeltaTable, keep: MinimumAge, written: Mapping[str, datetime] | None) -> int:
    hours = int(keep.files.total_seconds() // 3600)
    if written is not None:
        if not _has_old_orphans(handle, hours, written):
            return 0
        handle.update_incremental()  # a restore may have just added old files again
    return len(
        handle.vacuum(
            retention_hours=hours,
            dry_run=False,
            enforce_retention_duration=False,
            post_commithook_properties=compaction.NO_HOOKS,
            full=True,
        )
    )


def _has_old_orphans(handle: DeltaTable, hours: int, written: Mapping[str, datetime]) -> bool:
    """Return whether files that the newest version lacks are older than so many hours.

    Only then does vacuum read which of them an older version needs.
    """
    needed = set(map(unquote, handle.get_add_actions()["path"].to_pylist()))
    since = unix_time() - 3600 * hours
    return any(
        at.timestamp() <= since and path not in needed
        for path, at in written.items()
        if not path.startswith(_LOG)
    )


def _sweep(lake: Lake, table: str, keep: MinimumAge) -> int:
    """Delete half-written files of writers that were killed, and return their number."""
    if lake.local is None:  # an object appears only once it is whole
        return 0
    removed = 0
    for path in (lake.local / table).rglob("*#*"):
        with suppress(FileNotFoundError):
            old = unix_time() - path.stat().st_mtime > keep.temporary.total_seconds()
            if old and _TEMPORARY.search(path.name):
                path.unlink()
                removed += 1
    return removed


@contextmanager
def _exclusive_lock(lake: Lake) -> Iterator[None]:
    """Allow one maintenance of a lake at a time; raises LakeError for others.

    Processes of this machine exclude each other by a file, and machines by a lease.
    """
    folder = lake.local or folders.shared_folder()
    if folder is None:
        yield  # no place for a lock: two runs would only lose races against each other
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ours = lease.of(lake, "maintenance")
    with disk.open_own(folder / _lock_name(lake)) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _running() from None
        with ours.kept() as held:
            if not held:
                raise _running()
            try:
                yield
            finally:
                ours.release()


def _running() -> LakeError:
    return LakeError("another maintenance of this lake is running: wait for it to finish")


def _lock_name(lake: Lake) -> str:
    if lake.local is not None:
        return ".maintenance.lock"
    return f"maintenance-{lake.digest}.lock"


def streams_of(lake: Lake, logs: Sequence[StreamKey]) -> list[StreamKey]:
    """Return the streams with a raw table; on a disk all of them, elsewhere those in `logs`."""
    raw_tables = (table for table in tables_of(lake, logs) if table.startswith("raw/"))
    return [StreamKey(*table.split("/")[1:]) for table in raw_tables]


def tables_of(lake: Lake, keys: Sequence[StreamKey]) -> list[str]:
    """Return the existing tables: on a disk all, else those of the streams and the shared ones.

    Of a table that a writer is creating, there may be no commit yet.
    """
    if lake.local is not None:
        # Not "**", which would look into the folders of all days, too.
        found = chain(*map(lake.local.glob, ("*/_delta_log", "raw/*/*/_delta_log")))
        return sorted(str(path.parent.relative_to(lake.local)) for path in found)
    known = [
        *(key.table for key in keys),
        *(events.TABLE.name, raw.REJECTED_TABLE.name, coverage.TABLE.name, streams.TABLE.name),
        *(reconciliation.ECHOES_TABLE.name, reconciliation.RECONCILED_TABLE.name),
        *(rollup_table.TABLE.name, text_index_table.TABLE.name, identity_table.TABLE.name),
        *("access", "views"),
        *(each.name for each in findings.TABLES),
    ]
    options = lake.storage_options or {}
    stored = object_store.folders(lake.root, options) | {key.table for key in raw.landed(lake)}
    return [table for table in known if table in stored]
