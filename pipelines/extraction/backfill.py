"""Backfills: fetch a range of history, while the live stream keeps its position."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from pipelines.errors import AuditlakeError
from pipelines.extraction import clock_repair, rounds
from pipelines.extraction.pending import PendingCoverage
from pipelines.extraction.report import Report
from pipelines.extraction.rounds import Round
from pipelines.lake import coverage, raw, spans, stream_state
from pipelines.lake.coverage import Entry
from pipelines.sdk.pages import Gap, Span

_RECENT = timedelta(days=1)
_WHILE_READING = timedelta(minutes=1)


def fetch_span(this: Round, span: Span, *, again: bool = False) -> Report:
    """Fetch a range of history, newest first, and return the report with the error, if any.

    Parts that were fetched completely within the last day are skipped, so an interrupted backfill
    resumes where it stopped; `again` fetches them too. Parts that the vendor no longer keeps and
    the lake does not have are recorded as lost; if all of the range is that old, it is an error.
    """
    with rounds.reporting(this) as report:
        position = raw.position_only(this.lake, this.key)
        report.total = position.rows
        rounds.check_origin(this, position.about, this.now)
        clock_repair.learn_time(this)
        now = this.now
        second = now.replace(microsecond=0)
        oldest = second + _WHILE_READING - this.stream.keeps
        lost = _record_lost(this, Span(since=span.since, until=min(span.until, oldest)))
        report.gaps += [Gap(span=each, reason=stream_state.NOT_KEPT) for each in lost]
        if lost and span.until <= oldest:
            raise AuditlakeError(_too_old(this))
        wanted = Span(since=max(span.since, oldest), until=min(span.until, second))
        fetched_after = now if again else now - _RECENT
        for part in reversed(_missing(this, wanted, fetched_after)):
            _fetch_part(this, part, report)
    return report


def _record_lost(this: Round, span: Span) -> tuple[Span, ...]:
    """Record the parts of a span that were never fetched as expired, and return them."""
    if span.since >= span.until:
        return ()
    history = coverage.history(this.lake, this.key, this.facts)
    lost = spans.minus([span], history.asked)
    new = spans.minus(lost, [gap.span for gap in history.gone])
    now = this.now
    expired = [
        Entry(
            since=each.since,
            until=each.until,
            asked_at=now,
            outcome="expired",
            reason=stream_state.NOT_KEPT,
        )
        for each in new
    ]
    if expired:
        coverage.record(this.lake, this.key, expired)
    return lost


def _too_old(this: Round) -> str:
    return (
        f"nothing to fetch: {this.source.integration.title} keeps {this.stream.name} for "
        f"{this.stream.keeps.days} days, and the range is older: it is lost where the lake lacks "
        "it, see `auditlake coverage`"
    )


def _missing(this: Round, span: Span, since: datetime) -> tuple[Span, ...]:
    """Return the parts of `span` that were not fetched completely after `since`."""
    recent = coverage.entries(this.lake, this.key).filter(pl.col("asked_at") > since)
    history = stream_state.histories(recent.lazy(), {this.key: this.facts})[this.key]
    missing = spans.minus([span], stream_state.coverage(history, this.now).complete)
    # Some vendors round the ends of a range down to seconds, which would leave fractions missing.
    return spans.union(map(spans.whole_seconds, missing))


def _fetch_part(this: Round, span: Span, report: Report) -> None:
    now = this.now
    # Recorded first, so that a backfill that is killed leaves a visible gap.
    wanted = Entry(since=span.since, until=span.until, asked_at=now, outcome="wanted")
    coverage.record(this.lake, this.key, [wanted])
    between = this.stream.between
    cursor = between(span, now) if between else this.stream.begin(span.since, now)
    rounds.run(this, cursor, PendingCoverage(now=now, recorded_at=None), report)
