"""When each stream was last asked, and when it is asked next and why; kept in a temporary folder.

It serves `poll_every` and whoever wants to know. Losing it costs one early question and nothing
else, so it is no part of the lake. Of each stream there is INTEGRATION.STREAM.next beside its mark:
{"next": "2026-03-01T09:00:00+00:00", "interval": 20.0, "why": "nothing new"}.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from pipelines.extraction import rate_limit
from pipelines.lake.tables import Lake, StreamKey


@dataclass(frozen=True, slots=True, kw_only=True)
class NextPoll:
    """When a stream is asked next."""

    next: datetime
    interval: float
    """Seconds from the last question to the next."""
    why: str
    """Why this interval, in a few words."""


def claim_turn(lake: Lake, log: StreamKey, floor: timedelta | None) -> bool:
    """May `log` be asked, `floor` being the least time between two questions? Then it counts.

    Where nothing can be kept, always.
    """
    mark = _mark(lake, log)
    with suppress(OSError):
        if floor and mark.exists() and time.time() - mark.stat().st_mtime < floor.total_seconds():
            return False
        mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark.touch()
    return True


def save(lake: Lake, log: StreamKey, plan: NextPoll) -> None:
    """Keep the plan where all processes of this machine find it, if it can be kept."""
    path = _plan(lake, log)
    draft = path.with_suffix(".draft")
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.write_bytes(msgspec.json.encode(plan))
        draft.replace(path)


def load(lake: Lake, log: StreamKey) -> NextPoll | None:
    """The newest plan; None where nobody on this machine watches the stream."""
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(_plan(lake, log).read_bytes(), type=NextPoll)
    return None


def last_polled(lake: Lake, log: StreamKey) -> datetime | None:
    """When `due` last said yes."""
    with suppress(OSError):
        return datetime.fromtimestamp(_mark(lake, log).stat().st_mtime, UTC)
    return None


def _plan(lake: Lake, log: StreamKey) -> Path:
    mark = _mark(lake, log)
    return mark.with_name(f"{mark.name}.next")


def _mark(lake: Lake, log: StreamKey) -> Path:
    root = str(lake.local.resolve()) if lake.local else lake.root
    folder = hashlib.sha256(root.encode()).hexdigest()[:16]
    return rate_limit.folder() / folder / log.app.replace("/", ".")
