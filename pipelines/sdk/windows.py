"""Fetch a log in windows of event time, and re-read old windows for late events. Pure planning.

Waiting for late events would delay everything; never looking back would lose them. So each round
reads up to now, and older ranges are re-read once they reach certain ages, up to the vendor's
published lag: an event that is late by L is found by the first re-read at age L or more. Once the
lake has measured how late records are, the re-reads below that lag move to the ages where they
find the most, within a daily budget of queries. Re-reading costs requests but adds no rows, because
known records are skipped.
"""

from __future__ import annotations

import json
import re
import time as clocks
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx

from pipelines.errors import Refused, TooHeavy
from pipelines.sdk import json_records
from pipelines.sdk.pages import Cursor, Gap, Page, Span

LATER = (
    timedelta(minutes=1),
    timedelta(minutes=10),
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(hours=25),
)
"""How far inside its retention a vendor is queried after each refusal: clocks differ, and some
vendors count in days."""

Read = Callable[[httpx.Client, Span], Iterator[Sequence[bytes] | Gap]]
"""Fetches all records of a span and yields those of each response; the ends may be inclusive."""

_MILESTONE = timedelta(hours=1)
_DAY = timedelta(days=1)
_MARGIN = 1.25
_LEAST = timedelta(hours=1)
_ON_ITS_WAY = timedelta(seconds=5)
_ABOUT_TIME = re.compile(
    rb"time|date|days|hours|retention|older|start|since|from|range|period", re.IGNORECASE
)
_KEPT_DAYS = re.compile(
    rb"(?:retention|retain|keeps?|kept|older)\D{0,40}\b(\d{1,3})[ -]days?\b"
    rb"|\b(\d{1,3})[ -]days?\b.{0,20}retention",
    re.IGNORECASE,
)
_BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RereadPlan:
    """The plan of a stream: its windows, and the ages at which they are re-read."""

    window: timedelta
    """The longest range of one query."""
    settle: timedelta
    """How far every round reads back behind the previous one."""
    ages: tuple[timedelta, ...] = ()
    """Ages at which ranges are re-read; the last is the vendor's greatest lag."""
    keeps: timedelta | None = None
    """The vendor's retention: anything older is not queried, because it would be refused."""
    always: tuple[timedelta, ...] = ()
    """Ages that stay whatever is measured, among them the vendor's own lag."""
    per_day: float = 150
    """The most queries per day to spend on other ages."""

    def step(self, age: timedelta) -> timedelta:
        """Return the length of the range that must have reached this age before it is re-read."""
        return max(age / 4, self.settle)

    def cost(self, ages: Sequence[timedelta]) -> float:
        """Return the queries per day that re-reading at these ages takes."""
        return sum(_DAY / self.step(age) for age in ages)


