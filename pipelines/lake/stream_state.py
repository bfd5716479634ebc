"""The coverage of a stream and its state, computed from rows of `coverage`. Pure.

The command line, the dashboard and backfills all use these functions, so that they agree. A range
that was fetched is complete up to the vendor's lag before the poll. A younger range settles until
it is fetched again, since late events may still arrive. A range the vendor can no longer return
is lost and stays so, whatever is polled later.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

import polars as pl

from pipelines.errors import NOT_LICENSED
from pipelines.lake import spans
from pipelines.sdk.pages import Gap, Span

RECENT = timedelta(days=14)
"""The time before now that a summary describes."""
NOT_POLLED = "not fetched yet"
EARLIER = "before the first fetched time"
NEVER_POLLED = "never polled"
SINCE_LAST_POLL = "not polled since"
NOT_KEPT = "the vendor no longer keeps it"
_LICENCE = re.compile(rf"\S+ \S+ answered \d+: {NOT_LICENSED}: ")
"""A refusal as the client words it; the service's own words only follow."""
_SECOND = timedelta(seconds=1)
_QUIET = timedelta(hours=1)  # rounds without new records are recorded up to this seldom
_EVER = datetime.min.replace(tzinfo=UTC)
KEY = ["integration", "stream"]

Key = tuple[str, str]
"""(integration, stream)"""
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The properties of a stream that its coverage depends on, and its names for people."""

    kind: str = ""
    title: str = ""
    lag: timedelta = timedelta(0)
    keeps: timedelta | None = None
    """None: unknown, so nothing is lost by age."""
    tenant: str = ""
    """Whose log it is, as sdk/tenant.py writes it; empty: unknown."""
    configured: bool = True
    """False: it was polled once, but the configuration no longer contains it."""
    retired_at: datetime | None = None
    """When it was retired by a signed act."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intended:
    """The streams that are to be polled, and those that are not any more."""

    configured: Callable[[Key], bool] | None = None
    """None: unknown, as where a lake is only read."""
    retired: Mapping[Key, datetime] = field(default_factory=dict)

    def of(self, key: Key, facts: Facts) -> Facts:
        """Return the facts of a stream with the intention."""
        configured = self.configured is None or self.configured(key)
        return replace(facts, configured=configured, retired_at=self.retired.get(key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The rows of one stream, reduced to the facts that its coverage and state depend on."""

    facts: Facts = Facts()
    asked: tuple[Span, ...] = ()
    """Everything that was fetched."""
    final: tuple[Span, ...] = ()
    """The part of `asked` that was older than the lag when it was fetched."""
    gone: tuple[Gap, ...] = ()
    known: Span | None = None
    """From the first time that was wanted to the last that any poll concerned.

    What had expired when it was wanted is not part of it, nor is the time in between.
    """
    failures: tuple[Failure, ...] = ()
    """Oldest first."""
    polled_at: datetime | None = None
    """The last poll, successful or not."""
    answered_at: datetime | None = None
    """The last successful poll."""
    interval: timedelta | None = None
    """The median time between the newest hundred recorded polls."""

    @property
    def failing(self) -> tuple[Failure, ...]:
        """Return the failures since the last successful poll."""
        last = self.answered_at
        return self.failures[bisect_left(self.failures, last, key=_at) if last else 0 :]

    @property
    def retired(self) -> bool:
        """Return whether it was retired and has not been polled since."""
        at = self.facts.retired_at
        return at is not None and (self.polled_at is None or self.polled_at <= at)

    @property
    def reached(self) -> datetime | None:
        """Return up to when the stream was polled successfully; a backfill does not move it."""
        if not self.asked or not self.answered_at:
            return None
        return min(self.asked[-1].until, self.answered_at)

    @property
    def next_due(self) -> datetime | None:
        """Return when the next poll is to be expected, by the usual interval."""
        return self.polled_at + self.interval if self.polled_at and self.interval else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """A stream's event time, from the first that was wanted to the last that was recorded."""

    complete: tuple[Span, ...] = ()
    settling: tuple[Span, ...] = ()
    gaps: tuple[Gap, ...] = ()
    """Missing; they are fetched as soon as possible."""
    lost: tuple[Gap, ...] = ()
    """Missing forever."""


StateName = Literal[
    "never polled", "failing", "not licensed", "late", "events behind raw", "up to date",
    "not polled", "retired",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    name: StateName
    since: datetime | None = None
    """Since when the stream has been failing, or without a licence."""
    reason: str | None = None
    """The newest failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The state of a stream and its recent coverage, as every surface shows them."""

    state: State
    polled_at: datetime | None = None
    share: float | None = None
    """The covered share of the time up to the last poll, from 0 to 1."""
    gaps: int = 0
    """Number of gaps and losses in this time."""
    lost: int = 0
    """Number of losses at any time."""
    known: Coverage = Coverage()


def summary(history: History, now: datetime, *, behind: bool = False) -> Summary:
    """Return the state, and the coverage of the time since `RECENT`; `behind` as for `state`."""
    known, recent = coverage(history, now), Span(since=now - RECENT, until=now)
    return Summary(
        state=state(history, now, behind=behind),
        polled_at=history.polled_at,
        share=share(history, known, recent),
        gaps=len(gaps(known, recent)),
        lost=len(known.lost),
        known=known,
    )


def state(history: History, now: datetime, *, behind: bool = False) -> State:
    """Return the state of polling; `behind`: some of its rows have no events yet.

    A stream that another machine polls is not late, although its configuration is elsewhere.
    """
    if history.retired:
        return State(name="retired")
    if history.polled_at is None:
        return State(name="never polled")
    # A backfill is an answer too, but of old times: live polling may have stopped long before.
    reached = min(history.polled_at, history.known.until if history.known else history.polled_at)
    late = now - reached > max(_QUIET, 4 * (history.interval or timedelta()))
    if late and not history.facts.configured:
        return State(name="not polled")
    if failing := history.failing:
        name: StateName = "not licensed" if _LICENCE.match(failing[-1].reason) else "failing"
        return State(name=name, since=failing[0].at, reason=failing[-1].reason)
    if late:
        return State(name="late")
    return State(name="events behind raw" if behind else "up to date")


def coverage(history: History, now: datetime) -> Coverage:
    gone = [gap.span for gap in history.gone]
    missing = spans.minus(_whole_seconds(history.known), [*history.asked, *gone])
    keeps = history.facts.keeps
    kept = (
        missing if keeps is None else spans.minus(missing, [Span(since=_EVER, until=now - keeps)])
    )
    aged = [Gap(span=span, reason=NOT_KEPT) for span in spans.minus(missing, kept)]
    return Coverage(
        complete=spans.minus(history.final, gone),
        settling=spans.minus(history.asked, [*history.final, *gone]),
        gaps=tuple(Gap(span=span, reason=_why(history, span)) for span in kept),
        lost=tuple(sorted([*history.gone, *aged], key=lambda gap: gap.span.since)),
    )


def gaps(known: Coverage, within: Span) -> tuple[Gap, ...]:
    """Return the gaps and losses within a range, in order."""
    found = sorted([*known.gaps, *known.lost], key=lambda gap: gap.span.since)
    return spans.clipped(found, within)


def uncovered(history: History, known: Coverage, within: Span) -> tuple[Gap, ...]:
    """Return the parts of a range that are neither complete nor settling, with the reasons.

    Unlike `gaps`, this includes the time before the first poll's range and after the last poll.
    """
    inside = gaps(known, within)
    rest = spans.minus([within], [*history.asked, *(gap.span for gap in inside)])
    outside = [Gap(span=span, reason=_why_outside(history, span)) for span in rest]
    return tuple(sorted([*inside, *outside], key=lambda gap: gap.span.since))


def ended(history: History, now: datetime, *, log: str) -> str | None:
    """Return when polling a stream ended, and the next step; None if it did not.

    `log` is the stream as commands take it, such as okta/system_log.
    """
    name, facts = state(history, now).name, history.facts
    if name == "retired" and facts.retired_at:
        return f"retired at {facts.retired_at:%Y-%m-%d %H:%M:%S} UTC"
    if name != "not polled" or history.polled_at is None:
        return None
    return (
        f"{SINCE_LAST_POLL} {history.polled_at:%Y-%m-%d %H:%M:%S} UTC, because it is no longer "
        f"configured: configure it again, or run `auditlake retire {log}`"
    )


def up_to_last_poll(history: History, within: Span) -> Span | None:
    """Return the part of a range before the last poll: younger events are not missing yet."""
    for known in _whole_seconds(history.known):
        until = min(within.until, known.until)
        return Span(since=within.since, until=until) if until > within.since else None
    return None


def due(history: History, within: Span, now: datetime) -> Span | None:
    """Return the part of a range that should have been fetched by now; None if there is none.

    While the last poll is recent, this is the part before it: younger events are not missing yet.
    """
    if state(history, now).name in ("up to date", "events behind raw", "retired"):
        return up_to_last_poll(history, within)
    return within


def share(history: History, known: Coverage, within: Span) -> float | None:
    """Return the covered share of a range up to the last poll, from 0 to 1; None before it."""
    polled = up_to_last_poll(history, within)
    if polled is None:
        return None
    missing = (gap.span.until - gap.span.since for gap in uncovered(history, known, polled))
    return 1 - sum(missing, timedelta()) / (polled.until - polled.since)


def facts(rows: pl.LazyFrame) -> dict[Key, Facts]:
    """Return the facts per stream; `rows` are of `streams` (schemas.STREAMS)."""
    ours = rows.select(*KEY, "kind", "title", "lag", "keeps", _tenant(rows)).sort(KEY).collect()
    return {
        (integration, stream): Facts(
            kind=kind,
            title=title,
            lag=timedelta(microseconds=lag),
            keeps=None if keeps is None else timedelta(microseconds=keeps),
            tenant=tenant,
        )
        for integration, stream, kind, title, lag, keeps, tenant in ours.iter_rows()
    }


def _tenant(rows: pl.LazyFrame) -> pl.Expr:
    # Lakes of older versions lack the column.
    known = "tenant" in rows.collect_schema()
    return (pl.col("tenant") if known else pl.lit(None, pl.String)).fill_null("").alias("tenant")


def histories(rows: pl.LazyFrame, facts: Mapping[Key, Facts]) -> dict[Key, History]:
    """Return the history per stream of `rows` (schemas.COVERAGE) and `facts`.

    A stream without facts has no lag. Polars merges the rows first: there may be 100,000s.
    """
    outcome, rows = pl.col("outcome"), valid(rows)
    merged, gone, failed = pl.collect_all(
        [
            _merged(rows, facts),
            _reasons(rows.filter(outcome.is_in(["gone", "expired"]))).unique(
                [*KEY, "since", "until"], keep="last", maintain_order=True
            ),
            _reasons(rows.filter(outcome == "failed")),
        ]
    )
    lost, failures = _by_key(gone, _gap), _by_key(failed, _failure)
    found = {key: History(facts=known) for key, known in facts.items()}
    for one in merged.iter_rows(named=True):
        key = one["integration"], one["stream"]
        found[key] = History(
            facts=facts.get(key, Facts()),
            asked=_spans(one["asked_since"], one["asked_until"]),
            final=_spans(one["final_since"], one["final_until"]),
            gone=spans.disjoint(lost.get(key, ())),
            known=Span(since=one["since"], until=one["until"]) if one["since"] else None,
            failures=failures.get(key, ()),
            polled_at=one["polled_at"],
            answered_at=one["answered_at"],
            interval=one["interval"],
        )
    return found


def valid(rows: pl.LazyFrame, key: Sequence[str] = KEY) -> pl.LazyFrame:
    """Return the rows (schemas.COVERAGE) without the void ones and those that they cancel.

    `key`: the columns that name the stream, empty where all rows are of one.
    """
    void = pl.col("outcome") == "void"
    same = [*key, "since", "until", "asked_at"]
    return rows.filter(~void).join(rows.filter(void), on=same, how="anti", maintain_order="left")


def _merged(rows: pl.LazyFrame, facts: Mapping[Key, Facts]) -> pl.LazyFrame:
    """Return one row per stream: the union of its complete spans as lists, and its polls."""
    outcome, asked_at = pl.col("outcome"), pl.col("asked_at")
    # "wanted" is recorded before the vendor has answered, "expired" without a query.
    polled = asked_at.filter(outcome.is_in(spans.ANSWERS))
    concerned = outcome != "expired"
    settled = pl.min_horizontal("until", asked_at - pl.col("lag").fill_null(timedelta()))
    return (
        rows.select(*KEY, "since", "until", "asked_at", "outcome")
        .join(_lags(facts), on=KEY, how="left")
        .group_by(KEY)
        .agg(
            pl.col("since").filter(concerned).min(),
            pl.col("until").filter(concerned).max(),
            *_union("asked", pl.col("until")),
            *_union("final", settled),
            polled_at=polled.max(),
            answered_at=asked_at.filter(outcome.is_in(spans.SUCCESSES)).max(),
            interval=polled.unique().sort().tail(100).diff().median(),
        )
    )


def _union(name: str, until: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Return the ends of the union of the complete spans up to `until`, as two lists."""
    chosen = (pl.col("outcome") == "complete") & (pl.col("since") < until)
    since = pl.col("since").filter(chosen)
    reached = until.filter(chosen).sort_by(since).cum_max()
    since = since.sort()
    first = (since > reached.shift()).fill_null(value=True)
    last = first.shift(-1).fill_null(value=True)
    return since.filter(first).alias(f"{name}_since"), reached.filter(last).alias(f"{name}_until")


def _lags(facts: Mapping[Key, Facts]) -> pl.LazyFrame:
    names = [list(names) for names in zip(*facts, strict=True)] or [[], []]
    return pl.LazyFrame(
        {"integration": names[0], "stream": names[1], "lag": [one.lag for one in facts.values()]},
        {"integration": pl.String, "stream": pl.String, "lag": pl.Duration("us")},
    )


def _reasons(rows: pl.LazyFrame) -> pl.LazyFrame:
    reason = pl.col("reason").fill_null("")
    return rows.select(*KEY, "since", "until", "asked_at", reason).sort("asked_at")


def _by_key(rows: pl.DataFrame, made: Callable[..., T]) -> dict[Key, tuple[T, ...]]:
    """Return per stream the values made of the columns after its name."""
    found: dict[Key, list[T]] = {}
    for integration, stream, *rest in rows.iter_rows():
        found.setdefault((integration, stream), []).append(made(*rest))
    return {key: tuple(each) for key, each in found.items()}


def _spans(since: list[datetime], until: list[datetime]) -> tuple[Span, ...]:
    return tuple(Span(since=a, until=b) for a, b in zip(since, until, strict=True))


def _gap(since: datetime, until: datetime, _at: datetime, reason: str) -> Gap:
    return Gap(span=Span(since=since, until=until), reason=reason)


def _failure(_since: datetime, _until: datetime, at: datetime, reason: str) -> Failure:
    return Failure(at=at, reason=reason)


def _whole_seconds(known: Span | None) -> list[Span]:
    """Return the range in which time can be missing: `known`, rounded inwards to whole seconds.

    It begins and ends at times of our clock with microseconds, but windows and vendors' files have
    whole seconds, so that a fraction at either end would be a gap that no poll can close. Only this
    function rounds: a gap inside the range is reported however short it is.
    """
    if known is None:
        return []
    since = known.since.replace(microsecond=0)
    since += _SECOND if since < known.since else timedelta()
    return [Span(since=since, until=known.until.replace(microsecond=0))]


def _why(history: History, span: Span) -> str:
    """Return the newest failure during a gap; without one, that of a stream that still fails."""
    before = bisect_left(history.failures, span.until + _SECOND, key=_at)
    if before and history.failures[before - 1].at >= span.since:
        return history.failures[before - 1].reason
    failing = history.failing
    return failing[-1].reason if failing else NOT_POLLED


def _why_outside(history: History, span: Span) -> str:
    if history.polled_at is None:
        return NEVER_POLLED
    known = history.known
    if known is not None and span.since < known.since:
        return EARLIER
    found = _why(history, span)
    return SINCE_LAST_POLL if found == NOT_POLLED else found


def _at(failure: Failure) -> datetime:
    return failure.at
