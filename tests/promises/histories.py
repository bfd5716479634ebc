"""A lake that lives through a history of polls, faults, pushes and upkeep, and its vendor.

The vendor notes which spans it was asked for and has answered: an account of the lake's coverage
that shares no code with the lake. Its stream is read by the real planner, rounds and tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import httpx

from pipelines.errors import Unavailable
from pipelines.extraction import backfill, renormalise, rounds
from pipelines.extraction.renormalise import History
from pipelines.extraction.rounds import Round
from pipelines.integrity import retention
from pipelines.lake import maintenance, raw
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import normalise
from pipelines.sdk import windows
from pipelines.sdk.contract import Docs, Integration, Source, Stream
from pipelines.sdk.pages import Gap, Page, Span
from pipelines.settings import IntegrationSettings, IntegritySettings

BEGUN = datetime(2026, 3, 10, tzinfo=UTC)
LAG, KEEPS, WANTED = timedelta(minutes=20), timedelta(days=3), timedelta(hours=40)
MINUTE = timedelta(minutes=1)
KEY = StreamKey("invented", "log")
FAULTS = ("401: bad token", "503")


@dataclass
class Vendor:
    """Takes the place of the client, with the attributes of one that rounds use."""

    now: datetime = BEGUN
    records: list[tuple[datetime, datetime, bytes]] = field(default_factory=list)
    """(time of the event, when it became visible, record)"""
    faults: list[str] = field(default_factory=list)
    gone: list[Span] = field(default_factory=list)
    answered: list[tuple[Span, datetime]] = field(default_factory=list)
    refused: list[Gap] = field(default_factory=list)
    requests_sent: int = 0
    requests_throttled: int = 0
    clock_ahead: timedelta = timedelta(0)
    service_clock: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(confirmed=True, decided=True)
    )
    reading = staticmethod(nullcontext)

    def emit(self, late: int) -> bytes:
        time = self.now - MINUTE * late
        number = len(self.records)
        record = json.dumps({"id": f"i{number}", "time": time.isoformat(), "verb": "seen"}).encode()
        self.records.append((time, self.now, record))
        return record

    def read(self, span: Span) -> Iterator[Sequence[bytes] | Gap]:
        self.requests_sent += 1
        if self.faults:
            raise Unavailable(self.faults.pop())
        for gone in self.gone:
            since, until = max(gone.since, span.since), min(gone.until, span.until)
            if since < until:
                lost = Gap(span=Span(since=since, until=until), reason="deleted by the vendor")
                self.refused.append(lost)
                yield lost
        yield [record for time, _, record in self.records if span.since <= time < span.until]
        self.answered.append((span, self.now))


def source() -> Source:
    plan = windows.reread_plan(
        window=timedelta(hours=12), settle=timedelta(minutes=5), lag=LAG, keeps=KEEPS
    )
    stream = Stream(
        name=KEY.stream,
        begin=windows.begin(plan),
        pages=windows.pages(plan, lambda vendor, span: vendor.read(span)),
        between=windows.between(plan),
        id="id",
        time="time",
        columns={"action": "verb"},
        keeps=KEEPS,
        lag=LAG,
    )
    made = Integration(
        kind="invented",
        title="Invented",
        settings=IntegrationSettings,
        streams=lambda _: (stream,),
        auth=lambda _: httpx.Auth(),
        docs=Docs(credentials="", permissions="", history="", delay="", push=""),
    )
    settings = IntegrationSettings(
        kind=KEY.integration, base_url="https://invented.example", history=WANTED
    )
    return Source(name=KEY.integration, integration=made, settings=settings)


@dataclass
class Life:
    """The lake, and what happened to it."""

    lake: Lake
    source: Source = field(default_factory=source)
    vendor: Vendor = field(default_factory=Vendor)
    polled_at: datetime = BEGUN
    succeeded_at: datetime = BEGUN
    """The last poll, and the last without an error."""
    answers: list[tuple[datetime, str | None]] = field(default_factory=list)
    """(when, error) of each poll, and of each backfill that the vendor has answered."""
    settled: list[tuple[Span, datetime]] = field(default_factory=list)
    """The answered spans that the lake must know: of successful polls and backfills."""
    expired: list[Span] = field(default_factory=list)
    """The parts of backfills that were too old."""

    @classmethod
    def at(cls, folder: Path) -> Life:
        integrity = IntegritySettings(folder=folder / "state")
        return cls(lake=Lake(str(folder / "lake"), None, integrity))

    @property
    def stream(self) -> Stream:
        return self.source.streams()[0]

    def round(self, via: str = "poll") -> Round:
        return Round(
            lake=self.lake,
            source=self.source,
            stream=self.stream,
            client=self.vendor,
            via=via,
            clock=lambda: self.vendor.now,
        )

    def wait(self, minutes: int) -> None:
        self.vendor.now += MINUTE * minutes

    def emit(self, late: int) -> None:
        self.vendor.emit(late)

    def fault(self, reason: str, times: int) -> None:
        self.vendor.faults = [reason] * times

    def lose(self, ago: int, minutes: int) -> None:
        since = self.vendor.now - MINUTE * ago
        self.vendor.gone.append(Span(since=since, until=since + MINUTE * minutes))

    def poll(self) -> None:
        report = rounds.extract(self.round())
        assert report.error in (None, *FAULTS), report.error
        self.polled_at = self.vendor.now
        self.answers.append((self.vendor.now, report.error))
        if report.error is None:
            # It has read again what an earlier round had read without storing its position.
            self.settled, self.succeeded_at = list(self.vendor.answered), self.vendor.now

    def backfill(self, ago: int, hours: int) -> None:
        now, before = self.vendor.now, len(self.vendor.answered)
        since = now - timedelta(hours=ago + hours)
        span, oldest = Span(since=since, until=since + timedelta(hours=hours)), now - KEEPS
        if since < oldest:
            self.expired.append(Span(since=since, until=min(span.until, oldest)))
        report = backfill.fetch_span(self.round("backfill"), span)
        if fetched := self.vendor.answered[before:]:
            self.answers.append((now, None))
        if report.error is None:
            self.settled += fetched

    def push(self, *, derived: bool) -> None:
        """Store a pushed record; a worker that is killed has not derived its events yet."""
        record = self.vendor.emit(late=0)
        if derived:
            page = Page(records=[record], cursor="")
            assert rounds.push(self.round("webhook"), [page]).error is None
            return
        read = normalise.read(self.stream, [record], self.vendor.now, "webhook")
        raw.append(self.lake, KEY, read.drop("fault", "bytes"), None, about=self.round().about)

    def maintain(self) -> None:
        list(maintenance.maintain(self.lake, [KEY], self.vendor.now.date() + timedelta(days=2)))

    def renormalise(self) -> None:
        history = History(lake=self.lake, source=self.source, stream=self.stream)
        list(renormalise.renormalise(history, everything=True))

    def retain(self) -> None:
        if raw.position_only(self.lake, KEY).rows:
            before = self.vendor.now.date()
            act = retention.Removal(log=KEY, before=before, who="ada", why="a test")
            retention.remove(self.lake, act, self.vendor.now)
