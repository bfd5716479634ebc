"""The parts of a simulated service: its streams, their logs, its webhooks, its routes.

A log holds exact bytes that become visible as they arrive. It is generated on first use, the
history at once, then minute by minute as the clock advances, and every piece has its own seed, so
the same options always give the same bytes.
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
    """Return a credential derived from a name, the same in every process; for the sandbox only."""
    return hashlib.sha256(f"auditlake sandbox {name}".encode()).hexdigest()[:40]


def webhook_secret(kind: str) -> str:
    """Return the secret that a simulated service sends with its pushes."""
    return secret(f"{kind}/webhook")


def decoded(raw: bytes) -> Any:
    """Return the record as Python values, or None if msgspec cannot decode it."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def identity(identify: Callable[[Any], object], raw: bytes) -> str:
    """Return the vendor's id of a record, or an empty string if it has none."""
    try:
        return str(identify(decoded(raw)))
    except (KeyError, TypeError, IndexError):
        return ""


def batches(records: Sequence[Record], most: int) -> Iterator[Sequence[Record]]:
    return (records[start : start + most] for start in range(0, len(records), most))


def page(records: Iterable[Record]) -> bytes:
    """Return a JSON array of the records' exact bytes."""
    return b"[" + b",".join(record.raw for record in records) + b"]"


def at(path: str) -> Callable[[Any], object]:
    """Return a function from a decoded record to its value at a dotted path, or None."""
    names = path.split(".")

    def pick(value: Any) -> object:
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    return pick


