"""A sensor an integration, which looks for news and writes nothing.

A run costs seconds of process start, so the sensor looks first: it reads the pages that follow the
stored position, and asks for a run only where a run would change something.
"""

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal

import dagster as dg
import msgspec
import polars as pl

from pipelines.clock import utc_now
from pipelines.errors import AuditlakeError
from pipelines.extraction import schedule
from pipelines.extraction.client import RetryPolicy, ServiceClient
from pipelines.extraction.rounds import Round
from pipelines.extraction.schedule import NextPoll
from pipelines.lake import events, raw, tables
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import normalise
from pipelines.orchestration.assets import Connect
from pipelines.orchestration.checks import fresh, opened
from pipelines.orchestration.naming import EVENTS, INTEGRATION, key_of, word
from pipelines.sdk.contract import Source
from pipelines.sdk.pages import Page

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_FLOOR = timedelta(seconds=10)
_CEILING = timedelta(minutes=1)
_TROUBLED = timedelta(minutes=15)
_PAGES = 20
_LOOK = RetryPolicy(attempts=2, longest_wait=5)
_LOOK_TIMEOUT = 10.0
_LOOK_BUDGET = 30.0  # Dagster gives a sensor 60 seconds

Standing = Literal["new", "made", "failed"]
"""Of an asset in this Dagster instance: never run, made by its last run, not made by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a glance at a stream showed."""

    news: bool = False
    rows: int = -1
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What a sensor remembers of a stream; politeness only, nothing is lost with it."""

    due: float = 0.0
    """When to look next, in seconds since 1970."""
    wait: float = 0.0
    """Seconds between the last look and the next."""
    rows: int = -1
    """Rows when there was news last."""
    fresh: bool = True
    why: str = ""
    """Why so many seconds."""


def look(this: Round) -> Look:
    """Would a round land something? Reads what follows the stored position, writes nothing."""
    try:
        place = raw.position(this.lake, this.log)
        return Look(news=_news(this, place), rows=place.rows)
    except AuditlakeError as error:
        return Look(error=str(error))


def _news(this: Round, place: raw.Position) -> bool:
    if place.cursor is None or events.derived(this.lake, this.log) < place.rows:
        return True
    pages = this.stream.pages(this.client, place.cursor, this.clock())
    for _ in range(_PAGES):
        page = next(pages, None)
        if page is None:
            return False
        if page.milestone or _unknown(this, page):
            return True
    return True  # more than a glance can take in


def _unknown(this: Round, page: Page) -> bool:
    """Does the page hold a record that is neither in raw nor among the rejected?"""
    if not page.records:
        return False
    rows = normalise.read(this.stream, page.records, this.clock(), this.via, page.fallback_time)
    fault = pl.col("fault")
    good, bad = rows.filter(fault.is_null()), rows.filter(fault.is_not_null())
    days = pl.col("date").is_in(good["date"].unique().to_list())
    return _missing(this.lake, this.log.table, good, "event_id", days) or _missing(
        this.lake, "rejected", bad, "raw_sha256", pl.lit(value=True)
    )


def _missing(lake: Lake, table: str, rows: pl.DataFrame, key: str, among: pl.Expr) -> bool:
    if rows.is_empty():
        return False
    found = tables.scan(lake, table)
    if found is None:
        return True
    known = found.filter(among).select(key).collect()
    return not rows.join(known, on=key, how="anti").is_empty()


def worth_a_run(look: Look, standing: Standing) -> bool:
    """Would a run change something: the lake, or what Dagster says about the asset?"""
    match standing:
        case "new":
            return True
        case "failed":
            return look.error is None
    return look.news or look.error is not None


def watched(watch: Watch, look: Look, standing: Standing, now: float, floor: float) -> Watch:
    """When to look next: after `floor` while news lands, else ever later, up to a ceiling."""
    landing = look.news and look.rows != watch.rows
    ceiling = _TROUBLED if standing == "failed" else _CEILING
    longest = max(floor, ceiling.total_seconds())
    wait = floor if landing else min(longest, max(floor, 2 * watch.wait))
    rows = look.rows if look.news else watch.rows
    return replace(watch, due=now + wait, wait=wait, rows=rows, why=_why(look, landing, longest))


def _why(look: Look, landing: bool, longest: float) -> str:
    if landing:
        return "news came: as soon as poll_every allows"
    if look.error:
        return f"it fails: ever later, up to {longest:.0f} s"
    return f"nothing new: ever later, up to {longest:.0f} s"


def sensor(lake: Lake, source: Source, connect: Connect) -> dg.SensorDefinition:
    """Looks for news of each stream that is due, and asks for one run of those worth it."""

    @cache
    def client() -> ServiceClient:
        opened = connect(source, patience=_LOOK)
        opened.timeout = _LOOK_TIMEOUT
        return opened

    @dg.sensor(
        name=f"news_of_{word(source.name)}",
        job_name=word(source.name),
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Looks whether {source.name} has something the lake does not.",
    )
    def news(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        if run := _unfinished_run(context.instance, source.name):
            return dg.SensorResult(skip_reason=f"run {run} is not finished", cursor=context.cursor)
        watches = _remembered(context.cursor)
        sightings = list(_sightings(context.instance, lake, source, client, watches))
        requests = _requests(context.instance, source, sightings)
        _tell(lake, sightings)
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else _quiet(sightings, watches),
            cursor=_cursor(watches, sightings),
            asset_events=[seen.freshness for seen in sightings if seen.freshness],
        )

    return news


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A look at a stream, and what follows from it."""

    log: StreamKey
    look: Look
    standing: Standing
    watch: Watch
    freshness: dg.AssetCheckEvaluation | None = None


