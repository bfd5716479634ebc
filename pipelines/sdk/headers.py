"""How long to wait, by a response's headers; a server's clock is compared with itself only."""

from __future__ import annotations

import email.utils
from contextlib import suppress
from datetime import UTC, datetime

import httpx


def sent_at(response: httpx.Response) -> datetime | None:
    """When the server sent this, by its own clock; None where it does not say."""
    with suppress(KeyError, ValueError, TypeError):
        sent = email.utils.parsedate_to_datetime(response.headers["Date"])
        return sent if sent.tzinfo else sent.replace(tzinfo=UTC)
    return None


def server_seconds(response: httpx.Response, until: float) -> float:
    """Seconds from the server's own `Date` to the epoch second `until`; ours may be off."""
    sent = email.utils.parsedate_to_datetime(response.headers["Date"]).timestamp()
    return max(0.0, until - sent)


def retry_after(response: httpx.Response) -> float | None:
    """Retry-After in seconds, given as a number or as a date."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return server_seconds(response, email.utils.parsedate_to_datetime(value).timestamp())
    except (KeyError, TypeError, ValueError):
        return None
