"""The commands that fetch: poll, backfill and replay."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any

import click
from rich.console import Console

from pipelines import registry
from pipelines.cli import detecting, options, progress, status
from pipelines.cli.guide import FAILED
from pipelines.cli.options import Time, as_json, counted, names
from pipelines.clock import utc_now
from pipelines.errors import ConfigurationError
from pipelines.extraction import client as service_client
from pipelines.extraction import expiry, report, rounds, schedule
from pipelines.extraction.backfill import fetch_span
from pipelines.extraction.replay import retry_rejected
from pipelines.integrity import configuration
from pipelines.sdk.contract import Source
from pipelines.sdk.pages import Gap, Span


@click.command(name="poll")
@names
@as_json
@click.pass_context
def poll_(context: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Fetch everything new once, update `events`, print one line per stream, evaluate the rules."""
    chosen, lake = options.configured(context)
    sources = _not_empty(registry.sources(chosen, names))
    every = registry.sources(chosen) if names else sources
    configuration.declare(lake, every, chosen.retention, utc_now())
    held: list[Source] = []
    with _progress_bars(show=not as_json) as progress:
        # Skips streams polled less than `poll_every` ago, by whichever process.
        due = partial(schedule.claim_turn, lake)
        reports = rounds.poll(lake, sources, progress=progress, due=due, held=held.append)
    for source in held:
        options.echo(
            f"{schedule.held_elsewhere(source)}; if it stops, this one takes over", err=True
        )
    polled = [source for source in sources if source not in held]
    expiry.refresh(lake, _without_errors(polled, reports), utc_now())
    if as_json:
        options.echo_json(json.dumps([_as_dict(r) for r in reports], indent=2))
    else:
        for report in reports:
            options.echo(_report_line(report))
    say = partial(options.echo, err=as_json)
    sound = detecting.detect_news(chosen, lake, polled, reports, say)
    if not sound or any(report.error for report in reports):
        context.exit(FAILED)


@click.command(name="backfill")
@click.argument("name", metavar="INTEGRATION", shell_complete=options.integrations)
@click.option("--since", type=Time(), required=True, help="Start of the range, such as 2026-03-01.")
@click.option("--until", type=Time(), default=None, help="End of the range.  [default: now]")
@click.option("--stream", "streams", multiple=True, help="Only this stream; repeatable.")
@click.option("--again", is_flag=True, help="Also re-fetch ranges completed within the last day.")
@click.pass_context
def backfill_(
    context: click.Context,
    *,
    name: str,
    since: datetime,
    until: datetime | None,
    streams: tuple[str, ...],
    again: bool,
) -> None:
    """Re-fetch a time range alongside live polling. Resumable; never stores an event twice."""
    chosen, lake = options.configured(context)
    (source,) = registry.sources(chosen, (name,))
    picked = [options.stream(source.integration, s) for s in streams] or source.streams()
    span = Span(since=since, until=until or utc_now())
    options.check_order(span.since, span.until)
    with (
        schedule.leased(lake, source),
        _progress_bars(show=True) as progress,
        service_client.connect(source) as client,
    ):
        reports = [
            fetch_span(
                rounds.Round(
                    lake=lake,
                    source=source,
                    stream=stream,
                    client=client,
                    via="backfill",
                    progress=progress,
                ),
                span,
                again=again,
            )
            for stream in picked
        ]
    for each in reports:
        options.echo(_report_line(each))
    if any(each.error for each in reports):
        context.exit(FAILED)


@click.command(name="replay")
@names
@click.pass_context
def replay_(context: click.Context, names: tuple[str, ...]) -> None:
    """Retry rejected records after a fix. Those that can be read now are stored, each once."""
    chosen, lake = options.configured(context)
    stored = rejected = streams = 0
    with progress.step(Console(stderr=True)) as show:
        for source in registry.sources(chosen, names, secrets=False):
            for stream in source.streams():
                where = f"{source.name} {stream.name}"
                show(f"{where}, {counted(streams, 'stream')} done")
                report = retry_rejected(lake, source, stream, utc_now())
                if report.rows or report.rejected:
                    counts = f"{report.rows:,} stored, {report.rejected:,} still rejected"
                    options.echo(f"{where}: {counts}")
                streams += 1
                stored, rejected = stored + report.rows, rejected + report.rejected
    of = f"{streams:,} stream{'s' * (streams != 1)}"
    options.echo(f"{of}: {stored:,} stored, {rejected:,} still rejected", err=True)


def _not_empty(sources: list[Any]) -> list[Any]:
    if not sources:
        raise ConfigurationError(
            "no integration is configured: add an [integrations.NAME] section, "
            "see `auditlake example`"
        )
    return sources


def _without_errors(sources: Sequence[Source], reports: Sequence[report.Report]) -> list[Source]:
    failed = {each.integration for each in reports if each.error}
    return [source for source in sources if source.name not in failed]


def _as_dict(report: report.Report) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(report), default=options.json_value))  # type: ignore[no-any-return]


def _report_line(report: report.Report) -> str:
    where = f"{report.integration} {report.stream}"
    if report.error:
        stored = f" ({report.rows:,} new before that)" if report.rows else ""
        return f"{where}: FAILED: {report.error}{stored}"
    newest = f", newest {options.json_value(report.newest)}" if report.newest else ""
    rejected = f", {report.rejected:,} rejected" if report.rejected else ""
    faults = "".join(f", {count:,} unreadable {name}" for name, count in report.faults.items())
    requests = counted(report.requests, "request")
    rows = f"{report.rows:,} new of {counted(report.total, 'row')}"
    return f"{where}: {rows}{newest}{rejected}{faults}, {requests}{_lost(report.gaps)}"


def _lost(gaps: Sequence[Gap]) -> str:
    if not gaps:
        return ""
    first, more = gaps[0], f" and {len(gaps) - 1:,} more" if len(gaps) > 1 else ""
    return f"; LOST: {status.span_text(first.span)}: {first.reason}{more}"


@contextmanager
def _progress_bars(*, show: bool) -> Iterator[report.Progress]:
    """Show one bar per stream on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    if not (show and console.is_terminal):
        yield lambda _: None
        return
    with progress.bars(console) as update:
        yield update
