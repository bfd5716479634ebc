"""A pool of open Delta tables: refreshing one costs a tenth of reopening it.

delta-rs checks a commit for conflicts against the state its handle has read, so a handle has one
user at a time, and after an error it is dropped instead of released. Only tables on a local disk
are pooled, since only there a table that was replaced can be recognised.

A handle gets slower with every version it has read one by one, so at each checkpoint the table is
reopened.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deltalake import DeltaTable

CHECKPOINT_EVERY = 10
"""Versions; opening a table means reading every commit since the last checkpoint."""
_CAPACITY = 256
_MAX_AGE = 60.0  # seconds; an older handle would have many commits to read

_FileId = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pooled:
    table: Path
    handle: DeltaTable
    commit: _FileId
    """Identifies the file of its newest commit."""
    since: float


_pool: list[_Pooled] = []
_lock = threading.Lock()


def acquire(table: Path) -> DeltaTable | None:
    """Return a pooled handle, brought up to date, or None if the table has to be opened."""
    while (found := _pop(table)) is not None:
        handle, before = found.handle, found.handle.version()
        if _newest_commit(table, handle) == found.commit:
            with suppress(Exception):  # if the table is broken, opening it raises the same error
                handle.update_incremental()
                if handle.version() // CHECKPOINT_EVERY == before // CHECKPOINT_EVERY:
                    return handle
    return None


def release(table: Path, handle: DeltaTable) -> None:
    """Put a handle into the pool; the caller must not use it any more."""
    commit = _newest_commit(table, handle)
    if commit is not None and handle.version() % CHECKPOINT_EVERY:
        with _lock:
            now = time.monotonic()
            fresh = [each for each in _pool if now - each.since < _MAX_AGE]
            pooled = _Pooled(table=table, handle=handle, commit=commit, since=now)
            _pool[:] = [*fresh[-_CAPACITY:], pooled]


def _pop(table: Path) -> _Pooled | None:
    with _lock:
        # The newest is nearest to the table's state, so it has the least to read.
        found = next((each for each in reversed(_pool) if each.table == table), None)
        if found is not None:
            _pool.remove(found)
        return found


def _newest_commit(table: Path, handle: DeltaTable) -> _FileId | None:
    """Return the identity of its newest commit file, which differs if the lake was replaced."""
    try:
        file = (table / "_delta_log" / f"{handle.version():020}.json").stat()
    except OSError:
        return None
    return file.st_ino, file.st_mtime_ns, file.st_size
