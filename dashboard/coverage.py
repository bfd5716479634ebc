"""Coverage and state of all streams of a lake, from `coverage` and `streams`.

`pipelines.lake.stream_state` computes them, for the dashboard as for `auditlake coverage`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from dashboard.lake import Lake
from pipelines.lake import spans, stream_state
from pipelines.lake.stream_state import Coverage, Facts, History, Intended, Summary
from pipelines.schemas import COVERAGE
from pipelines.sdk import pages
from pipelines.sdk.pages import Span

Log = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time range that a stream does not cover, and the reason."""

    since: datetime
    until: datetime
    log: Log
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The streams of a lake at one time."""

    now: datetime
    streams: Mapping[Log, tuple[History, Coverage]]
    """All streams that were ever polled or are known to the lake."""

    def uncovered(self, log: Log, since: datetime, until: datetime) -> list[Gap]:
        """Return the parts of a range that are not covered, whatever the reason.

        The time since the last poll counts only if the next one is overdue.
        """
        history, covered = self._of(log)
        due = stream_state.due(history, Span(since=since, until=until), self.now)
        return _gaps(log, stream_state.uncovered(history, covered, due)) if due else []

    @property
    def names(self) -> pl.DataFrame:
        """Return one row per stream: integration, stream and kind, as in `events`."""
        rows = [(*log, history.facts.kind or log[0]) for log, (history, _) in self.streams.items()]
        columns = dict.fromkeys(("integration", "stream", "kind"), pl.String)
        return pl.DataFrame(rows, columns, orient="row")

    def gaps(self, log: Log, since: datetime, until: datetime) -> list[Gap]:
        """Return the gaps and losses within a range, as `auditlake coverage` lists them."""
        _, covered = self._of(log)
        return _gaps(log, stream_state.gaps(covered, Span(since=since, until=until)))

    def share(self, log: Log, since: datetime, until: datetime) -> float | None:
        """Return the covered share of a range up to the last poll, from 0 to 1."""
        history, covered = self._of(log)
        return stream_state.share(history, covered, Span(since=since, until=until))

    def open_gaps(self, log: Log, since: datetime, until: datetime) -> list[Gap]:
        """Return the gaps within a range that can still be filled."""
        _, covered = self._of(log)
        return _gaps(log, spans.clipped(covered.gaps, Span(since=since, until=until)))

    def lost(self, log: Log) -> list[Gap]:
        """Return the ranges that can never be fetched, at any time."""
        return _gaps(log, self._of(log)[1].lost)

    def summary(self, log: Log, *, behind: bool = False) -> Summary:
        return stream_state.summary(self._of(log)[0], self.now, behind=behind)

    def ended(self, log: Log) -> str | None:
        """Return when polling the stream ended, and the next step; None if it did not."""
        return stream_state.ended(self._of(log)[0], self.now, log="/".join(log))

    def polled_at(self, log: Log) -> datetime | None:
        return self._of(log)[0].polled_at

    def next_due(self, log: Log) -> datetime | None:
        return self._of(log)[0].next_due

    def _of(self, log: Log) -> tuple[History, Coverage]:
        return self.streams.get(log, (History(), Coverage()))


def of(lake: Lake, now: datetime, intended: Intended | None = None) -> Known:
    """Return all streams of a lake; one without the table `streams` has no lags."""
    stored = lake.ask("streams", stream_state.facts) or {}
    facts = {log: (intended or Intended()).of(log, each) for log, each in stored.items()}
    recorded = lake.ask("coverage", _recorded) or {}
    pending = lake.pending({log: recorded.get(log, 0) for log in (*facts, *recorded)})
    found = lake.ask("coverage", _histories, facts, pending)
    if found is None:  # there is no table `coverage`
        found = _histories(_NONE, facts, pending) if facts or pending else {}
    return at(found, now)


_NONE = pl.LazyFrame(schema=COVERAGE)


def _recorded(rows: pl.LazyFrame) -> dict[Log, int]:
    """Return the number of raw rows per stream up to which `coverage` is complete."""
    by = ["integration", "stream"]
    found = rows.group_by(by).agg(pl.col("rows").max()).collect()
    return {(integration, stream): seen or 0 for integration, stream, seen in found.iter_rows()}


def _histories(
    rows: pl.LazyFrame, facts: Mapping[Log, Facts], pending: tuple[tuple[Any, ...], ...]
) -> dict[Log, History]:
    # An entry that was copied to `coverage` meanwhile is in both, which changes nothing.
    more = pl.LazyFrame(pending, COVERAGE, orient="row")
    return stream_state.histories(pl.concat([rows.select(*COVERAGE), more]), facts)


def at(histories: Mapping[Log, History], now: datetime) -> Known:
    return Known(
        now=now,
        streams={log: (each, stream_state.coverage(each, now)) for log, each in histories.items()},
    )


def _gaps(log: Log, found: tuple[pages.Gap, ...]) -> list[Gap]:
    return [
        Gap(since=gap.span.since, until=gap.span.until, log=log, reason=gap.reason) for gap in found
    ]
