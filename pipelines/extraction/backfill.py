"""Backfills: fetch a range of history, while the live stream keeps its position."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from pipelines.extraction import clock_repair, rounds
from pipelines.extraction.pending import PendingCoverage
from pipelines.extraction.report import Report
from pipelines.extraction.rounds import Round
from pipelines.lake import coverage, raw, spans, stream_state, streams
from pipelines.lake.coverage import Entry
from pipelines.sdk.pages import Span

_RECENT = timedelta(days=1)
_WHILE_READING = timedelta(minutes=1)


def fetch_span(this: Round, span: Span, *, again: bool = False) -> Report:
    """Fetch a range of history, newest first, and return the report with the error, if any.

    Parts that were fetched completely within the last day are skipped, so an interrupted backfill
    resumes where it stopped; `again` fetches them too.
    """
    with rounds.reporting(this) as report:
        report.total = raw.position_only(this.lake, this.key).rows
        clock_repair.learn_time(this)
        now = this.now
        streams.record(this.lake, this.key, this.facts, now)
        second = now.replace(microsecond=0)
        since = max(span.since, second + _WHILE_READING - this.stream.keeps)
        wanted = Span(since=since, until=min(span.until, second))
        fetched_after = now if again else now - _RECENT
        for part in reversed(_missing(this, wanted, fetched_after)):
            _fetch_part(this, part, report)
    return report


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
