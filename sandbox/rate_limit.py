"""Rate limits: a fixed number of requests per window, counted by client."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(slots=True, kw_only=True)
class Limiter:
    """At most `count` requests per window and client; a window opens with its first request."""

    count: int
    seconds: int
    _windows: dict[str, tuple[datetime, int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, client: str, now: datetime) -> Allowance:
        """Count a request, and return whether it is allowed."""
        with self._lock:
            opened, used = self._windows.get(client, (now, 0))
            if now >= opened + timedelta(seconds=self.seconds):
                opened, used = now, 0
            self._windows[client] = opened, used + 1
        return Allowance(
            allowed=used < self.count,
            limit=self.count,
            remaining=max(0, self.count - used - 1),
            reset=opened + timedelta(seconds=self.seconds),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Whether a request is allowed, and the rest of its window."""

    allowed: bool
    limit: int
    remaining: int
    reset: datetime
