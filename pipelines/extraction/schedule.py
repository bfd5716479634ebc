"""When each stream was last polled, and when and why it is polled next.

`poll_every` and the status displays use it. It is kept in the user's state folder and not in the
lake, because losing it costs one early poll at most. Each stream has an empty file
INTEGRATION.STREAM, whose modification time is the last poll, and INTEGRATION.STREAM.next with
{"next": "2026-03-01T09:00:00+00:00", "interval": 20.0, "why": "nothing new"}.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec

from pipelines import disk
from pipelines.clock import utc_now
from pipelines.errors import LakeError
from pipelines.extraction import rate_limit
from pipelines.lake import lease
from pipelines.lake.lease import Lease
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk.contract import Source
from pipelines.settings import folders

_NOWHERE = Path(os.devnull)  # no file can be created below it


@dataclass(frozen=True, slots=True, kw_only=True)
class NextPoll:
    """The next poll of a stream."""

    next: Annotated[datetime, msgspec.Meta(tz=True)]
    interval: float
    """Seconds from the last poll to the next."""
    why: str
    """The reason for this interval, in a few words."""


def lease_of(lake: Lake, source: Source) -> Lease:
    """Return the lease on polling with the credential of `source`.

    One machine at a time polls with a credential, so the rate limits and poll times in its state
    folder are those of all.
    """
    return lease.of(lake, rate_limit.credential(source.kind, source.settings))


@contextmanager
def leased(lake: Lake, source: Source) -> Iterator[None]:
    """Hold the lease on polling with the credential of `source`.

    Raises LakeError if another machine holds it.
    """
    with lease_of(lake, source).kept() as ours:
        if not ours:
            raise LakeError(f"{held_elsewhere(source)}: run it there")
        yield


def held_elsewhere(source: Source) -> str:
    return f"{source.name}: another machine polls with this credential"


def claim_turn(lake: Lake, key: StreamKey, floor: timedelta | None) -> bool:
    """Return True if a stream may be polled now, at least `floor` after its last poll.

    If so, this is recorded as a poll. Always True where nothing can be recorded.
    """
    last, mark = last_polled(lake, key), _mark(lake, key)
    # A mark in the future is void: the clock was set back.
    if floor and last and timedelta(0) <= utc_now() - last < floor:
        return False
    with suppress(OSError):
        mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _touch(mark)
    return True


def save(lake: Lake, key: StreamKey, plan: NextPoll) -> None:
    """Save the plan for all processes of this machine; does nothing if it cannot be written."""
    path = _plan(lake, key)
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk.write_atomically(path, msgspec.json.encode(plan), durable=False)


def load(lake: Lake, key: StreamKey) -> NextPoll | None:
    """Return the latest plan, or None if no process on this machine polls the stream."""
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(_plan(lake, key).read_bytes(), type=NextPoll)
    return None


def last_polled(lake: Lake, key: StreamKey) -> datetime | None:
    """Return the time of the last poll that `claim_turn` allowed, or None."""
    with suppress(OSError):
        return datetime.fromtimestamp(_mark(lake, key).lstat().st_mtime, UTC)
    return None


def _plan(lake: Lake, key: StreamKey) -> Path:
    mark = _mark(lake, key)
    return mark.with_name(f"{mark.name}.next")


def folder(lake: Lake) -> Path:
    """Return the directory for what this machine knows about a lake."""
    return (folders.shared_folder() or _NOWHERE) / lake.digest


def _mark(lake: Lake, key: StreamKey) -> Path:
    return folder(lake) / key.app.replace("/", ".")


def _touch(mark: Path) -> None:
    with disk.open_own(mark) as file:
        os.utime(file.fileno())
