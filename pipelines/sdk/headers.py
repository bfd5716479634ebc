"""Times in response headers; delays are measured by the server's own clock."""

from __future__ import annotations

import email.utils
from contextlib import suppress
from datetime import UTC, datetime

import httpx


def sent_at(response: httpx.Response) -> datetime | None:
    """Return the response's `Date`, aware, or None if it is missing or malformed."""
    with suppress(KeyError, ValueError, TypeError):
        sent = email.utils.parsedate_to_datetime(response.headers["Date"])
        return sent if sent.tzinfo else sent.replace(tzinfo=UTC)
    return None


def server_seconds(response: httpx.Response, until: float) -> float:
    """Return the seconds from the server's `Date` to the Unix time `until`, at least 0.

    Raises KeyError, TypeError or ValueError if `Date` is missing or malformed.
    """
    # Compared with the server's clock, because ours may be wrong.
    sent = email.utils.parsedate_to_datetime(response.headers["Date"]).timestamp()
    return max(0.0, until - sent)


def retry_after(response: httpx.Response) -> float | None:
    """Return Retry-After in seconds, whether a number or a date; None if missing or malformed."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return server_seconds(response, email.utils.parsedate_to_datetime(value).timestamp())
    except (KeyError, TypeError, ValueError):
        return None
