"""Dagster: an asset a stream, a job and a sensor an integration, checks; all from the registry.

A run costs seconds of process start, so the sensor looks first: it reads the pages that follow the
stored position, writes nothing, and asks for a run only where a run would change something.
"""

import json
import logging
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
from deltalake import DeltaTable

from pipelines import (
    asked,
    event,
    extract,
    http,
    maintenance,
    normalise,
    reconciliation,
    registry,
    renormalise,
    settings,
)
from pipelines import lake as lakes
from pipelines.asked import Plan
from pipelines.errors import AuditlakeError, ConfigurationError
from pipelines.extract import Report, Round, utc_now
from pipelines.http import Patience, SignedIn
from pipelines.integration import Page, Source, Span, Stream
from pipelines.integrity import anchors, verifications
from pipelines.integrity.verifier import verify
from pipelines.integrity.verifier.verify import Crew
from pipelines.lake import Lake, Log
from pipelines.settings import IntegritySettings

Connect = Callable[..., SignedIn]
Figures = dict[str, Any]

_INTEGRATION = "auditlake/integration"
_WHOLE = "auditlake/whole"
_EVENTS = dg.AssetKey("events")
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_KEPT = timedelta(days=7)
_SAMPLE_CHECK = "follows_from_raw"
_SIGNED_CHECK = "as_signed"
_SAMPLED = 200  # records of a stream that are derived again and compared
_FORGOTTEN_AT_ONCE = 1000
_FLOOR = timedelta(seconds=10)
_CEILING = timedelta(minutes=1)
_TROUBLED = timedelta(minutes=15)
_PAGES = 20
_LOOK = Patience(attempts=2, longest_wait=5)
_LOOK_TIMEOUT = 10.0
_LOOK_BUDGET = 30.0  # Dagster gives a sensor 60 seconds


def definitions(
    lake: Lake, sources: Sequence[Source], connect: Connect = http.client
) -> dg.Definitions:
    """Everything Dagster has to know about these sources."""
    streams = [(source, stream) for source in sources for stream in source.streams()]
    signed = [chosen for chosen in [lake.integrity] if chosen and chosen.sign]
    return dg.Definitions(
        assets=[
            *(_stream_asset(lake, *each) for each in streams),
            _events_asset(lake, sources),
            _reconciliation(lake, sources),
            *_subscribed(sources),
        ],
        asset_checks=[
            *(_checks_of(lake, *each) for each in streams),
            _follows_from_raw(lake, sources),
            *(_verification(lake, chosen, sources) for chosen in signed),
        ],
        jobs=[
            *(_job(source, signed=bool(signed)) for source in sources),
            _backfill_job(lake, sources, connect),
            _renormalise_job(lake, sources),
        ],
        schedules=[
            _whole_tables(),
            _forget_old_runs(),
            _maintenance(lake, sources),
            _reconciled_hourly(),
            *(_verified_hourly(streams) for _ in signed),
        ],
        sensors=[_sensor(lake, source, connect) for source in sources],
        resources={_client_key(source): _client(source, connect) for source in sources},
        executor=dg.in_process_executor,
    )


def _configured() -> dg.Definitions:
    """What auditlake.toml asks for; where it is at fault, an asset that says so."""
    try:
        chosen = settings.load(settings.path_from_environment())
        return definitions(lakes.configured(chosen), registry.sources(chosen))
    except ConfigurationError as error:
        logging.getLogger("dagster").error("auditlake: %s", error)  # noqa: TRY400 it says all
        return dg.Definitions(assets=[dg.AssetSpec("configuration", description=str(error))])


