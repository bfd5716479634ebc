"""Types of options that several commands share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click


class Time(click.ParamType[datetime]):
    """An ISO 8601 time, returned in UTC; without an offset it is taken as UTC."""

    name = "time"

    def convert(self, value: Any, param: Any, context: Any) -> datetime:
        try:
            time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a valid time; use e.g. 2026-03-01 or 2026-03-01T12:00Z")
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
