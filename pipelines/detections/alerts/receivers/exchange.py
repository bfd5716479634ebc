"""One request to a receiver, and the meaning of its answer for the delivery.

Addresses come from the configuration alone. Redirects are not followed, since they would take the
credential elsewhere, and of an answer only the beginning is read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import httpx
import msgspec

from pipelines.detections.alerts.message import Alert
from pipelines.detections.alerts.outbox import NO_ANSWER
from pipelines.sdk import answers, headers
from pipelines.settings import network
from pipelines.settings.network import Way

_PAUSE = 10.0
"""Seconds between two parts of an answer at most."""
LONGEST = 20.0
"""Seconds that an answer may take, however steadily it trickles."""
_MOST_BYTES = 65_536
_NEVER = frozenset({400, 405, 406, 410, 411, 413, 414, 415, 422, 431})
"""Statuses that the same message would get again. A wrong credential may be corrected meanwhile."""
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_SHOWN = ("Retry-After", "Date", "Content-Type")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An alert on its way to a receiver."""

    delivery: str
    revision: int
    alert: Alert
    sent_at: datetime
    dashboard: str | None = None

    @property
    def id(self) -> str:
        """Return the id of the message, which is the same however often it is sent."""
        return f"{self.delivery}_{self.revision}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a try ended: "later" was not accepted, "never" will not be, "unknown" may have been."""

    result: Literal["sent", "later", "never", "unknown"]
    receipt: str
    retry_after: float | None = None
    """Seconds that the receiver wants to wait."""


class NoAnswer(Exception):
    """There is no answer; the outcome is known all the same."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.receipt)
        self.outcome = outcome


def send(
    way: Way,
    method: str,
    url: str,
    body: Mapping[str, Any] | bytes | None,
    more_headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """Send one request and return the answer, with the beginning of its body.

    Raises NoAnswer.
    """
    content = msgspec.json.encode(body) if isinstance(body, Mapping) else body
    typed = {"Content-Type": "application/json"} if content is not None else {}
    sent = {"User-Agent": "auditlake", **typed, **(more_headers or {})}
    timeout = httpx.Timeout(min(LONGEST, _PAUSE)).as_dict()
    request = httpx.Request(
        method, url, content=content, headers=sent, extensions={"timeout": timeout}
    )
    try:
        # Not a client of httpx, which logs addresses, and some are secrets.
        with (
            httpx.HTTPTransport(**network.options(way, url), trust_env=False) as transport,
            closing(transport.handle_request(request)) as answer,
        ):
            answer.request = request
            return _beginning(answer)
    except _NOT_SENT as error:
        raise NoAnswer(Outcome(result="later", receipt=_named(error))) from None
    except (httpx.HTTPError, OSError) as error:
        receipt = f"{NO_ANSWER}: {_named(error)}"
        raise NoAnswer(Outcome(result="unknown", receipt=receipt)) from None


def judged(answer: httpx.Response, secrets: Sequence[str] = ()) -> Outcome:
    """Return the meaning of an answer; a receipt contains none of the secrets."""
    status = answer.status_code
    if answer.is_success:
        return Outcome(result="sent", receipt=str(status))
    if answer.is_redirect or 300 <= status < 400:
        receipt = f"{status}: redirects are not followed: configure the address it leads to"
        return Outcome(result="later", receipt=receipt)
    receipt = f"{status}{answers.quoted(answer, secrets)}"
    result: Literal["never", "later"] = "never" if status in _NEVER else "later"
    return Outcome(result=result, receipt=receipt, retry_after=headers.retry_after(answer))


def _beginning(answer: httpx.Response) -> httpx.Response:
    """Return the answer with as much of its body as is needed."""
    until, body = time.monotonic() + LONGEST, b""
    # The status is known, so an unreadable or endless body changes nothing.
    try:
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) >= _MOST_BYTES or time.monotonic() > until:
                break
    except (httpx.HTTPError, OSError):
        pass
    kept = {name: answer.headers[name] for name in _SHOWN if name in answer.headers}
    return httpx.Response(
        answer.status_code, headers=kept, content=body[:_MOST_BYTES], request=answer.request
    )


def _named(error: Exception) -> str:
    # Its text may contain the address, which may be a secret.
    return type(error).__name__
