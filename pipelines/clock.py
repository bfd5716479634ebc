"""The clock, passed in as an argument where tests need another one."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


def unix_time() -> float:
    """Return the same time in seconds since 1970, as file times and token lifetimes need it."""
    return time.time()
