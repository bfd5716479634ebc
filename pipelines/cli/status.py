"""The state of each stream in the lake, read from the tables' own statistics."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import polars as pl

from pipelines.errors import AuditlakeError, ConfigurationError
from pipelines.extraction import expiry, schedule
from pipelines.extraction.schedule import NextPoll
from pipelines.integrity import retired_streams
from pipelines.lake import (
    coverage,
    events,
    raw,
    stream_state,
    streams,
    tables,
)
from pipelines.lake.stream_state import Coverage, Facts, History, Intended, Key
from pipelines.lake.tables import Lake, StreamKey
from pipelines.lake.versions import Logged
from pipelines.sdk.contract import Source
from pipelines.sdk.endings import Ending
from pipelines.sdk.pages import Gap, Span
from pipelines.sdk.record_versions import Comparison

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
    state: str = "never polled"
    failing_since: datetime | None = None
    failure: str | None = None
    last_polled: datetime | None = None
    coverage: float | None = None
    """The covered share of the last 14 days up to the last poll, from 0 to 1."""
    gaps: int = 0
    """Number of gaps and losses in the last 14 days."""
    lost: int = 0
    """Number of losses at any time: ranges that can never be fetched."""
    reached: datetime | None = None
    """Up to when it was polled successfully."""
    gap_seconds: float = 0.0
    """The length of all gaps that can still be filled."""
    lost_seconds: float = 0.0
    ended: str | None = None
    """When polling ended, and the next step."""
    differing: int = 0
    """Number of ids of the last week that arrived with contents that contradict each other."""


def known_streams(lake: Lake, sources: Sequence[Source]) -> dict[StreamKey, Facts]:
    """Return the facts of all streams, whether configured or only in the lake.

    The lake's values win. One of an older version has none: then those of the configuration count.
    """
    configured = {
        StreamKey(source.name, stream.name): streams.facts_of(source, stream)
        for source in sources
        for stream in source.streams()
    }
    stored = streams.facts(lake)
    others = sorted({*stored, *coverage.keys(lake), *raw.landed(lake)} - configured.keys())
    intended = _intended(lake, configured)
    return {
        key: intended.of(key, stored.get(key) or configured.get(key, Facts()))
        for key in (*configured, *others)
    }


def _intended(lake: Lake, configured: Collection[StreamKey]) -> Intended:
    retired: Mapping[Key, datetime] = {}
    with suppress(AuditlakeError, OSError):  # `verify` reports acts that cannot be read
        retired = retired_streams.retired(lake)
    known = configured.__contains__ if configured else None
    return Intended(configured=known, retired=retired)


def states(lake: Lake, sources: Sequence[Source], now: datetime) -> list[State]:
    """Return the state of all streams, including counts that take reading rows of a week."""
    rules = {
        StreamKey(source.name, stream.name): stream.versions
        for source in sources
        for stream in source.streams()
    }

    def counted(each: State) -> State:
        key = StreamKey(each.integration, each.stream)
        each = replace(each, rejected=rejected.get(key, 0))
        if (table := raws.get(key)) is None:
            return each
        with tables.store_errors(key.table):
            week = raw.recent(table, now - _WEEK, rules.get(key, Comparison()))
        return replace(
            each, late=week.late[1] if week.late else None, differing=len(week.differing)
        )

    with tables.one_look():
        rejected = _rejected(lake)
        found, raws = _overview(lake, sources, now)
        return tables.at_once(lake, counted, found)


def overview(lake: Lake, sources: Sequence[Source], now: datetime) -> list[State]:
    """Return the state of all streams, as far as logs and `coverage` show it; no row is read."""
    with tables.one_look():
        return _overview(lake, sources, now)[0]


def _overview(
    lake: Lake, sources: Sequence[Source], now: datetime
) -> tuple[list[State], Mapping[StreamKey, Logged]]:
    """Return the states, and the raw tables that exist."""
    with tables.one_look():
        known = known_streams(lake, sources)
        raws = raw.logs(lake, known)
        found, derived = coverage.histories(lake, known, raws), events.logged(lake)

        def one(key: StreamKey) -> State:
            return _state(lake, key, raws.get(key), found[key], derived=derived, now=now)

        return tables.at_once(lake, one, known), raws


def unconfigured(lake: Lake, sources: Sequence[Source], name: str) -> tuple[StreamKey, ...]:
    """Return the streams named INTEGRATION or INTEGRATION/STREAM. Raises ConfigurationError.

    They must be in the lake, and must not be configured.
    """
    known = known_streams(lake, sources)
    chosen = tuple(key for key in known if name in (key.integration, key.app))
    configured = {
        StreamKey(source.name, stream.name) for source in sources for stream in source.streams()
    }
    if not chosen:
        raise ConfigurationError(f"the lake has no stream {name}: `auditlake status` lists them")
    if not (left := tuple(key for key in chosen if key not in configured)):
        raise ConfigurationError(f"{name} is configured: remove it from the configuration first")
    return left


def _state(
    lake: Lake,
    key: StreamKey,
    table: Logged | None,
    history: History,
    *,
    derived: Logged | None,
    now: datetime,
) -> State:
    files = table.files() if table else pl.DataFrame()
    rows = table.fence(key.app) if table else 0
    mapped = derived.fence(key.app) if table and derived else 0
    found = stream_state.summary(history, now, behind=mapped < rows)
    return State(
        integration=key.integration,
        kind=history.facts.kind,
        stream=key.stream,
        rows=rows,
        events=mapped,
        newest_event=_newest(files, "max.time"),
        last_arrival=_newest(files, "max.ingested_at"),
        version=table.number if table else -1,
        plan=schedule.load(lake, key),
        bytes=int(files["size_bytes"].sum()) if files.height else 0,
        state=found.state.name,
        failing_since=found.state.since,
        failure=found.state.reason,
        last_polled=found.polled_at,
        coverage=found.share,
        gaps=found.gaps,
        lost=found.lost,
        reached=history.reached,
        gap_seconds=_seconds(found.known.gaps),
        lost_seconds=_seconds(found.known.lost),
        ended=stream_state.ended(history, now, log=key.app),
    )


def _seconds(gaps: Sequence[Gap]) -> float:
    return sum((gap.span.until - gap.span.since).total_seconds() for gap in gaps)


def _newest(files: pl.DataFrame, column: str) -> datetime | None:
    """Return the greatest statistic. Delta keeps milliseconds and rounds down."""
    if column not in files.columns or files[column].is_null().all():
        return None
    newest = files[column].max()
    return newest if isinstance(newest, datetime) else None


def _rejected(lake: Lake) -> dict[StreamKey, int]:
    table = tables.scan(lake, "rejected")
    if table is None:
        return {}
    logs = table.select("integration", "stream").unique().collect()
    keys = [StreamKey(*names) for names in logs.iter_rows()]
    return {key: raw.still_rejected(lake, key).height for key in keys}


def covered(
    lake: Lake, sources: Sequence[Source], names: Sequence[str], now: datetime
) -> list[tuple[StreamKey, Coverage]]:
    """Return the coverage of all streams, or of those whose integration is in `names`."""
    found = histories(lake, sources, names)
    return [(key, stream_state.coverage(history, now)) for key, history in found]


def histories(
    lake: Lake, sources: Sequence[Source], names: Sequence[str]
) -> list[tuple[StreamKey, History]]:
    """Return the history of all streams, or of those whose integration is in `names`."""
    with tables.one_look():
        known = known_streams(lake, sources)
        wanted = {key: known[key] for key in known if not names or key.integration in names}
        return list(coverage.histories(lake, wanted, raw.logs(lake, wanted)).items())


def notes(found: Sequence[State]) -> Iterator[str]:
    """Yield a line per stream that fails, is polled no more, has losses, or other content."""
    for one in found:
        stream = f"{one.integration} {one.stream}"
        if one.failing_since is not None:
            since = f"{one.failing_since:%Y-%m-%d %H:%M:%S} UTC"
            yield f"{stream}: failing since {since}: {one.failure}"
        if one.ended is not None:
            yield f"{stream}: {one.ended}"
        if one.lost:
            ranges = "1 range is" if one.lost == 1 else f"{one.lost:,} ranges are"
            yield f"{stream}: {ranges} lost: `auditlake coverage {one.integration}` lists them"
        if one.differing:
            yield (
                f"{stream}: other content arrived for {one.differing:,} ids in the last week: "
                f"`auditlake verify --full --table raw/{one.integration}/{one.stream}` names them"
            )


def endings(lake: Lake, sources: Sequence[Source], now: datetime) -> Iterator[str]:
    """Yield one line per credential or service that ends soon, as far as it is known here."""
    for source in sources:
        for each in expiry.due(lake, source, now):
            yield f"{source.name}: {ending(each, now)}"


def ending(one: Ending, now: datetime) -> str:
    """Return the end of a credential or a service and the next step."""
    if one.at <= now:
        return f"{one.what} ended on {one.at:%Y-%m-%d}: {one.advice}"
    return f"{one.what} ends on {one.at:%Y-%m-%d}, in {length(one.at - now)}: {one.advice}"


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


def span_text(span: Span) -> str:
    """Return a time range and its length."""
    until = f"{span.until:%Y-%m-%d %H:%M:%S} UTC"
    return f"{span.since:%Y-%m-%d %H:%M:%S} to {until}  ({length(span.until - span.since)})"
