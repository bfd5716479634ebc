"""The incremental loop: pages become commits that hold rows and cursor together, then events.

A round may be killed anywhere: what landed stays, what did not is asked for again, and the
anti-join in the lake drops what is already there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter

import polars as pl
from msgspec import MsgspecError

from pipelines.clock import Clock, utc_now
from pipelines.errors import AuditlakeError, CursorRefused, LakeError, Unavailable
from pipelines.extraction import client, derive
from pipelines.extraction import report as reports
from pipelines.extraction.client import ServiceClient
from pipelines.extraction.prefetch import prefetch
from pipelines.extraction.report import Progress, Report
from pipelines.integrity import signer
from pipelines.lake import commits, coverage, raw, spans
from pipelines.lake import events as events_table
from pipelines.lake.coverage import Entry
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import normalise
from pipelines.sdk.contract import Source, Stream
from pipelines.sdk.json_records import MalformedJson
from pipelines.sdk.pages import Page, Span
from pipelines.settings import Via

_BATCH_RECORDS = 50_000
_BATCH_BYTES = 8 * 2**20
_BATCH_SECONDS = 5.0
_NOTE_EVERY = timedelta(minutes=15)
_FRESH = timedelta(days=1)
_LOOKED_AT = timedelta(days=7)
_OTHER_TIME = timedelta(minutes=1)


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
    def about(self) -> str:
        """What the raw table is made for; says whether it holds simulated events."""
        return (
            f"{self.source.integration.title} {self.stream.name}, {self.source.settings.base_url}"
        )


def extract(this: Round) -> Report:
    """Read the stream to its end. A failure is in the report; what came before it has landed."""
    report = Report(integration=this.source.name, stream=this.stream.name)
    sent = this.client.requests_sent
    try:
        place = raw.position(this.lake, this.key)
        derive.catch_up(this.lake, this.source, this.stream, report, place.rows)
        if not _read(this, place, report):
            _catch_up_if_behind(this, report)
    except AuditlakeError as error:
        report.error = str(error)
        _record_failure(this, report.error)
    report.requests = this.client.requests_sent - sent
    this.progress(report)
    return report


def _read(this: Round, place: raw.Position, report: Report) -> bool:
    """Have the events of all that landed followed, as far as this round can tell?"""
    now = _now(this)
    report.total, report.version = place.rows, place.version
    _refuse_mixed_lake(place.about, this)
    signer.sign(this.lake, this.key, place.rows, now)
    asked = PendingCoverage(now=now, noted_at=place.noted_at)
    cursor = _learned(this, place, now) if place.cursor else _begin(this, asked)
    try:
        return _run(this, cursor, asked, report)
    except CursorRefused:
        _run(this, _begin(this, asked), asked, report)
        return False


def _learned(this: Round, place: raw.Position, now: datetime) -> str:
    """The cursor, once a day with what the lake says about how late records are."""
    assert place.cursor  # noqa: S101 the caller looked
    learn, noted = this.stream.learn, place.noted_at
    if learn is None or noted is None or noted.date() == now.date():
        return place.cursor
    late = raw.lateness(this.lake, this.key, now - _LOOKED_AT)
    return learn(place.cursor, late) if late else place.cursor


def _now(this: Round) -> datetime:
    """The service's time, as far as it is known: what is asked for are times by its clock."""
    return this.clock() - this.client.ahead


def backfill(this: Round, span: Span, *, again: bool = False) -> Report:
    """Read a span of history, newest first, beside the live stream, whose position stays.

    What was asked for completely in the last day is left out, so that a backfill that was killed
    goes on where it was; `again` asks for it all the same.
    """
    report = Report(integration=this.source.name, stream=this.stream.name)
    sent, now = this.client.requests_sent, this.clock()
    report.total = raw.position(this.lake, this.key).rows
    since = max(span.since, now - this.stream.keeps)
    span = Span(since=since, until=min(span.until, now))
    try:
        for part in reversed(_unread(this, span, now - (_FRESH if not again else timedelta()))):
            _read_span(this, part, report)
    except AuditlakeError as error:
        report.error = str(error)
    report.requests = this.client.requests_sent - sent
    this.progress(report)
    return report


def _unread(this: Round, span: Span, since: datetime) -> tuple[Span, ...]:
    recent = coverage.entries(this.lake, this.key).filter(pl.col("asked_at") > since)
    known = spans.coverage(recent, lag=this.stream.lag, keeps=this.stream.keeps, now=this.clock())
    return spans.minus([span], known.complete)


def _read_span(this: Round, span: Span, report: Report) -> None:
    now = this.clock()
    asked = PendingCoverage(now=now, noted_at=None)
    wanted = Entry(since=span.since, until=span.until, asked_at=now, outcome="wanted")
    coverage.record(this.lake, this.key, [wanted])
    ask = this.stream.between
    cursor = ask(span, now) if ask else this.stream.begin(span.since, now)
    _run(this, cursor, asked, report)


