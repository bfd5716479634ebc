"""Dagster's definitions: one asset per stream, one job and sensor per integration, checks."""

import logging
from collections.abc import Sequence
from functools import partial

import dagster as dg

from pipelines import registry, settings
from pipelines.detections.detector import Detector
from pipelines.errors import ConfigurationError
from pipelines.extraction import client
from pipelines.integrity import configuration
from pipelines.lake import tables
from pipelines.lake.tables import Lake
from pipelines.orchestration import alerts, detections
from pipelines.orchestration.assets import (
    Connect,
    client_of,
    events_asset,
    no_longer_polled,
    reconciled,
    stream_asset,
    subscribed,
)
from pipelines.orchestration.checks import checks_of, follows_from_raw, verification
from pipelines.orchestration.jobs import (
    backfill_job,
    forget_old_runs,
    full_table_checks,
    housekeeping,
    reconciled_hourly,
    renormalise_job,
    round_of,
    verified_hourly,
)
from pipelines.orchestration.naming import FINDINGS, client_key
from pipelines.orchestration.sensors import sensor
from pipelines.sdk.contract import Source
from pipelines.settings import DagsterSettings, Settings, folders, logs
from pipelines.settings.detections import DetectionSettings
from pipelines.settings.retention import RetentionSettings


def definitions(
    lake: Lake,
    sources: Sequence[Source],
    connect: Connect = client.connect,
    kept: RetentionSettings = RetentionSettings(),  # noqa: B008 it is frozen
    dagster: DagsterSettings = DagsterSettings(),  # noqa: B008 it is frozen
    *,
    rules: DetectionSettings = DetectionSettings(),  # noqa: B008 it is frozen
    alerting: Settings | None = None,
) -> dg.Definitions:
    """Return all assets, checks, jobs, schedules and sensors for these sources.

    They set an executor only if `dagster` sets it, since one alone of merged definitions may.
    """
    streams = [(source, stream) for source in sources for stream in source.streams()]
    declare = partial(configuration.declare, lake, sources, kept)
    told = [each for each in [alerting] if each and each.alerts.is_used]
    signed = [chosen for chosen in [lake.integrity] if chosen and chosen.sign]
    detectors = [Detector(lake=lake, settings=rules)] if rules.enabled else []
    return dg.Definitions(
        assets=[
            *(stream_asset(lake, *each) for each in streams),
            events_asset(lake, sources),
            *(detections.asset(each, sources) for each in detectors),
            reconciled(lake, sources),
            *subscribed(sources),
            *no_longer_polled(lake, sources),
        ],
        asset_checks=[
            *(checks_of(lake, *each) for each in streams),
            follows_from_raw(lake, sources),
            *(verification(lake, chosen, sources) for chosen in signed),
        ],
        jobs=[
            *(round_of(source, signed=bool(signed)) for source in sources),
            backfill_job(lake, sources, connect),
            renormalise_job(lake, sources),
            *(detections.job() for _ in detectors),
            *(alerts.job(lake, each) for each in told),
        ],
        schedules=[
            full_table_checks(*(FINDINGS for _ in detectors)),
            forget_old_runs(_forgets(dagster)),
            housekeeping(lake, sources, kept),
            reconciled_hourly(),
            *(verified_hourly(streams) for _ in signed),
        ],
        sensors=[
            *(sensor(lake, source, connect, declare) for source in sources),
            *(detections.sensor(each, sources) for each in detectors),
            *(alerts.sensor(lake, each) for each in told),
        ],
        resources={client_key(source): client_of(source, connect) for source in sources},
        executor=dg.in_process_executor if dagster.in_process else None,
    )


def _forgets(dagster: DagsterSettings) -> dg.DefaultScheduleStatus:
    # It would delete the runs of others, too.
    status = dg.DefaultScheduleStatus
    return status.RUNNING if dagster.dedicated else status.STOPPED


def _configured() -> dg.Definitions:
    """Return the definitions for auditlake.toml; if it is invalid, one asset with the error."""
    if logs.from_environment() == "json":
        logs.configure("json", "pipelines")
    try:
        chosen = settings.load(folders.path_from_environment())
        chosen.telemetry.start()
        lake, sources = tables.configured(chosen), registry.sources(chosen)
        return definitions(
            *(lake, sources),
            kept=chosen.retention,
            dagster=chosen.dagster,
            rules=chosen.detections,
            alerting=chosen,
        )
    except ConfigurationError as error:
        logging.getLogger("dagster").error("auditlake: %s", error)  # noqa: TRY400 the message is enough
        return dg.Definitions(assets=[dg.AssetSpec("configuration", description=str(error))])


defs = _configured()