def _stream_asset(lake: Lake, source: Source, stream: Stream) -> dg.AssetsDefinition:
    log = Log(source.name, stream.name)
    spec = dg.AssetSpec(
        _key(log),
        description=f"{source.integration.title}: {stream.name}, as the vendor wrote it.",
        group_name=_word(source.name),
        kinds={"deltalake"},
        tags={"auditlake/kind": source.kind},
        metadata=_shape(lake, log.table, event.RAW),
    )

    @dg.multi_asset(name=_op(log), specs=[spec], required_resource_keys={_client_key(source)})
    def extracted(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        report = extract.extract(
            Round(
                lake=lake,
                source=source,
                stream=stream,
                client=getattr(context.resources, _client_key(source)),
                progress=lambda report: context.log.info(_line(report)),
            )
        )
        figures = _round_figures(report) | _table_figures(lake, log.table)
        if report.error:
            raise dg.Failure(report.error, metadata=figures, allow_retries=False)
        return dg.MaterializeResult(metadata=figures)

    return extracted


def _events_asset(lake: Lake, sources: Sequence[Source]) -> dg.AssetsDefinition:
    spec = dg.AssetSpec(
        _EVENTS,
        deps=[_key(Log(source.name, s.name)) for source in sources for s in source.streams()],
        description="All events of all integrations in one schema; derived from raw.",
        group_name="events",
        kinds={"deltalake"},
        metadata=_shape(lake, "events", event.EVENTS),
    )

    @dg.multi_asset(name="events", specs=[spec])
    def caught_up() -> dg.MaterializeResult[None]:
        report = Report(integration="", stream="events")
        try:
            for source in sources:
                for stream in source.streams():
                    extract.catch_up(lake, source, stream, report)
        except AuditlakeError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        figures = {"rows caught up": report.events, **_records_by_integration(lake, sources)}
        return dg.MaterializeResult(metadata=figures | _table_figures(lake, "events"))

    return caught_up


def _records_by_integration(lake: Lake, sources: Sequence[Source]) -> Figures:
    """How many raw records of each have their events; the fences know without reading a row."""
    return {
        f"records of {source.name}": sum(
            lakes.derived(lake, Log(source.name, stream.name)) for stream in source.streams()
        )
        for source in sources
    }


def _job(source: Source, *, signed: bool) -> Any:
    keys = [_key(Log(source.name, stream.name)) for stream in source.streams()]
    checked = [dg.AssetCheckKey(key, _SIGNED_CHECK) for key in keys if signed]
    later = dg.AssetSelection.checks(dg.AssetCheckKey(_EVENTS, _SAMPLE_CHECK), *checked)
    return dg.define_asset_job(
        _word(source.name),
        selection=dg.AssetSelection.assets(*keys, _EVENTS) - later,
        description=f"A round of {source.name}: its streams one after the other, then events.",
        tags={_INTEGRATION: source.name},
        executor_def=dg.in_process_executor,
    )


def _client(source: Source, connect: Connect) -> dg.ResourceDefinition:
    """One signed-in client for all streams of a run."""

    @dg.resource(description=f"{source.integration.title}, signed in")
    def signed_in(_: dg.InitResourceContext) -> Iterator[SignedIn]:
        with connect(source) as client:
            yield client

    return signed_in


def _key(log: Log) -> dg.AssetKey:
    return dg.AssetKey(["raw", log.integration, log.stream])


def _word(name: str) -> str:
    """A name as Dagster wants the names of jobs, groups and sensors."""
    return name.replace("-", "__")


def _op(log: Log) -> str:
    return f"raw__{_word(log.integration)}__{_word(log.stream)}"


def _client_key(source: Source) -> str:
    return f"client_of_{_word(source.name)}"


def _shape(lake: Lake, table: str, schema: Mapping[str, pl.DataType]) -> Figures:
    columns = [dg.TableColumn(name, type=str(dtype)) for name, dtype in schema.items()]
    return {
        "dagster/uri": lake.uri(table),
        "dagster/column_schema": dg.TableSchema(columns=columns),
    }


def _line(report: Report) -> str:
    back_to = f", back to {report.oldest:%Y-%m-%d}" if report.oldest else ""
    return f"{report.stream}: {report.rows:,} new of {report.total:,}{back_to}"


def _round_figures(report: Report) -> Figures:
    figures: Figures = {
        "rows added": report.rows,
        "events added": report.events,
        "duplicates": report.duplicates,
        "rejected": report.rejected,
        "requests": report.requests,
        "bytes added": report.bytes,
        "spans covered": len(report.covered),
        "gaps": len(report.gaps),
    }
    if report.covered:
        first = min(span.since for span in report.covered)
        last = max(span.until for span in report.covered)
        figures |= {"covered since": _stamp(first), "covered until": _stamp(last)}
    figures |= {f"unreadable {column}": count for column, count in report.faults.items()}
    return figures | {f"seconds {step}": round(s, 3) for step, s in report.seconds.items()}


def _table_figures(lake: Lake, name: str) -> Figures:
    handle = lakes.open_table(lake, name)
    if handle is None:
        return {}
    files = _files(handle)
    figures: Figures = {
        "dagster/row_count": int(files["num_records"].sum()),
        "table version": handle.version(),
        "table bytes": int(files["size_bytes"].sum()),
    }
    newest = _greatest(files, "max.time")
    if newest:
        lag = (utc_now() - newest).total_seconds()
        figures |= {"newest event": _stamp(newest), "lag in seconds": round(lag, 3)}
    return figures


def _short(time: timedelta) -> str:
    """To the minute."""
    return f"{int(time.total_seconds() // 3600)} h {int(time.total_seconds() // 60) % 60} min"


def _stamp(time: datetime) -> dg.TimestampMetadataValue:
    return dg.MetadataValue.timestamp(time)


def _files(handle: DeltaTable) -> pl.DataFrame:
    """The files of a table with their statistics, a row each."""
    return pl.DataFrame(handle.get_add_actions(flatten=True))


def _greatest(files: pl.DataFrame, column: str) -> datetime | None:
    found = files[column].max() if column in files.columns else None
    return found if isinstance(found, datetime) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A raw table to be judged, with the statistics of its files."""

    lake: Lake
    log: Log
    stream: Stream
    handle: DeltaTable
    files: pl.DataFrame
    rows: int
    """What the fence says."""
    now: datetime
    whole: bool = False
    """Whether to read all of it rather than its statistics and its newest days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    passed: bool
    description: str
    figures: Figures


def _opened(lake: Lake, log: Log, stream: Stream, now: datetime, whole: bool) -> Table | None:
    handle = lakes.open_table(lake, log.table)
    if handle is None:
        return None
    return Table(
        lake=lake,
        log=log,
        stream=stream,
        handle=handle,
        files=_files(handle),
        rows=handle.transaction_version(log.app) or 0,
        now=now,
        whole=whole,
    )


def _fresh(table: Table) -> Verdict:
    """Has something arrived within twice the longest silence this stream is known for?"""
    arrived = _greatest(table.files, "max.ingested_at")
    if arrived is None:
        return Verdict(passed=True, description="nothing has come yet", figures={})
    times = (
        pl.scan_delta(table.handle)
        .filter(pl.col("seq") >= table.rows - 20_000)
        .select(pl.col("time").sort().diff().max())
        .collect()
        .item()
    )
    allowed = max(timedelta(hours=1), 2 * (times or timedelta(0))) + table.stream.lag
    silence = table.now - arrived
    return Verdict(
        passed=silence <= allowed,
        description=f"last arrival {_short(silence)} ago; expected within {_short(allowed)}",
        figures={
            "last arrival": _stamp(arrived),
            "silent for seconds": round(silence.total_seconds(), 1),
            "expected within seconds": round(allowed.total_seconds(), 1),
        },
    )


def _unique(table: Table) -> Verdict:
    """The same id has the same time, so duplicates can only be in the same day."""
    dates = table.files["partition.date"].unique().sort(descending=True)
    looked_at = dates if table.whole else dates.head(2)
    counted = (
        pl.scan_delta(table.handle)
        .filter(pl.col("date").is_in(looked_at.to_list()))
        .group_by("date")
        .agg(rows=pl.len(), ids=pl.col("event_id").n_unique())
        .sum()
        .collect()
    )
    rows, ids = counted["rows"].item(), counted["ids"].item()
    return Verdict(
        passed=rows == ids,
        description=f"{rows - ids:,} of {rows:,} rows in {looked_at.len()} days are duplicates",
        figures={"rows looked at": rows, "duplicates": rows - ids, "days": looked_at.len()},
    )


def _dense(table: Table) -> Verdict:
    """seq goes from 0 to rows - 1: by count, least and greatest; in whole by every value."""
    held = int(table.files["num_records"].sum())
    ends = (table.files["min.seq"].min(), table.files["max.seq"].max())
    distinct = held
    if table.whole:
        seq = pl.scan_delta(table.handle).select(pl.col("seq").n_unique())
        distinct = seq.collect().item()
    expected = (0, table.rows - 1) if table.rows else (None, None)
    return Verdict(
        passed=held == distinct == table.rows and ends == expected,
        description=f"{held:,} rows, {distinct:,} values of seq from {ends[0]!s} to {ends[1]!s}; "
        f"the fence says {table.rows:,}",
        figures={"rows": held, "rows by the fence": table.rows},
    )


def _none_rejected(table: Table) -> Verdict:
    waiting = lakes.still_rejected(table.lake, table.log)
    reasons = waiting.group_by("reason").len().sort("len", descending=True)
    count = int(reasons["len"].sum())
    said = ", ".join(f"{number:,} x {reason}" for reason, number in reasons.head(3).iter_rows())
    return Verdict(passed=count == 0, description=said or "none", figures={"rejected": count})


_CHECKS: dict[str, tuple[Callable[[Table], Verdict], dg.AssetCheckSeverity, str]] = {
    "freshness": (
        _fresh,
        dg.AssetCheckSeverity.WARN,
        "Something arrived within twice the longest silence the stream is known for.",
    ),
    "unique_event_id": (
        _unique,
        dg.AssetCheckSeverity.ERROR,
        "No event_id twice: in the newest two days; in all days in the job whole_tables.",
    ),
    "dense_seq": (
        _dense,
        dg.AssetCheckSeverity.ERROR,
        "seq has no gap: by statistics; by every value in the job whole_tables.",
    ),
    "nothing_rejected": (
        _none_rejected,
        dg.AssetCheckSeverity.WARN,
        "All that came could be read as a record; the rest is in the table `rejected`.",
    ),
}


def _checks_of(lake: Lake, source: Source, stream: Stream) -> dg.AssetChecksDefinition:
    log = Log(source.name, stream.name)

    @dg.multi_asset_check(
        name=f"check__{_op(log)}",
        specs=[
            dg.AssetCheckSpec(name, asset=_key(log), description=description)
            for name, (_, _, description) in _CHECKS.items()
        ],
        can_subset=True,
    )
    def checked(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        table = _opened(lake, log, stream, utc_now(), _WHOLE in context.run.tags)
        for chosen in sorted(context.selected_asset_check_keys):
            judge, severity, _ = _CHECKS[chosen.name]
            verdict = judge(table) if table else _NOTHING
            yield dg.AssetCheckResult(
                asset_key=chosen.asset_key,
                check_name=chosen.name,
                passed=verdict.passed,
                severity=severity,
                description=verdict.description,
                metadata=verdict.figures,
            )

    return checked


_NOTHING = Verdict(passed=True, description="there is no table yet", figures={})


def _whole_tables() -> dg.ScheduleDefinition:
    # This one is made together with its table, every hour.
    confirmed = dg.AssetSelection.checks(dg.AssetCheckKey(_RECONCILIATION, _CONFIRMED_CHECK))
    job = dg.define_asset_job(
        "whole_tables",
        selection=dg.AssetSelection.all_asset_checks() - confirmed,
        description="All checks, over every row.",
        tags={_WHOLE: "true"},
        executor_def=dg.in_process_executor,
    )
    return dg.ScheduleDefinition(
        job=job, cron_schedule="17 3 * * *", default_status=dg.DefaultScheduleStatus.RUNNING
    )


def _maintenance(lake: Lake, sources: Sequence[Source]) -> dg.ScheduleDefinition:
    @dg.op
    def maintain(context: dg.OpExecutionContext) -> None:
        logs = [Log(source.name, s.name) for source in sources for s in source.streams()]
        for tidied in maintenance.maintain(lake, logs, utc_now().date()):
            context.log.info(
                f"{tidied.table}: {tidied.files_before:,} files, now {tidied.files_after:,}; "
                f"{tidied.removed:,} removed"
            )

    @dg.job(description="Keeps the lake fast and small; changes no row.")
    def maintenance_of_the_lake() -> None:
        maintain()

    return dg.ScheduleDefinition(
        job=maintenance_of_the_lake,
        cron_schedule="23 * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


class BackfillConfig(dg.Config):
    """A span of one integration to be read again; times in ISO 8601, UTC where none is said."""

    integration: str
    since: str
    until: str
    streams: list[str] = []  # noqa: RUF012 Dagster copies it
    again: bool = False


def _backfill_job(lake: Lake, sources: Sequence[Source], connect: Connect) -> dg.JobDefinition:
    @dg.op
    def backfill(context: dg.OpExecutionContext, config: BackfillConfig) -> None:
        source = next((s for s in sources if s.name == config.integration), None)
        if source is None:
            known = ", ".join(s.name for s in sources)
            raise dg.Failure(f"{config.integration!r} is not configured: {known}")
        since, until = (
            time if time.tzinfo else time.replace(tzinfo=UTC)
            for time in map(datetime.fromisoformat, (config.since, config.until))
        )
        with connect(source) as client:
            for stream in source.streams():
                if config.streams and stream.name not in config.streams:
                    continue
                this = Round(
                    lake=lake,
                    source=source,
                    stream=stream,
                    client=client,
                    via="backfill",
                    progress=lambda report: context.log.info(_line(report)),
                )
                report = extract.backfill(this, Span(since=since, until=until), again=config.again)
                if report.error:
                    raise dg.Failure(report.error, allow_retries=False)

    @dg.job(description="Reads a span of history again, beside live polling.")
    def backfill_of_a_span() -> None:
        backfill()

    return backfill_of_a_span


class RenormaliseConfig(dg.Config):
    """What to derive again: what another mapping made, or everything."""

    integrations: list[str] = []  # noqa: RUF012 Dagster copies it
    everything: bool = False


def _renormalise_job(lake: Lake, sources: Sequence[Source]) -> dg.JobDefinition:
    @dg.op
    def renormalised(context: dg.OpExecutionContext, config: RenormaliseConfig) -> None:
        for source in sources:
            if config.integrations and source.name not in config.integrations:
                continue
            for history in renormalise.histories(lake, source):
                for done in renormalise.renormalise(history, everything=config.everything):
                    where = f"{source.name} {history.stream.name}"
                    context.log.info(f"{where}: {done.part.day}, {done.left:,} rows to do")

    @dg.job(description="Derives events again from raw, after a new mapping; asks no vendor.")
    def renormalise_events() -> None:
        renormalised()

    return renormalise_events


def _follows_from_raw(lake: Lake, sources: Sequence[Source]) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=_EVENTS,
        name=_SAMPLE_CHECK,
        description="Sampled rows are what raw gives when they are derived again.",
    )
    def follows_from_raw() -> dg.AssetCheckResult:
        seed = utc_now().toordinal()
        verdicts = {
            f"{source.name} {history.stream.name}": renormalise.check(
                history, rows=_SAMPLED, seed=seed
            )
            for source in sources
            for history in renormalise.histories(lake, source)
        }
        stale = [where for where, verdict in verdicts.items() if verdict.stale]
        wrong = [where for where, verdict in verdicts.items() if not verdict.sound]
        return dg.AssetCheckResult(
            passed=not (stale or wrong),
            severity=dg.AssetCheckSeverity.ERROR if wrong else dg.AssetCheckSeverity.WARN,
            description=_advice(wrong, stale),
            metadata={"events compared": sum(v.events for v in verdicts.values())},
        )

    return follows_from_raw


_RECONCILIATION = dg.AssetKey("reconciliation")
_CONFIRMED_CHECK = "pushes_confirmed"


def _reconciliation(lake: Lake, sources: Sequence[Source]) -> dg.AssetsDefinition:
    streams = [
        (source, stream)
        for source in sources
        if source.integration.push and source.settings.webhook_secret
        for stream in source.streams()
    ]
    spec = dg.AssetSpec(
        _RECONCILIATION,
        deps=[_key(Log(source.name, stream.name)) for source, stream in streams],
        description="What was pushed and what was polled: shares, delays, pushes never confirmed.",
        group_name="events",
        kinds={"deltalake"},
        metadata=_shape(lake, "reconciliation", event.RECONCILED),
    )
    check = dg.AssetCheckSpec(
        _CONFIRMED_CHECK,
        asset=_RECONCILIATION,
        description="Polling has shown all that was pushed; else it was forged, or is gone.",
    )

    @dg.multi_asset(name="reconciliation", specs=[spec], check_specs=[check])
    def reconciled() -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        now = utc_now()
        found = [reconciliation.reconcile(lake, *each, now) for each in streams]
        sums = pl.concat([pl.DataFrame(schema=event.RECONCILED), *found])
        yield dg.MaterializeResult(asset_key=_RECONCILIATION, metadata=_shares(sums))
        missing = sums.filter(pl.col("unconfirmed") > 0)
        yield dg.AssetCheckResult(
            asset_key=_RECONCILIATION,
            check_name=_CONFIRMED_CHECK,
            passed=missing.is_empty(),
            severity=dg.AssetCheckSeverity.WARN,
            description=_never_polled(missing),
            metadata={"unconfirmed": int(missing["unconfirmed"].sum())},
        )

    return reconciled


def _shares(sums: pl.DataFrame) -> Figures:
    """Of each integration: how much of what was polled had been pushed, and what came first."""
    by_name = sums.group_by("integration").agg(pl.col("polled", "pushed", "both").sum())
    return {
        f"share pushed of {name}": round(both / polled, 4) if polled else 0.0
        for name, polled, _, both in by_name.sort("integration").iter_rows()
    } | {f"pushed by {name}": int(pushed) for name, _, pushed, _ in by_name.iter_rows()}


def _never_polled(missing: pl.DataFrame) -> str:
    if missing.is_empty():
        return "all confirmed"
    where = ", ".join(
        f"{integration} {stream} ({count:,})"
        for integration, stream, count in missing.group_by("integration", "stream")
        .agg(pl.col("unconfirmed").sum())
        .sort("integration", "stream")
        .iter_rows()
    )
    return (
        f"pushed and never polled: {where}; see whether polling goes on, then compare with the "
        "vendor's console: who else knows the webhook_secret?"
    )


def _reconciled_hourly() -> dg.ScheduleDefinition:
    job = dg.define_asset_job(
        "reconciliation_of_pushes",
        selection=dg.AssetSelection.assets(_RECONCILIATION),
        description="Compares what was pushed with what was polled.",
        executor_def=dg.in_process_executor,
    )
    return dg.ScheduleDefinition(
        job=job, cron_schedule="7 * * * *", default_status=dg.DefaultScheduleStatus.RUNNING
    )


def _subscribed(sources: Sequence[Source]) -> list[dg.AssetSpec]:
    """What the receiver reports of subscriptions: each time they are made or renewed."""
    return [
        dg.AssetSpec(
            dg.AssetKey(["push", source.name]),
            description=f"How {source.integration.title} is told to push: when that ends.",
            group_name=_word(source.name),
        )
        for source in sources
        if source.integration.push and source.settings.webhook_secret
    ]


def _advice(wrong: Sequence[str], stale: Sequence[str]) -> str:
    if wrong:
        return f"differ from raw: {', '.join(wrong)}; run renormalise_events with everything"
    return f"of an older mapping: {', '.join(stale)}; run renormalise_events" if stale else "sound"


def _verification(
    lake: Lake, chosen: IntegritySettings, sources: Sequence[Source]
) -> dg.AssetChecksDefinition:
    """Reads what came since the last time; all of it in the job whole_tables."""
    kinds = {source.name: source.kind for source in sources}
    specs = [
        dg.AssetCheckSpec(
            _SIGNED_CHECK,
            asset=_key(Log(source.name, stream.name)),
            description="Every row is as it was signed, none is missing, none was slipped in.",
        )
        for source in sources
        for stream in source.streams()
    ]

    @dg.multi_asset_check(name="compare_with_signed", specs=specs, can_subset=True)
    def verification(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        where = verifications.place(lake, chosen)
        for fault in anchors.deliver(where.memory, chosen):
            context.log.warning(f"anchor {fault}")
        full, begun = _WHOLE in context.run.tags, verify.tables(where)
        for check in sorted(context.selected_asset_check_keys):
            table = "/".join(check.asset_key.path)
            known = [table] if table in begun else []
            found = list(verifications.verdicts(where, known, kinds, Crew(1), full=full))
            verifications.keep(lake, found)
            yield _as_signed(check, found)

    return verification


def _as_signed(check: dg.AssetCheckKey, found: Sequence[verify.Verdict]) -> dg.AssetCheckResult:
    if not found:
        return dg.AssetCheckResult(
            asset_key=check.asset_key,
            check_name=check.name,
            passed=True,
            description=_NOTHING.description,
        )
    (verdict,) = found
    return dg.AssetCheckResult(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=verdict.ok,
        severity=dg.AssetCheckSeverity.ERROR,
        description=verifications.line(verdict),
        metadata={
            "rows signed": verdict.size,
            "rows read": verdict.read,
            "rows removed by policy": verdict.removed,
            "kept checkpoints that agree": len(verdict.compared_with),
        },
    )


def _verified_hourly(streams: Sequence[tuple[Source, Stream]]) -> dg.ScheduleDefinition:
    keys = [_key(Log(source.name, stream.name)) for source, stream in streams]
    job = dg.define_asset_job(
        "verification",
        selection=dg.AssetSelection.checks(*(dg.AssetCheckKey(k, _SIGNED_CHECK) for k in keys)),
        description="Compares every new row with what was signed; tells anchors what waits.",
        executor_def=dg.in_process_executor,
    )
    return dg.ScheduleDefinition(
        job=job, cron_schedule="53 * * * *", default_status=dg.DefaultScheduleStatus.RUNNING
    )


def _forget_old_runs() -> dg.ScheduleDefinition:
    """Dagster itself keeps every run for ever, a file each."""

    @dg.op
    def forget(context: dg.OpExecutionContext) -> None:
        before = utc_now() - _KEPT
        finished = dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED],
            created_before=before,
        )
        for run in context.instance.get_runs(finished, limit=_FORGOTTEN_AT_ONCE):
            context.instance.delete_run(run.run_id)

    @dg.job(description=f"Forgets successful runs older than {_KEPT.days} days.")
    def forget_old_runs() -> None:
        forget()

    return dg.ScheduleDefinition(
        job=forget_old_runs,
        cron_schedule="41 * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


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
        place = lakes.position(this.lake, this.log)
        return Look(news=_news(this, place), rows=place.rows)
    except AuditlakeError as error:
        return Look(error=str(error))


def _news(this: Round, place: lakes.Position) -> bool:
    if place.cursor is None or lakes.derived(this.lake, this.log) < place.rows:
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
    found = lakes.scan(lake, table)
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


def _sensor(lake: Lake, source: Source, connect: Connect) -> dg.SensorDefinition:
    """Looks for news of each stream that is due, and asks for one run of those worth it."""

    @cache
    def client() -> SignedIn:
        opened = connect(source, patience=_LOOK)
        opened.timeout = _LOOK_TIMEOUT
        return opened

    @dg.sensor(
        name=f"news_of_{_word(source.name)}",
        job_name=_word(source.name),
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

    log: Log
    look: Look
    standing: Standing
    watch: Watch
    freshness: dg.AssetCheckEvaluation | None = None


def _sightings(
    instance: dg.DagsterInstance,
    lake: Lake,
    source: Source,
    client: Callable[[], SignedIn],
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
        seen, standing = look(this), _standing(instance, _key(this.log))
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
        plan = Plan(next=following, interval=seen.watch.wait, why=seen.watch.why)
        asked.tell(lake, seen.log, plan)


def _freshness(this: Round, now: datetime) -> dg.AssetCheckEvaluation | None:
    """Silence makes no run, so the sensor says when it lasts too long."""
    table = _opened(this.lake, this.log, this.stream, now, whole=False)
    if table is None:
        return None
    verdict = _fresh(table)
    return dg.AssetCheckEvaluation(
        asset_key=_key(this.log),
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
    runs = instance.get_runs(dg.RunsFilter(tags={_INTEGRATION: source.name}), limit=1)
    last = runs[0] if runs else None
    keys = [_key(seen.log) for seen in sightings if worth_a_run(seen.look, seen.standing)]
    if not (keys or (last and _owes_events(instance, last))):
        return []
    return [
        dg.RunRequest(
            run_key=f"{source.name} after {last.run_id if last else 'none'}",
            asset_selection=[*keys, _EVENTS],
            tags={_INTEGRATION: source.name},
        )
    ]


def _owes_events(instance: dg.DagsterInstance, last: dg.DagsterRun) -> bool:
    """Did a stream of this run fail, and `events` with it?"""
    record = _record(instance, _EVENTS)
    return (
        record is not None
        and record.asset_entry.last_run_id == last.run_id
        and last.asset_selection != {_EVENTS}
        and _standing(instance, _EVENTS) == "failed"
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
    unfinished = dg.RunsFilter(tags={_INTEGRATION: name}, statuses=_UNFINISHED)
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


defs = _configured()
