"""Positions that a wrong clock has moved into the future: find them, and go back.

Such a position would send no request until its time has come, and everything in between would be
lost. It is void only if it is later than the service's own time, on which two responses must agree;
where responses have no `Date`, this machine's clock decides.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipelines.errors import AuditlakeError
from pipelines.lake import coverage, raw, stream_state
from pipelines.sdk.pages import closing

if TYPE_CHECKING:
    from pipelines.extraction.rounds import Round
    from pipelines.lake.raw import Position

_TOLERANCE = timedelta(minutes=5)
_PROBED = timedelta(hours=1)
_TRIES = 2


def is_void(this: Round, position: Position) -> bool:
    """Return True if the position is in the future; sends requests only if it seems so."""
    if not seems_void(this, position):
        return False
    learn_time(this)
    return this.client.service_clock.decided and seems_void(this, position)


def seems_void(this: Round, position: Position) -> bool:
    """Return True if the position is in the future by all that is known so far."""
    reached = this.stream.reached(position.cursor) if position.cursor else None
    limit = this.service_time + _TOLERANCE
    return any(time is not None and time > limit for time in (reached, position.recorded_at))


def learn_time(this: Round) -> None:
    """Fetch the newest pages, and drop them, until two responses agree on the service's time."""
    if this.client.service_clock.confirmed:
        return
    with suppress(AuditlakeError):  # the round itself reports it
        for _ in range(_TRIES):
            now = this.now
            cursor = this.stream.begin(now - _PROBED, now)
            with closing(this.stream.pages(this.client, cursor, now)) as pages:
                if any(this.client.service_clock.confirmed for _page in pages):
                    return


def go_back(this: Round) -> datetime:
    """Correct the coverage that was recorded in the future, and return where to read from again.

    That is the newest polled event less the stream's lag, or the first gap before it. Without any
    event, it is as far back as a first round would read.
    """
    now = this.now
    newest = raw.newest_polled(this.lake, this.key, now)
    since = newest and newest - this.stream.lag
    coverage.correct(
        this.lake, this.key, later_than=now + _TOLERANCE, since=since, polled_at=newest or now
    )
    if since is None:
        return this.first_wanted
    history = coverage.history(this.lake, this.key, this.facts)
    gaps = stream_state.coverage(history, now).gaps
    return min([since, *(gap.span.since for gap in gaps)])
