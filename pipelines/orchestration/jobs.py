"""Jobs and schedules: rounds per integration, backfill, renormalising and hourly housekeeping."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from pipelines.clock import utc_now
from pipelines.extraction import expiry, renormalise
from pipelines.extraction.backfill import fetch_span
from pipelines.extraction.rounds import Round
from pipelines.integrity import bundles, configuration
from pipelines.integrity import retention as removals
from pipelines.lake import maintenance
from pipelines.lake.tables import Lake, StreamKey
from pipelines.orchestration import retention
from pipelines.orchestration.assets import CONFIRMED_CHECK, RECONCILIATION, Connect, leased
from pipelines.orchestration.checks import SAMPLE_CHECK, SIGNED_CHECK
from pipelines.orchestration.naming import (
    EVENTS,
    INTEGRATION,
    WHOLE,
    key_of,
    line,
    state_figures,
    word,
)
from pipelines.sdk.contract import Source, Stream
from pipelines.sdk.pages import Span
from pipelines.settings.retention import RetentionSettings


def round_of(source: Source, *, signed: bool) -> Any:
    keys = [key_of(StreamKey(source.name, stream.name)) for stream in source.streams()]
    checked = [dg.AssetCheckKey(key, SIGNED_CHECK) for key in keys if signed]
    later = dg.AssetSelection.checks(dg.AssetCheckKey(EVENTS, SAMPLE_CHECK), *checked)
    return dg.define_asset_job(
        word(source.name),
        selection=dg.AssetSelection.assets(*keys, EVENTS) - later,
        description=f"Polls the streams of {source.name} one after the other, then updates events.",
        tags={INTEGRATION: source.name},
    )


def full_table_checks(*also: dg.AssetKey) -> dg.ScheduleDefinition:
    """Return the nightly job of all checks; `also` are assets whose checks come with them."""
    # push_reconciliation runs this check every hour, together with the table it belongs to.
    confirmed = dg.AssetSelection.checks(dg.AssetCheckKey(RECONCILIATION, CONFIRMED_CHECK))
    job = dg.define_asset_job(
        "full_table_checks",
        selection=(dg.AssetSelection.all_asset_checks() - confirmed)
        | dg.AssetSelection.assets(*also),
        description="Runs all checks over every row.",
        tags={WHOLE: "true"},
    )
    return dg.ScheduleDefinition(
        job=job, cron_schedule="17 3 * * *", default_status=dg.DefaultScheduleStatus.RUNNING
    )


def housekeeping(
    lake: Lake, sources: Sequence[Source], kept: RetentionSettings
) -> dg.ScheduleDefinition:
    @dg.op
    def maintain(context: dg.OpExecutionContext) -> None:
        configuration.declare(lake, sources, kept, utc_now())
        logs = [StreamKey(source.name, s.name) for source in sources for s in source.streams()]
        removed = removals.apply(lake, kept, logs, utc_now())
        for each in removed:
            context.log.info(f"{each.table}: {each.error or f'{each.rows:,} rows removed'}")
        bundles.prune(lake, maintenance.streams_of(lake, logs))
        for tidied in maintenance.maintain(lake, logs, utc_now().date()):
            context.log.info(
                f"{tidied.table}: {tidied.files_before:,} files, now {tidied.files_after:,}; "
                f"{tidied.removed:,} removed"
            )
        expiry.refresh(lake, sources, utc_now())
        # A stream that is late, failing or silent has no runs that could show it.
        for source in sources:
            for stream in source.streams():
                _observe(context, lake, source, stream)
        if failed := [f"{each.table}: {each.error}" for each in removed if each.error]:
            raise dg.Failure("; ".join(failed), allow_retries=False)

    @dg.job(
        description="Deletes rows whose retention period is over; compacts files, trims Delta "
        "logs and deletes orphans; then reports the state of every stream."
    )
    def lake_maintenance() -> None:
        maintain()

    return dg.ScheduleDefinition(
        job=lake_maintenance,
        cron_schedule="23 * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


def _observe(context: dg.OpExecutionContext, lake: Lake, source: Source, stream: Stream) -> None:
    """Report the state of a stream as an observation of its asset."""
    asset = key_of(StreamKey(source.name, stream.name))
    context.log_event(dg.AssetObservation(asset, metadata=state_figures(lake, source, stream)))


class BackfillConfig(dg.Config):
    """A time range of one integration to fetch again; ISO 8601, UTC unless an offset is given."""

    integration: str
    since: str
    until: str
    streams: list[str] = []  # noqa: RUF012 Dagster copies it
    again: bool = False


def backfill_job(lake: Lake, sources: Sequence[Source], connect: Connect) -> dg.JobDefinition:
    @dg.op
    def fetch_range(context: dg.OpExecutionContext, config: BackfillConfig) -> None:
        source = next((s for s in sources if s.name == config.integration), None)
        if source is None:
            known = ", ".join(s.name for s in sources)
            raise dg.Failure(f"{config.integration!r} is not configured; configured are: {known}")
        since, until = (
            time if time.tzinfo else time.replace(tzinfo=UTC)
            for time in map(datetime.fromisoformat, (config.since, config.until))
        )
        with leased(lake, source), connect(source) as client:
            for stream in source.streams():
                if config.streams and stream.name not in config.streams:
                    continue
                this = Round(
                    lake=lake,
                    source=source,
                    stream=stream,
                    client=client,
                    via="backfill",
                    progress=lambda report: context.log.info(line(report)),
                )
                report = fetch_span(this, Span(since=since, until=until), again=config.again)
                for gap in report.gaps:
                    context.log.warning(f"{stream.name}: lost: {gap.span}: {gap.reason}")
                _observe(context, lake, source, stream)
                if report.error:
                    raise dg.Failure(report.error, allow_retries=False)

    @dg.job(description="Re-fetches a time range alongside live polling.")
    def backfill() -> None:
        fetch_range()

    return backfill


class RenormaliseConfig(dg.Config):
    """Which events to derive again: those of other mapping versions, or all."""

    integrations: list[str] = []  # noqa: RUF012 Dagster copies it
    everything: bool = False


def renormalise_job(lake: Lake, sources: Sequence[Source]) -> dg.JobDefinition:
    @dg.op
    def renormalised(context: dg.OpExecutionContext, config: RenormaliseConfig) -> None:
        for source in sources:
            if config.integrations and source.name not in config.integrations:
                continue
            for history in renormalise.histories(lake, source):
                for done in renormalise.renormalise(history, everything=config.everything):
                    where = f"{source.name} {history.stream.name}"
                    context.log.info(f"{where}: {done.part.day}, {done.left:,} rows left")

    @dg.job(description="Derives events from raw again after a mapping changed; sends no request.")
    def renormalise_events() -> None:
        renormalised()

    return renormalise_events


def reconciled_hourly() -> dg.ScheduleDefinition:
    job = dg.define_asset_job(
        "push_reconciliation",
        selection=dg.AssetSelection.assets(RECONCILIATION),
        description="Compares pushed with polled events.",
    )
    return dg.ScheduleDefinition(
        job=job, cron_schedule="7 * * * *", default_status=dg.DefaultScheduleStatus.RUNNING
    )


def verified_hourly(streams: Sequence[tuple[Source, Stream]]) -> dg.ScheduleDefinition:
    keys = [key_of(StreamKey(source.name, stream.name)) for source, stream in streams]
    job = dg.define_asset_job(
        "verification",
        selection=dg.AssetSelection.checks(*(dg.AssetCheckKey(k, SIGNED_CHECK) for k in keys)),
        description="Compares new rows with the signed log; retries anchors and witnesses.",
    )
    return dg.ScheduleDefinition(
        job=job, cron_schedule="53 * * * *", default_status=dg.DefaultScheduleStatus.RUNNING
    )


def forget_old_runs(status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
    """Delete Dagster's old history, which it would keep for ever."""

    @dg.op
    def forget(context: dg.OpExecutionContext) -> None:
        gone = retention.forget(context.instance, utc_now(), retention.Kept())
        context.log.info(
            f"{gone.runs:,} runs, {gone.events:,} events and {gone.verdicts:,} verdicts deleted"
        )

    @dg.job(
        description="Deletes old runs, ticks, events and verdicts of this Dagster, of all code "
        "locations; nothing of the lake."
    )
    def forget_old_runs() -> None:
        forget()

    return dg.ScheduleDefinition(
        job=forget_old_runs,
        cron_schedule="41 * * * *",
        default_status=status,
    )
