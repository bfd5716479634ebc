"""Store webhook deliveries from the spool in the lake: one thread per source.

Records are stored as they are, references are fetched, and a hint triggers a round of its stream.
A hint stays in the spool until the events it names are stored or polling was repeated often enough.
A delivery is removed from the spool only once its content is committed, so that a kill costs no
more than doing the work again.
"""

from __future__ import annotations

import logging
import math
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
from pipelines.extraction import client, derive, rate_limit, rounds, schedule, tally
from pipelines.extraction.client import ServiceClient
from pipelines.extraction.report import Report
from pipelines.extraction.rounds import Round
from pipelines.extraction.tally import Tally
from pipelines.lake import known_records, reconciliation
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import normalise
from pipelines.schemas import Timestamp
from pipelines.sdk.contract import Source, Stream
from pipelines.sdk.pages import Page
from pipelines.sdk.push import Content, Hint, Push, Records, Reference
from pipelines.settings import Via, telemetry
from pipelines.webhooks import delivery
from pipelines.webhooks.spool import Damaged, Spool

_BATCH_DELIVERIES = 2000
_BATCH_BYTES = 8 * 2**20
_POLL_AFTER = (0.0, 3.0, 15.0, 60.0, 180.0, 600.0)  # seconds before each poll for the same hint
_HINT_LIFETIME = timedelta(hours=1)
_MAX_BACKOFF = 60.0
_MIN_INTERVAL = 1.0
_FETCH_THREADS = 4
_STREAM_THREADS = 4
_log = logging.getLogger(__name__)
Event = tuple[str, datetime]
"""The ID and time that identify an event."""


@dataclass(slots=True, kw_only=True)
class _Pending:
    """The content of one delivery for one stream, until it is stored."""

    received_at: datetime
    content: list[Content]
    polls: int = 0
    due: float = 0.0
    """When to poll (again) for the events of its hints; monotonic."""
    done: bool = False

    @property
    def has_records(self) -> bool:
        """Return True if it contains records or references, not only hints."""
        return any(not isinstance(item, Hint) for item in self.content)


