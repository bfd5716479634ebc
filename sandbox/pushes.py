"""What services push: deliveries over real sockets, with the vendors' retries, and with mishaps.

A subscription is looked at a few times a second; what is new becomes deliveries. Which of them are
lost, sent twice or held back follows from the seed of a mishap and the first record they carry, so
it does not depend on when somebody looked. Every attempt is noted. Deliveries go to this machine
only: the company is invented, and nobody elsewhere asked for its events.
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
"""Of an attempt: taken, to be tried again, not to be tried again, never sent."""

_LOOK_EVERY = 0.2
_AT_ONCE = 16
_KEPT = 100_000


class NotHere(ValueError):
    """An address that is not of this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A record that a delivery tells of."""

    stream: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A request to a receiver."""

    kind: str
    what: str
    """Such as "events" or, of a handshake, "verification"."""
    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    method: str = "POST"
    carries: Sequence[Carried] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a vendor waits for an answer, and what it does with it."""

    timeout: float = 10.0
    pauses: Sequence[float] = ()
    """Seconds before each further attempt."""
    taken: Callable[[int], bool] = lambda status: 200 <= status < 300
    again: Callable[[int | None], bool] = lambda status: status is None or status >= 500
    """Whether it is worth another attempt; None: there was no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What became of a delivery, once."""

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
    """Somebody who is told what is new."""

    kind: str
    fresh: Callable[[], Iterable[Delivery]]
    """What has come since it was asked last."""
    patience: Patience
    every: float = 0.0
    """Seconds between two looks, at the least."""
    ended: Callable[[Attempt, Delivery], None] = lambda _attempt, _delivery: None
    """Told of each attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parcel:
    delivery: Delivery
    subscription: Subscription
    number: int
    attempt: int = 0


