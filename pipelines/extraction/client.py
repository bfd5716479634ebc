"""The HTTP client of all connectors: timeouts, retries and rate limits.

All of it happens in the transport, so requests of an auth flow get the same treatment. A response
is read completely before it is returned, so a truncated body is retried; at most one page is in
memory at a time.
"""

from __future__ import annotations

import math
import random
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
from pydantic import SecretStr

from pipelines.clock import Clock, utc_now
from pipelines.errors import Held, Refused, TooHeavy, TooLarge, Unavailable, raised_as
from pipelines.extraction import body, rate_limit
from pipelines.extraction.rate_limit import RateLimiter
from pipelines.extraction.service_clock import ServiceClock
from pipelines.sdk import answers, json_records
from pipelines.sdk.contract import Integration, Source
from pipelines.sdk.headers import retry_after
from pipelines.settings import network, telemetry

# 520 to 530 are Cloudflare's errors about the server behind it.
_RETRIED = frozenset({408, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 527, 530})
# Heavy queries time out; with 503 the whole service is unavailable.
_HEAVY = frozenset({408, 500, 502, 504, 524})
_BROKEN = (httpx.TransportError, httpx.DecodingError)
_TIMEOUT = httpx.Timeout(connect=10, read=60, write=30, pool=60)
_LONG = 60.0
_SHORT = 4096
_QUERY = "auditlake.query"
_USER_AGENT = "auditlake/0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When to retry and when to give up: bounded exponential backoff with jitter."""

    attempts: int = 7
    first: float = 0.25
    ceiling: float = 30.0
    longest_wait: float = 900.0
    """Seconds to wait for a throttled vendor at most; beyond that the next round retries."""
    longest_answer: float = 600.0
    """Seconds a body may take at most; a read timeout alone would let it trickle forever."""

    def pause(self, attempt: int) -> float:
        """Return the seconds to wait before the retry after `attempt`, counted from 0."""
        bound: float = min(self.ceiling, self.first * 2**attempt)
        return bound * random.uniform(0.5, 1.0)  # noqa: S311 spreads requests, hides nothing


class RetryTransport(httpx.BaseTransport):
    """A transport that observes the rate limit and retries failed requests."""

    def __init__(
        self,
        inner: httpx.BaseTransport,
        rate_limiter: RateLimiter,
        retry_policy: RetryPolicy,
        clock: Clock,
        *,
        read_only: bool = False,
        megabytes: int = 64,
    ) -> None:
        self._inner = inner
        self._megabytes = megabytes
        self._read_only = read_only
        self._rate_limiter = rate_limiter
        self._retry_policy = retry_policy
        self.requests = 0
        self.throttled = 0
        self.service_clock = ServiceClock(clock)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        once, attempt = self._claim(request), 0
        while True:
            self._rate_limiter.wait()
            self.requests += 1
            answer = self._send(request, attempt)
            throttled = isinstance(answer, httpx.Response) and self._is_throttled(answer)
            self.throttled += throttled
            if isinstance(answer, httpx.Response) and not self._retried(answer):
                if answer.is_success:
                    self._rate_limiter.hold(self._rate_limiter.policy.delay_after(answer))
                return answer
            wait = self._wait(answer, attempt)
            attempt += 1
            if (
                once
                or attempt >= self._retry_policy.attempts
                or wait > self._retry_policy.longest_wait
            ):
                raise _final_error(request, answer)
            # Throttling concerns every request of the credential, a failure only this one.
            if throttled:
                self._rate_limiter.hold(wait)
            else:
                self._rate_limiter.sleep(wait)

    def close(self) -> None:
        self._inner.close()

    def _claim(self, request: httpx.Request) -> bool:
        """Return whether a request must not be repeated. Raises Held if it was sent already."""
        policy = self._rate_limiter.policy
        name = policy.changes(request)
        if name is None:
            return False
        if self._read_only:
            raise Held("not started now, because this command changes nothing at the vendor")
        if left := self._rate_limiter.claim(name, policy.changes_every):
            raise Held(
                f"{name} was requested less than {policy.changes_every / 60:.0f} minutes ago, and "
                f"the vendor allows the next request in {math.ceil(left / 60)} minutes"
            )
        return policy.changes_every > 0

    def _send(self, request: httpx.Request, attempt: int) -> httpx.Response | Exception:
        """Return the response, read completely, or the error that is worth a retry."""
        with telemetry.span(request.method, _traced(request, attempt), "client") as span:
            answer = self._answer(request)
            if isinstance(answer, Exception):
                span.fail(type(answer).__name__)
                return answer
            span.set("http.response.status_code", answer.status_code)
            if answer.is_error:
                span.fail(str(answer.status_code))
        return answer

    def _answer(self, request: httpx.Request) -> httpx.Response | Exception:
        try:
            response = self._inner.handle_request(request)
            response.request = request
            self.service_clock.observe(response)
            body.limit(response, self._megabytes, self._retry_policy.longest_answer)
            response.read()
        except _BROKEN as error:
            return error
        except TooLarge:
            response.close()
            raise
        # A proxy may end a truncated body cleanly: only its JSON shows that something is missing.
        if (
            response.is_success
            and not answers.is_page(response)
            and _is_json(response)
            and not json_records.is_complete(response.content)
        ):
            return httpx.RemoteProtocolError("the JSON of the response is truncated")
        return response

    def _retried(self, response: httpx.Response) -> bool:
        return response.status_code in _RETRIED or self._is_throttled(response)

    def _is_throttled(self, response: httpx.Response) -> bool:
        return self._rate_limiter.policy.is_throttled(response)

    def _wait(self, answer: httpx.Response | Exception, attempt: int) -> float:
        """Return the seconds until the next attempt: as the service demands, else our backoff."""
        pause = self._retry_policy.pause(attempt)
        if isinstance(answer, Exception):
            return pause
        demanded, request_policy = retry_after(answer), self._rate_limiter.policy
        if demanded is None and request_policy.is_throttled(answer):
            demanded = request_policy.retry_after(answer)
            pause = max(pause, min(_LONG, request_policy.first_delay * 2**attempt))
        jitter = random.uniform(0, self._retry_policy.first)  # noqa: S311 spreads requests
        return pause if demanded is None else demanded + jitter


