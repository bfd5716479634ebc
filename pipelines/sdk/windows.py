"""Windows of event time: what to ask next, and what has been asked completely. The plan is pure.

Waiting for late events delays all; never looking back loses them. So a round reads up to now, and
older spans are read again when they have reached the ages of a ladder, up to the lag the vendor
admits: an event that is late by L is found at the latest by the first rung of age L or more. Once
the lake knows how late records really are, the rungs below that lag move to where they find most,
within a number of questions a day. A window read again costs requests and no rows, because of the
anti-join.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx

from pipelines.sdk import json_records
from pipelines.sdk.pages import Cursor, Gap, Page, Span

Read = Callable[[httpx.Client, Span], Iterator[Sequence[bytes] | Gap]]
"""Asks for all records of a span, both ends included or not; yields an answer's records each."""

_WORTH = timedelta(hours=1)
_DAY = timedelta(days=1)
_MARGIN = 1.25
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
    always: tuple[timedelta, ...] = ()
    """The vendor's own lag, and what else stays whatever is measured."""
    per_day: float = 150
    """At most so many questions a day are spent on other ages."""

    def step(self, age: timedelta) -> timedelta:
        """How much must have come to this age before it is read again."""
        return max(age / 4, self.settle)

    def cost(self, ages: Sequence[timedelta]) -> float:
        """Questions a day."""
        return sum(_DAY / self.step(age) for age in ages)


