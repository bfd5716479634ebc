"""A pool of open Delta tables: refreshing one costs a tenth of reopening it.

delta-rs checks a commit for conflicts against the state its handle has read, so a handle has one
user at a time, and after an error it is dropped instead of released. A table that was replaced is
recognised by its newest commit: by the file on a disk, and by the e-tag in an object store, where
one listing shows that and whether there are newer commits.

A handle gets slower with every version it has read one by one, so at each checkpoint the table is
reopened.
"""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from deltalake import DeltaTable

from pipelines.errors import AuditlakeError
from pipelines.lake import object_store

CHECKPOINT_EVERY = 10
"""Versions; opening a table means reading every commit since the last checkpoint."""
_CAPACITY = 256
_MAX_AGE = 60.0  # seconds; an older handle would have many commits to read

_Identity = tuple[int, int, int] | str


@dataclass(frozen=True, slots=True)
class Remote:
    """A table in an object store."""

    url: str
    options: tuple[tuple[str, str], ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pooled:
    table: Path | Remote
    handle: DeltaTable
    commit: _Identity
    """Identifies its newest commit."""
    since: float


_pool: list[_Pooled] = []
_shared: dict[Remote, _Pooled] = {}
_listed: dict[Remote, tuple[int, _Identity]] = {}
"""The newest commit in the last listing of each table."""
_absent: set[Remote] = set()
_lock = threading.Lock()
_turns: dict[Remote, threading.RLock] = {}


def acquire(table: Path | Remote) -> DeltaTable | None:
    """Return a pooled handle, brought up to date, or None if the table has to be opened."""
    while (found := _pop(table)) is not None:
        handle, before = found.handle, found.handle.version()
        commit, newer = _commit(table, before)
        if commit is not None and commit == found.commit:
            with suppress(Exception):  # if the table is broken, opening it raises the same error
                if newer:
                    handle.update_incremental()
                if handle.version() // CHECKPOINT_EVERY == before // CHECKPOINT_EVERY:
                    return handle
    return None


def has(table: Path | Remote) -> bool:
    """Return whether there is a pooled handle, of any version."""
    with _lock:
        return any(each.table == table for each in _pool)


def release(table: Path | Remote, handle: DeltaTable) -> None:
    """Put a handle into the pool; the caller must not use it any more."""
    pooled = _identified(table, handle)
    if pooled is not None and handle.version() % CHECKPOINT_EVERY:
        with _lock:
            fresh = [each for each in _pool if pooled.since - each.since < _MAX_AGE]
            _pool[:] = [*fresh[-_CAPACITY:], pooled]


def turn(table: Path | Remote) -> AbstractContextManager[object]:
    """Return a lock for those who only read a table in an object store; none on a disk."""
    if isinstance(table, Path):
        return nullcontext()
    with _lock:
        return _turns.setdefault(table, threading.RLock())


def shared(table: Remote) -> DeltaTable | None:
    """Return a handle at the newest version that all readers share, or None if there is none.

    Nobody may update it or write through it.
    """
    found = _shared.get(table)
    if found is not None and _commit(table, found.handle.version()) == (found.commit, False):
        return found.handle
    _shared.pop(table, None)
    return None


def share(table: Remote, handle: DeltaTable) -> None:
    """Let readers share a handle that its caller only reads, too."""
    if (found := _identified(table, handle)) is not None:
        while len(_shared) >= _CAPACITY:
            _shared.pop(next(iter(_shared)), None)
        _shared[table] = found


def is_absent(table: Remote) -> bool:
    """Return whether a table that did not exist before is still without any commit."""
    if table not in _absent:
        return False
    with suppress(AuditlakeError):  # opening the table raises the same error
        if not object_store.commits(f"{table.url}/_delta_log", table.options, 0):
            return True
    _absent.discard(table)
    return False


def note_absent(table: Remote) -> None:
    """Remember that a table does not exist, which later takes one request to confirm."""
    _absent.add(table)


def forget() -> None:
    """Drop all handles that nobody uses, so that each table is opened again."""
    with _lock:
        _pool.clear()
        _shared.clear()


def _identified(table: Path | Remote, handle: DeltaTable) -> _Pooled | None:
    known = _listed.get(table) if isinstance(table, Remote) else None
    version = handle.version()
    commit = known[1] if known and known[0] == version else _commit(table, version)[0]
    if commit is None:
        return None
    return _Pooled(table=table, handle=handle, commit=commit, since=time.monotonic())


def _pop(table: Path | Remote) -> _Pooled | None:
    with _lock:
        # The newest is nearest to the table's state, so it has the least to read.
        found = next((each for each in reversed(_pool) if each.table == table), None)
        if found is not None:
            _pool.remove(found)
        return found


def _commit(table: Path | Remote, version: int) -> tuple[_Identity | None, bool]:
    """Return the identity of a commit, which differs if the lake was replaced.

    And whether there may be newer ones.
    """
    if isinstance(table, Remote):
        return _listed_commit(table, version)
    try:
        file = (table / "_delta_log" / f"{version:020}.json").stat()
    except OSError:
        return None, True
    return (file.st_ino, file.st_mtime_ns, file.st_size), True


def _listed_commit(table: Remote, version: int) -> tuple[_Identity | None, bool]:
    try:
        found = object_store.commits(f"{table.url}/_delta_log", table.options, version)
    except AuditlakeError:  # opening the table raises the same error
        return None, True
    if found:
        newest = max(found)
        _listed[table] = newest, found[newest]
    return found.get(version), any(number > version for number in found)
