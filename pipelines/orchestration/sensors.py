"""One sensor per integration, which polls for new records and writes nothing to the lake.

Starting a run costs seconds, so the sensor peeks first: it fetches the pages after the stored
position, and requests a run only if a run would change something.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal

import dagster as dg
import msgspec
import polars as pl

from pipelines.clock import unix_time, utc_now
from pipelines.errors import AuditlakeError
from pipelines.extraction import clock_repair, schedule, tally
from pipelines.extraction.batches import read_rows
from pipelines.extraction.client import RetryPolicy, ServiceClient
from pipelines.extraction.rounds import Round
from pipelines.extraction.schedule import NextPoll
from pipelines.extraction.tally import Tally
from pipelines.integrity import erased_ids
from pipelines.lake import events, known_records, raw, tables
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import normalise
from pipelines.orchestration import orphans
from pipelines.orchestration.assets import Connect
from pipelines.orchestration.checks import fresh, judged, opened, quick_checks
from pipelines.orchestration.naming import EVENTS, INTEGRATION, key_of, word
from pipelines.sdk.contract import Source
from pipelines.sdk.pages import Page

_FLOOR = timedelta(seconds=10)
_CEILING = timedelta(minutes=1)
_FAILING_CEILING = timedelta(minutes=15)
_PAGES = 20
_BEHIND = timedelta(hours=1)
_RETRIES = RetryPolicy(attempts=2, longest_wait=5)
_TIMEOUT = 10.0
_BUDGET = 30.0  # Dagster gives a sensor 60 seconds

LastRun = Literal["none", "succeeded", "failed"]
"""How the last run of an asset in this Dagster instance ended; "none" if it never ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peek:
    """The result of peeking at a stream."""

    new_records: bool = False
    rows: int = -1
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PollState:
    """The state of polling a stream, kept in the sensor's cursor.

    Losing it is harmless: the next polls only come earlier.
    """

    due: float = 0.0
    """When to poll next, in seconds since 1970."""
    wait: float = 0.0
    """Seconds between the last poll and the next."""
    rows: int = -1
    """Rows stored when new records were last found."""
    fresh: bool = True
    """Whether the freshness check passed when it was last evaluated."""
    why: str = ""
    """The reason for this interval."""


def peek(this: Round) -> Peek:
    """Return whether a round would store anything, by fetching the pages it would fetch first."""
    try:
        with this.client.reading():
            place = raw.position(this.lake, this.key)
            return Peek(new_records=_has_new_records(this, place), rows=place.rows)
    except AuditlakeError as error:
        return Peek(error=str(error))


def _counted_peek(this: Round) -> Peek:
    """Peek, and count the requests among those of the stream."""
    sent, throttled = this.client.requests_sent, this.client.requests_throttled
    seen = peek(this)
    added = Tally(
        requests=this.client.requests_sent - sent,
        throttled=this.client.requests_throttled - throttled,
        errors=int(seen.error is not None),
    )
    tally.add(this.lake, this.key, added)
    return seen


def _has_new_records(this: Round, place: raw.Position) -> bool:
    if clock_repair.seems_void(this, place):
        return True
    if place.cursor is None or events.derived(this.lake, this.key) < place.rows:
        return True
    pages = this.stream.pages(this.client, place.cursor, this.clock())
    for _ in range(_PAGES):
        page = next(pages, None)
        # Our clock is behind: a run fetches the time between the two clocks as well.
        if this.service_time - this.clock() > _BEHIND:
            return True
        if page is None:
            return False
        if page.milestone or _has_unstored(this, page):
            return True
    return True  # more pages than a peek reads


def _has_unstored(this: Round, page: Page) -> bool:
    """Return True if the page has a record that is neither in raw nor in `rejected`."""
    if not page.records:
        return False
    rows = read_rows(this, page.records, this.clock(), page.fallback_time)
    fault = pl.col("fault")
    good, bad = rows.filter(fault.is_null()), rows.filter(fault.is_not_null())
    good = good.drop("fault", "bytes")
    good = erased_ids.without(this.lake, this.key, good, normalise.version_of(this.stream))
    return known_records.any_fresh(this.lake, this.key, good, this.stream.versions) or _any_missing(
        this.lake, "rejected", bad, "raw_sha256"
    )


def _any_missing(lake: Lake, table: str, rows: pl.DataFrame, key: str) -> bool:
    if rows.is_empty():
        return False
    found = tables.scan(lake, table)
    if found is None:
        return True
    known = found.select(key).collect()
    return not rows.join(known, on=key, how="anti").is_empty()


