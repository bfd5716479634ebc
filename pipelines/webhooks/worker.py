"""From the spool into the lake: a thread a source, by the same functions as polling.

Records land as they are; what is named is fetched; a hint starts a round of its stream, and is kept
until what it told of has come or was looked for often enough. Streams are worked at side by side,
each with all that waits for it. A delivery leaves the spool only once all it holds is committed, so
a kill costs nothing but doing it again.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path

import polars as pl

from pipelines.clock import Clock, utc_now
from pipelines.errors import AuditlakeError, Refused
from pipelines.extraction import client, derive, rate_limit, rounds
from pipelines.extraction.client import ServiceClient
from pipelines.extraction.report import Report
from pipelines.extraction.rounds import Round
from pipelines.lake import raw, reconciliation
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import normalise
from pipelines.schemas import Timestamp
from pipelines.sdk.contract import Source, Stream
from pipelines.sdk.pages import Page
from pipelines.sdk.push import Content, Hint, Push, Records, Reference
from pipelines.settings import Via
from pipelines.webhooks import delivery
from pipelines.webhooks.spool import Damaged, Spool

_MOST = 2000
_AT_ONCE = 8 * 2**20
_TRIES = (0.0, 3.0, 15.0, 60.0, 180.0, 600.0)  # seconds after a hint, until what it told has come
_HINTS_LIVE = timedelta(hours=1)
_WORST = 60.0
_GAP = 1.0
_FETCHES = 4
_STREAMS = 4
_EVER = 1e9
_log = logging.getLogger(__name__)
Event = tuple[str, datetime]
"""What an event is found by: its id and its time."""


@dataclass(slots=True, kw_only=True)
class _Pending:
    """What a delivery holds of one stream, while it is being dealt with."""

    received_at: datetime
    held: list[Content]
    tries: int = 0
    due: float = 0.0
    """When to look (again) for what a hint told; monotonic."""
    done: bool = False

    @property
    def records(self) -> bool:
        """Is there more than hints in it?"""
        return any(not isinstance(each, Hint) for each in self.held)


@dataclass(slots=True, kw_only=True)
class Worker:
    """Brings in what waits for one source; `work` in a thread of its own."""

    lake: Lake
    source: Source
    push: Push
    spool: Spool
    connect: Callable[[Source], ServiceClient] = client.connect
    clock: Clock = utc_now
    told: Callable[[Report], None] = lambda _: None
    _client: ServiceClient | None = None
    _connecting: threading.Lock = field(default_factory=threading.Lock)
    _parcels: dict[Path, dict[str, _Pending]] = field(default_factory=dict)
    """Of each delivery, by stream."""
    _looked: dict[str, float] = field(default_factory=dict)
    _echoes: dict[StreamKey, pl.DataFrame] = field(default_factory=dict)
    """What hints have told of and `echoes` does not say yet."""
    _news: threading.Event = field(default_factory=threading.Event)
    _stop: threading.Event = field(default_factory=threading.Event)
    _troubled: bool = False
    _trouble: float = 0.0
    """Seconds to wait after the last fault."""

    def wake(self) -> None:
        self._news.set()

    def stop(self) -> None:
        """What is under way is finished, what waits stays in the spool."""
        self._stop.set()
        self._news.set()

    def work(self) -> None:
        """Until stopped. Events that a kill prevented come first."""
        for stream in self.source.streams():
            with self._going_on():
                self._catch_up(stream)
        while not self._stop.is_set():
            self._news.clear()
            self._troubled = False
            began = time.monotonic()
            self.once()
            self._trouble = min(_WORST, max(1.0, 2 * self._trouble)) if self._troubled else 0.0
            self._news.wait(self._pause())
            self._stop.wait(max(_GAP - (time.monotonic() - began), self._trouble))

    def once(self) -> None:
        """All that is due now; a fault is told, and holds up its stream only."""
        with self._going_on():
            self._take()
        now = time.monotonic()
        waiting = _by_stream(self._parcels.values())
        streams = [stream for stream in self.source.streams() if stream.name in waiting]
        streams.sort(key=lambda stream: waiting[stream.name][0].received_at)
        with ThreadPoolExecutor(_STREAMS) as pool:
            for stream in streams:
                pool.submit(self._work_at, stream, waiting[stream.name], now)
        with self._going_on():
            reconciliation.record(self.lake, self._echoes)
            self._echoes = {}
            self._let_go()

    def _work_at(self, stream: Stream, parcels: Sequence[_Pending], now: float) -> None:
        if landing := [parcel for parcel in parcels if parcel.records]:
            with self._going_on():
                self._land(stream, landing)
        due = [parcel for parcel in parcels if not parcel.records and parcel.due <= now]
        if due and now - self._looked.get(stream.name, -_EVER) >= self._least_gap():
            with self._going_on():
                self._look(stream, due)

    @property
    def idle(self) -> bool:
        """Is there nothing left to do?"""
        return not self._parcels and not self.spool.waiting(self.source.name)

    def _take(self) -> None:
        """Read what has come into the spool."""
        size = count = 0
        for path in self.spool.waiting(self.source.name):
            if path in self._parcels:
                continue
            try:
                waiting = self.spool.load(path)
                left = delivery.content(self.source, self.push, waiting.headers, waiting.body)
            except (Damaged, ValueError) as error:
                self.spool.set_aside(path)
                _log.error("%s: a delivery cannot be read (%s), and was set aside: %s",
                           self.source.name, type(error).__name__, path)  # fmt: skip
                continue
            self._parcels[path] = {
                name: _Pending(received_at=waiting.received_at, held=_of(left, name))
                for name in {each.stream for each in left}
            }
            size, count = size + len(waiting.body), count + 1
            if size > _AT_ONCE or count >= _MOST:
                self._news.set()
                break

    def _land(self, stream: Stream, parcels: Sequence[_Pending]) -> None:
        found = [each for parcel in parcels for each in parcel.held]
        pages = [Page(records=e.records, cursor="") for e in found if isinstance(e, Records)]
        named = [each for each in found if isinstance(each, Reference)]
        if named:
            self._connected()
            with ThreadPoolExecutor(_FETCHES) as pool:
                pages += [page for page in pool.map(self._fetch, named) if page]
        if any(page.records for page in pages):
            self._checked(rounds.push(self._round(stream, "webhook"), pages))
        for parcel in parcels:
            parcel.done = True

    def _fetch(self, item: Reference) -> Page | None:
        """None: the vendor refuses it for good; polling will say why where it matters."""
        assert self.push.fetch  # noqa: S101 who names something can fetch it
        try:
            return self.push.fetch(self.source.settings, self._connected(), item.item)
        except Refused as error:
            _log.warning("%s: %s", self.source.name, error)
            return None

    def _look(self, stream: Stream, parcels: Sequence[_Pending]) -> None:
        """A round of the stream, for all the hints whose events are not here yet."""
        told = self._told_of(stream, parcels)
        brought = 0
        if not self._all_come(stream, told, parcels):
            self._looked[stream.name] = time.monotonic()
            brought = self._checked(rounds.extract(self._round(stream, "poll"))).rows
        here = self._here(stream, told)
        for number, parcel in enumerate(parcels):
            parcel.tries += 1
            come = told[number] <= here if number in told else brought > 0
            parcel.done = come or parcel.tries >= len(_TRIES)
            if not parcel.done:
                parcel.due = time.monotonic() + _TRIES[parcel.tries]

    def _told_of(self, stream: Stream, parcels: Sequence[_Pending]) -> dict[int, set[Event]]:
        """The events that each hint tells of, by the hint's number; to be noted as pushed."""
        pairs = [
            (number, record)
            for number, parcel in enumerate(parcels)
            for each in parcel.held
            if isinstance(each, Hint)
            for record in each.records
        ]
        if not pairs:
            return {}
        numbers = [number for number, _ in pairs]
        known = normalise.read(stream, [record for _, record in pairs], self.clock(), "webhook")
        known = known.with_columns(
            pl.Series("number", numbers),
            pl.Series("seen_at", [parcels[n].received_at for n in numbers], Timestamp),
            way=pl.lit("webhook"),
        ).filter(pl.col("fault").is_null())
        new = [number for number, parcel in enumerate(parcels) if parcel.tries == 0]
        fresh = known.filter(pl.col("number").is_in(new))
        log = StreamKey(self.source.name, stream.name)
        fresh = fresh.select("event_id", "time", "date", "way", "seen_at")
        self._echoes[log] = pl.concat([self._echoes.get(log, fresh.clear()), fresh])
        told: dict[int, set[Event]] = defaultdict(set)
        for number, *event in known.select("number", "event_id", "time").iter_rows():
            told[number].add((event[0], event[1]))
        return dict(told)

    def _all_come(
        self, stream: Stream, told: Mapping[int, set[Event]], parcels: Sequence[_Pending]
    ) -> bool:
        """Is there nothing to look for?"""
        if len(told) < len(parcels):
            return False
        return set().union(*told.values()) <= self._here(stream, told)

    def _here(self, stream: Stream, told: Mapping[int, set[Event]]) -> set[Event]:
        """Which of these events are in the lake."""
        events = sorted(set().union(*told.values()))
        rows = pl.DataFrame(events, {"event_id": pl.String, "time": Timestamp}, orient="row")
        found = set(raw.existing(self.lake, StreamKey(self.source.name, stream.name), rows))
        return {event for event in events if event[0] in found}

    def _let_go(self) -> None:
        """What is done, and hints that led to nothing: polling finds what they told of."""
        for path, parcels in list(self._parcels.items()):
            left = {name: parcel for name, parcel in parcels.items() if not self._over(parcel)}
            self._parcels[path] = left
        done = [path for path, left in self._parcels.items() if not left]
        self.spool.remove(done)
        for path in done:
            del self._parcels[path]

    def _over(self, parcel: _Pending) -> bool:
        old = self.clock() - parcel.received_at > _HINTS_LIVE
        return parcel.done or (old and not any(isinstance(each, Records) for each in parcel.held))

    def _round(self, stream: Stream, via: Via) -> Round:
        return Round(
            lake=self.lake,
            source=self.source,
            stream=stream,
            client=self._connected(),
            via=via,
            clock=self.clock,
        )

    def _connected(self) -> ServiceClient:
        with self._connecting:
            if self._client is None:
                self._client = self.connect(self.source)
            return self._client

    def _checked(self, report: Report) -> Report:
        self.told(report)
        if report.error:
            raise Unfinished(report.error)
        return report

    def _least_gap(self) -> float:
        """A vendor that allows few requests is not looked at more often than half of them."""
        rate = rate_limit.policy(self.source).rate
        return max(_GAP, 2 * rate[1] / rate[0]) if rate else _GAP

    def _pause(self) -> float | None:
        """How long until something is due by itself."""
        if not self._parcels:
            return None
        now = time.monotonic()
        parcels = chain.from_iterable(each.values() for each in self._parcels.values())
        return max(0.05, min(parcel.due for parcel in parcels) - now)

    def _catch_up(self, stream: Stream) -> None:
        log = StreamKey(self.source.name, stream.name)
        report = Report(integration=log.integration, stream=log.stream)
        derive.catch_up(self.lake, self.source, stream, report)

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """Whatever fails is told in a line without secrets, and tried again after a pause."""
        try:
            yield
        except AuditlakeError as error:
            self._troubled = True
            _log.warning("%s: %s", self.source.name, error)
        except Exception as error:
            self._troubled = True
            where = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__} in {where.name}, line {where.lineno}"
            _log.error("%s: %s; tried again", self.source.name, said)


class Unfinished(AuditlakeError):
    """A round did not come to its end; what it was for stays in the spool."""


@contextmanager
def working(drains: Sequence[Worker]) -> Iterator[None]:
    """Each in its thread, until this ends."""
    threads = [threading.Thread(target=drain.work, name=drain.source.name) for drain in drains]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for drain in drains:
            drain.stop()
        for thread in threads:
            thread.join()


def _of(held: Iterable[Content], stream: str) -> list[Content]:
    return [each for each in held if each.stream == stream]


def _by_stream(deliveries: Iterable[Mapping[str, _Pending]]) -> dict[str, list[_Pending]]:
    """What waits for each stream, the oldest first."""
    found: dict[str, list[_Pending]] = defaultdict(list)
    for parcels in deliveries:
        for name, parcel in parcels.items():
            if not parcel.done:
                found[name].append(parcel)
    return found