@dataclass(slots=True, kw_only=True)
class PendingCoverage:
    """What a round has asked for and not noted in the lake yet.

    A span is noted with the first cursor after it that is kept: a cursor that is lost takes its
    spans along, and they are asked for again.
    """

    now: datetime
    noted_at: datetime | None
    claims: list[Entry] = field(default_factory=list)
    milestone: bool = False

    def add(self, pages: Sequence[Page]) -> None:
        self.milestone |= any(page.milestone or page.gaps for page in pages)
        for page in pages:
            if page.covers:
                self._cover(page.covers)
            for gap in page.gaps:
                self.claims.append(self._claim(gap.span, outcome="gone", reason=gap.reason))

    @property
    def worth_noting(self) -> bool:
        return self.milestone or self.noted_at is None or self.now - self.noted_at >= _NOTE_EVERY

    def noted(self) -> None:
        self.claims, self.milestone, self.noted_at = [], False, self.now

    def _cover(self, span: Span) -> None:
        """Claims of neighbours are one claim."""
        last = self.claims[-1] if self.claims else None
        if last and last.outcome == "complete" and _touch(last, span):
            since, until = min(last.since, span.since), max(last.until, span.until)
            self.claims[-1] = self._claim(Span(since=since, until=until))
        else:
            self.claims.append(self._claim(span))

    def _claim(self, span: Span, outcome: str = "complete", reason: str | None = None) -> Entry:
        return Entry(
            since=span.since,
            until=span.until,
            asked_at=self.now,
            outcome=outcome,
            reason=reason,
        )


def _touch(claim: Entry, span: Span) -> bool:
    return claim.since <= span.until and span.since <= claim.until


def _begin(this: Round, asked: PendingCoverage) -> str:
    """The first cursor: as far back as the settings or the vendor allow."""
    history = min(this.source.settings.history or this.stream.keeps, this.stream.keeps)
    wanted = Entry(since=asked.now - history, until=asked.now, asked_at=asked.now, outcome="wanted")
    coverage.record(this.lake, this.key, [wanted])
    return this.stream.begin(asked.now - history, asked.now)


def _record_failure(this: Round, reason: str) -> None:
    """A gap should say why it is one; the lake itself may be what failed."""
    now = this.clock()
    failed = Entry(since=now, until=now, asked_at=now, outcome="failed", reason=reason)
    with suppress(AuditlakeError):
        coverage.record_failure(this.lake, this.key, failed)


def _run(this: Round, cursor: str, asked: PendingCoverage, report: Report) -> bool:
    """Fetch, land and derive, each a step ahead of the next; did the events of all follow?"""
    pages = prefetch(_pages(this, cursor, asked, report))
    landed = prefetch(_land(this, batch, asked, report) for batch in _batches(pages))
    followed = True
    for fresh in landed:
        if fresh.height:
            followed &= derive.derive(this.lake, this.source, this.stream, fresh, report)
        this.progress(report)
    return followed


def _pages(this: Round, cursor: str, asked: PendingCoverage, report: Report) -> Iterator[Page]:
    known = this.client.ahead
    pages = this.stream.pages(this.client, cursor, asked.now)
    while True:
        with report.timed("fetch"), _shaped_as_expected(this):
            page = next(pages, None)
        if abs(this.client.ahead - known) > _OTHER_TIME:
            # Only an answer tells how far apart the clocks are: what was asked by ours is void.
            asked.now, known = _now(this), this.client.ahead
            pages = this.stream.pages(this.client, cursor, asked.now)
        elif page is None:
            return
        else:
            yield page


@contextmanager
def _shaped_as_expected(this: Round) -> Iterator[None]:
    """An answer that no connector can read fails its stream, and nothing else."""
    try:
        yield
    except (MalformedJson, MsgspecError) as error:
        raise Unavailable(
            f"{this.source.kind} gave an answer of an unexpected shape "
            f"({type(error).__name__}); will be asked again"
        ) from error


def _batches(pages: Iterable[Page]) -> Iterator[list[Page]]:
    """What makes a commit: enough records, or a few seconds' worth, or what came before a fault."""
    waiting: list[Page] = []
    started = time.monotonic()
    try:
        for page in pages:
            waiting.append(page)
            if _enough(waiting) or time.monotonic() - started > _BATCH_SECONDS:
                yield waiting
                waiting, started = [], time.monotonic()
    except AuditlakeError:
        yield waiting
        raise
    yield waiting


def _enough(pages: Sequence[Page]) -> bool:
    records = sum(len(page.records) for page in pages)
    size = sum(len(record) for page in pages for record in page.records)
    return records >= _BATCH_RECORDS or size >= _BATCH_BYTES


def _land(
    this: Round, pages: Sequence[Page], asked: PendingCoverage, report: Report
) -> pl.DataFrame:
    """Commit the records of some pages with the cursor after the last; the rows that were new."""
    if not pages:
        return pl.DataFrame()
    asked.add(pages)
    report.covered += [page.covers for page in pages if page.covers]
    report.gaps += [gap for page in pages for gap in page.gaps]
    landed = _commit(this, pages, asked, report) if any(page.records for page in pages) else None
    fresh = landed.frame if landed else pl.DataFrame()
    if fresh.is_empty():
        asked.milestone |= _enough(pages)
    if asked.worth_noting:
        with report.timed("note"):
            idle = _cursor(this, pages) if fresh.is_empty() else None
            coverage.record(this.lake, this.key, asked.claims, idle, lag=this.stream.lag)
        asked.noted()
    return fresh


