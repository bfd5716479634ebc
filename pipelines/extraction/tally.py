"""Counts per stream that only grow, for metrics: requests, errors, commits, pushes.

They are kept next to the times of polls, in the user's state folder, since rounds run in processes
that end. If they are lost, they start again at zero, as those of a program that was restarted.
"""

from __future__ import annotations

import fcntl
from contextlib import suppress
from pathlib import Path

import msgspec

from pipelines import disk
from pipelines.extraction import schedule
from pipelines.extraction.report import Report
from pipelines.lake.tables import Lake, StreamKey


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    rounds: int = 0
    errors: int = 0
    """Rounds and peeks that failed."""
    requests: int = 0
    throttled: int = 0
    commits: int = 0
    commit_seconds: float = 0.0
    pushes: int = 0
    """Deliveries that were stored."""
    push_seconds: float = 0.0
    """The time from receiving each of them to its commit."""


def count(lake: Lake, key: StreamKey, report: Report) -> None:
    """Add a finished round."""
    seconds = report.seconds.get("write raw", 0.0)
    done = Tally(
        rounds=1,
        errors=int(report.error is not None),
        requests=report.requests,
        throttled=report.throttled,
        commits=report.commits,
        commit_seconds=seconds,
    )
    add(lake, key, done)


def add(lake: Lake, key: StreamKey, more: Tally) -> None:
    """Add to the counts of a stream; does nothing where they cannot be written."""
    path = _path(lake, key)
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with disk.open_own(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = _read(file.read().encode())
            names = Tally.__struct_fields__
            sums = {name: getattr(before, name) + getattr(more, name) for name in names}
            file.seek(0)
            file.truncate()
            file.write(msgspec.json.encode(sums).decode())


def load(lake: Lake, key: StreamKey) -> Tally:
    """Return the counts of a stream; zeros if nothing on this machine has counted any."""
    with suppress(OSError):
        return _read(_path(lake, key).read_bytes())
    return Tally()


def _read(content: bytes) -> Tally:
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(content, type=Tally)
    return Tally()


def _path(lake: Lake, key: StreamKey) -> Path:
    return schedule.folder(lake) / f"{key.app.replace('/', '.')}.tally"
