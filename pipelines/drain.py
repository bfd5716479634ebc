"""From the spool into the lake: a thread a source, by the same functions as polling.

Records land as they are; what is named is fetched; a hint starts a round of its stream, and is kept
until what it told of has come or was looked for often enough. A delivery leaves the spool only once
all it holds is committed, so a kill costs nothing but doing it again.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from pipelines import extract, http, normalise
from pipelines import lake as lakes
from pipelines.errors import AuditlakeError, Refused
from pipelines.event import Timestamp
from pipelines.extract import Clock, Report, Round, utc_now
from pipelines.http import SignedIn
from pipelines.integration import Delivery, Held, Look, Named, Page, Push, Pushed, Source, Stream
from pipelines.lake import Lake, Log
from pipelines.settings import Via
from pipelines.spool import Damaged, Spool, Waiting

INFLATED = 64 * 2**20
"""The most bytes a packed body may have."""
_MEMBERS = 100
_MOST = 2000
_AT_ONCE = 8 * 2**20
_TRIES = (0.0, 3.0, 15.0, 60.0, 180.0, 600.0)  # seconds after a hint, until what it told has come
_HINTS_LIVE = timedelta(hours=1)
_WORST = 60.0
_GAP = 1.0
_FETCHES = 4
_EVER = 1e9

_log = logging.getLogger(__name__)

Event = tuple[str, datetime]
"""What an event is found by: its id and its time."""


class TooLarge(ValueError):
    """Unpacked it would be larger than anything a vendor sends."""


def unpacked(headers: Mapping[str, str], body: bytes) -> bytes:
    """The body without its gzip, if it has one. Raises TooLarge or another ValueError."""
    if headers.get("content-encoding", "").strip().lower() not in ("gzip", "x-gzip"):
        return body
    parts, size = list[bytes](), 0
    try:
        while body:
            if len(parts) == _MEMBERS:
                raise TooLarge
            inflating = zlib.decompressobj(wbits=31)
            parts.append(inflating.decompress(body, INFLATED + 1 - size))
            size += len(parts[-1])
            if size > INFLATED:
                raise TooLarge
            if not inflating.eof:
                raise ValueError("the gzip is cut short")
            body = inflating.unused_data
    except zlib.error as error:
        raise ValueError("not gzip") from error
    return b"".join(parts)


def held(source: Source, push: Push, headers: Mapping[str, str], body: bytes) -> list[Held]:
    """What a delivery holds of the streams that are wanted. Raises ValueError."""
    delivery = Delivery(headers=headers, body=unpacked(headers, body))
    wanted = {stream.name for stream in source.streams()}
    return [each for each in push.read(source.settings, delivery) if each.stream in wanted]


@dataclass(slots=True, kw_only=True)
class _Parcel:
    """A delivery that is being dealt with."""

    waiting: Waiting
    left: list[Held]
    tries: int = 0
    due: float = 0.0
    """When to look (again) for what a hint told; monotonic."""


@dataclass(slots=True, kw_only=True)
class Drain:
    """Brings in what waits for one source; `work` in a thread of its own."""

    lake: Lake
    source: Source
    push: Push
    spool: Spool
    connect: Callable[[Source], SignedIn] = http.client
    clock: Clock = utc_now
    told: Callable[[Report], None] = lambda _: None
    _client: SignedIn | None = None
    _parcels: dict[Path, _Parcel] = field(default_factory=dict)
    _looked: dict[str, float] = field(default_factory=dict)
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
            self.once()
            self._trouble = min(_WORST, max(1.0, 2 * self._trouble)) if self._troubled else 0.0
            self._news.wait(self._pause())
            self._stop.wait(max(_GAP, self._trouble))

    def once(self) -> None:
        """All that is due now; a fault is told, and holds up its stream only."""
        with self._going_on():
            self._take()
        streams = {stream.name: stream for stream in self.source.streams()}
        for name, parcels in _by_stream(self._parcels.values(), (Pushed, Named)).items():
            with self._going_on():
                self._land(streams[name], parcels)
        now = time.monotonic()
        due = [parcel for parcel in self._parcels.values() if parcel.due <= now]
        for name, parcels in _by_stream(due, (Look,)).items():
            if now - self._looked.get(name, -_EVER) >= self._least_gap():
                with self._going_on():
                    self._look(streams[name], parcels)
        self._let_go()

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
                left = held(self.source, self.push, waiting.headers, waiting.body)
            except (Damaged, ValueError) as error:
                self.spool.set_aside(path)
                _log.error("%s: a delivery cannot be read (%s), and was set aside: %s",
                           self.source.name, type(error).__name__, path)  # fmt: skip
                continue
            self._parcels[path] = _Parcel(waiting=waiting, left=left)
            size, count = size + len(waiting.body), count + 1
            if size > _AT_ONCE or count >= _MOST:
                self._news.set()
                break

    def _land(self, stream: Stream, parcels: Sequence[_Parcel]) -> None:
        found = [each for parcel in parcels for each in _of(parcel, stream.name)]
        pages = [Page(records=e.records, cursor="") for e in found if isinstance(e, Pushed)]
        named = [each for each in found if isinstance(each, Named)]
        if named:
            self._connected()
            with ThreadPoolExecutor(_FETCHES) as pool:
                pages += [page for page in pool.map(self._fetch, named) if page]
        if any(page.records for page in pages):
            self._checked(extract.push(self._round(stream, "webhook"), pages))
        for parcel in parcels:
            _done(parcel, stream.name)

    def _fetch(self, item: Named) -> Page | None:
        """None: the vendor refuses it for good; polling will say why where it matters."""
        assert self.push.fetch  # noqa: S101 who names something can fetch it
        try:
            return self.push.fetch(self.source.settings, self._connected(), item.item)
        except Refused as error:
            _log.warning("%s: %s", self.source.name, error)
            return None

    def _look(self, stream: Stream, parcels: Sequence[_Parcel]) -> None:
        """A round of the stream, for all the hints whose events are not here yet."""
        told = self._told_of(stream, parcels)
        brought = 0
        if not self._all_come(stream, told, parcels):
            self._looked[stream.name] = time.monotonic()
            brought = self._checked(extract.extract(self._round(stream, "poll"))).rows
        here = self._here(stream, told)
        for number, parcel in enumerate(parcels):
            parcel.tries += 1
            come = told[number] <= here if number in told else brought > 0
            if come or parcel.tries >= len(_TRIES):
                _done(parcel, stream.name)
            else:
                parcel.due = time.monotonic() + _TRIES[parcel.tries]

    def _told_of(self, stream: Stream, parcels: Sequence[_Parcel]) -> dict[int, set[Event]]:
        """The events that each hint tells of, by the hint's number; noted as pushed."""
        pairs = [
            (number, record)
            for number, parcel in enumerate(parcels)
            for each in _of(parcel, stream.name)
            if isinstance(each, Look)
            for record in each.told
        ]
        if not pairs:
            return {}
        numbers = [number for number, _ in pairs]
        known = normalise.read(stream, [record for _, record in pairs], self.clock(), "webhook")
        known = known.with_columns(
            pl.Series("number", numbers),
            pl.Series("seen_at", [parcels[n].waiting.received_at for n in numbers], Timestamp),
            way=pl.lit("webhook"),
        ).filter(pl.col("fault").is_null())
        new = [number for number, parcel in enumerate(parcels) if parcel.tries == 0]
        fresh = known.filter(pl.col("number").is_in(new))
        log = Log(self.source.name, stream.name)
        lakes.echo(self.lake, log, fresh.select("event_id", "time", "date", "way", "seen_at"))
        told: dict[int, set[Event]] = defaultdict(set)
        for number, *event in known.select("number", "event_id", "time").iter_rows():
            told[number].add((event[0], event[1]))
        return dict(told)

    def _all_come(
        self, stream: Stream, told: Mapping[int, set[Event]], parcels: Sequence[_Parcel]
    ) -> bool:
        """Is there nothing to look for?"""
        if len(told) < len(parcels):
            return False
        return set().union(*told.values()) <= self._here(stream, told)

    def _here(self, stream: Stream, told: Mapping[int, set[Event]]) -> set[Event]:
        """Which of these events are in the lake."""
        events = sorted(set().union(*told.values()))
        rows = pl.DataFrame(events, {"event_id": pl.String, "time": Timestamp}, orient="row")
        found = set(lakes.held(self.lake, Log(self.source.name, stream.name), rows))
        return {event for event in events if event[0] in found}

    def _let_go(self) -> None:
        """What is done, and hints that led to nothing: polling finds what they told of."""
        for parcel in self._parcels.values():
            if self.clock() - parcel.waiting.received_at > _HINTS_LIVE:
                parcel.left = [each for each in parcel.left if isinstance(each, Pushed)]
        done = [path for path, parcel in self._parcels.items() if not parcel.left]
        self.spool.remove(done)
        for path in done:
            del self._parcels[path]

    def _round(self, stream: Stream, via: Via) -> Round:
        return Round(
            lake=self.lake,
            source=self.source,
            stream=stream,
            client=self._connected(),
            via=via,
            clock=self.clock,
        )

    def _connected(self) -> SignedIn:
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
        rate = http.manners(self.source).rate
        return max(_GAP, 2 * rate[1] / rate[0]) if rate else _GAP

    def _pause(self) -> float | None:
        """How long until something is due by itself."""
        if not self._parcels:
            return None
        now = time.monotonic()
        return max(0.05, min(parcel.due for parcel in self._parcels.values()) - now)

    def _catch_up(self, stream: Stream) -> None:
        log = Log(self.source.name, stream.name)
        report = Report(integration=log.integration, stream=log.stream)
        extract.catch_up(self.lake, self.source, stream, report)

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
def working(drains: Sequence[Drain]) -> Iterator[None]:
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


def _done(parcel: _Parcel, stream: str) -> None:
    parcel.left = [each for each in parcel.left if each.stream != stream]


def _of(parcel: _Parcel, stream: str) -> list[Held]:
    return [each for each in parcel.left if each.stream == stream]


def _by_stream(parcels: Iterable[_Parcel], kinds: tuple[type, ...]) -> dict[str, list[_Parcel]]:
    """The parcels that hold something of these kinds for each stream."""
    found: dict[str, list[_Parcel]] = defaultdict(list)
    for parcel in parcels:
        for name in {each.stream for each in parcel.left if isinstance(each, kinds)}:
            found[name].append(parcel)
    return found
