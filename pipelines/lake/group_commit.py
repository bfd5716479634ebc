"""Small batches of events that wait for their table are committed together, of whatever logs.

A commit costs nearly the same for one row as for a thousand, and `events` takes one at a time: so
whoever has his turn writes for all who wait.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.lake import events
from pipelines.lake.events import Batch
from pipelines.lake.tables import Lake

_MOST = 5000  # rows


@dataclass(slots=True, kw_only=True, eq=False)
class _Pending:
    lake: Lake
    part: Batch
    landed: bool | None = None
    error: BaseException | None = None


_waiting: list[_Pending] = []
_lock, _writer = threading.Lock(), threading.Lock()


def append(lake: Lake, part: Batch) -> bool:
    """Commit these events, perhaps with others'; False where it was not their turn in their log.

    Raises LakeError.
    """
    mine = _Pending(lake=lake, part=part)
    with _lock:
        _waiting.append(mine)
    with _writer:
        while mine.landed is None and mine.error is None:
            _write(_next())
    if mine.error:
        raise mine.error
    return bool(mine.landed)


def _next() -> list[_Pending]:
    """Who waits longest, and who can be served with him: of one lake, each log once."""
    chosen: list[_Pending] = []
    rows = 0
    with _lock:
        for each in _waiting:
            rows += each.part.events.height
            alike = not chosen or each.lake == chosen[0].lake
            other = all(each.part.key != one.part.key for one in chosen)
            if not chosen or (alike and other and rows <= _MOST):
                chosen.append(each)
        for each in chosen:
            _waiting.remove(each)
    return chosen


def _write(some: Sequence[_Pending]) -> None:
    """What fails together is tried one by one: nobody fails for another."""
    try:
        landed = events.append_batches(some[0].lake, [each.part for each in some])
    except BaseException as error:
        if len(some) == 1 or not isinstance(error, Exception):
            for each in some:
                each.error = error
            return
        for each in some:
            _write([each])
    else:
        for each in some:
            each.landed = each.part.key in landed
