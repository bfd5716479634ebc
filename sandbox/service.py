"""What a simulated service is, and its logs: exact bytes that become visible as they arrive.

A log is made on first use: its history at once, then minute by minute as the clock passes, every
piece from a seed of its own, so the same options always give the same bytes.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from random import Random
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from sandbox.company import Habit, Happening
from sandbox.pushes import Carried, Courier, Delivery, Patience, Subscription
from sandbox.tokens import Tokens

Micros = int
"""Microseconds since 1970, UTC."""
Clock = Callable[[], datetime]
Key = tuple[Micros, int]
"""A record's place by event time: the time, then its position in order of arrival."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_arrival = attrgetter("arrival")


def micros(time: datetime) -> Micros:
    return (time - _EPOCH) // timedelta(microseconds=1)


def moment(time: Micros) -> datetime:
    return _EPOCH + timedelta(microseconds=time)


def iso(time: datetime) -> str:
    """2026-01-31T09:00:00.000Z"""
    return time.isoformat(timespec="milliseconds")[:23] + "Z"


def secret(name: str) -> str:
    """A credential made from a name alone, so that every process agrees on it; for play only."""
    return hashlib.sha256(f"auditlake sandbox {name}".encode()).hexdigest()[:40]


def webhook_secret(kind: str) -> str:
    """What a service of play shows with all it pushes."""
    return secret(f"{kind}/webhook")


def decoded(raw: bytes) -> Any:
    """The record as Python values; None where it is not JSON that msgspec reads."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def identity(identify: Callable[[Any], object], raw: bytes) -> str:
    """The vendor's identity of a record; none where the record has none."""
    try:
        return str(identify(decoded(raw)))
    except (KeyError, TypeError, IndexError):
        return ""


def batches(records: Sequence[Record], most: int) -> Iterator[Sequence[Record]]:
    return (records[start : start + most] for start in range(0, len(records), most))


def page(records: Iterable[Record]) -> bytes:
    """A JSON array of the records' exact bytes."""
    return b"[" + b",".join(record.raw for record in records) + b"]"


def at(path: str) -> Callable[[Any], object]:
    """What stands at a dotted path of a decoded record, or None."""
    names = path.split(".")

    def pick(value: Any) -> object:
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    return pick


def promptly(rng: Random) -> float:
    """Seconds until a record is visible: about one, a few minutes for few, an hour for fewer."""
    luck = rng.random()
    if luck < 0.0005:
        return rng.uniform(1800, 3600)
    return rng.uniform(60, 900) if luck < 0.005 else rng.uniform(0.2, 2.0)


class Record(NamedTuple):
    time: Micros
    arrival: Micros
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Records none of which arrives before `start`."""

    start: Micros
    make: Callable[[], Iterable[Record]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One log of a service: what is recorded, how it is written down, how late it is."""

    name: str
    habits: Sequence[Habit]
    render: Callable[[Happening, Random], Any]
    """A happening -> the vendor's record, as what msgspec encodes; the randomness is for ids."""
    identify: Callable[[Any], object]
    """A decoded record -> the vendor's identity of it."""
    time: str
    """The dotted path of the event time, which is moved when recorded events are replayed."""
    also_time: Sequence[str] = ()
    """Where recorded events of another shape, such as pushed ones, have it."""
    keeps: timedelta = timedelta(days=90)
    share: float = 1.0
    """Records a day, as a part of `per_day`."""
    delay: Callable[[Random], float] = promptly
    """Seconds from the event until its record is visible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Records in order of event time, each with its key, and whether more follow."""

    records: list[Record]
    keys: list[Key]
    more: bool


Keep = Callable[[bytes], bool]


