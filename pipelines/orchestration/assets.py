"""Assets: one per stream, `events` downstream of them, and those that the receiver reports."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime

import dagster as dg
import polars as pl

from pipelines import schemas
from pipelines.clock import utc_now
from pipelines.errors import AuditlakeError
from pipelines.extraction import derive, rounds, schedule
from pipelines.extraction.client import ServiceClient
from pipelines.extraction.report import Report
from pipelines.extraction.rounds import Round
from pipelines.integrity import retired_streams
from pipelines.lake import coverage, events, reconciliation, stream_state
from pipelines.lake import streams as streams_table
from pipelines.lake.stream_state import Intended
from pipelines.lake.tables import Lake, StreamKey
from pipelines.orchestration import verdicts
from pipelines.orchestration.checks import keys_of
from pipelines.orchestration.naming import (
    EVENTS,
    Figures,
    client_key,
    key_of,
    line,
    op,
    round_figures,
    shape,
    state_figures,
    table_figures,
    word,
)
from pipelines.sdk.contract import Source, Stream

Connect = Callable[..., ServiceClient]


def stream_asset(lake: Lake, source: Source, stream: Stream) -> dg.AssetsDefinition:
    log = StreamKey(source.name, stream.name)
    spec = dg.AssetSpec(
        key_of(log),
        description=f"{source.integration.title}: {stream.name}, unchanged from the vendor.",
        group_name=word(source.name),
        kinds={"deltalake"},
        tags={"auditlake/kind": source.kind},
        metadata=shape(lake, log.table, schemas.RAW),
    )

    @dg.multi_asset(name=op(log), specs=[spec], required_resource_keys={client_key(source)})
    def extracted(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        this = Round(
            lake=lake,
            source=source,
            stream=stream,
            client=getattr(context.resources, client_key(source)),
            progress=lambda report: context.log.info(line(report)),
        )
        with leased(lake, source):
            report = rounds.extract(this)
        state = state_figures(lake, source, stream)
        figures = round_figures(report) | table_figures(lake, log.table) | state
        if report.error:
            # A failed step leaves no materialisation that could show the state.
            context.log_event(dg.AssetObservation(spec.key, metadata=state))
            raise dg.Failure(report.error, metadata=figures, allow_retries=False)
        yield dg.MaterializeResult(metadata=figures)
        verdicts.hold(context.instance, keys_of(spec.key))

    return extracted


@contextmanager
def leased(lake: Lake, source: Source) -> Iterator[None]:
    """Hold the lease on polling with the credential, or fail the run at once."""
    try:
        with schedule.leased(lake, source):
            yield
    except AuditlakeError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def no_longer_polled(lake: Lake, sources: Sequence[Source]) -> Iterator[dg.AssetSpec]:
    """Yield an asset for each stream of the lake that is not configured any more.

    Nothing materialises it; its description contains the time of the last poll.
    """
    configured = {StreamKey(source.name, s.name) for source in sources for s in source.streams()}
    # Definitions load without the lake, too; `auditlake status` shows the reason.
    with suppress(AuditlakeError, OSError):
        facts = streams_table.facts(lake)
        former = sorted(facts.keys() - configured)
        retired = retired_streams.retired(lake) if former else {}
        intended = Intended(configured=configured.__contains__, retired=retired)
        for log in former:
            history = coverage.history(lake, log, intended.of(log, facts[log]))
            ended = stream_state.ended(history, utc_now(), log=log.app) or "no longer configured"
            yield dg.AssetSpec(
                key_of(log),
                description=f"{facts[log].title}: {log.stream}, {ended}",
                group_name=word(log.integration),
                kinds={"deltalake"},
                metadata=shape(lake, log.table, schemas.RAW),
            )


def events_asset(lake: Lake, sources: Sequence[Source]) -> dg.AssetsDefinition:
    spec = dg.AssetSpec(
        EVENTS,
        deps=[
            key_of(StreamKey(source.name, s.name)) for source in sources for s in source.streams()
        ],
        description="Events of all integrations in one schema, derived from raw.",
        group_name="events",
        kinds={"deltalake"},
        metadata=shape(lake, "events", schemas.EVENTS),
    )

    @dg.multi_asset(name="events", specs=[spec])
    def caught_up(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        report = Report(integration="", stream="events")
        try:
            for source in sources:
                for stream in source.streams():
                    derive.catch_up(lake, source, stream, report)
        except AuditlakeError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        figures = {"rows caught up": report.events, **_records_by_integration(lake, sources)}
        yield dg.MaterializeResult(metadata=figures | table_figures(lake, "events"))
        verdicts.hold(context.instance, keys_of(EVENTS))

    return caught_up


def _records_by_integration(lake: Lake, sources: Sequence[Source]) -> Figures:
    """Return how many raw records of each integration have their events.

    The transaction ids in the commit logs have these counts, so no row is read.
    """
    return {
        f"records of {source.name}": sum(
            events.derived(lake, StreamKey(source.name, stream.name)) for stream in source.streams()
        )
        for source in sources
    }


def client_of(source: Source, connect: Connect) -> dg.ResourceDefinition:
    """Return a resource: one signed-in client for all streams of a run."""

    @dg.resource(description=f"Signed-in client of {source.integration.title}")
    def signed_in(_: dg.InitResourceContext) -> Iterator[ServiceClient]:
        with connect(source) as client:
            yield client

    return signed_in


RECONCILIATION = dg.AssetKey("reconciliation")
CONFIRMED_CHECK = "pushes_confirmed"


def reconciled(lake: Lake, sources: Sequence[Source]) -> dg.AssetsDefinition:
    streams = [
        (source, stream)
        for source in sources
        if source.integration.push and source.settings.webhook_secret
        for stream in source.streams()
    ]
    spec = dg.AssetSpec(
        RECONCILIATION,
        deps=[key_of(StreamKey(source.name, stream.name)) for source, stream in streams],
        description="Pushed compared with polled events: shares, delays, pushes never confirmed.",
        group_name="events",
        kinds={"deltalake"},
        metadata=shape(lake, "reconciliation", schemas.RECONCILED),
    )
    check = dg.AssetCheckSpec(
        CONFIRMED_CHECK,
        asset=RECONCILIATION,
        description="Every pushed event was also polled; otherwise it is forged or deleted.",
    )

    @dg.multi_asset(name="reconciliation", specs=[spec], check_specs=[check])
    def reconciled() -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        now = utc_now()
        found = [
            reconciliation.reconcile(lake, *each, _polled_until(lake, *each) or now)
            for each in streams
        ]
        sums = pl.concat([pl.DataFrame(schema=schemas.RECONCILED), *found])
        yield dg.MaterializeResult(asset_key=RECONCILIATION, metadata=_shares(sums))
        missing = sums.filter(pl.col("unconfirmed") > 0)
        yield dg.AssetCheckResult(
            asset_key=RECONCILIATION,
            check_name=CONFIRMED_CHECK,
            passed=missing.is_empty(),
            severity=dg.AssetCheckSeverity.WARN,
            description=_never_polled(missing),
            metadata={"unconfirmed": int(missing["unconfirmed"].sum())},
        )

    return reconciled


def _polled_until(lake: Lake, source: Source, stream: Stream) -> datetime | None:
    """Return the last successful poll: while polls fail, no push can be confirmed."""
    key, facts = StreamKey(source.name, stream.name), streams_table.facts_of(source, stream)
    return coverage.history(lake, key, facts).reached


def _shares(sums: pl.DataFrame) -> Figures:
    """Return, per integration, the share of polled events also pushed, and the pushed events."""
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
        f"pushed but never polled: {where}; check that polling works, then compare with the "
        "vendor's console: somebody else may know the webhook_secret"
    )


def subscribed(sources: Sequence[Source]) -> list[dg.AssetSpec]:
    """Return assets for webhook subscriptions, which the receiver reports at each renewal."""
    return [
        dg.AssetSpec(
            dg.AssetKey(["push", source.name]),
            description=f"Webhook subscriptions of {source.integration.title} and their expiry.",
            group_name=word(source.name),
        )
        for source in sources
        if source.integration.push and source.settings.webhook_secret
    ]
