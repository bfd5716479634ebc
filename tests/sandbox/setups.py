"""Options and clocks of the sandboxes that the tests run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sandbox.server import Options

ANCHOR = datetime(2026, 11, 18, 15, 0, tzinfo=UTC)
SMALL = Options(seed=7, days=20, per_day=60, rate=0, anchor=ANCHOR)
PRESENT = datetime.now(UTC).replace(microsecond=0)
PUSHING = Options(seed=7, days=2, per_day=60, rate=0, anchor=PRESENT, pace=0.005)
SECONDS = 300
"""The longest wait for deliveries."""


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime = ANCHOR

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **span: float) -> None:
        self.now += timedelta(**span)
