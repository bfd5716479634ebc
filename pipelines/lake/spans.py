"""Arithmetic on spans of time, and condensing of coverage rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from pipelines.sdk.pages import Gap, Span

ANSWERS = ("complete", "failed", "gone")
"""The outcomes that follow a query to the vendor."""
SUCCESSES = ("complete", "gone")
"""Those of queries that the vendor answered."""
_SECOND = timedelta(seconds=1)


def union(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return the same times as disjoint spans, in order; empty ones are dropped."""
    disjoint: list[Span] = []
    for span in sorted(spans, key=lambda span: span.since):
        if span.since >= span.until:
            continue
        if disjoint and span.since <= disjoint[-1].until:
            until = max(disjoint[-1].until, span.until)
            disjoint[-1] = Span(since=disjoint[-1].since, until=until)
        else:
            disjoint.append(span)
    return tuple(disjoint)


def minus(spans: Iterable[Span], removed: Iterable[Span]) -> tuple[Span, ...]:
    """Return the times of `spans` that are in none of `removed`, as disjoint spans in order."""
    apart = union(spans)
    bounds = Span(since=apart[0].since, until=apart[-1].until) if apart else None
    near = [hole for hole in removed if bounds and _meet(hole, bounds)]
    left, holes, first = list[Span](), union(near), 0
    for span in apart:
        while first < len(holes) and holes[first].until <= span.since:
            first += 1
        since, at = span.since, first
        while at < len(holes) and holes[at].since < span.until:
            if since < holes[at].since:
                left.append(Span(since=since, until=holes[at].since))
            since, at = holes[at].until, at + 1
        if since < span.until:
            left.append(Span(since=since, until=span.until))
    return tuple(left)


def whole_seconds(span: Span) -> Span:
    """Return the span, extended at both ends to whole seconds."""
    since, until = (end.replace(microsecond=0) for end in (span.since, span.until))
    return Span(since=since, until=until if until == span.until else until + _SECOND)


def disjoint(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """Return the same times as disjoint gaps, in order; the first of overlapping gaps is kept."""
    kept: list[Gap] = []
    for gap in sorted(gaps, key=lambda gap: (gap.span.since, gap.span.until)):
        since = max(gap.span.since, kept[-1].span.until) if kept else gap.span.since
        if since >= gap.span.until:
            continue
        if kept and since == kept[-1].span.until and gap.reason == kept[-1].reason:
            since = kept.pop().span.since
        kept.append(Gap(span=Span(since=since, until=gap.span.until), reason=gap.reason))
    return tuple(kept)


def clipped(gaps: Iterable[Gap], bounds: Span) -> tuple[Gap, ...]:
    """Return the parts of `gaps` inside `bounds`; gaps outside are dropped."""
    return tuple(
        Gap(
            span=Span(
                since=max(gap.span.since, bounds.since), until=min(gap.span.until, bounds.until)
            ),
            reason=gap.reason,
        )
        for gap in gaps
        if _meet(gap.span, bounds)
    )


def _meet(span: Span, other: Span) -> bool:
    return span.since < other.until and other.since < span.until


def condensed(rows: Sequence[dict[str, Any]], lag: timedelta) -> list[dict[str, Any]]:
    """Return fewer rows of schemas.COVERAGE of one stream with the same coverage at any time.

    A row that contains the previous one replaces it. A row that makes nothing complete by itself,
    because all of it is younger than `lag`, extends the previous one, which keeps its `asked_at`:
    such a row's `until` may be later than its `asked_at`. The newest answer and the newest success
    are kept, since they hold the times of the last poll and of the last successful one.
    """
    kept: list[dict[str, Any]] = []
    newest = {
        max((row["asked_at"] for row in rows if row["outcome"] in outcomes), default=None)
        for outcomes in (ANSWERS, SUCCESSES)
    }
    for row in rows:
        if kept and (merged := _merged(kept[-1], row, lag, last=row["asked_at"] in newest)):
            kept[-1] = merged
        else:
            kept.append(row)
    return kept


def _merged(
    previous: dict[str, Any], row: dict[str, Any], lag: timedelta, *, last: bool
) -> dict[str, Any] | None:
    """Return one row with the coverage of two, or None where there is none."""
    # Clocks may be set back between two polls: the older answer then settles less.
    ordered = previous["asked_at"] <= row["asked_at"]
    if not ordered or not previous["outcome"] == row["outcome"] == "complete":
        return None
    if row["since"] <= previous["since"] and previous["until"] <= row["until"]:
        return row
    if not last and row["asked_at"] - lag <= row["since"] <= previous["until"] <= row["until"]:
        return {**row, "since": previous["since"], "asked_at": previous["asked_at"]}
    return None