class ServiceClient(httpx.Client):
    """A client of one service; refusals become errors that explain how to fix them."""

    def __init__(self, source: Source, transport: RetryTransport, **options: Any) -> None:
        super().__init__(transport=transport, **options)
        self._integration = source.integration
        self._secrets = _secrets(source.settings)
        self._retries = transport  # httpx.Client has a `_transport` of its own
        self._latest = ""
        """The place and status of the latest answer, for the error if it cannot be read."""

    @property
    def requests_sent(self) -> int:
        """Return the number of requests sent so far, including sign-ins and retries."""
        return self._retries.requests

    @property
    def requests_throttled(self) -> int:
        """Return how many of them the service refused as too many."""
        return self._retries.throttled

    @property
    def clock_ahead(self) -> timedelta:
        """Return how far our clock is ahead of the service's, or 0 if they agree."""
        return self._retries.service_clock.ahead

    @property
    def service_clock(self) -> ServiceClock:
        return self._retries.service_clock

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Return a successful response.

        Raises Refused for a redirect or a final error status, and Unavailable for a web page, or
        once all retries have failed.
        """
        request.extensions = {**request.extensions, _QUERY: True}
        response = super().send(request, **options)
        if answers.is_page(response):
            raise answers.page_error(response)
        if response.is_redirect:
            raise Refused(
                f"{answers.place(request)} answered with a redirect{_target(response)}, which is "
                "not followed because the credential would be sent along: correct base_url"
            )
        if response.is_error:
            raise _refusal(self._integration, response, self._secrets)
        quote = answers.quoted(response, self._secrets) if _may_be_error(response) else ""
        self._latest = f"{answers.place(request)} answered {response.status_code}{quote}"
        return response

    def reading(self) -> AbstractContextManager[None]:
        """Raise Unavailable for any error by which the block fails to read a response."""
        return raised_as(self._unreadable)

    def _unreadable(self, _: BaseException) -> Unavailable:
        latest = self._latest or f"{self._integration.title} answered"
        return Unavailable(f"{latest} in an unexpected format; the next round retries")


def connect(
    source: Source,
    *,
    retry_policy: RetryPolicy | None = None,
    transport: httpx.BaseTransport | None = None,
    rate_limiter: RateLimiter | None = None,
    clock: Clock = utc_now,
    read_only: bool = False,
) -> ServiceClient:
    """Return a client that authenticates as `source`; URLs are relative to its base_url.

    A `read_only` one sends no request that changes something at the vendor. Raises
    ConfigurationError for settings that only their use shows to be wrong.
    """
    integration = source.integration
    retries = RetryTransport(
        transport
        or httpx.HTTPTransport(
            **network.options(source.settings, source.settings.base_url), retries=0
        ),
        rate_limiter
        or RateLimiter(
            rate_limit.policy(source), path=rate_limit.state_file(source.kind, source.settings)
        ),
        retry_policy or RetryPolicy(),
        clock,
        read_only=read_only,
        megabytes=source.settings.page_megabytes,
    )
    return ServiceClient(
        source,
        retries,
        base_url=source.settings.base_url,
        auth=integration.auth(source.settings),
        timeout=_TIMEOUT,
        headers={
            "User-Agent": _USER_AGENT,
            "Accept": "application/json",
            "Accept-Encoding": body.ENCODINGS,
        },
    )


def _refusal(
    integration: Integration, response: httpx.Response, secrets: frozenset[str]
) -> Refused:
    """Return the error for a 4xx, with advice and the service's own words, but no URL query."""
    failure = f"{answers.place(response.request)} answered {response.status_code}"
    advice = integration.advice(response)
    message = f"{failure}: {advice}" if advice else f"{failure} {response.reason_phrase}"
    return Refused(
        f"{message}{answers.quoted(response, secrets)}",
        status=response.status_code,
        body=response.content,
    )


