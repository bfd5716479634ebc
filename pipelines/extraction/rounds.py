"""The incremental loop: open a stream, fetch its pages, land, derive and close.

Pages become commits that contain rows and cursor together, then events. A round may be killed at
any point: landed rows stay, and the rest is fetched again; the lake skips rows it already has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

import httpx
import polars as pl

from pipelines.clock import Clock, utc_now
from pipelines.errors import (
    AuditlakeError,
    ClockChanged,
    CursorRefused,
    LakeError,
    NewerLake,
    Refused,
    explained,
)
from pipelines.extraction import (
    batches,
    client,
    clock_repair,
    derive,
    schedule,
    service_clock,
    tally,
)
from pipelines.extraction import report as reports
from pipelines.extraction.client import ServiceClient
from pipelines.extraction.pending import PendingCoverage
from pipelines.extraction.prefetch import prefetch
from pipelines.extraction.report import Progress, Report
from pipelines.integrity import erased_ids, mappings, signer
from pipelines.lake import coverage, raw, streams, tables
from pipelines.lake.stream_state import Facts
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import normalise
from pipelines.sdk.contract import Source, Stream
from pipelines.sdk.pages import Page, Span, closing
from pipelines.settings import Via, is_loopback

_OBSERVED = timedelta(days=7)
_WHILE_READING = timedelta(hours=1)
_CLOCK_CHANGE = timedelta(minutes=1)
_CLOCK_CHANGES = 3
_REREAD = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A round over one stream of one source."""

    lake: Lake
    source: Source
    stream: Stream
    client: ServiceClient
    via: Via = "poll"
    clock: Clock = utc_now
    progress: Progress = lambda _: None

    @property
    def key(self) -> StreamKey:
        return StreamKey(self.source.name, self.stream.name)

    @property
    def facts(self) -> Facts:
        return streams.facts_of(self.source, self.stream)

    @property
    def about(self) -> str:
        """Return the description of the raw table, which shows if its events are simulated."""
        return (
            f"{self.source.integration.title} {self.stream.name}, {self.source.settings.base_url}"
        )

    @property
    def service_time(self) -> datetime:
        """Return the time by the service's clock."""
        return self.clock() - self.client.clock_ahead

    @property
    def now(self) -> datetime:
        """Return the time by our clock or the service's, the earlier.

        Cursors and coverage end there: one of the two clocks has not reached any later time.
        """
        return min(self.clock(), self.service_time)

    @property
    def first_wanted(self) -> datetime:
        """Return how far back a first round reads: as the settings and the vendor allow."""
        # Reading history takes time, in which the vendor deletes the oldest records.
        keeps = self.stream.keeps - min(_WHILE_READING, self.stream.keeps / 500)
        return self.now - min(self.source.settings.history or keeps, keeps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The state of a stream at the start of a round, read from the lake once."""

    cursor: str
    pending: PendingCoverage


def poll(
    lake: Lake,
    sources: Sequence[Source],
    *,
    progress: Progress = lambda _: None,
    connect: Callable[[Source], ServiceClient] = client.connect,
    clock: Clock = utc_now,
    due: Callable[[StreamKey, timedelta | None], bool] = lambda _key, _floor: True,
    held: Callable[[Source], None] = lambda _: None,
) -> list[Report]:
    """Run a round of every due stream and return the reports; sources run in parallel.

    A source that another machine polls is skipped, and passed to `held`.
    Raises ConfigurationError if the lake is in a store that several writers must not share.
    """
    _require_safe_store(lake)

    def one(source: Source) -> list[Report]:
        try:
            with schedule.lease_of(lake, source).kept() as ours:
                if ours:
                    return rounds_of(source)
        except NewerLake:
            raise
        except LakeError as error:
            return [_failed(source, stream, error, progress) for stream in source.streams()]
        held(source)
        return []

    def rounds_of(source: Source) -> list[Report]:
        wanted = [
            stream
            for stream in source.streams()
            if due(StreamKey(source.name, stream.name), source.settings.poll_every)
        ]
        try:
            with explained():
                opened = connect(source)
        except AuditlakeError as error:  # a key that cannot be read, for example
            return [_failed(source, stream, error, progress) for stream in wanted]
        with opened as client:
            new = partial(Round, lake=lake, source=source, clock=clock, progress=progress)
            return [extract(new(stream=stream, client=client)) for stream in wanted]

    with ThreadPoolExecutor(max_workers=max(1, min(8, len(sources)))) as pool:
        return [report for reports in pool.map(one, sources) for report in reports]


def _require_safe_store(lake: Lake) -> None:
    with suppress(LakeError):  # of a store that cannot be reached, each stream has a report
        tables.require_safe_store(lake)


def _failed(source: Source, stream: Stream, error: AuditlakeError, progress: Progress) -> Report:
    report = Report(integration=source.name, stream=stream.name, error=str(error))
    progress(report)
    return report


def extract(this: Round) -> Report:
    """Read the stream to its end and return the report, which contains the error, if any.

    Everything that landed before an error stays.
    """
    with reporting(this) as report:
        for left in reversed(range(_CLOCK_CHANGES)):
            start = None
            try:
                with explained():
                    start = _open(this, report)
                    _read(this, start, report)
                    _read_ahead(this, report)
                break
            except AuditlakeError as error:
                # Only a response shows that our clock is wrong, so begin again with the right time.
                if isinstance(error, ClockChanged) and left:
                    continue
                _record_failure(this, str(error), start.pending if start else None)
                raise
    return report


def push(this: Round, pages: Sequence[Page]) -> Report:
    """Land records that a vendor pushed, without moving the position of the live stream.

    Return the report, which contains the error, if any.
    """
    report = Report(integration=this.source.name, stream=this.stream.name)
    try:
        with explained():
            position = raw.position_only(this.lake, this.key)
            report.total = position.rows
            check_origin(this, position.about, this.clock())
            _declare_mapping(this, position.rows)
            pending = PendingCoverage(now=this.clock(), recorded_at=None)
            fresh = _commit(this, list(pages), pending, report)
            if fresh.is_empty() or not _derive(this, fresh, report):
                _catch_up(this, report.total, report)
    except AuditlakeError as error:
        report.error = str(error)
    tally.count(this.lake, this.key, report)
    return report


@contextmanager
def reporting(this: Round) -> Iterator[Report]:
    """Yield the report of a round, and complete it with the error and the requests sent."""
    report = Report(integration=this.source.name, stream=this.stream.name)
    sent, throttled = this.client.requests_sent, this.client.requests_throttled
    with report.traced() as span:
        try:
            with explained():
                yield report
        except NewerLake:  # no error of this stream, but of the whole program
            raise
        except AuditlakeError as error:
            report.error = str(error)
            span.fail(type(error).__name__)
        report.requests = this.client.requests_sent - sent
        report.throttled = this.client.requests_throttled - throttled
    report.clock_ahead = this.client.clock_ahead
    tally.count(this.lake, this.key, report)
    this.progress(report)


def _open(this: Round, report: Report) -> Start:
    """Read the state of the stream, and finish the work of a round that was killed."""
    position = raw.position(this.lake, this.key)
    report.total, report.version = position.rows, position.version
    _declare_mapping(this, position.rows)
    # Before anything lands, since events are derived in the order of raw rows.
    _catch_up(this, position.rows, report)
    check_origin(this, position.about, this.now)
    restart_at = clock_repair.go_back(this) if clock_repair.is_void(this, position) else None
    now = this.now
    signer.sign(this.lake, this.key, position.rows, now)
    recorded_at = now if restart_at else position.recorded_at
    pending = PendingCoverage(now=now, recorded_at=recorded_at, failing=position.failing)
    if position.cursor is None or restart_at:
        return Start(cursor=_begin(this, pending, restart_at), pending=pending)
    return Start(cursor=_tune(this, position.cursor, pending), pending=pending)


def _read(this: Round, start: Start, report: Report) -> None:
    """Read from the start to the end of the stream, and derive the events of all rows."""
    try:
        derived = run(this, start.cursor, start.pending, report)
    except CursorRefused:
        # The vendor no longer knows the cursor: start over, and let the lake skip known rows.
        run(this, _begin(this, start.pending), start.pending, report)
        derived = False
    if not derived:
        _catch_up(this, report.total, report)


def _tune(this: Round, cursor: str, pending: PendingCoverage) -> str:
    """Return the cursor, once a day with re-reads tuned to the delays observed in the lake."""
    learn, last = this.stream.learn, pending.recorded_at
    if learn is None or last is None or last.date() == pending.now.date():
        return cursor
    delays = raw.lateness(this.lake, this.key, pending.now - _OBSERVED)
    return learn(cursor, delays) if delays else cursor


def _begin(this: Round, pending: PendingCoverage, since: datetime | None = None) -> str:
    """Return the first cursor, and record the span with it: all not fetched yet shows as a gap."""
    since = since or this.first_wanted
    pending.want(Span(since=since, until=pending.now))
    return this.stream.begin(since, pending.now)


def run(this: Round, cursor: str, pending: PendingCoverage, report: Report) -> bool:
    """Fetch, land and derive everything after `cursor`; the next page is fetched meanwhile.

    Return True if the events of all rows that landed are committed.
    """
    return _store(this, _fetch(this, cursor, pending, report), pending, report)


def _store(this: Round, fetched: Iterator[Page], pending: PendingCoverage, report: Report) -> bool:
    derived = True
    # In one thread: a second batch would take more memory than it saves time.
    for pages in batches.grouped(prefetch(fetched)):
        fresh = _land(this, pages, pending, report)
        if fresh.height:
            derived &= _derive(this, fresh, report)
        del fresh  # it is large, and the next batch takes a while
        this.progress(report)
    return derived


def _fetch(this: Round, cursor: str, pending: PendingCoverage, report: Report) -> Iterator[Page]:
    known = this.client.clock_ahead
    with closing(this.stream.pages(this.client, cursor, pending.now)) as pages:
        while True:
            try:
                with report.timed("fetch"), this.client.reading():
                    page = next(pages, None)
            finally:
                # The page was requested up to a wrong time; so was a query that was refused.
                if abs(this.client.clock_ahead - known) > _CLOCK_CHANGE:
                    raise ClockChanged(_clock_changed(this))
            if page is None:
                return
            yield page


def _clock_changed(this: Round) -> str:
    wrong = service_clock.difference(this.client.clock_ahead)
    return (
        f"the clock of {this.source.name} and this machine's moved apart during the round"
        f"{f' ({wrong})' if wrong else ''}; the next round retries"
    )


def _read_ahead(this: Round, report: Report) -> None:
    """Fetch the time between our clock and the service's, where ours is behind.

    The cursor stays behind both clocks, and nothing is recorded as covered. A refusal means that it
    is the service whose clock is wrong.
    """
    until = this.service_time
    if until <= this.now:
        return
    pending = PendingCoverage(now=this.now, recorded_at=this.now)
    newest = raw.newest_polled(this.lake, this.key, until)
    since = max(this.now, newest - _REREAD) if newest else this.now
    span, between = Span(since=since, until=until), this.stream.between
    cursor = between(span, until) if between else this.stream.begin(since, until)
    with suppress(Refused), closing(this.stream.pages(this.client, cursor, until)) as pages:
        _store(this, (replace(p, cursor="", covers=None, gaps=()) for p in pages), pending, report)


def _land(this: Round, pages: list[Page], pending: PendingCoverage, report: Report) -> pl.DataFrame:
    """Commit the records of some pages with the cursor after them, and return the new rows."""
    if not pages:
        return pl.DataFrame()
    after, full = _cursor_after(this, pages), batches.is_full(pages)
    pending.add(pages)
    report.covered += [page.covers for page in pages if page.covers]
    report.gaps += [gap for page in pages for gap in page.gaps]
    records = any(page.records for page in pages)
    fresh = _commit(this, pages, pending, report) if records else pl.DataFrame()
    if fresh.is_empty():
        # A full batch of known records moves the cursor a long way: do not fetch it again.
        pending.milestone |= full
    if pending.due:
        with report.timed("record coverage"):
            # A raw commit contains its cursor; without new rows, only `coverage` can store it.
            cursor = after if fresh.is_empty() else None
            coverage.record(this.lake, this.key, pending.entries, cursor, lag=this.stream.lag)
        pending.mark_recorded()
    return fresh


def _commit(
    this: Round, pages: list[Page], pending: PendingCoverage, report: Report
) -> pl.DataFrame:
    """Commit rejected records, then rows with cursor and coverage, sign; return the new rows.

    `pages` is emptied once its records are rows, which frees their memory in the caller, too.
    """
    after = _cursor_after(this, pages)
    with report.timed("read"):
        good, rejected = batches.split_rejected(this, pages, this.clock())
        pages.clear()
        good = erased_ids.without(this.lake, this.key, good, normalise.version_of(this.stream))
    # Before the rows, whose commit moves the cursor past the rejected records.
    if rejected.height:
        report.rejected += raw.append_rejected(this.lake, this.key, rejected).frame.height
    with report.timed("write raw"):
        landed = raw.append(
            this.lake,
            this.key,
            good,
            after,
            about=this.about,
            entries=pending.entries,
            rules=this.stream.versions,
        )
    reports.count(report, landed, good.height)
    if landed.frame.height:
        pending.entries = []
        with report.timed("sign"):
            signer.sign(this.lake, this.key, report.total, this.clock(), landed.frame)
    return landed.frame


def _cursor_after(this: Round, pages: Sequence[Page]) -> str | None:
    """Return the cursor after these pages; None if the round must not move the live position."""
    return (pages[-1].cursor or None) if this.via == "poll" else None


def _derive(this: Round, fresh: pl.DataFrame, report: Report) -> bool:
    return derive.derive(this.lake, this.source, this.stream, fresh, report)


def _declare_mapping(this: Round, rows: int) -> None:
    version = this.source.integration.mapping_version
    mappings.declare(this.lake, this.key, version, this.clock(), rows=rows)


def _catch_up(this: Round, rows: int, report: Report) -> None:
    """Derive the missing events up to row `rows`, including those of another writer's rows."""
    derive.catch_up(this.lake, this.source, this.stream, report, rows)


def _record_failure(this: Round, reason: str, pending: PendingCoverage | None) -> None:
    """Record the reason, so that the gap it leaves can be explained."""
    with suppress(AuditlakeError):  # the lake itself may have failed
        if pending is None:
            recorded_at = coverage.last_recorded(this.lake, this.key).at
            pending = PendingCoverage(now=this.now, recorded_at=recorded_at)
        if wanted := [entry for entry in pending.entries if entry.outcome == "wanted"]:
            coverage.record(this.lake, this.key, wanted)
        coverage.record_failure(this.lake, this.key, pending.failure(reason))


def check_origin(this: Round, about: str, now: datetime) -> None:
    """Record the facts of the stream; `about` describes its raw table.

    Raises LakeError if its log is another tenant's, or if one of the two is simulated.
    """
    if about and _simulated(about) != _simulated(this.about):
        raise LakeError(
            f"{this.key.table} contains events of another origin ({about.rpartition(', ')[2]}): "
            "set another lake.root, or move this lake away"
        )
    streams.record(this.lake, this.key, this.facts, now)


def _simulated(about: str) -> bool:
    return is_loopback(httpx.URL(about.rpartition(", ")[2]).host)