@dataclass(slots=True, kw_only=True)
class Worker:
    """Stores the deliveries of one source; `run` blocks, so it needs its own thread."""

    lake: Lake
    source: Source
    push: Push
    spool: Spool
    connect: Callable[[Source], ServiceClient] = client.connect
    clock: Clock = utc_now
    on_report: Callable[[Report], None] = lambda _: None
    _client: ServiceClient | None = None
    _connecting: threading.Lock = field(default_factory=threading.Lock)
    _pending: dict[Path, dict[str, _Pending]] = field(default_factory=dict)
    """For each file in the spool, its content by stream."""
    _polled_at: dict[str, float] = field(default_factory=dict)
    _arrivals: dict[StreamKey, pl.DataFrame] = field(default_factory=dict)
    """Events named by hints, to be recorded in the table `echoes`."""
    _woken: threading.Event = field(default_factory=threading.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _failed: bool = False
    _backoff: float = 0.0
    """Seconds to wait after the last failure."""

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        """Finish the current work and leave the rest in the spool."""
        self._stopped.set()
        self._woken.set()

    def run(self) -> None:
        """Work until stopped, after deriving the events that an earlier kill prevented."""
        for stream in self.source.streams():
            with self._log_failures():
                self._catch_up(stream)
        while not self._stopped.is_set():
            # Cleared before the spool is listed: a delivery that arrives meanwhile sets it again.
            self._woken.clear()
            self._failed = False
            began = time.monotonic()
            self.run_once()
            self._backoff = min(_MAX_BACKOFF, max(1.0, 2 * self._backoff)) if self._failed else 0.0
            self._woken.wait(self._seconds_until_due())
            # Deliveries that arrive within the interval share a commit.
            self._stopped.wait(max(_MIN_INTERVAL - (time.monotonic() - began), self._backoff))

    def run_once(self) -> None:
        """Process everything that is due; a failure is logged and delays only its own stream."""
        with self._log_failures():
            self._load_deliveries()
        now = time.monotonic()
        pending = _by_stream(self._pending.values())
        streams = [stream for stream in self.source.streams() if stream.name in pending]
        streams.sort(key=lambda stream: pending[stream.name][0].received_at)
        with ThreadPoolExecutor(_STREAM_THREADS) as pool:
            for stream in streams:
                pool.submit(self._process, stream, pending[stream.name], now)
        with self._log_failures():
            # Recorded before the files go: if this fails, the spool still has the hints.
            reconciliation.record(self.lake, self._arrivals)
            self._arrivals = {}
            self._remove_done()

    def _process(self, stream: Stream, pending: Sequence[_Pending], now: float) -> None:
        if storable := [each for each in pending if each.has_records]:
            about = {
                "auditlake.integration": self.source.name,
                "auditlake.stream": stream.name,
                "auditlake.deliveries": len(storable),
            }
            with self._log_failures(), telemetry.span("store deliveries", about, "consumer"):
                self._store(stream, storable)
        due = [each for each in pending if not each.has_records and each.due <= now]
        since_last = now - self._polled_at.get(stream.name, -math.inf)
        if due and since_last >= self._min_interval():
            with self._log_failures():
                self._poll_for_hints(stream, due)

    @property
    def is_idle(self) -> bool:
        """Return True if nothing is pending, here or in the spool."""
        return not self._pending and not self.spool.waiting(self.source.name)

    def _load_deliveries(self) -> None:
        """Load the next batch from the spool, oldest first; set unreadable files aside."""
        size = count = 0
        for path in self.spool.waiting(self.source.name):
            if path in self._pending:
                continue
            try:
                stored = self.spool.load(path)
                items = delivery.content(self.source, self.push, stored.headers, stored.body)
            except (Damaged, ValueError) as error:
                self.spool.set_aside(path)
                _log.error("%s: a delivery cannot be read (%s) and was set aside; see %s",
                           self.source.name, type(error).__name__, path.parent)  # fmt: skip
                continue
            self._pending[path] = {
                name: _Pending(received_at=stored.received_at, content=_of_stream(items, name))
                for name in {item.stream for item in items}
            }
            size, count = size + len(stored.body), count + 1
            if size > _BATCH_BYTES or count >= _BATCH_DELIVERIES:
                # Return for the rest at once instead of waiting for another delivery.
                self._woken.set()
                break

    def _store(self, stream: Stream, pending: Sequence[_Pending]) -> None:
        items = [item for each in pending for item in each.content]
        pages = [Page(records=e.records, cursor="") for e in items if isinstance(e, Records)]
        references = [item for item in items if isinstance(item, Reference)]
        if references:
            with schedule.lease_of(self.lake, self.source).kept() as ours:
                # The machine that polls with this credential fetches the same records.
                pages += self._fetched(references) if ours else []
        if any(page.records for page in pages):
            self._report(rounds.push(self._round(stream, "webhook"), pages))
            waited = [(self.clock() - each.received_at).total_seconds() for each in pending]
            pushed = Tally(pushes=len(waited), push_seconds=sum(max(0.0, each) for each in waited))
            tally.add(self.lake, StreamKey(self.source.name, stream.name), pushed)
        for each in pending:
            each.done = True

    def _fetched(self, references: Sequence[Reference]) -> list[Page]:
        # Connected first: if that fails, it fails once and not once per reference.
        self._open_client()
        with ThreadPoolExecutor(_FETCH_THREADS) as pool:
            return [page for page in pool.map(self._fetch, references) if page]

    def _fetch(self, reference: Reference) -> Page | None:
        """Return the page, or None if the vendor refuses it; polling then reports the reason."""
        try:
            with self._open_client().reading():
                return self.push.fetch(self.source.settings, self._open_client(), reference.item)
        except Refused as error:
            _log.warning("%s: %s", self.source.name, error)
            return None

    def _poll_for_hints(self, stream: Stream, pending: Sequence[_Pending]) -> None:
        """Run one round for all hints, unless the events they name are stored already."""
        named = self._named_events(stream, pending)
        added = 0
        if not self._all_stored(stream, named, pending):
            # Another machine that polls with this credential stores them soon: look again then.
            with schedule.lease_of(self.lake, self.source).kept() as ours:
                if ours:
                    self._polled_at[stream.name] = time.monotonic()
                    added = self._report(rounds.extract(self._round(stream, "poll"))).rows
        stored = self._already_stored(stream, named)
        for number, each in enumerate(pending):
            each.polls += 1
            # A hint that names no event is settled by any new row.
            found = named[number] <= stored if number in named else added > 0
            each.done = found or each.polls >= len(_POLL_AFTER)
            if not each.done:
                each.due = time.monotonic() + _POLL_AFTER[each.polls]

    def _named_events(self, stream: Stream, pending: Sequence[_Pending]) -> dict[int, set[Event]]:
        """Return the events that each hint names, by its index; note new ones as pushed."""
        records = [
            (number, record)
            for number, each in enumerate(pending)
            for item in each.content
            if isinstance(item, Hint)
            for record in item.records
        ]
        if not records:
            return {}
        known = normalise.read(stream, [record for _, record in records], self.clock(), "webhook")
        known = known.with_columns(number=pl.Series([number for number, _ in records]))
        known = known.filter(pl.col("fault").is_null())
        self._note_arrivals(stream, pending, known)
        named: dict[int, set[Event]] = defaultdict(set)
        for number, id_, at in known.select("number", "event_id", "time").iter_rows():
            named[number].add((id_, at))
        return dict(named)

    def _note_arrivals(
        self, stream: Stream, pending: Sequence[_Pending], known: pl.DataFrame
    ) -> None:
        """Note the events of hints seen for the first time, by the `number` of their hint."""
        new = [number for number, each in enumerate(pending) if each.polls == 0]
        fresh = known.filter(pl.col("number").is_in(new))
        seen_at = [pending[number].received_at for number in fresh["number"]]
        fresh = fresh.with_columns(pl.Series("seen_at", seen_at, Timestamp), way=pl.lit("webhook"))
        fresh = fresh.select("event_id", "time", "date", "way", "seen_at")
        key = StreamKey(self.source.name, stream.name)
        self._arrivals[key] = pl.concat([self._arrivals.get(key, fresh.clear()), fresh])

    def _all_stored(
        self, stream: Stream, named: Mapping[int, set[Event]], pending: Sequence[_Pending]
    ) -> bool:
        """Return True if every hint names events and all of them are stored."""
        if len(named) < len(pending):
            return False
        return set().union(*named.values()) <= self._already_stored(stream, named)

    def _already_stored(self, stream: Stream, named: Mapping[int, set[Event]]) -> set[Event]:
        """Return those of the named events that are in the lake."""
        events = sorted(set().union(*named.values()))
        rows = pl.DataFrame(events, {"event_id": pl.String, "time": Timestamp}, orient="row")
        key = StreamKey(self.source.name, stream.name)
        found = set(known_records.existing(self.lake, key, rows))
        return {event for event in events if event[0] in found}

    def _remove_done(self) -> None:
        """Remove finished deliveries from the spool."""
        for path, by_stream in list(self._pending.items()):
            left = {name: each for name, each in by_stream.items() if not self._is_finished(each)}
            self._pending[path] = left
        done = [path for path, left in self._pending.items() if not left]
        self.spool.remove(done)
        for path in done:
            del self._pending[path]

    def _is_finished(self, pending: _Pending) -> bool:
        """Return True if it is done, or too old and regular polling fetches the same events."""
        old = self.clock() - pending.received_at > _HINT_LIFETIME
        return pending.done or (old and not any(isinstance(e, Records) for e in pending.content))

    def _round(self, stream: Stream, via: Via) -> Round:
        return Round(
            lake=self.lake,
            source=self.source,
            stream=stream,
            client=self._open_client(),
            via=via,
            clock=self.clock,
        )

    def _open_client(self) -> ServiceClient:
        """Return the client that all threads share, connected on first use."""
        with self._connecting:
            if self._client is None:
                self._client = self.connect(self.source)
            return self._client

    def _report(self, report: Report) -> Report:
        """Pass a round's report on. Raises Unfinished if the round failed."""
        self.on_report(report)
        if report.error:
            raise Unfinished(report.error)
        return report

    def _min_interval(self) -> float:
        """Return the least seconds between two polls: at most half of the vendor's rate limit."""
        rate = rate_limit.policy(self.source).rate
        return max(_MIN_INTERVAL, 2 * rate[1] / rate[0]) if rate else _MIN_INTERVAL

    def _seconds_until_due(self) -> float | None:
        """Return how long to wait if no delivery arrives; None: nothing is pending."""
        if not self._pending:
            return None
        now = time.monotonic()
        pending = chain.from_iterable(each.values() for each in self._pending.values())
        return max(0.05, min(each.due for each in pending) - now)

    def _catch_up(self, stream: Stream) -> None:
        key = StreamKey(self.source.name, stream.name)
        report = Report(integration=key.integration, stream=key.stream)
        derive.catch_up(self.lake, self.source, stream, report)
        self.on_report(report)

    @contextmanager
    def _log_failures(self) -> Iterator[None]:
        """Log any failure in one line; the work stays pending and is retried after a pause."""
        try:
            yield
        except AuditlakeError as error:
            self._failed = True
            _log.warning("%s: %s", self.source.name, error)
        except Exception as error:
            self._failed = True
            # Not the message of an unforeseen error: it may contain a record or a credential.
            where = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__} in {where.name}, line {where.lineno}"
            _log.error("%s: %s; retrying", self.source.name, reason)


class Unfinished(AuditlakeError):
    """A round failed; its deliveries stay in the spool."""


@contextmanager
def running(workers: Sequence[Worker]) -> Iterator[None]:
    """Run each worker in a thread until the context ends."""
    threads = [threading.Thread(target=each.run, name=each.source.name) for each in workers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        # All are stopped before the first is waited for: they finish at the same time.
        for each in workers:
            each.stop()
        for thread in threads:
            thread.join()


def _of_stream(items: Iterable[Content], stream: str) -> list[Content]:
    return [item for item in items if item.stream == stream]


def _by_stream(deliveries: Iterable[Mapping[str, _Pending]]) -> dict[str, list[_Pending]]:
    """Return the unfinished content of each stream, oldest first."""
    found: dict[str, list[_Pending]] = defaultdict(list)
    for by_stream in deliveries:
        for name, pending in by_stream.items():
            if not pending.done:
                found[name].append(pending)
    return found