def promptly(rng: Random) -> float:
    """Return the seconds until a record is visible: mostly 1, sometimes 15 min, rarely an hour."""
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
    """Records to be generated on demand; none of them arrives before `start`."""

    start: Micros
    make: Callable[[], Iterable[Record]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One log of a service: its events, their format, retention and delay."""

    name: str
    habits: Sequence[Habit]
    render: Callable[[Happening, Random], Any]
    """A happening -> the vendor's record, encodable by msgspec; `Random` supplies the ids."""
    identify: Callable[[Any], object]
    """A decoded record -> the vendor's id of it."""
    time: str
    """The dotted path of the event time, which `replay` moves to the present."""
    also_time: Sequence[str] = ()
    """Paths of the event time in recorded events of another shape, such as pushed ones."""
    keeps: timedelta = timedelta(days=90)
    share: float = 1.0
    """Records per day, as a multiple of `per_day`."""
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
    """A stream's records: the visible ones in order of arrival, and those still to arrive."""

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
        """Return all records that have arrived so far, in order of arrival."""
        with self._lock:
            self._advance()
            return list(self._arrived)

    def position(self, arrival: Micros) -> int:
        """Return the position of the first record that arrived then or later."""
        with self._lock:
            self._advance()
            return bisect_left(self._arrived, arrival, key=_arrival)

    def follow(
        self, position: int, count: int, keep: Keep | None = None
    ) -> tuple[list[Record], int]:
        """Return up to `count` records from a position, in order of arrival, and the next one."""
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
        """Return the records of events that have happened but are not visible yet."""
        with self._lock:
            self._advance()
            now = micros(self._clock())
            return [record for _, _, record in self._on_their_way if record.time <= now]

    def arrival(self, position: int) -> Micros:
        """Return the arrival time of the record at a position."""
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
        """Return up to `count` records with since <= event time < until that follow a key."""
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
        """Add a record that arrives now; `time` is its event time (default: now)."""
        with self._lock:
            self._advance()
            now = micros(self._clock())
            self._arrive(Record(now if time is None else time, now, raw))

    def _take(self, ranks: Sequence[int], count: int, keep: Keep | None) -> Slice:
        keys: list[Key] = []
        for rank in ranks:
            key = self._by_time[rank]
            if keep is None or keep(self._arrived[key[1]].raw):
                # One match beyond `count` shows that more records follow.
                if len(keys) == count:
                    break
                keys.append(key)
        else:
            return Slice(records=self._records(keys), keys=keys, more=False)
        return Slice(records=self._records(keys), keys=keys, more=True)

    def _records(self, keys: list[Key]) -> list[Record]:
        return [self._arrived[position] for _, position in keys]

    def _advance(self) -> None:
        """Generate the chunks that have started, and make the records that are due visible."""
        now = micros(self._clock())
        while self._upcoming and self._upcoming.start <= now:
            self._expect(self._upcoming.make())
            self._upcoming = next(self._chunks, None)
        while self._on_their_way and self._on_their_way[0][0] <= now:
            self._arrive(heapq.heappop(self._on_their_way)[2])

    def _expect(self, records: Iterable[Record]) -> None:
        for record in records:
            # The number keeps records that arrive together in the order they were generated.
            heapq.heappush(self._on_their_way, (record.arrival, next(self._numbers), record))

    def _arrive(self, record: Record) -> None:
        # Arrival times must not decrease: positions are found by bisection.
        if self._arrived and record.arrival < self._arrived[-1].arrival:
            record = record._replace(arrival=self._arrived[-1].arrival)
        insort(self._by_time, (record.time, len(self._arrived)))
        self._arrived.append(record)


@dataclass(slots=True, kw_only=True)
class Follower:
    """Reads a log's new records since a given time; the log is generated on the first call."""

    log: Log
    since: Micros
    early: bool = False
    """Whether to return events when they happen, before the log shows them."""
    _position: int | None = None
    _returned: set[Record] = field(default_factory=set)

    def news(self) -> list[Record]:
        """Return the records that are new since the last call."""
        if self._position is None:
            self._position = self.log.position(self.since)
        arrived, self._position = self.log.follow(self._position, 10**9)
        found = [record for record in arrived if self._is_news(record)]
        # A record that has arrived cannot turn up as early again.
        self._returned.difference_update(arrived)
        if self.early:
            early = [each for each in self.log.on_their_way() if self._is_news(each)]
            self._returned.update(early)
            found += early
        return found

    def _is_news(self, record: Record) -> bool:
        return record not in self._returned and not (self.early and record.time < self.since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The state that a service's routes share."""

    logs: Mapping[str, Log]
    clock: Clock
    limits: bool
    """Whether the vendor's rate limits apply."""
    tokens: Tokens = field(default_factory=Tokens)
    courier: Courier = field(default_factory=Courier)
    streams: Mapping[str, Stream] = field(default_factory=dict)

    def follower(self, stream: str, *, early: bool = False) -> Follower:
        """Return a follower of a stream from now on. Raises KeyError."""
        return Follower(log=self.logs[stream], since=micros(self.clock()), early=early)

    def carried(self, stream: str, records: Iterable[Record]) -> list[Carried]:
        identify = self.streams[stream].identify
        return [Carried(stream=stream, id=identity(identify, each.raw)) for each in records]


async def form(request: Request) -> dict[str, str]:
    """Return the fields of an application/x-www-form-urlencoded body."""
    return dict(parse_qsl((await request.body()).decode()))


class Webhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A webhook as an administrator enters it in a vendor's console."""

    address: str
    headers: dict[str, str] = {}
    events: list[str] = []
    """The vendor's names of the events to push; empty means all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """A vendor's behaviour for webhooks that only its console registers."""

    kind: str
    stream: str
    event: Callable[[Any], str | None]
    """A decoded record -> the event name that webhooks select; None if it is never pushed."""
    body: Callable[[Sequence[Record]], bytes]
    patience: Patience
    most: int = 1
    """Maximum number of records per request."""
    every: float = 0.0
    """Seconds over which records are batched."""
    early: bool = False
    """Whether events are pushed before the log shows them."""
    webhooks: int = 25
    """Maximum number of webhooks."""

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
    """(status, now, seconds to wait) -> the vendor's error response, for injected faults."""
    pushes: bool = False
    """Whether its API registers webhooks."""
    console: Console | None = None
    """The console that registers webhooks, if the API does not."""