def worth_a_run(peek: Peek, last_run: LastRun) -> bool:
    """Return True if a run would change the lake, or the state that Dagster shows of the asset."""
    match last_run:
        case "none":
            return True
        case "failed":
            return peek.error is None
    return peek.new_records or peek.error is not None


def next_poll(
    state: PollState, peek: Peek, last_run: LastRun, now: float, floor: float
) -> PollState:
    """Return the state with the time of the next poll.

    That is `floor` seconds later while new records are being stored; otherwise the wait doubles
    up to a ceiling.
    """
    # New records while no row was added since the last ones: runs do not store them, so back off.
    landing = peek.new_records and peek.rows != state.rows
    ceiling = _FAILING_CEILING if last_run == "failed" else _CEILING
    longest = max(floor, ceiling.total_seconds())
    wait = floor if landing else min(longest, max(floor, 2 * state.wait))
    rows = peek.rows if peek.new_records else state.rows
    return replace(
        state, due=now + wait, wait=wait, rows=rows, why=_why(peek, landing, floor, longest)
    )


def _why(peek: Peek, landing: bool, floor: float, longest: float) -> str:
    if landing:
        return f"new records: polling every {floor:.0f} s (poll_every)"
    if peek.error:
        return f"failing: backing off, at most {longest:.0f} s between polls"
    return f"no new records: backing off, at most {longest:.0f} s between polls"


def sensor(
    lake: Lake, source: Source, connect: Connect, declare: Callable[[datetime], None]
) -> dg.SensorDefinition:
    """Return a sensor that polls each due stream and requests one run of those that need it.

    Each tick calls `declare`, which records a changed configuration.
    """

    @cache
    def client() -> ServiceClient:
        opened = connect(source, retry_policy=_RETRIES)
        opened.timeout = _TIMEOUT
        return opened

    @dg.sensor(
        name=f"poll_{word(source.name)}",
        job_name=word(source.name),
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Polls {source.name} for records that the lake does not have yet.",
    )
    def poll(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        # First, since it renews the lease while a run is in progress, too.
        if reason := _held_elsewhere(lake, source):
            return dg.SensorResult(skip_reason=reason, cursor=context.cursor)
        if run := orphans.unfinished_run(context.instance, source.name):
            return dg.SensorResult(
                skip_reason=f"run {run} is still in progress", cursor=context.cursor
            )
        declare(utc_now())
        states = _states(context.cursor)
        observations = list(_observe(context.instance, lake, source, client, states))
        requests = _requests(context.instance, source, observations)
        _save_plans(lake, observations)
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else _skip_reason(observations, states),
            cursor=_cursor(states, observations),
            asset_events=[seen.freshness for seen in observations if seen.freshness],
        )

    return poll


