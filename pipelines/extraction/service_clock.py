"""The difference between this machine's clock and a service's, from the `Date` of its responses."""

from __future__ import annotations

from datetime import timedelta

import httpx

from pipelines.clock import Clock
from pipelines.sdk.headers import sent_at

_SAME_TIME = timedelta(seconds=30)
_NOTABLE = timedelta(minutes=5)


class ServiceClock:
    """The clock of one service.

    A response that shows an earlier time than assumed counts at once, since that only makes rounds
    fetch less; a later time counts once two responses in a row agree, since a cache may be between.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: timedelta | None = None
        self._ahead: timedelta | None = None
        self.confirmed = False
        """Whether the last two responses that came from no cache agree."""

    @property
    def known(self) -> bool:
        return self._ahead is not None

    @property
    def ahead(self) -> timedelta:
        """Return how far our clock is ahead of the service's; 0 if they agree within seconds."""
        ahead = self._ahead or timedelta()
        return ahead if abs(ahead) > _SAME_TIME else timedelta()

    @property
    def decided(self) -> bool:
        """Return True if two responses agree, or if none shows a time."""
        return self.confirmed or self._last is None

    def observe(self, response: httpx.Response) -> None:
        sent = sent_at(response)
        if sent is None or "Age" in response.headers:  # a cached response has an old Date
            return
        ahead, last = self._clock() - sent, self._last
        self.confirmed = last is not None and abs(ahead - last) <= _SAME_TIME
        if self._ahead is None or self.confirmed or ahead > self._ahead + _SAME_TIME:
            self._ahead = ahead
        self._last = ahead


def difference(ahead: timedelta) -> str | None:
    """Return how far our clock is from the service's in words; None within a few minutes."""
    if abs(ahead) < _NOTABLE:
        return None
    side = "ahead" if ahead > timedelta() else "behind"
    return f"this machine's clock is {_words(abs(ahead))} {side}"


def _words(span: timedelta) -> str:
    if span.days:
        return f"{span.days} d {span.seconds // 3600} h"
    return f"{span.seconds // 3600} h {span.seconds // 60 % 60} min"