def _sightings(
    instance: dg.DagsterInstance,
    lake: Lake,
    source: Source,
    client: Callable[[], ServiceClient],
    watches: Mapping[str, Watch],
) -> Iterator[Sighting]:
    """Of each stream that is due, as far as a tick's time allows."""
    until = time.monotonic() + _LOOK_BUDGET
    floor = (source.settings.poll_every or _FLOOR).total_seconds()
    for stream in source.streams():
        watch = watches.get(stream.name, Watch())
        now = utc_now()
        if watch.due > now.timestamp() or time.monotonic() > until:
            continue
        this = Round(lake=lake, source=source, stream=stream, client=client())
        seen, standing = look(this), _standing(instance, key_of(this.log))
        verdict = None if seen.news or standing != "made" else _freshness(this, now)
        yield Sighting(
            log=this.log,
            look=seen,
            standing=standing,
            watch=replace(
                watched(watch, seen, standing, now.timestamp(), floor),
                fresh=verdict.passed if verdict else watch.fresh,
            ),
            freshness=verdict if verdict and verdict.passed != watch.fresh else None,
        )


def _tell(lake: Lake, sightings: Sequence[Sighting]) -> None:
    """For `auditlake status` and the dashboard."""
    for seen in sightings:
        following = datetime.fromtimestamp(seen.watch.due, UTC)
        plan = NextPoll(next=following, interval=seen.watch.wait, why=seen.watch.why)
        schedule.save(lake, seen.log, plan)


def _freshness(this: Round, now: datetime) -> dg.AssetCheckEvaluation | None:
    """Silence makes no run, so the sensor says when it lasts too long."""
    table = opened(this.lake, this.log, this.stream, now, whole=False)
    if table is None:
        return None
    verdict = fresh(table)
    return dg.AssetCheckEvaluation(
        asset_key=key_of(this.log),
        check_name="freshness",
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=verdict.description,
        metadata=verdict.figures,
    )


def _requests(
    instance: dg.DagsterInstance, source: Source, sightings: Sequence[Sighting]
) -> list[dg.RunRequest]:
    """One run of what is worth it; `events` again where the last run failed before it.

    The key names the run before, so no two runs can follow the same one.
    """
    runs = instance.get_runs(dg.RunsFilter(tags={INTEGRATION: source.name}), limit=1)
    last = runs[0] if runs else None
    keys = [key_of(seen.log) for seen in sightings if worth_a_run(seen.look, seen.standing)]
    if not (keys or (last and _owes_events(instance, last))):
        return []
    return [
        dg.RunRequest(
            run_key=f"{source.name} after {last.run_id if last else 'none'}",
            asset_selection=[*keys, EVENTS],
            tags={INTEGRATION: source.name},
        )
    ]


def _owes_events(instance: dg.DagsterInstance, last: dg.DagsterRun) -> bool:
    """Did a stream of this run fail, and `events` with it?"""
    record = _record(instance, EVENTS)
    return (
        record is not None
        and record.asset_entry.last_run_id == last.run_id
        and last.asset_selection != {EVENTS}
        and _standing(instance, EVENTS) == "failed"
    )


def _standing(instance: dg.DagsterInstance, key: dg.AssetKey) -> Standing:
    record = _record(instance, key)
    if record is None or record.asset_entry.last_run_id is None:
        return "new"
    made, last = record.asset_entry.last_materialization, record.asset_entry.last_run_id
    if not last and (planned := instance.get_latest_planned_materialization_info(key)):
        return _made_by(instance, key, planned.run_id)  # the receiver has reported since
    return "made" if made and made.run_id == last else "failed"


def _made_by(instance: dg.DagsterInstance, key: dg.AssetKey, run_id: str) -> Standing:
    made = instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    ).records
    return "made" if any(record.asset_key == key for record in made) else "failed"


def _record(instance: dg.DagsterInstance, key: dg.AssetKey) -> Any:
    return next(iter(instance.get_asset_records([key])), None)


def _unfinished_run(instance: dg.DagsterInstance, name: str) -> str | None:
    """The id of a run of this integration that is queued or in progress."""
    unfinished = dg.RunsFilter(tags={INTEGRATION: name}, statuses=_UNFINISHED)
    for run in instance.get_runs(unfinished):
        if not _abandoned(run):
            return run.run_id
        instance.report_run_failed(run, "The process that ran this was killed.")
    return None


def _abandoned(run: dg.DagsterRun) -> bool:
    """Is the server that started the run's process gone, as after a kill or a power cut?"""
    path = json.loads(run.tags.get(".dagster/grpc_info", "{}")).get("socket")
    if path is None:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) != 0


def _quiet(sightings: Sequence[Sighting], watches: Mapping[str, Watch]) -> str:
    if sightings:
        return "; ".join(_seen(sighting) for sighting in sightings)
    waiting = min(watches.items(), key=lambda item: item[1].due, default=None)
    if waiting is None:
        return "no stream is due"
    (stream, watch), now = waiting, utc_now().timestamp()
    return f"no stream is due; next is {stream} in {max(0.0, watch.due - now):.0f} s ({watch.why})"


def _seen(sighting: Sighting) -> str:
    watch = sighting.watch
    said = sighting.look.error or "nothing new"
    return f"{sighting.log.stream}: {said}; again in {watch.wait:.0f} s ({watch.why})"


def _remembered(cursor: str | None) -> dict[str, Watch]:
    try:
        return msgspec.json.decode(cursor or "{}", type=dict[str, Watch])
    except msgspec.DecodeError:
        return {}


def _cursor(watches: Mapping[str, Watch], sightings: Sequence[Sighting]) -> str:
    return msgspec.json.encode({**watches, **{s.log.stream: s.watch for s in sightings}}).decode()
