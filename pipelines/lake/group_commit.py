"""Group commit: small event batches from different streams go into one commit.

A commit costs nearly the same for one row as for a thousand, and `events` takes one commit at a
time. So the thread that holds the writer's lock commits for every thread that waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.lake import events
from pipelines.lake.events import Batch
from pipelines.lake.tables import Lake

_MAX_ROWS = 5000


@dataclass(slots=True, kw_only=True, eq=False)
class _Pending:
    lake: Lake
    batch: Batch
    landed: bool | None = None
    error: BaseException | None = None


_waiting: list[_Pending] = []
_lock, _writer = threading.Lock(), threading.Lock()


def append(lake: Lake, batch: Batch) -> bool:
    """Commit a batch, possibly together with those of other threads.

    Return False if its rows are not the next ones of its stream. Raises LakeError.
    """
    mine = _Pending(lake=lake, batch=batch)
    with _lock:
        _waiting.append(mine)
    with _writer:
        # The thread that held the lock before may have committed this batch too.
        while mine.landed is None and mine.error is None:
            _write(_next())
    if mine.error:
        raise mine.error
    return bool(mine.landed)


def _next() -> list[_Pending]:
    """Take the oldest batch off the queue, with those that fit: same lake, each stream once."""
    chosen: list[_Pending] = []
    rows = 0
    with _lock:
        for each in _waiting:
            rows += each.batch.events.height
            same_lake = not chosen or each.lake == chosen[0].lake
            other_stream = all(each.batch.key != one.batch.key for one in chosen)
            if not chosen or (same_lake and other_stream and rows <= _MAX_ROWS):
                chosen.append(each)
        for each in chosen:
            _waiting.remove(each)
    return chosen


def _write(some: Sequence[_Pending]) -> None:
    """Commit these batches; if that fails, retry them one by one, so that only bad ones fail."""
    try:
        landed = events.append_batches(some[0].lake, [each.batch for each in some])
    except BaseException as error:
        # An interrupt such as Ctrl-C is no batch's fault: do not retry.
        if len(some) == 1 or not isinstance(error, Exception):
            for each in some:
                each.error = error
            return
        for each in some:
            _write([each])
    else:
        for each in some:
            each.landed = each.batch.key in landed
