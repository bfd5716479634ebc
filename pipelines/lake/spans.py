"""What is known of a stream, from what was asked: spans that are complete, settling, or gaps. Pure.

A span that was asked for is complete up to the vendor's lag before the question; what is younger
settles, since late events may still come, until it is asked for again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from pipelines.sdk.pages import Gap, Span

_NOT_KEPT = "the vendor no longer keeps it"
_SECOND = timedelta(seconds=1)
_EVER = datetime.min.replace(tzinfo=UTC)

_Row = tuple[str, datetime, datetime, datetime, str | None]
"""outcome, since, until, asked_at, reason"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """A stream's event time, from the first that was wanted until what was noted last."""

    complete: tuple[Span, ...] = ()
    settling: tuple[Span, ...] = ()
    gaps: tuple[Gap, ...] = ()
    """Will be filled as soon as they can be."""
    lost: tuple[Gap, ...] = ()
    """Will never be filled."""


def coverage(claims: pl.DataFrame, *, lag: timedelta, keeps: timedelta, now: datetime) -> Coverage:
    """What schemas.COVERAGE rows of one stream say; `lag` and `keeps` are the stream's own."""
    rows = claims.select("outcome", "since", "until", "asked_at", "reason").rows()
    asked = union(span for span, _, _ in _of(rows, "complete"))
    final = union(
        Span(since=span.since, until=min(span.until, at - lag))
        for span, at, _ in _of(rows, "complete")
    )
    gone = [Gap(span=span, reason=reason or "") for span, _, reason in _of(rows, "gone")]
    missing = [gap.span for gap in gone]
    unasked = [gap for gap in minus(_whole(rows), asked) if gap.until - gap.since >= _SECOND]
    kept = minus(unasked, [Span(since=_EVER, until=now - keeps)])
    return Coverage(
        complete=minus(final, missing),
        settling=minus(minus(asked, final), missing),
        gaps=tuple(Gap(span=span, reason=_why(rows, span)) for span in kept),
        lost=(*gone, *(Gap(span=span, reason=_NOT_KEPT) for span in minus(unasked, kept))),
    )


def condensed(claims: Sequence[dict[str, Any]], lag: timedelta) -> list[dict[str, Any]]:
    """Fewer rows of schemas.COVERAGE that say the same of one stream; in the order of asked_at.

    A question that takes in the one before replaces it. One that makes nothing complete by itself,
    since all it asked for is too young, only makes the one before longer.
    """
    kept: list[dict[str, Any]] = []
    for claim in claims:
        last = kept[-1] if kept else claim
        if last is claim or not last["outcome"] == claim["outcome"] == "complete":
            kept.append(claim)
        elif claim["since"] <= last["since"] and last["until"] <= claim["until"]:
            kept[-1] = claim
        elif claim["asked_at"] - lag <= claim["since"] <= last["until"] <= claim["until"]:
            kept[-1] = {**claim, "since": last["since"], "asked_at": last["asked_at"]}
        else:
            kept.append(claim)
    return kept


def union(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same times as spans that are apart, in order; empty ones vanish."""
    apart: list[Span] = []
    for span in sorted(spans, key=lambda span: span.since):
        if span.since >= span.until:
            continue
        if apart and span.since <= apart[-1].until:
            until = max(apart[-1].until, span.until)
            apart[-1] = Span(since=apart[-1].since, until=until)
        else:
            apart.append(span)
    return tuple(apart)


def minus(spans: Iterable[Span], taken: Iterable[Span]) -> tuple[Span, ...]:
    """The times of `spans` that are in none of `taken`."""
    left = union(spans)
    for hole in union(taken):
        left = union(
            part
            for span in left
            for part in (
                Span(since=span.since, until=min(span.until, hole.since)),
                Span(since=max(span.since, hole.until), until=span.until),
            )
        )
    return left


def _of(rows: Sequence[_Row], outcome: str) -> list[tuple[Span, datetime, str | None]]:
    return [
        (Span(since=since, until=until), at, reason)
        for said, since, until, at, reason in rows
        if said == outcome
    ]


def _whole(rows: Sequence[_Row]) -> list[Span]:
    """One span over all that the rows speak of, in whole seconds: vendors' clocks are coarse."""
    if not rows:
        return []
    since, until = min(row[1] for row in rows), max(row[2] for row in rows)
    return [Span(since=since.replace(microsecond=0) + _SECOND, until=until.replace(microsecond=0))]


def _why(rows: Sequence[_Row], span: Span) -> str:
    """The newest failure since the gap began."""
    failures = [(at, reason) for _, at, reason in _of(rows, "failed") if at >= span.since]
    return max(failures)[1] or "" if failures else "not asked for yet"