class Log:
    """A stream's records: those visible in order of arrival, those still on their way."""

    def __init__(self, chunks: Iterator[Chunk], clock: Clock) -> None:
        self._clock = clock
        self._chunks = chunks
        self._upcoming = next(chunks, None)
        self._on_their_way: list[tuple[Micros, int, Record]] = []
        self._numbers = itertools.count()
        self._arrived: list[Record] = []
        self._by_time: list[Key] = []
        self._lock = threading.RLock()

    def visible(self) -> list[Record]:
        """All that has arrived so far, in order of arrival."""
        with self._lock:
            self._advance()
            return list(self._arrived)

    def position(self, arrival: Micros) -> int:
        """The position of the first record that arrived then or later."""
        with self._lock:
            self._advance()
            return bisect_left(self._arrived, arrival, key=_arrival)

    def follow(
        self, position: int, count: int, keep: Keep | None = None
    ) -> tuple[list[Record], int]:
        """Up to so many records from a position in order of arrival, and the position after."""
        with self._lock:
            self._advance()
            if keep is None:
                found = self._arrived[position : position + count]
                return found, position + len(found)
            found = []
            while position < len(self._arrived) and len(found) < count:
                if keep(self._arrived[position].raw):
                    found.append(self._arrived[position])
                position += 1
            return found, position

    def on_their_way(self) -> list[Record]:
        """What has happened by now and is not visible yet."""
        with self._lock:
            self._advance()
            now = micros(self._clock())
            return [record for _, _, record in self._on_their_way if record.time <= now]

    def arrival(self, position: int) -> Micros:
        """When the record at a position arrived."""
        return self._arrived[position].arrival

    def window(
        self,
        since: Micros,
        until: Micros,
        count: int,
        *,
        after: Key | None = None,
        newest_first: bool = False,
        keep: Keep | None = None,
    ) -> Slice:
        """Up to so many records with since <= event time < until, after a key in that order."""
        with self._lock:
            self._advance()
            low, high = (
                bisect_left(self._by_time, (since, 0)),
                bisect_left(self._by_time, (until, 0)),
            )
            if after is not None and newest_first:
                high = min(high, bisect_left(self._by_time, after))
            elif after is not None:
                low = max(low, bisect_left(self._by_time, (after[0], after[1] + 1)))
            ranks = range(high - 1, low - 1, -1) if newest_first else range(low, high)
            return self._take(ranks, count, keep)

    def append(self, raw: bytes, time: Micros | None = None) -> None:
        """A record that arrives now."""
        with self._lock:
            self._advance()
            now = micros(self._clock())
            self._arrive(Record(now if time is None else time, now, raw))

    def _take(self, ranks: Sequence[int], count: int, keep: Keep | None) -> Slice:
        keys: list[Key] = []
        for rank in ranks:
            key = self._by_time[rank]
            if keep is None or keep(self._arrived[key[1]].raw):
                if len(keys) == count:
                    break
                keys.append(key)
        else:
            return Slice(records=self._records(keys), keys=keys, more=False)
        return Slice(records=self._records(keys), keys=keys, more=True)

    def _records(self, keys: list[Key]) -> list[Record]:
        return [self._arrived[position] for _, position in keys]

    def _advance(self) -> None:
        """Makes what has begun by now, and lets arrive what is due."""
        now = micros(self._clock())
        while self._upcoming and self._upcoming.start <= now:
            self._expect(self._upcoming.make())
            self._upcoming = next(self._chunks, None)
        while self._on_their_way and self._on_their_way[0][0] <= now:
            self._arrive(heapq.heappop(self._on_their_way)[2])

    def _expect(self, records: Iterable[Record]) -> None:
        for record in records:
            heapq.heappush(self._on_their_way, (record.arrival, next(self._numbers), record))

    def _arrive(self, record: Record) -> None:
        if self._arrived and record.arrival < self._arrived[-1].arrival:
            record = record._replace(arrival=self._arrived[-1].arrival)
        insort(self._by_time, (record.time, len(self._arrived)))
        self._arrived.append(record)


