"""The one HTTP client: timeouts, retries, rate limits; connectors only ask.

Everything happens in the transport, so an auth flow's own requests are treated alike. An answer is
read whole before it is handed on: a body cut short is asked for again, and a page is all that is
ever held in memory.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from pipelines.errors import Refused, TooSlow, Unavailable
from pipelines.extraction import rate_limit
from pipelines.extraction.rate_limit import RateLimiter
from pipelines.sdk import json_records
from pipelines.sdk.contract import Integration, Source
from pipelines.sdk.headers import retry_after, sent_at

_ASK_AGAIN = frozenset({408, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 527, 530})
_BROKEN = (httpx.TransportError, httpx.DecodingError)
_TIMEOUT = httpx.Timeout(connect=10, read=60, write=30, pool=60)
_SAME_TIME = timedelta(seconds=30)
_ABSURD = timedelta(days=1)
_LONG = 60.0
_USER_AGENT = "auditlake/0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long to keep asking: growing, jittered pauses with a bound."""

    attempts: int = 7
    first: float = 0.25
    ceiling: float = 30.0
    longest_wait: float = 900.0
    """The most seconds a throttled vendor may ask us to wait before we come back another time."""
    longest_answer: float = 600.0
    """The most seconds a body may take; a timeout alone would let it trickle for ever."""

    def pause(self, attempt: int) -> float:
        bound: float = min(self.ceiling, self.first * 2**attempt)
        return bound * random.uniform(0.5, 1.0)  # noqa: S311 spreads requests, hides nothing


class _DeadlineStream(httpx.SyncByteStream):
    """A body that has to end in time."""

    def __init__(self, inner: httpx.SyncByteStream, seconds: float) -> None:
        self._inner = inner
        self._until = time.monotonic() + seconds

    def __iter__(self) -> Iterator[bytes]:
        for part in self._inner:
            yield part
            if time.monotonic() > self._until:
                raise httpx.ReadTimeout("the answer did not end in time")

    def close(self) -> None:
        self._inner.close()


class RetryTransport(httpx.BaseTransport):
    """A transport that waits its turn and asks again what may be asked again."""

    def __init__(
        self,
        inner: httpx.BaseTransport,
        pace: RateLimiter,
        patience: RetryPolicy,
        clock: Callable[[], datetime],
    ) -> None:
        self._inner = inner
        self._pace = pace
        self._patience = patience
        self._clock = clock
        self.requests = 0
        self.ahead = timedelta(0)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        attempt = 0
        while True:
            self._pace.wait()
            self.requests += 1
            answer = self._ask(request)
            if isinstance(answer, httpx.Response) and not self._again(answer):
                if answer.is_success:
                    self._pace.hold(self._pace.policy.pause(answer))
                return answer
            wait = self._wait(answer, attempt)
            attempt += 1
            if attempt >= self._patience.attempts or wait > self._patience.longest_wait:
                raise _gave_up(request, answer)
            if isinstance(answer, httpx.Response) and self._pace.policy.throttled(answer):
                self._pace.hold(wait)
            else:
                self._pace.sleep(wait)

    def close(self) -> None:
        self._inner.close()

    def _ask(self, request: httpx.Request) -> httpx.Response | Exception:
        try:
            response = self._inner.handle_request(request)
            response.request = request
            self._compare_clocks(response)
            if isinstance(response.stream, httpx.SyncByteStream):
                response.stream = _DeadlineStream(response.stream, self._patience.longest_answer)
            response.read()
        except _BROKEN as error:
            return error
        if (
            response.is_success
            and _says_json(response)
            and not json_records.whole(response.content)
        ):
            return httpx.RemoteProtocolError("the answer's JSON was cut short")
        return response

    def _compare_clocks(self, response: httpx.Response) -> None:
        """A cached answer tells an old time, which only makes us ask for less."""
        if sent := sent_at(response):
            ahead = self._clock() - sent
            self.ahead = ahead if _SAME_TIME < abs(ahead) < _ABSURD else timedelta(0)

    def _again(self, response: httpx.Response) -> bool:
        return response.status_code in _ASK_AGAIN or self._pace.policy.throttled(response)

    def _wait(self, answer: httpx.Response | Exception, attempt: int) -> float:
        pause = self._patience.pause(attempt)
        if isinstance(answer, Exception):
            return pause
        asked, manners = retry_after(answer), self._pace.policy
        if asked is None and manners.throttled(answer):
            asked = manners.retry_after(answer)
            pause = max(pause, min(_LONG, manners.first_pause * 2**attempt))
        jitter = random.uniform(0, self._patience.first)  # noqa: S311 spreads requests
        return pause if asked is None else asked + jitter


class ServiceClient(httpx.Client):
    """A client of one service that raises what its operator should know."""

    def __init__(self, integration: Integration, patient: RetryTransport, **options: Any) -> None:
        super().__init__(transport=patient, **options)
        self._integration = integration
        self._patient = patient

    @property
    def requests_sent(self) -> int:
        """Requests on the wire so far, sign-in and repeats included."""
        return self._patient.requests

    @property
    def ahead(self) -> timedelta:
        """How far our clock is ahead of the service's, by its last answer; 0 where they agree."""
        return self._patient.ahead

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Raises Refused for a 4xx, Unavailable where asking again is all one can do."""
        response = super().send(request, **options)
        if response.is_redirect:
            raise Refused(
                f"{_place(request)} answered with a redirect, which is not followed "
                "since the credential would travel with it: correct base_url"
            )
        if response.is_error:
            raise _refusal(self._integration, response)
        return response


def connect(
    source: Source,
    *,
    patience: RetryPolicy | None = None,
    transport: httpx.BaseTransport | None = None,
    pace: RateLimiter | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> ServiceClient:
    """A client that is signed in to `source`; relative URLs follow its base_url."""
    integration = source.integration
    patient = RetryTransport(
        transport or httpx.HTTPTransport(retries=0),
        pace
        or RateLimiter(
            rate_limit.policy(source), path=rate_limit.state_file(source.kind, source.settings)
        ),
        patience or RetryPolicy(),
        clock,
    )
    return ServiceClient(
        integration,
        patient,
        base_url=source.settings.base_url,
        auth=integration.auth(source.settings),
        timeout=_TIMEOUT,
        headers={"User-Agent": _USER_AGENT, "Accept": "application/json"},
    )


def _refusal(integration: Integration, response: httpx.Response) -> Refused:
    """What a 4xx means and what to do about it; never the URL's query, a header or the body."""
    said = f"{_place(response.request)} answered {response.status_code}"
    advice = integration.advice(response)
    message = f"{said}: {advice}" if advice else f"{said} {response.reason_phrase}"
    return Refused(message, status=response.status_code, body=response.content)


def _gave_up(request: httpx.Request, answer: httpx.Response | Exception) -> Unavailable:
    if isinstance(answer, httpx.ConnectError):
        said = f"cannot connect ({_first_line(answer)}): check base_url, the network and the proxy"
    elif isinstance(answer, Exception):
        said = f"kept failing ({_first_line(answer)}); will be asked again"
    else:
        said = f"kept answering {answer.status_code} {answer.reason_phrase}; will be asked again"
    slow = isinstance(answer, httpx.Response) and answer.status_code == httpx.codes.GATEWAY_TIMEOUT
    return (TooSlow if slow else Unavailable)(f"{_place(request)}: {said}")


def _place(request: httpx.Request) -> str:
    return f"{request.method} {request.url.copy_with(query=None, fragment=None)}"


def _says_json(response: httpx.Response) -> bool:
    return "json" in response.headers.get("Content-Type", "") and bool(response.content)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no answer"])[0]