def _held_elsewhere(lake: Lake, source: Source) -> str | None:
    """Return why this machine must not poll now, or None."""
    try:
        ours = schedule.lease_of(lake, source).claim()
    except AuditlakeError as error:
        return str(error)
    return None if ours else "another machine polls with this credential"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A peek at a stream and the resulting poll state."""

    log: StreamKey
    peek: Peek
    last_run: LastRun
    state: PollState
    freshness: dg.AssetCheckEvaluation | None = None


def _observe(
    instance: dg.DagsterInstance,
    lake: Lake,
    source: Source,
    client: Callable[[], ServiceClient],
    states: Mapping[str, PollState],
) -> Iterator[Observation]:
    """Yield an observation of each due stream, as far as the time of one tick allows."""
    until = time.monotonic() + _BUDGET
    floor = (source.settings.poll_every or _FLOOR).total_seconds()
    for stream in source.streams():
        state = states.get(stream.name, PollState())
        now = utc_now()
        if is_waiting(state, now.timestamp()) or time.monotonic() > until:
            continue
        this = Round(lake=lake, source=source, stream=stream, client=client())
        seen, last_run = _counted_peek(this), _last_run(instance, key_of(this.key))
        verdict = None if seen.new_records or last_run != "succeeded" else _freshness(this, now)
        yield Observation(
            log=this.key,
            peek=seen,
            last_run=last_run,
            state=replace(
                next_poll(state, seen, last_run, now.timestamp(), floor),
                fresh=verdict.passed if verdict else state.fresh,
            ),
            freshness=verdict if verdict and verdict.passed != state.fresh else None,
        )


def is_waiting(state: PollState, now: float) -> bool:
    """Return whether the next poll is still to come; a longer wait is void: a clock was wrong."""
    return 0 < state.due - now <= state.wait


def _save_plans(lake: Lake, observations: Sequence[Observation]) -> None:
    """Save the next poll of each stream for `auditlake status` and the dashboard."""
    for seen in observations:
        following = datetime.fromtimestamp(seen.state.due, UTC)
        plan = NextPoll(next=following, interval=seen.state.wait, why=seen.state.why)
        schedule.save(lake, seen.log, plan)


def _freshness(this: Round, now: datetime) -> dg.AssetCheckEvaluation | None:
    """Evaluate freshness: a silent stream gets no runs, so no run would report the silence."""
    table = opened(this.lake, this.key, this.stream, now, whole=False)
    if table is None:
        return None
    verdict = judged(fresh, table)
    return dg.AssetCheckEvaluation(
        asset_key=key_of(this.key),
        check_name="freshness",
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=verdict.description,
        metadata=verdict.figures,
    )


def _requests(
    instance: dg.DagsterInstance, source: Source, observations: Sequence[Observation]
) -> list[dg.RunRequest]:
    """Return at most one request, for the streams that need a run.

    If the last run failed before `events`, that is requested again. The key contains the id of the
    last run, so that two ticks cannot both start a run after it.
    """
    runs = instance.get_runs(dg.RunsFilter(tags={INTEGRATION: source.name}), limit=1)
    last = runs[0] if runs else None
    keys = [key_of(seen.log) for seen in observations if worth_a_run(seen.peek, seen.last_run)]
    if not (keys or (last and _owes_events(instance, last))):
        return []
    return [
        dg.RunRequest(
            run_key=f"{source.name} after {last.run_id if last else 'none'}",
            asset_selection=[*keys, EVENTS],
            # Without it, a run of some assets evaluates all their checks, also those its job omits.
            asset_check_keys=[check for key in keys for check in quick_checks(key)],
            tags={INTEGRATION: source.name},
        )
    ]


def _owes_events(instance: dg.DagsterInstance, last: dg.DagsterRun) -> bool:
    """Return True if the last run failed before it could update `events`."""
    record = _record(instance, EVENTS)
    return (
        record is not None
        and record.asset_entry.last_run_id == last.run_id
        and last.asset_selection != {EVENTS}
        and _last_run(instance, EVENTS) == "failed"
    )


def _last_run(instance: dg.DagsterInstance, key: dg.AssetKey) -> LastRun:
    record = _record(instance, key)
    if record is None or record.asset_entry.last_run_id is None:
        return "none"
    made, last = record.asset_entry.last_materialization, record.asset_entry.last_run_id
    if not last and (planned := instance.get_latest_planned_materialization_info(key)):
        return _succeeded(
            instance, key, planned.run_id
        )  # reported by the receiver since, without a run
    return "succeeded" if made and made.run_id == last else "failed"


def _succeeded(instance: dg.DagsterInstance, key: dg.AssetKey, run_id: str) -> LastRun:
    made = instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    ).records
    return "succeeded" if any(record.asset_key == key for record in made) else "failed"


def _record(instance: dg.DagsterInstance, key: dg.AssetKey) -> Any:
    return next(iter(instance.get_asset_records([key])), None)


def _skip_reason(observations: Sequence[Observation], states: Mapping[str, PollState]) -> str:
    if observations:
        return "; ".join(_summary(observation) for observation in observations)
    waiting = min(states.items(), key=lambda item: item[1].due, default=None)
    if waiting is None:
        return "no stream is due"
    (stream, state), now = waiting, unix_time()
    return f"no stream is due; next is {stream} in {max(0.0, state.due - now):.0f} s ({state.why})"


def _summary(observation: Observation) -> str:
    state = observation.state
    found = observation.peek.error or "no new records"
    return f"{observation.log.stream}: {found}; next poll in {state.wait:.0f} s ({state.why})"


def _states(cursor: str | None) -> dict[str, PollState]:
    try:
        return msgspec.json.decode(cursor or "{}", type=dict[str, PollState])
    except msgspec.DecodeError:
        return {}


def _cursor(states: Mapping[str, PollState], observations: Sequence[Observation]) -> str:
    return msgspec.json.encode({**states, **{s.log.stream: s.state for s in observations}}).decode()