@dataclass(slots=True, kw_only=True)
class Follower:
    """Reads a log from a moment on; the log itself is not made before it is asked for news."""

    log: Log
    since: Micros
    early: bool = False
    """Whether what has happened is told of before it is visible in the log."""
    _position: int | None = None
    _told: set[Record] = field(default_factory=set)

    def news(self) -> list[Record]:
        """What has come since this was asked last."""
        if self._position is None:
            self._position = self.log.position(self.since)
        arrived, self._position = self.log.follow(self._position, 10**9)
        found = [record for record in arrived if self._is_news(record)]
        self._told.difference_update(arrived)
        if self.early:
            early = [each for each in self.log.on_their_way() if self._is_news(each)]
            self._told.update(early)
            found += early
        return found

    def _is_news(self, record: Record) -> bool:
        return record not in self._told and not (self.early and record.time < self.since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a service's routes stand on."""

    logs: Mapping[str, Log]
    clock: Clock
    limits: bool
    """Whether the vendor's rate limits apply."""
    tokens: Tokens = field(default_factory=Tokens)
    courier: Courier = field(default_factory=Courier)
    streams: Mapping[str, Stream] = field(default_factory=dict)

    def follower(self, stream: str, *, early: bool = False) -> Follower:
        """Raises KeyError."""
        return Follower(log=self.logs[stream], since=micros(self.clock()), early=early)

    def carried(self, stream: str, records: Iterable[Record]) -> list[Carried]:
        identify = self.streams[stream].identify
        return [Carried(stream=stream, id=identity(identify, each.raw)) for each in records]


async def form(request: Request) -> dict[str, str]:
    """The fields of an application/x-www-form-urlencoded body."""
    return dict(parse_qsl((await request.body()).decode()))


class Webhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an administrator enters in a vendor's console."""

    address: str
    headers: dict[str, str] = {}
    events: list[str] = []
    """Which events, in the vendor's words; none: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """What a vendor does with a webhook that only its console registers."""

    kind: str
    stream: str
    event: Callable[[Any], str | None]
    """A decoded record -> what a webhook may ask for it by; None: it is never pushed."""
    body: Callable[[Sequence[Record]], bytes]
    patience: Patience
    most: int = 1
    """Records a request may hold."""
    every: float = 0.0
    """Seconds in which they are gathered."""
    early: bool = False
    webhooks: int = 25
    """How many it allows."""

    def subscription(self, site: Site, webhook: Webhook) -> Subscription:
        follower = site.follower(self.stream, early=self.early)

        def fresh() -> Iterator[Delivery]:
            wanted = [record for record in follower.news() if self._wants(webhook, record)]
            for some in batches(wanted, self.most):
                yield Delivery(
                    kind=self.kind,
                    what="events",
                    url=webhook.address,
                    headers={"Content-Type": "application/json", **webhook.headers},
                    body=self.body(some),
                    carries=site.carried(self.stream, some),
                )

        return Subscription(kind=self.kind, fresh=fresh, patience=self.patience, every=self.every)

    def _wants(self, webhook: Webhook, record: Record) -> bool:
        event = self.event(decoded(record.raw))
        return event is not None and (not webhook.events or event in webhook.events)


def plain_refusal(status: int, _now: datetime, _retry_after: float) -> Response:
    return JSONResponse({"error": {"code": status}}, status_code=status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A vendor's API over its streams, mounted at /<kind>."""

    kind: str
    streams: Sequence[Stream]
    routes: Callable[[Site], Sequence[BaseRoute]]
    settings: Callable[[str], dict[str, Any]]
    """Its own base URL -> the keys of [integrations.<kind>] that connect auditlake to it."""
    refusal: Callable[[int, datetime, float], Response] = plain_refusal
    """(status, now, seconds to wait) -> how the vendor words it, for faults."""
    pushes: bool = False
    """Whether its API registers somebody to be pushed to."""
    console: Console | None = None
    """Where webhooks are registered, if not by the API."""