def _secrets(settings: Any) -> frozenset[str]:
    """Return the secrets in the settings of an integration."""
    values = (value for _, value in settings)
    return frozenset(v.get_secret_value() for v in values if isinstance(v, SecretStr))


def _may_be_error(response: httpx.Response) -> bool:
    """Return whether this is short enough to be an error that is sent with a status of success."""
    return len(response.content) < _SHORT and response.content.lstrip()[:1] == b"{"


def _target(response: httpx.Response) -> str:
    """Return the host of a redirect as " to sign-in.example", or ""."""
    target = response.next_request
    return f" to {answers.shown(target.url.host)}" if target and target.url.host else ""


def _final_error(request: httpx.Request, answer: httpx.Response | Exception) -> Unavailable:
    if isinstance(answer, httpx.ConnectError):
        why = f"cannot connect ({_cause(answer)}): check base_url, the network and the proxy"
    elif isinstance(answer, Exception):
        why = f"still failing after all retries ({_cause(answer)}); the next round retries"
    else:
        status = f"{answer.status_code} {answer.reason_phrase}"
        quote = answers.quoted(answer)
        why = f"still answering {status} after all retries{quote}; the next round retries"
    # A sign-in that fails is not a matter of the span that is queried.
    heavy = _QUERY in request.extensions and (
        answer.status_code in _HEAVY
        if isinstance(answer, httpx.Response)
        else isinstance(answer, httpx.ReadTimeout)
    )
    return (TooHeavy if heavy else Unavailable)(f"{answers.place(request)}: {why}")


def _traced(request: httpx.Request, attempt: int) -> dict[str, object]:
    """Return what a trace shows of a request: neither its query nor its headers and body."""
    url = request.url.copy_with(userinfo=b"", query=None, fragment=None)
    port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
    return {
        "http.request.method": request.method,
        "url.full": str(url),
        "server.address": url.host,
        "server.port": port,
        **({"http.request.resend_count": attempt} if attempt else {}),
    }


def _is_json(response: httpx.Response) -> bool:
    return "json" in response.headers.get("Content-Type", "") and bool(response.content)


def _cause(error: Exception) -> str:
    """Return the cause of a failed request in plain words, without the numbers of libraries."""
    text = (str(error).splitlines() or ["no response"])[0]
    known = (plain for words, plain in _CAUSES.items() if words in text)
    return next(known, _INTERNAL.sub("", text).strip() or "no response")


_INTERNAL = re.compile(r"\[[^\]]*\]|\(_\w+\.c:\d+\)")
_CAUSES = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not trusted; where a proxy inspects TLS, set "
    "network.ca_bundle to a file with the proxy's certificate",
    "Name or service not known": "its name cannot be resolved",
    "nodename nor servname": "its name cannot be resolved",
    "name resolution": "its name cannot be resolved",
}