class Reread(NamedTuple):
    """Everything before `reached` has been read when it was at least this old."""

    age: timedelta
    reached: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a stream has been read; everything before each of its times is done."""

    live: datetime
    """Read up to here."""
    again: tuple[Reread, ...]
    history: Span | None = None
    """The range still to be read, from its end to its beginning."""
    rest: Query | None = None
    """The rest of a query that was interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A span to query, and the progress once it has landed."""

    span: Span
    then: Progress


def reread_plan(
    *, window: timedelta, settle: timedelta, lag: timedelta, keeps: timedelta | None = None
) -> RereadPlan:
    """Return a plan whose ages grow by a factor of four, from `settle` to `lag`."""
    ages: list[timedelta] = []
    age = settle * 4
    while age < lag:
        ages.append(age)
        age *= 4
    ages = [*ages, lag] if lag > settle else []
    always = tuple(ages[-1:])
    kept = keeps - _ON_ITS_WAY if keeps else None
    return RereadPlan(window=window, settle=settle, ages=tuple(ages), keeps=kept, always=always)


def tune(steps: RereadPlan, late: Sequence[timedelta]) -> tuple[timedelta, ...]:
    """Return the ages for re-reads: just beyond each measured lag, and the vendor's own lag last.

    `late` holds quantiles of the measured lag. If the queries would exceed the daily budget, the
    youngest ages are dropped first, since they cost the most; the vendor's own lag is always kept.
    """
    if not steps.always:
        return ()
    longest = steps.keeps or timedelta.max
    wanted = [lag * _MARGIN for lag in late if steps.settle < lag and lag * _MARGIN < longest]
    ages = list(steps.always)
    for age in sorted(wanted, reverse=True):
        # A re-read at up to twice this age makes this one redundant.
        near = any(age <= other < 2 * age for other in ages)
        if not near and steps.cost([*ages, age]) - steps.cost(steps.always) <= steps.per_day:
            ages.append(age)
    return tuple(sorted(ages))


def start(steps: RereadPlan, since: datetime, now: datetime) -> Progress:
    """Return the first progress: the latest window is live, everything before it is history."""
    now, since = now.replace(microsecond=0), since.replace(microsecond=0)
    recent = max(since, now - steps.window)
    return Progress(
        live=recent,
        again=tuple(Reread(age, max(since, now - age)) for age in steps.ages),
        history=Span(since=since, until=recent) if since < recent else None,
    )


def next_query(
    steps: RereadPlan, progress: Progress, now: datetime, waited: timedelta = timedelta()
) -> Query | None:
    """Return the next query: an interrupted one, then live, then re-reads, then history.

    None if everything is done. `waited` is the time since `now`: records that old have expired.
    """
    now = now.replace(microsecond=0)
    oldest = now + waited - steps.keeps if steps.keeps else _BEGINNING
    progress = _still_kept(progress, oldest)
    if progress.rest:
        return progress.rest
    if progress.live < now:
        until = min(progress.live + steps.window, now)
        span = Span(since=max(progress.live - steps.settle, oldest), until=until)
        return Query(span=span, then=replace(progress, live=until))
    for number, (age, reached) in enumerate(progress.again):
        if now - age - reached >= steps.step(age):
            until = min(reached + steps.window, now - age)
            again = list(progress.again)
            again[number] = Reread(age, until)
            then = replace(progress, again=tuple(again))
            return Query(span=Span(since=reached, until=until), then=then)
    if progress.history is None:
        return None
    since = max(progress.history.since, progress.history.until - steps.window)
    left = (
        Span(since=progress.history.since, until=since) if since > progress.history.since else None
    )
    span = Span(since=since, until=progress.history.until)
    return Query(span=span, then=replace(progress, history=left))


def _still_kept(progress: Progress, oldest: datetime) -> Progress:
    """Return the progress without the ranges that the vendor has deleted meanwhile."""
    history, rest = _kept(progress.history, oldest), progress.rest
    if rest:
        span = _kept(rest.span, oldest)
        if span is None:
            return _still_kept(rest.then, oldest)
        rest = replace(rest, span=span)
    return Progress(
        live=max(progress.live, oldest),
        again=tuple(Reread(age, max(reached, oldest)) for age, reached in progress.again),
        history=history,
        rest=rest,
    )


def _kept(span: Span | None, oldest: datetime) -> Span | None:
    if span is None or oldest >= span.until:
        return None
    return Span(since=max(span.since, oldest), until=span.until)


def begin(steps: RereadPlan) -> Callable[[datetime, datetime], Cursor]:
    """Return the `begin` of a stream that is read in windows."""
    return lambda since, now: _dump(start(steps, since, now))


def between(steps: RereadPlan) -> Callable[[Span, datetime], Cursor]:
    """Return the `between` of a stream that is read in windows: one span, as history only."""

    def cursor(span: Span, now: datetime) -> Cursor:
        # Ahead of the clock, so that nothing is live and nothing is due for a re-read.
        ahead = now.replace(microsecond=0) + timedelta(days=1)
        again = tuple(Reread(age, ahead) for age in steps.ages)
        return _dump(Progress(live=ahead, again=again, history=span))

    return cursor


def reached(cursor: Cursor) -> datetime:
    """Return the time up to which a stream that is read in windows has been read."""
    return datetime.fromisoformat(json.loads(cursor)["live"])


def learn(steps: RereadPlan) -> Callable[[Cursor, Sequence[timedelta]], Cursor]:
    """Return the `learn` of a stream that is read in windows: re-reads move to measured lags."""

    def learned(cursor: Cursor, late: Sequence[timedelta]) -> Cursor:
        progress = _load(cursor, steps)
        # `rest.then` has the ages of the interrupted query; change them after it has landed.
        if progress.rest:
            return cursor
        return _dump(replace(progress, again=_moved(progress, tune(steps, late))))

    return learned


def _moved(progress: Progress, ages: Sequence[timedelta]) -> tuple[Reread, ...]:
    """Return the re-reads at new ages, as far as the old ones have covered them."""
    # A range that was read at some age needs no re-read at a lesser age.
    return tuple(
        Reread(
            age,
            max(
                (rung.reached for rung in progress.again if rung.age >= age),
                default=progress.live - 2 * age,
            ),
        )
        for age in ages
    )


def pages(
    steps: RereadPlan, read: Read, time: str | None = None
) -> Callable[[httpx.Client, Cursor, datetime], Iterator[Page]]:
    """Return the `pages` of a stream that is read in windows; `read` fetches one window.

    The cursor moves when a window is complete. If the vendor sorts windows by the RFC 3339 text at
    the path `time`, in either direction, it moves with each response, so that an interrupted burst
    resumes where it stopped. A span that is too heavy for the vendor is read in halves, and one
    that starts before its retention from a later start.
    """

    def walk(client: httpx.Client, cursor: Cursor, now: datetime) -> Iterator[Page]:
        progress = kept = _load(cursor, steps)
        began, later = clocks.monotonic(), iter(LATER)
        while ask := next_query(steps, progress, now, _since(began)):
            left = ask.span
            try:
                for answer in read(client, ask.span):
                    if isinstance(answer, Gap):
                        yield Page(records=(), cursor=_dump(progress), gaps=(answer,))
                        continue
                    done, left = _split(left, answer, time) if time else (None, left)
                    if done:
                        progress = replace(progress, rest=replace(ask, span=left))
                    yield Page(records=answer, cursor=_dump(progress), covers=done)
            except TooHeavy as error:
                progress = _halved(progress, replace(ask, span=left), error)
                yield Page(records=(), cursor=_dump(progress), milestone=True)
                continue
            except Refused as error:
                gap = unkept(left, steps.keeps, error, now + _since(began), later)
                progress = _without(progress, replace(ask, span=left), gap)
                yield Page(records=(), cursor=_dump(progress), gaps=(gap,))
                continue
            progress = ask.then
            milestone = _is_milestone(kept, progress)
            yield Page(records=(), cursor=_dump(progress), covers=left, milestone=milestone)
            kept = progress if milestone else kept

    return walk


def halves(span: Span, error: TooHeavy) -> tuple[Span, Span]:
    """Return the older and the newer half of a span. Raises the error if it is short already."""
    if span.until - span.since <= _LEAST:
        raise error
    middle = (span.since + (span.until - span.since) / 2).replace(microsecond=0)
    return Span(since=span.since, until=middle), Span(since=middle, until=span.until)


def unkept(
    span: Span,
    keeps: timedelta | None,
    error: Refused,
    now: datetime,
    later: Iterator[timedelta],
) -> Gap:
    """Return the part of a span that the vendor refused because it no longer keeps it.

    The limit itself is uncertain, so each refusal takes the next of `later`. Raises the error if it
    has another cause, or if nothing is left to try.
    """
    if keeps and error.status == httpx.codes.BAD_REQUEST and _ABOUT_TIME.search(error.body):
        # A cheaper plan may keep less, and the refusal names it.
        if stated := _KEPT_DAYS.search(error.body):
            keeps = min(keeps, timedelta(days=int(stated[1] or stated[2])))
            if span.until <= now - keeps:
                return Gap(span=span, reason=_UNKEPT)
        for least in later:
            start = (now - keeps + least).replace(microsecond=0)
            if span.since < start:
                return Gap(
                    span=Span(since=span.since, until=min(start, span.until)), reason=_UNKEPT
                )
    raise error


_UNKEPT = "the vendor no longer keeps it"


def moving(time: datetime) -> Callable[[], datetime]:
    """Return a function for `time` plus the time since this call."""
    began = clocks.monotonic()
    return lambda: time + _since(began)


def _since(began: float) -> timedelta:
    """Return the time since `began`; queries are planned from the start of a round."""
    return timedelta(seconds=int(clocks.monotonic() - began))


def _halved(progress: Progress, ask: Query, error: TooHeavy) -> Progress:
    """Return the progress with the two halves of a query before anything else, newest first."""
    older, newer = halves(ask.span, error)
    rest = Query(span=older, then=ask.then)
    return replace(progress, rest=Query(span=newer, then=replace(progress, rest=rest)))


def _without(progress: Progress, ask: Query, gap: Gap) -> Progress:
    """Return the progress with a query that begins after the gap, or without it."""
    if gap.span.until >= ask.span.until:
        return ask.then
    span = Span(since=gap.span.until, until=ask.span.until)
    return replace(progress, rest=replace(ask, span=span))


def _split(left: Span, answer: Sequence[bytes], time: str) -> tuple[Span | None, Span]:
    """Return the part of a span that a response has covered, or None, and the remainder.

    The time of its last record is in the remainder, since more records may have the same time.
    """
    try:
        first, last = (_time(answer[place], time) for place in (0, -1))
    except (IndexError, ValueError, TypeError):
        return None, left
    # Newest first: `until` is exclusive, so the remainder ends one tick after the last record.
    if last < first and left.since < last < left.until - _TICK:
        until = last + _TICK
        return Span(since=until, until=left.until), Span(since=left.since, until=until)
    if first < last and left.since < last < left.until:
        return Span(since=left.since, until=last), Span(since=last, until=left.until)
    return None, left


_TICK = timedelta(milliseconds=1)


def _time(record: bytes, path: str) -> datetime:
    """Return the time at a dotted path. Raises ValueError or TypeError."""
    value = json_records.load(record)
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    time = datetime.fromisoformat(value)
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _is_milestone(kept: Progress, progress: Progress) -> bool:
    """Return whether enough empty time was read since the saved cursor to save it again."""
    if kept.history and not progress.history:
        return True
    reached = {rung.age: rung.reached for rung in kept.again}
    moved = [after - reached.get(age, after) for age, after in progress.again]
    return any(gain >= _MILESTONE for gain in (progress.live - kept.live, *moved))


def _dump(progress: Progress) -> Cursor:
    return json.dumps(_plain(progress), separators=(",", ":"))


def _plain(progress: Progress) -> dict[str, Any]:
    return {
        "live": progress.live.isoformat(),
        "again": [rung.reached.isoformat() for rung in progress.again],
        "ages": [rung.age.total_seconds() for rung in progress.again],
        "history": progress.history and _ends(progress.history),
        "rest": progress.rest and [*_ends(progress.rest.span), _plain(progress.rest.then)],
    }


def _ends(span: Span) -> list[str]:
    return [span.since.isoformat(), span.until.isoformat()]


def _load(cursor: Cursor, steps: RereadPlan) -> Progress:
    """Return the progress in a cursor, with new ages if the vendor's lag has changed since."""
    progress = _read(json.loads(cursor), steps)
    if not {*steps.always} <= {rung.age for rung in progress.again}:
        return replace(progress, again=_moved(progress, steps.ages))
    return progress


def _read(stored: dict[str, Any], steps: RereadPlan) -> Progress:
    ages = [timedelta(seconds=age) for age in stored.get("ages", ())]
    times = map(datetime.fromisoformat, stored["again"])
    history, rest = stored["history"], stored.get("rest")
    return Progress(
        live=datetime.fromisoformat(stored["live"]),
        again=tuple(map(Reread, ages or steps.ages, times)),
        history=_span(*history) if history else None,
        rest=Query(span=_span(*rest[:2]), then=_read(rest[2], steps)) if rest else None,
    )


def _span(since: str, until: str) -> Span:
    return Span(since=datetime.fromisoformat(since), until=datetime.fromisoformat(until))
