"""The commands that show the state and the coverage of streams."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta

import click

from pipelines import registry
from pipelines.cli import options, status, webhooks
from pipelines.cli.options import as_json, counted, names
from pipelines.cli.status import span_text
from pipelines.clock import utc_now
from pipelines.detections.alerts import resend
from pipelines.lake import stream_state, tables
from pipelines.lake.stream_state import Coverage
from pipelines.lake.tables import Lake


@click.command(name="status")
@as_json
@click.pass_context
def status_(context: click.Context, as_json: bool) -> None:
    """Show each stream's state, rows, newest event, last arrival and delay, and when it is polled
    next and why."""
    chosen, lake = options.configured(context)
    now = utc_now()
    sources = registry.sources(chosen, secrets=False)
    with tables.one_look():
        found = status.states(lake, sources, now)
        endings = status.endings(lake, sources, now)
    _note_absence(lake, found)
    if as_json:
        lines = [{**asdict(s), "late": _seconds(s.late)} for s in found]
        options.echo_json(json.dumps(lines, default=options.json_value))
        return
    rows = [
        (
            f"{s.integration} {s.stream}",
            s.state,
            f"{s.rows:,}",
            status.age(s.newest_event, now),
            status.age(s.last_arrival, now),
            f"{s.rejected:,}",
            status.length(s.late) if s.late is not None else "",
            status.ahead(s.plan, now),
        )
        for s in found
    ]
    header = "stream, state, rows, newest event, last arrival, rejected, p99 delay, next poll"
    options.print_table(header.split(", "), rows)
    for line in (*status.notes(found), *endings, *webhooks.status_lines(chosen, lake)):
        options.echo(line)
    if dead := len(resend.dead(lake, now)):
        options.echo(
            f"{counted(dead, 'alert')} could not be delivered: see `auditlake alerts list`"
        )


@click.command(name="coverage")
@names
@as_json
@click.pass_context
def coverage_(context: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Show which time ranges are complete, still settling, missing or lost, and why."""
    chosen, lake = options.configured(context)
    now = utc_now()
    sources = registry.sources(chosen, secrets=False)
    known = status.histories(lake, sources, names)
    if unknown := set(names) - {s.name for s in sources} - {key.integration for key, _ in known}:
        registry.sources(chosen, tuple(unknown), secrets=False)  # raises
    _note_absence(lake, known)
    if as_json:
        lines = [
            {
                **key._asdict(),
                "state": stream_state.state(history, now).name,
                **asdict(stream_state.coverage(history, now)),
            }
            for key, history in known
        ]
        options.echo_json(json.dumps(lines, default=options.json_value, indent=2))
        return
    for key, history in known:
        options.echo(f"{key.integration} {key.stream}")
        if ended := stream_state.ended(history, now, log=key.app):
            options.echo(f"  {ended}")
        for line in _coverage_lines(stream_state.coverage(history, now)):
            options.echo(f"  {line}")


def _seconds(span: timedelta | None) -> float | None:
    return span.total_seconds() if span is not None else None


def _note_absence(lake: Lake, streams: Sequence[object]) -> None:
    """Print why a list of streams is empty, or all of them are unpolled."""
    if missing := tables.missing_folder(lake):
        options.echo(missing, err=True)
    elif not streams:
        options.echo("no integration is configured, and the lake has no streams", err=True)


def _coverage_lines(known: Coverage) -> Iterator[str]:
    """Yield one line per time range; gaps and losses with their reason."""
    if known == Coverage():
        yield "never polled"
    for span in known.complete:
        yield f"complete  {span_text(span)}"
    for span in known.settling:
        yield f"settling  {span_text(span)}  late events may still come"
    for gap in known.gaps:
        yield f"GAP       {span_text(gap.span)}  {gap.reason}; polls or a backfill can fill it"
    for gap in known.lost:
        yield f"LOST      {span_text(gap.span)}  {gap.reason}"