def _commit(
    this: Round, pages: Sequence[Page], asked: PendingCoverage, report: Report
) -> commits.Appended:
    with report.timed("read"):
        good, rejected = _split_rejected(this, pages, this.clock())
    if rejected.height:
        report.rejected += raw.append_rejected(this.lake, this.key, rejected).frame.height
    with report.timed("write raw"):
        landed = raw.append(
            this.lake,
            this.key,
            good,
            _cursor(this, pages),
            about=this.about,
            claims=asked.claims,
        )
    if landed.frame.height:
        asked.claims = []
    reports.count(report, landed, good.height)
    if landed.frame.height:
        with report.timed("sign"):
            signer.sign(this.lake, this.key, report.total, this.clock(), landed.frame)
    return landed


def _cursor(this: Round, pages: Sequence[Page]) -> str | None:
    """What was not asked from the live position on leaves it alone."""
    return pages[-1].cursor if this.via == "poll" else None


def _split_rejected(
    this: Round, pages: Sequence[Page], now: datetime
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(raw rows, rejected rows) of the pages' records."""
    read = pl.concat(
        normalise.read(this.stream, [r for p in alike for r in p.records], now, this.via, time)
        for time, alike in groupby(pages, key=attrgetter("fallback_time"))
    )
    fault = pl.col("fault")
    rejected = read.filter(fault.is_not_null()).select(
        pl.lit(this.key.integration).alias("integration"),
        pl.lit(this.key.stream).alias("stream"),
        "ingested_at",
        fault.alias("reason"),
        pl.col("bytes").alias("raw"),
        "raw_sha256",
    )
    return read.filter(fault.is_null()).drop("fault", "bytes"), rejected


def push(this: Round, pages: Sequence[Page]) -> Report:
    """Land what a vendor sent by itself, beside the live stream, whose position stays."""
    report = Report(integration=this.source.name, stream=this.stream.name)
    try:
        place = raw.position_only(this.lake, this.key)
        report.total = place.rows
        _refuse_mixed_lake(place.about, this)
        fresh = _commit(this, pages, PendingCoverage(now=this.clock(), noted_at=None), report).frame
        if fresh.is_empty() or not derive.derive(
            this.lake, this.source, this.stream, fresh, report
        ):
            _catch_up_if_behind(this, report)
    except AuditlakeError as error:
        report.error = str(error)
    return report


def _catch_up_if_behind(this: Round, report: Report) -> None:
    """Rows that landed behind those of another writer wait for the events of those."""
    if events_table.derived(this.lake, this.key) < report.total:
        derive.catch_up(this.lake, this.source, this.stream, report)


def replay(lake: Lake, source: Source, stream: Stream, now: datetime) -> Report:
    """Try again what was rejected, after a fix; what can be read now lands, each once.

    `rejected` keeps its rows: what has landed since is told by its hash.
    """
    key = StreamKey(source.name, stream.name)
    report = Report(integration=key.integration, stream=key.stream)
    waiting = raw.still_rejected(lake, key)
    read = normalise.read(stream, waiting["raw"].to_list(), now, "poll")
    good = read.filter(pl.col("fault").is_null()).drop("fault", "bytes")
    landed = raw.append(lake, key, good, None)
    reports.count(report, landed, good.height)
    report.rejected = waiting.height - good.height
    report.total = raw.position(lake, key).rows
    signer.sign(lake, key, report.total, now)
    derive.catch_up(lake, source, stream, report)
    return report


def _refuse_mixed_lake(about: str, this: Round) -> None:
    """Simulated and real events must not meet in one table."""
    if about and _simulated(about) != _simulated(this.about):
        raise LakeError(
            f"{this.key.table} holds events of another origin ({about.rpartition(', ')[2]}): "
            "set another lake.root, or move this lake away"
        )


def _simulated(about: str) -> bool:
    return any(host in about for host in ("://127.0.0.1", "://localhost", "://[::1]"))


def poll(
    lake: Lake,
    sources: Sequence[Source],
    *,
    progress: Progress = lambda _: None,
    connect: Callable[[Source], ServiceClient] = client.connect,
    clock: Clock = utc_now,
    due: Callable[[StreamKey, timedelta | None], bool] = lambda _key, _floor: True,
) -> list[Report]:
    """A round: every due stream of the sources, each source at its own pace beside the others."""

    def one(source: Source) -> list[Report]:
        with connect(source) as client:
            return [
                extract(
                    Round(
                        lake=lake,
                        source=source,
                        stream=stream,
                        client=client,
                        clock=clock,
                        progress=progress,
                    )
                )
                for stream in source.streams()
                if due(StreamKey(source.name, stream.name), source.settings.poll_every)
            ]

    with ThreadPoolExecutor(max_workers=max(1, min(8, len(sources)))) as pool:
        return [report for reports in pool.map(one, sources) for report in reports]