@dataclass(slots=True, kw_only=True)
class Courier:
    """Carries what subscriptions have to tell, in a thread of its own once there is one."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    pace: float = 1.0
    """The pauses between attempts are multiplied by this."""
    mishaps: dict[str, Mishap] = field(default_factory=dict)
    """By kind."""
    _subscriptions: list[Subscription] = field(default_factory=list)
    _looked: dict[Subscription, float] = field(default_factory=dict)
    _book: deque[Attempt] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _waiting: list[tuple[float, int, _Parcel]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _under_way: set[Future[None]] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _looking: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _pool: ThreadPoolExecutor | None = None
    _client: httpx.Client | None = None

    def subscribe(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.append(subscription)
            self._begin()

    def unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.remove(subscription)
            self._looked.pop(subscription, None)

    def send(self, delivery: Delivery, timeout: float) -> httpx.Response | None:
        """A handshake: at once, without mishaps; None where there is no answer. Raises NotHere."""
        with self._lock:
            self._begin()
        answer = self._ask(delivery, timeout)
        good = answer is not None and answer.is_success
        self._note(
            delivery, next(self._numbers), 0, "delivered" if good else "given up", status_of(answer)
        )
        return answer

    def attempts(self, kind: str) -> list[Attempt]:
        """All that was done for a kind, oldest first."""
        with self._lock:
            return [attempt for attempt in self._book if attempt.kind == kind]

    def settle(self, seconds: float = 30.0) -> bool:
        """Look for news and wait until nothing is waiting; whether that came about in time."""
        end = time.monotonic() + seconds
        self._look(at_once=True)
        while time.monotonic() < end:
            with self._lock:
                if not self._waiting and not self._under_way:
                    return True
            time.sleep(0.01)
        return False

    @contextmanager
    def held(self) -> Iterator[None]:
        """What comes meanwhile is told of together."""
        with self._looking:
            yield

    def close(self) -> None:
        """What has not been delivered is not."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
        if self._client:
            self._client.close()

    def _begin(self) -> None:
        if self._thread is not None:
            return
        self._client = httpx.Client(trust_env=False, follow_redirects=False)
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sandbox-push")
        self._thread = threading.Thread(target=self._run, name="sandbox-courier", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        next_look = 0.0
        while not self._stop.wait(0.01 if self._waiting else 0.05):
            if time.monotonic() >= next_look:
                self._look()
                next_look = time.monotonic() + _LOOK_EVERY
            self._hand_over()

    def _look(self, *, at_once: bool = False) -> None:
        with self._looking:
            for subscription in self._due(at_once=at_once):
                for delivery in subscription.fresh():
                    self._accept(subscription, delivery)

    def _due(self, *, at_once: bool) -> list[Subscription]:
        """Whom it is time to look at."""
        now = time.monotonic()
        with self._lock:
            due = [
                each
                for each in self._subscriptions
                if at_once or now >= self._looked.get(each, 0.0) + each.every
            ]
            self._looked.update(dict.fromkeys(due, now))
        return due

    def _accept(self, subscription: Subscription, delivery: Delivery) -> None:
        """On its way, unless a mishap has it otherwise."""
        parcel = _Parcel(delivery=delivery, subscription=subscription, number=next(self._numbers))
        mishap = self.mishaps.get(delivery.kind)
        luck = _luck(mishap, delivery)
        if mishap and luck.random() < mishap.lost:
            self._note(delivery, parcel.number, 0, "lost", None)
            return
        held = luck.random() * mishap.seconds if mishap and luck.random() < mishap.late else 0.0
        self._wait(parcel, held)
        if mishap and luck.random() < mishap.twice:
            self._wait(parcel, luck.random() * mishap.seconds)

    def _wait(self, parcel: _Parcel, seconds: float) -> None:
        with self._lock:
            due = time.monotonic() + seconds
            heapq.heappush(self._waiting, (due, next(self._numbers), parcel))

    def _hand_over(self) -> None:
        """What is due goes to the pool."""
        assert self._pool  # noqa: S101 it was made before the thread
        with self._lock:
            while self._waiting and self._waiting[0][0] <= time.monotonic():
                future = self._pool.submit(self._attempt, heapq.heappop(self._waiting)[2])
                self._under_way.add(future)
                future.add_done_callback(self._done)

    def _done(self, future: Future[None]) -> None:
        with self._lock:
            self._under_way.discard(future)

    def _attempt(self, parcel: _Parcel) -> None:
        patience = parcel.subscription.patience
        status = status_of(self._ask(parcel.delivery, patience.timeout))
        last = parcel.attempt >= len(patience.pauses)
        if status is not None and patience.taken(status):
            fate: Fate = "delivered"
        else:
            fate = "given up" if last or not patience.again(status) else "failed"
        attempt = self._note(parcel.delivery, parcel.number, parcel.attempt, fate, status)
        parcel.subscription.ended(attempt, parcel.delivery)
        if fate == "failed":
            following = replace(parcel, attempt=parcel.attempt + 1)
            self._wait(following, patience.pauses[parcel.attempt] * self.pace)

    def _ask(self, delivery: Delivery, timeout: float) -> httpx.Response | None:
        assert self._client  # noqa: S101 it was made before the first request
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

    def _note(
        self, delivery: Delivery, number: int, attempt: int, fate: Fate, status: int | None
    ) -> Attempt:
        noted = Attempt(
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
            self._book.append(noted)
        return noted


def check(url: str) -> None:
    """Raises NotHere for whatever is not plainly an address of this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    if not here or parts.scheme not in ("http", "https"):
        raise NotHere("the sandbox pushes to addresses of this machine only, such as 127.0.0.1")


def status_of(answer: httpx.Response | None) -> int | None:
    return None if answer is None else answer.status_code


def _luck(mishap: Mishap | None, delivery: Delivery) -> Random:
    first = delivery.carries[0].id if delivery.carries else ""
    return Random(f"{mishap.seed if mishap else 0}/{delivery.kind}/{first}")
