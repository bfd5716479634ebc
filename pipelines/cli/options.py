"""What options of several commands have in common."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click


class Time(click.ParamType[datetime]):
    """ISO 8601; without an offset it is UTC."""

    name = "time"

    def convert(self, value: Any, param: Any, context: Any) -> datetime:
        try:
            time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time such as 2026-03-01 or 2026-03-01T12:00Z")
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
