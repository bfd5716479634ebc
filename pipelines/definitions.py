"""Dagster: an asset a stream, a job and a sensor an integration, checks; all from the registry."""

import logging
from collections.abc import Sequence

import dagster as dg

from pipelines import registry, settings
from pipelines.errors import ConfigurationError
from pipelines.extraction import client
from pipelines.lake import tables
from pipelines.lake.tables import Lake
from pipelines.orchestration.assets import (
    Connect,
    client_of,
    events_asset,
    reconciled,
    stream_asset,
    subscribed,
)
from pipelines.orchestration.checks import checks_of, follows_from_raw, verification
from pipelines.orchestration.jobs import (
    backfill_job,
    forget_old_runs,
    housekeeping,
    reconciled_hourly,
    renormalise_job,
    round_of,
    verified_hourly,
    whole_tables,
)
from pipelines.orchestration.naming import client_key
from pipelines.orchestration.sensors import sensor
from pipelines.sdk.contract import Source


def definitions(
    lake: Lake, sources: Sequence[Source], connect: Connect = client.connect
) -> dg.Definitions:
    """Everything Dagster has to know about these sources."""
    streams = [(source, stream) for source in sources for stream in source.streams()]
    signed = [chosen for chosen in [lake.integrity] if chosen and chosen.sign]
    return dg.Definitions(
        assets=[
            *(stream_asset(lake, *each) for each in streams),
            events_asset(lake, sources),
            reconciled(lake, sources),
            *subscribed(sources),
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
        ],
        schedules=[
            whole_tables(),
            forget_old_runs(),
            housekeeping(lake, sources),
            reconciled_hourly(),
            *(verified_hourly(streams) for _ in signed),
        ],
        sensors=[sensor(lake, source, connect) for source in sources],
        resources={client_key(source): client_of(source, connect) for source in sources},
        executor=dg.in_process_executor,
    )


def _configured() -> dg.Definitions:
    """What auditlake.toml asks for; where it is at fault, an asset that says so."""
    try:
        chosen = settings.load(settings.path_from_environment())
        return definitions(tables.configured(chosen), registry.sources(chosen))
    except ConfigurationError as error:
        logging.getLogger("dagster").error("auditlake: %s", error)  # noqa: TRY400 it says all
        return dg.Definitions(assets=[dg.AssetSpec("configuration", description=str(error))])


defs = _configured()
