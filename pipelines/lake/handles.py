"""Tables that stay open: bringing one up to date costs a tenth of opening it anew.

A commit is checked against what its handle has read, so whoever takes a handle has it alone until
it is put back; one that was in use when something failed is not put back. On a disk it can be told
whether a table is still the one that was opened; elsewhere nothing is kept.

What a handle has read piece by piece makes it slower and slower, so at every checkpoint the table
is opened anew.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deltalake import DeltaTable

CHECKPOINT_EVERY = 10
"""Versions; whoever opens a table reads all commits since the last checkpoint."""
_MOST = 256
_SECONDS = 60.0  # what was open for longer would have to catch up with many commits

_Mark = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Kept:
    table: Path
    handle: DeltaTable
    mark: _Mark
    """Which file its newest commit was."""
    since: float


_kept: list[_Kept] = []
_lock = threading.Lock()


def acquire(table: Path) -> DeltaTable | None:
    """An open handle, as new as the table is; None where none is open, or of another table."""
    while (found := _pop(table)) is not None:
        handle, before = found.handle, found.handle.version()
        if _mark(table, handle) == found.mark:
            with suppress(Exception):  # whatever it is, a table that is opened anew says it
                handle.update_incremental()
                if handle.version() // CHECKPOINT_EVERY == before // CHECKPOINT_EVERY:
                    return handle
    return None


def release(table: Path, handle: DeltaTable) -> None:
    """For the next who takes it; whoever puts it back uses it no more."""
    mark = _mark(table, handle)
    if mark is not None and handle.version() % CHECKPOINT_EVERY:
        with _lock:
            now = time.monotonic()
            fresh = [each for each in _kept if now - each.since < _SECONDS]
            _kept[:] = [*fresh[-_MOST:], _Kept(table=table, handle=handle, mark=mark, since=now)]


def _pop(table: Path) -> _Kept | None:
    with _lock:
        found = next((each for each in reversed(_kept) if each.table == table), None)
        if found is not None:
            _kept.remove(found)
        return found


def _mark(table: Path, handle: DeltaTable) -> _Mark | None:
    """Another lake in the same folder has other files."""
    try:
        commit = (table / "_delta_log" / f"{handle.version():020}.json").stat()
    except OSError:
        return None
    return commit.st_ino, commit.st_mtime_ns, commit.st_size
