"""Generated records of a stream: its history in one chunk, then one chunk per minute.

With incidents, the attacks are not part of the history: `incidents` has them, with the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from random import Random

import msgspec

from sandbox.company import Company, Happening
from sandbox.incidents import Incident, incidents
from sandbox.service import Chunk, Record, Stream, micros

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The length and density of a stream's history, and the rate of its new records."""

    anchor: datetime
    days: int
    per_day: float
    per_second: float
    until: datetime | None = None
    """No records are generated for minutes that start at or after this time."""
    incidents: bool = False
    """Whether the incidents of the company happen, not its attacks alone."""

    @property
    def start(self) -> datetime:
        return self.anchor - timedelta(days=self.days)


def generated(stream: Stream, name: str, company: Company, span: Span) -> Iterator[Chunk]:
    """Yield the history of a stream before the anchor, then one chunk per minute after it."""
    seed = f"{company.seed}/{name}"
    start = span.start
    happenings = _history(stream, company, span, seed)
    history: Iterable[Record] = _written(stream, happenings, f"{seed}/history")
    if span.incidents:
        history = chain(
            history, (played.record for played in played_in(stream, name, company, span))
        )
    if span.per_second <= 0:
        # Without new records nothing may arrive late either: cap arrivals at the anchor.
        last = micros(span.anchor)
        still = (record._replace(arrival=min(record.arrival, last)) for record in history)
        yield Chunk(start=micros(start), make=lambda: still)
        return
    yield Chunk(start=micros(start), make=lambda: history)
    minute = span.anchor
    while span.until is None or minute < span.until:
        yield Chunk(start=micros(minute), make=_minute(stream, company, span, seed, minute))
        minute += _MINUTE


def _history(stream: Stream, company: Company, span: Span, seed: str) -> Iterator[Happening]:
    start, rng = span.start, Random(f"{seed}/happenings")
    # Local days overlap the first and last UTC day, so include one more on either side.
    for number in range(-1, span.days + 2):
        day = start.date() + timedelta(days=number)
        for happening in company.day(stream.habits, day, span.per_day * stream.share, rng):
            if start <= happening.time < span.anchor:
                yield happening
    if span.incidents:
        return
    for step in company.attacks(span.anchor):
        for habit in stream.habits:
            if step.act in habit.acts and step.time >= start:
                yield step.shown_as(habit)


def _minute(
    stream: Stream, company: Company, span: Span, seed: str, minute: datetime
) -> Callable[[], Iterator[Record]]:
    def make() -> Iterator[Record]:
        number = (minute - span.anchor) // _MINUTE
        rng = Random(f"{seed}/{number}")
        events = span.per_second * 60
        happenings = company.while_passing(stream.habits, minute, minute + _MINUTE, events, rng)
        return _written(stream, happenings, f"{seed}/{number}/written")

    return make


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A record of an incident or of its benign twin."""

    incident: Incident
    benign: bool
    record: Record


def played_in(stream: Stream, name: str, company: Company, span: Span) -> Iterator[Played]:
    """Yield the records of a stream, named KIND/STREAM, of the incidents; the same every time."""
    rng, last = Random(f"{company.seed}/{name}/incidents"), micros(span.anchor)
    for incident in incidents(company, span.anchor):
        for benign, scenes in ((False, incident.scenes), (True, incident.twin)):
            for scene in scenes:
                for happening in scene.shown_in(stream, name):
                    if happening.time < span.start:
                        continue
                    time, raw = micros(happening.time), scene.rendered(stream, happening, rng)
                    arrival = min(time + int(stream.delay(rng) * 1_000_000), last)
                    record = Record(time, arrival, raw)
                    yield Played(incident=incident, benign=benign, record=record)


def _written(stream: Stream, happenings: Iterable[Happening], seed: str) -> Iterator[Record]:
    rng, encode = Random(seed), msgspec.json.Encoder().encode
    for happening in happenings:
        time = micros(happening.time)
        raw = encode(stream.render(happening, rng))
        yield Record(time, time + int(stream.delay(rng) * 1_000_000), raw)
