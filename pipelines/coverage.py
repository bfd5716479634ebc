"""Windows of event time: what to ask next, and what has been asked completely. The plan is pure.

Waiting for late events delays all; never looking back loses them. So a round reads up to now, and
older spans are read again when they have reached the ages of a ladder, up to the lag the vendor
admits: an event that is late by L is found at the latest by the first rung of age L or more.
A window read again costs requests and no rows, because of the anti-join.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import httpx

from pipelines.integration import Cursor, Gap, Page, Span

Read = Callable[[httpx.Client, Span], Iterator[Sequence[bytes] | Gap]]
"""Asks for all records of a span, both ends included or not; yields an answer's records each."""

_WORTH = timedelta(hours=1)
_EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """How a stream is walked."""

    window: timedelta
    """The longest span of one question."""
    settle: timedelta
    """Every round looks back so far behind what it has."""
    ages: tuple[timedelta, ...] = ()
    """Spans are read again once they are so old; the last is the vendor's greatest lag."""
    keeps: timedelta | None = None
    """What is older is not asked for: the vendor would refuse."""

    def step(self, rung: int) -> timedelta:
        """How much must have come of age before it is read again."""
        return max(self.ages[rung] / 4, self.settle)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a stream has come; each time is a bound before which all is done."""

    live: datetime
    """Asked for up to here."""
    again: tuple[datetime, ...]
    """For each rung: asked for, up to here, when at least as old as the rung."""
    history: Span | None = None
    """Still to be read, from its end to its beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A span to ask for, and the progress once it has landed."""

    span: Span
    then: Progress


def ladder(
    *, window: timedelta, settle: timedelta, lag: timedelta, keeps: timedelta | None = None
) -> Ladder:
    """Rungs four times as old each, from `settle` to `lag`."""
    ages: list[timedelta] = []
    age = settle * 4
    while age < lag:
        ages.append(age)
        age *= 4
    ages = [*ages, lag] if lag > settle else []
    return Ladder(window=window, settle=settle, ages=tuple(ages), keeps=keeps)


def start(steps: Ladder, since: datetime, now: datetime) -> Progress:
    """The first progress: the last window at once, all before it as history."""
    now, since = now.replace(microsecond=0), since.replace(microsecond=0)
    recent = max(since, now - steps.window)
    return Progress(
        live=recent,
        again=tuple(max(since, now - age) for age in steps.ages),
        history=Span(since=since, until=recent) if since < recent else None,
    )


def next_ask(steps: Ladder, progress: Progress, now: datetime) -> Ask | None:
    """What to ask next: the present, then what has come of age, then history. None: all is done."""
    now = now.replace(microsecond=0)
    oldest = now - steps.keeps if steps.keeps else _EVER
    progress = _still_kept(progress, oldest)
    if progress.live < now:
        until = min(progress.live + steps.window, now)
        span = Span(since=max(progress.live - steps.settle, oldest), until=until)
        return Ask(span=span, then=replace(progress, live=until))
    for rung, (age, reached) in enumerate(zip(steps.ages, progress.again, strict=True)):
        if now - age - reached >= steps.step(rung):
            until = min(reached + steps.window, now - age)
            again = (*progress.again[:rung], until, *progress.again[rung + 1 :])
            return Ask(span=Span(since=reached, until=until), then=replace(progress, again=again))
    if progress.history is None:
        return None
    since = max(progress.history.since, progress.history.until - steps.window)
    left = (
        Span(since=progress.history.since, until=since) if since > progress.history.since else None
    )
    span = Span(since=since, until=progress.history.until)
    return Ask(span=span, then=replace(progress, history=left))


def _still_kept(progress: Progress, oldest: datetime) -> Progress:
    """The progress without what the vendor has dropped meanwhile."""
    history = progress.history
    if history and history.since < oldest:
        kept = oldest < history.until
        history = Span(since=oldest, until=history.until) if kept else None
    return Progress(
        live=max(progress.live, oldest),
        again=tuple(max(reached, oldest) for reached in progress.again),
        history=history,
    )


def begin(steps: Ladder) -> Callable[[datetime, datetime], Cursor]:
    """`begin` of a stream that is walked in windows."""
    return lambda since, now: _dump(start(steps, since, now))


def between(steps: Ladder) -> Callable[[Span, datetime], Cursor]:
    """`between` of a stream that is walked in windows: nothing but this span of history."""

    def cursor(span: Span, now: datetime) -> Cursor:
        # Far ahead of the clock, so that there is no present and nothing to read again.
        ahead = now.replace(microsecond=0) + timedelta(days=1)
        return _dump(Progress(live=ahead, again=(ahead,) * len(steps.ages), history=span))

    return cursor


def pages(steps: Ladder, read: Read) -> Callable[[httpx.Client, Cursor, datetime], Iterator[Page]]:
    """`pages` of a stream that is walked in windows: the cursor moves when a window is complete."""

    def walk(client: httpx.Client, cursor: Cursor, now: datetime) -> Iterator[Page]:
        progress = kept = _load(cursor, steps)
        while ask := next_ask(steps, progress, now):
            for answer in read(client, ask.span):
                gaps = (answer,) if isinstance(answer, Gap) else ()
                yield Page(records=() if gaps else answer, cursor=_dump(progress), gaps=gaps)  # type: ignore[arg-type]  # narrowed by gaps
            progress = ask.then
            worth = _worth_keeping(kept, progress)
            yield Page(records=(), cursor=_dump(progress), covers=ask.span, milestone=worth)
            kept = progress if worth else kept

    return walk


def _worth_keeping(kept: Progress, progress: Progress) -> bool:
    """Has so much been asked in vain that it should not be asked again?"""
    if kept.history and not progress.history:
        return True
    pairs = zip((kept.live, *kept.again), (progress.live, *progress.again), strict=True)
    return any(after - before >= _WORTH for before, after in pairs)


def _dump(progress: Progress) -> Cursor:
    history = progress.history
    return json.dumps(
        {
            "live": progress.live.isoformat(),
            "again": [time.isoformat() for time in progress.again],
            "history": history and [history.since.isoformat(), history.until.isoformat()],
        },
        separators=(",", ":"),
    )


def _load(cursor: Cursor, steps: Ladder) -> Progress:
    """The progress of a cursor; a ladder changed since then is climbed from the start."""
    stored = json.loads(cursor)
    live = datetime.fromisoformat(stored["live"])
    again = tuple(map(datetime.fromisoformat, stored["again"]))
    if len(again) != len(steps.ages):
        again = tuple(live - 2 * age for age in steps.ages)
    history = stored["history"] and Span(
        since=datetime.fromisoformat(stored["history"][0]),
        until=datetime.fromisoformat(stored["history"][1]),
    )
    return Progress(live=live, again=again, history=history)