class Rung(NamedTuple):
    """All before `reached` has been asked for when it was at least of this age."""

    age: timedelta
    reached: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a stream has come; each time is a bound before which all is done."""

    live: datetime
    """Asked for up to here."""
    again: tuple[Rung, ...]
    history: Span | None = None
    """Still to be read, from its end to its beginning."""
    rest: Ask | None = None
    """What is left of a question that was interrupted."""


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
    always = tuple(ages[-1:])
    return Ladder(window=window, settle=settle, ages=tuple(ages), keeps=keeps, always=always)


def climb(steps: Ladder, late: Sequence[timedelta]) -> tuple[timedelta, ...]:
    """Ages at which to read again: just beyond each of these lags, and the vendor's own at last.

    `late` are quantiles of what was measured. Where the questions would be more than are allowed,
    the youngest ages, which cost most, are left out; the vendor's own lag never is.
    """
    if not steps.always:
        return ()
    longest = steps.keeps or timedelta.max
    wanted = [lag * _MARGIN for lag in late if steps.settle < lag and lag * _MARGIN < longest]
    ages = list(steps.always)
    for age in sorted(wanted, reverse=True):
        near = any(age <= other < 2 * age for other in ages)
        if not near and steps.cost([*ages, age]) - steps.cost(steps.always) <= steps.per_day:
            ages.append(age)
    return tuple(sorted(ages))


def start(steps: Ladder, since: datetime, now: datetime) -> Progress:
    """The first progress: the last window at once, all before it as history."""
    now, since = now.replace(microsecond=0), since.replace(microsecond=0)
    recent = max(since, now - steps.window)
    return Progress(
        live=recent,
        again=tuple(Rung(age, max(since, now - age)) for age in steps.ages),
        history=Span(since=since, until=recent) if since < recent else None,
    )


def next_ask(steps: Ladder, progress: Progress, now: datetime) -> Ask | None:
    """What to ask next: what was interrupted, the present, what has come of age, then history.

    None: all is done.
    """
    now = now.replace(microsecond=0)
    oldest = now - steps.keeps if steps.keeps else _EVER
    progress = _still_kept(progress, oldest)
    if progress.rest:
        return progress.rest
    if progress.live < now:
        until = min(progress.live + steps.window, now)
        span = Span(since=max(progress.live - steps.settle, oldest), until=until)
        return Ask(span=span, then=replace(progress, live=until))
    for number, (age, reached) in enumerate(progress.again):
        if now - age - reached >= steps.step(age):
            until = min(reached + steps.window, now - age)
            again = list(progress.again)
            again[number] = Rung(age, until)
            then = replace(progress, again=tuple(again))
            return Ask(span=Span(since=reached, until=until), then=then)
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
    history, rest = _kept(progress.history, oldest), progress.rest
    if rest:
        span = _kept(rest.span, oldest)
        if span is None:
            return _still_kept(rest.then, oldest)
        rest = replace(rest, span=span)
    return Progress(
        live=max(progress.live, oldest),
        again=tuple(Rung(age, max(reached, oldest)) for age, reached in progress.again),
        history=history,
        rest=rest,
    )


def _kept(span: Span | None, oldest: datetime) -> Span | None:
    if span is None or oldest >= span.until:
        return None
    return Span(since=max(span.since, oldest), until=span.until)


def begin(steps: Ladder) -> Callable[[datetime, datetime], Cursor]:
    """`begin` of a stream that is walked in windows."""
    return lambda since, now: _dump(start(steps, since, now))


def between(steps: Ladder) -> Callable[[Span, datetime], Cursor]:
    """`between` of a stream that is walked in windows: nothing but this span of history."""

    def cursor(span: Span, now: datetime) -> Cursor:
        # Far ahead of the clock, so that there is no present and nothing to read again.
        ahead = now.replace(microsecond=0) + timedelta(days=1)
        again = tuple(Rung(age, ahead) for age in steps.ages)
        return _dump(Progress(live=ahead, again=again, history=span))

    return cursor


def learn(steps: Ladder) -> Callable[[Cursor, Sequence[timedelta]], Cursor]:
    """`learn` of a stream that is walked in windows: the rungs move to where records are late."""

    def learned(cursor: Cursor, late: Sequence[timedelta]) -> Cursor:
        progress = _load(cursor, steps)
        if progress.rest:
            return cursor
        return _dump(replace(progress, again=_moved(progress, climb(steps, late))))

    return learned


def _moved(progress: Progress, ages: Sequence[timedelta]) -> tuple[Rung, ...]:
    """What was read at some age was read at any lesser age too."""
    return tuple(
        Rung(
            age,
            max(
                (rung.reached for rung in progress.again if rung.age >= age),
                default=progress.live - 2 * age,
            ),
        )
        for age in ages
    )


def pages(
    steps: Ladder, read: Read, time: str | None = None
) -> Callable[[httpx.Client, Cursor, datetime], Iterator[Page]]:
    """`pages` of a stream that is walked in windows: the cursor moves when a window is complete.

    Where the vendor orders a window by the RFC 3339 text at the path `time`, either way, it moves
    with each answer, so that a burst is not read from its start again.
    """

    def walk(client: httpx.Client, cursor: Cursor, now: datetime) -> Iterator[Page]:
        progress = kept = _load(cursor, steps)
        while ask := next_ask(steps, progress, now):
            left = ask.span
            for answer in read(client, ask.span):
                if isinstance(answer, Gap):
                    yield Page(records=(), cursor=_dump(progress), gaps=(answer,))
                    continue
                done, left = _done(left, answer, time) if time else (None, left)
                if done:
                    progress = replace(progress, rest=replace(ask, span=left))
                yield Page(records=answer, cursor=_dump(progress), covers=done)
            progress = ask.then
            worth = _worth_keeping(kept, progress)
            yield Page(records=(), cursor=_dump(progress), covers=left, milestone=worth)
            kept = progress if worth else kept

    return walk


def _done(left: Span, answer: Sequence[bytes], time: str) -> tuple[Span | None, Span]:
    """What an answer has covered of a span, and what is left of it; what is equal is left."""
    try:
        first, last = (_time(answer[place], time) for place in (0, -1))
    except (IndexError, ValueError, TypeError):
        return None, left
    if last < first and left.since < last < left.until - _TICK:
        until = last + _TICK
        return Span(since=until, until=left.until), Span(since=left.since, until=until)
    if first < last and left.since < last < left.until:
        return Span(since=left.since, until=last), Span(since=last, until=left.until)
    return None, left


_TICK = timedelta(milliseconds=1)


def _time(record: bytes, path: str) -> datetime:
    """Raises ValueError and TypeError."""
    value = json_records.load(record)
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    time = datetime.fromisoformat(value)
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _worth_keeping(kept: Progress, progress: Progress) -> bool:
    """Has so much been asked in vain that it should not be asked again?"""
    if kept.history and not progress.history:
        return True
    reached = {rung.age: rung.reached for rung in kept.again}
    moved = [after - reached.get(age, after) for age, after in progress.again]
    return any(gain >= _WORTH for gain in (progress.live - kept.live, *moved))


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


def _load(cursor: Cursor, steps: Ladder) -> Progress:
    """The progress of a cursor; where the vendor's lag is another now, so are the ages."""
    progress = _read(json.loads(cursor), steps)
    if not {*steps.always} <= {rung.age for rung in progress.again}:
        return replace(progress, again=_moved(progress, steps.ages))
    return progress


def _read(stored: dict[str, Any], steps: Ladder) -> Progress:
    ages = [timedelta(seconds=age) for age in stored.get("ages", ())]
    times = map(datetime.fromisoformat, stored["again"])
    history, rest = stored["history"], stored.get("rest")
    return Progress(
        live=datetime.fromisoformat(stored["live"]),
        again=tuple(map(Rung, ages or steps.ages, times)),
        history=_span(*history) if history else None,
        rest=Ask(span=_span(*rest[:2]), then=_read(rest[2], steps)) if rest else None,
    )


def _span(since: str, until: str) -> Span:
    return Span(since=datetime.fromisoformat(since), until=datetime.fromisoformat(until))
