"""The state of each stream in the lake, read from the tables' own statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from pipelines.extraction import schedule
from pipelines.extraction.schedule import NextPoll
from pipelines.lake import coverage as coverage_table
from pipelines.lake import events, raw, spans, tables
from pipelines.lake.spans import Coverage
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk.contract import Source, Stream

_WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The state of one stream, as stored in the lake."""

    integration: str
    kind: str
    stream: str
    rows: int = 0
    events: int = 0
    """Number of raw rows whose events are in `events`."""
    rejected: int = 0
    newest_event: datetime | None = None
    last_arrival: datetime | None = None
    version: int = -1
    bytes: int = 0
    late: timedelta | None = None
    """99th percentile of the delay from event to arrival, over the last week's live records."""
    plan: NextPoll | None = None
    """When it is polled next; None where no process of this machine polls it."""

    @property
    def state(self) -> str:
        if self.version < 0:
            return "nothing yet"
        return "up to date" if self.events == self.rows else "events behind raw"


def states(lake: Lake, sources: Sequence[Source]) -> list[State]:
    rejected = _rejected(lake)
    return [
        _state(lake, source, stream.name, rejected)
        for source in sources
        for stream in source.streams()
    ]


def _state(lake: Lake, source: Source, stream: str, rejected: dict[tuple[str, str], int]) -> State:
    log = StreamKey(source.name, stream)
    late = raw.lateness(lake, log, datetime.now(UTC) - _WEEK)
    known = State(
        integration=source.name,
        kind=source.kind,
        stream=stream,
        rejected=rejected.get((source.name, stream), 0),
        plan=schedule.load(lake, log),
    )
    handle = tables.open_table(lake, log.table)
    if handle is None:
        return known
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    return State(
        integration=known.integration,
        kind=known.kind,
        stream=stream,
        rejected=known.rejected,
        rows=handle.transaction_version(log.app) or 0,
        events=events.derived(lake, log),
        newest_event=_newest(files, "max.time"),
        last_arrival=_newest(files, "max.ingested_at"),
        version=handle.version(),
        late=late[1] if late else None,
        plan=schedule.load(lake, log),
        bytes=int(files["size_bytes"].sum()) if files.height else 0,
    )


def _newest(files: pl.DataFrame, column: str) -> datetime | None:
    """Return the greatest statistic. Delta keeps milliseconds and rounds down."""
    if column not in files.columns or files[column].is_null().all():
        return None
    newest = files[column].max()
    return newest if isinstance(newest, datetime) else None


def _rejected(lake: Lake) -> dict[tuple[str, str], int]:
    table = tables.scan(lake, "rejected")
    if table is None:
        return {}
    logs = table.select("integration", "stream").unique().collect()
    return {(i, s): raw.still_rejected(lake, StreamKey(i, s)).height for i, s in logs.iter_rows()}


def coverage(lake: Lake, source: Source, stream: Stream, now: datetime) -> Coverage:
    """Return which time ranges of a stream are complete, settling, missing or lost."""
    # Commits of the raw table may hold coverage that the table `coverage` lacks so far.
    coverage_table.record(lake, StreamKey(source.name, stream.name))
    claims = coverage_table.entries(lake, StreamKey(source.name, stream.name))
    return spans.coverage(claims, lag=stream.lag, keeps=stream.keeps, now=now)


def age(time: datetime | None, now: datetime) -> str:
    """Return how long ago `time` was, such as "3 hours ago"."""
    return "never" if time is None else f"{length(max(timedelta(0), now - time))} ago"


def ahead(plan: NextPoll | None, now: datetime) -> str:
    """Return when a stream is polled next and why, or "" where that is unknown."""
    if plan is None:
        return ""
    when = f"in {length(plan.next - now)}" if plan.next > now else "due"
    return f"{when}, every {plan.interval:.0f} s: {plan.why}"


def length(span: timedelta) -> str:
    """Return a duration in its largest whole unit, such as "3 hours"."""
    seconds = span.total_seconds()
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return f"{int(seconds)} s"
