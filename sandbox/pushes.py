"""Webhook deliveries over real sockets, with the vendors' retries and with injected mishaps.

Subscriptions are polled a few times per second, and new records become deliveries. Which of them
are lost, duplicated or delayed depends on the mishap's seed and the first record they carry, not
on when they were polled. Every attempt is recorded. Deliveries go to loopback addresses only: the
company is invented, and nobody elsewhere subscribed to its events.
"""

from __future__ import annotations

import heapq
import ipaddress
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import Literal
from urllib.parse import urlsplit

import httpx

from sandbox.faults import Mishap

Fate = Literal["delivered", "failed", "given up", "lost"]
"""The outcome of an attempt: accepted, to be retried, failed for good, never sent."""

_POLL_EVERY = 0.2
_WORKERS = 16
_MOST_ATTEMPTS = 100_000


class NotHere(ValueError):
    """The URL is not one of a loopback address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A record that a delivery contains or refers to."""

    stream: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An HTTP request to a receiver."""

    kind: str
    what: str
    """The type of request, such as "events" or, for a handshake, "verification"."""
    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    method: str = "POST"
    carries: Sequence[Carried] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """A vendor's timeout and retry policy for deliveries."""

    timeout: float = 10.0
    pauses: Sequence[float] = ()
    """Seconds to wait before each retry."""
    taken: Callable[[int], bool] = lambda status: 200 <= status < 300
    """Whether a status counts as accepted."""
    again: Callable[[int | None], bool] = lambda status: status is None or status >= 500
    """Whether to retry after a status; None means that there was no response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at a delivery, and its outcome."""

    kind: str
    what: str
    delivery: int
    attempt: int
    at: str
    fate: Fate
    status: int | None
    carries: Sequence[Carried]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subscription:
    """A receiver's subscription: a source of deliveries."""

    kind: str
    fresh: Callable[[], Iterable[Delivery]]
    """Return the deliveries for everything new since the last call."""
    patience: Patience
    every: float = 0.0
    """Minimum seconds between two polls."""
    ended: Callable[[Attempt, Delivery], None] = lambda _attempt, _delivery: None
    """Called after each attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pending:
    delivery: Delivery
    subscription: Subscription
    number: int
    attempt: int = 0


@dataclass(slots=True, kw_only=True)
class Courier:
    """Delivers for all subscriptions, from a background thread started on first use."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    pace: float = 1.0
    """Multiplies the pauses between attempts."""
    mishaps: dict[str, Mishap] = field(default_factory=dict)
    """By kind."""
    _subscriptions: list[Subscription] = field(default_factory=list)
    _polled_at: dict[Subscription, float] = field(default_factory=dict)
    _attempts: deque[Attempt] = field(default_factory=lambda: deque(maxlen=_MOST_ATTEMPTS))
    _queue: list[tuple[float, int, _Pending]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _in_flight: set[Future[None]] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _polling: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _pool: ThreadPoolExecutor | None = None
    _client: httpx.Client | None = None

    def subscribe(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.append(subscription)
            self._start()

    def unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.remove(subscription)
            self._polled_at.pop(subscription, None)

    def send(self, delivery: Delivery, timeout: float) -> httpx.Response | None:
        """Send a handshake now, without mishaps; return the response, if any. Raises NotHere."""
        with self._lock:
            self._start()
        answer = self._request(delivery, timeout)
        good = answer is not None and answer.is_success
        self._record(
            delivery, next(self._numbers), 0, "delivered" if good else "given up", status_of(answer)
        )
        return answer

    def attempts(self, kind: str) -> list[Attempt]:
        """Return the attempts of a kind, oldest first."""
        with self._lock:
            return [attempt for attempt in self._attempts if attempt.kind == kind]

    def settle(self, seconds: float = 30.0) -> bool:
        """Poll, wait until everything is delivered, and return False on timeout."""
        end = time.monotonic() + seconds
        self._poll(at_once=True)
        while time.monotonic() < end:
            with self._lock:
                if not self._queue and not self._in_flight:
                    return True
            time.sleep(0.01)
        return False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Suspend polling: records added meanwhile are delivered together."""
        with self._polling:
            yield

    def close(self) -> None:
        """Stop; pending deliveries are dropped."""
        # In this order: the thread submits to the pool, whose jobs use the client.
        self._stop.set()
        if self._thread:
            self._thread.join()
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
        if self._client:
            self._client.close()

    def _start(self) -> None:
        if self._thread is not None:
            return
        # A proxy from the environment must not receive deliveries.
        self._client = httpx.Client(trust_env=False, follow_redirects=False)
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="sandbox-push")
        self._thread = threading.Thread(target=self._run, name="sandbox-courier", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        next_poll = 0.0
        while not self._stop.wait(0.01 if self._queue else 0.05):
            if time.monotonic() >= next_poll:
                self._poll()
                next_poll = time.monotonic() + _POLL_EVERY
            self._submit_due()

    def _poll(self, *, at_once: bool = False) -> None:
        with self._polling:
            for subscription in self._due(at_once=at_once):
                for delivery in subscription.fresh():
                    self._schedule(subscription, delivery)

    def _due(self, *, at_once: bool) -> list[Subscription]:
        """Return the subscriptions that are due, and mark them as polled."""
        now = time.monotonic()
        with self._lock:
            due = [
                each
                for each in self._subscriptions
                if at_once or now >= self._polled_at.get(each, 0.0) + each.every
            ]
            self._polled_at.update(dict.fromkeys(due, now))
        return due

    def _schedule(self, subscription: Subscription, delivery: Delivery) -> None:
        """Schedule a delivery, or lose, delay or duplicate it as the mishap requires."""
        pending = _Pending(delivery=delivery, subscription=subscription, number=next(self._numbers))
        mishap = self.mishaps.get(delivery.kind)
        luck = _luck(mishap, delivery)
        if mishap and luck.random() < mishap.lost:
            self._record(delivery, pending.number, 0, "lost", None)
            return
        held = luck.random() * mishap.seconds if mishap and luck.random() < mishap.late else 0.0
        self._enqueue(pending, held)
        if mishap and luck.random() < mishap.twice:
            self._enqueue(pending, luck.random() * mishap.seconds)

    def _enqueue(self, pending: _Pending, seconds: float) -> None:
        with self._lock:
            due = time.monotonic() + seconds
            heapq.heappush(self._queue, (due, next(self._numbers), pending))

    def _submit_due(self) -> None:
        """Submit the deliveries that are due to the thread pool."""
        assert self._pool  # noqa: S101 created before the thread
        # One lock for both steps: `settle` must not miss a delivery between queue and pool.
        with self._lock:
            while self._queue and self._queue[0][0] <= time.monotonic():
                future = self._pool.submit(self._attempt, heapq.heappop(self._queue)[2])
                self._in_flight.add(future)
                future.add_done_callback(self._done)

    def _done(self, future: Future[None]) -> None:
        with self._lock:
            self._in_flight.discard(future)

    def _attempt(self, pending: _Pending) -> None:
        patience = pending.subscription.patience
        status = status_of(self._request(pending.delivery, patience.timeout))
        last = pending.attempt >= len(patience.pauses)
        if status is not None and patience.taken(status):
            fate: Fate = "delivered"
        else:
            fate = "given up" if last or not patience.again(status) else "failed"
        attempt = self._record(pending.delivery, pending.number, pending.attempt, fate, status)
        pending.subscription.ended(attempt, pending.delivery)
        if fate == "failed":
            following = replace(pending, attempt=pending.attempt + 1)
            # Queued before this future is done, so that `settle` waits for the retry.
            self._enqueue(following, patience.pauses[pending.attempt] * self.pace)

    def _request(self, delivery: Delivery, timeout: float) -> httpx.Response | None:
        assert self._client  # noqa: S101 created before the first request
        check(delivery.url)
        try:
            return self._client.request(
                delivery.method,
                delivery.url,
                headers=delivery.headers,
                content=delivery.body,
                timeout=timeout,
            )
        except (httpx.TransportError, RuntimeError):  # a closed client is a RuntimeError
            return None

    def _record(
        self, delivery: Delivery, number: int, attempt: int, fate: Fate, status: int | None
    ) -> Attempt:
        attempted = Attempt(
            kind=delivery.kind,
            what=delivery.what,
            delivery=number,
            attempt=attempt,
            at=self.clock().isoformat(),
            fate=fate,
            status=status,
            carries=delivery.carries,
        )
        with self._lock:
            self._attempts.append(attempted)
        return attempted


def check(url: str) -> None:
    """Raise NotHere unless the URL is http or https on a loopback address."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    if not here or parts.scheme not in ("http", "https"):
        raise NotHere(
            "the sandbox pushes only to loopback addresses: use e.g. http://127.0.0.1:8600"
        )


def status_of(answer: httpx.Response | None) -> int | None:
    return None if answer is None else answer.status_code


def _luck(mishap: Mishap | None, delivery: Delivery) -> Random:
    # Seeded by the first record: the number of deliveries so far depends on timing.
    first = delivery.carries[0].id if delivery.carries else ""
    return Random(f"{mishap.seed if mishap else 0}/{delivery.kind}/{first}")
