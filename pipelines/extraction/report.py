"""The report of a round: the counts shown on the command line and in Dagster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from pipelines.lake import commits
from pipelines.sdk.pages import Gap, Span
from pipelines.settings import telemetry


@dataclass(slots=True, kw_only=True)
class Report:
    """The result of a round over one stream."""

    integration: str
    stream: str
    rows: int = 0
    """New rows in raw."""
    duplicates: int = 0
    """Records that were already stored."""
    rejected: int = 0
    events: int = 0
    """New rows in events."""
    faults: dict[str, int] = field(default_factory=dict)
    """Column -> number of values that could not be mapped and are null."""
    requests: int = 0
    throttled: int = 0
    """Requests that the service refused as too many."""
    commits: int = 0
    """Batches of records that were compared with raw, and committed unless all were known."""
    bytes: int = 0
    newest: datetime | None = None
    """Time of the newest event that landed."""
    oldest: datetime | None = None
    version: int = -1
    total: int = 0
    """Rows in raw after the round."""
    covered: list[Span] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    error: str | None = None
    clock_ahead: timedelta = timedelta()
    """How far our clock is ahead of the service's; 0 if they agree within seconds."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Step -> seconds; steps overlap, so the sum exceeds the duration of the round."""

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the duration of the block to `seconds`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - started

    @contextmanager
    def traced(self) -> Iterator[telemetry.Span]:
        """Trace the block as this round, with the counts at its end."""
        about = {"auditlake.integration": self.integration, "auditlake.stream": self.stream}
        with telemetry.span("round", about) as span:
            yield span
            for name in ("rows", "events", "requests"):
                span.set(f"auditlake.{name}", getattr(self, name))


Progress = Callable[[Report], None]


def count(report: Report, landed: commits.Appended, offered: int) -> None:
    """Add the rows of a commit, of `offered` records, to the report."""
    fresh = landed.frame
    report.commits += 1
    report.rows += fresh.height
    report.duplicates += offered - fresh.height
    report.version = landed.version
    if fresh.is_empty():
        return
    report.total = fresh["seq"][-1] + 1
    report.bytes += int(fresh["raw"].str.len_bytes().sum())
    times: list[datetime] = [t for t in (report.newest, report.oldest) if t]
    times += fresh.select(pl.col("time").min(), last=pl.col("time").max()).row(0)
    report.oldest, report.newest = min(times), max(times)
