"""The command `auditlake`.

Exit codes: 0 success; 1 something failed, everything else was done; 2 invalid configuration.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pipelines import registry, settings
from pipelines.cli import (
    completion,
    config_file,
    doctor,
    erase,
    events,
    integrity,
    maintain,
    options,
    progress,
    search,
    status,
    webhooks,
    witness,
)
from pipelines.cli.guide import SectionedGroup
from pipelines.cli.options import Time, as_json, echo, names
from pipelines.clock import utc_now
from pipelines.errors import AuditlakeError, ConfigurationError
from pipelines.extraction import client as service_client
from pipelines.extraction import expiry, report, rounds, schedule
from pipelines.extraction.backfill import fetch_span
from pipelines.extraction.replay import retry_rejected
from pipelines.lake import stream_state, tables
from pipelines.lake.stream_state import Coverage
from pipelines.lake.tables import Lake
from pipelines.sdk.contract import Source
from pipelines.sdk.pages import Gap, Span

_FAILED, _CONFIGURATION = 1, 2


class _Group(SectionedGroup):
    """Commands that report errors in one line, with an exit code and without a traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except ConfigurationError as error:
            _print_error(error)
            context.exit(_CONFIGURATION)
        except AuditlakeError as error:
            _print_error(error)
            context.exit(_FAILED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=settings.path_from_environment,
    show_default="auditlake.toml, or AUDITLAKE_CONFIG",
    help="The configuration file.",
)
@click.version_option(package_name="auditlake")
@click.pass_context
def main(context: click.Context, config: Path) -> None:
    """Audit logs of SaaS services in append-only Delta tables: complete, searchable, provable."""
    context.obj = config


@main.command()
@names
@as_json
@click.pass_context
def poll(context: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Fetch everything new once, update `events` and print one line per stream."""
    chosen, lake = options.configured(context)
    sources = _not_empty(registry.sources(chosen, names))
    with _progress_bars(show=not as_json) as progress:
        # Skips streams polled less than `poll_every` ago, by whichever process.
        due = partial(schedule.claim_turn, lake)
        reports = rounds.poll(lake, sources, progress=progress, due=due)
    expiry.refresh(lake, _without_errors(sources, reports), utc_now())
    if as_json:
        options.echo_json(json.dumps([_as_dict(r) for r in reports], indent=2))
    else:
        for report in reports:
            options.echo(_report_line(report))
    if any(report.error for report in reports):
        context.exit(_FAILED)


@main.command(name="status")
@as_json
@click.pass_context
def status_(context: click.Context, as_json: bool) -> None:
    """Show each stream's state, rows, newest event, last arrival and delay, and when it is polled
    next and why."""
    chosen, lake = options.configured(context)
    now = utc_now()
    sources = registry.sources(chosen, secrets=False)
    found = status.states(lake, sources, now)
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
    endings = status.endings(lake, sources, now)
    for line in (*status.notes(found), *endings, *webhooks.status_lines(chosen, lake)):
        options.echo(line)


@main.command(name="coverage")
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


@main.command(name="backfill")
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
    with _progress_bars(show=True) as progress, service_client.connect(source) as client:
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
        context.exit(_FAILED)


@main.command()
@names
@click.pass_context
def replay(context: click.Context, names: tuple[str, ...]) -> None:
    """Retry rejected records after a fix. Those that can be read now are stored, each once."""
    chosen, lake = options.configured(context)
    stored = rejected = streams = 0
    with progress.step(Console(stderr=True)) as show:
        for source in registry.sources(chosen, names, secrets=False):
            for stream in source.streams():
                where = f"{source.name} {stream.name}"
                show(f"{where}, {streams:,} streams done")
                report = retry_rejected(lake, source, stream, utc_now())
                if report.rows or report.rejected:
                    counts = f"{report.rows:,} stored, {report.rejected:,} still rejected"
                    options.echo(f"{where}: {counts}")
                streams += 1
                stored, rejected = stored + report.rows, rejected + report.rejected
    of = f"{streams:,} stream{'s' * (streams != 1)}"
    options.echo(f"{of}: {stored:,} stored, {rejected:,} still rejected", err=True)


@main.command(name="doctor")
@as_json
@click.pass_context
def doctor_(context: click.Context, as_json: bool) -> None:
    """Check the lake, every credential and every stream, and report how to fix what fails."""
    chosen, lake = options.configured(context)
    checks = []
    sources = registry.judged(chosen)
    for check in doctor.examine(lake, sources, utc_now()):
        checks.append(check)
        if not as_json:
            remark = check.fault or check.warning or check.note
            result = "FAIL" if check.fault else "WARN" if check.warning else "ok  "
            options.echo(f"{result}  {check.subject}" + (f": {remark}" if remark else ""))
    if as_json:
        options.echo_json(json.dumps([asdict(check) for check in checks], indent=2))
    if any(isinstance(source, registry.Invalid) for source in sources):
        context.exit(_CONFIGURATION)
    if any(check.fault for check in checks):
        context.exit(_FAILED)


@main.command(name="up")
@click.pass_context
def up_(context: click.Context) -> None:
    """Run extraction, Dagster and the dashboard. Ctrl-C stops everything.

    Without auditlake.toml it starts the sandbox, which simulates the vendors, and polls it.
    """
    from pipelines.cli import up  # noqa: PLC0415 most commands do without it

    up.up(context.obj, options.echo, Console(stderr=True))


@main.command(name="sandbox")
@click.option("--host", default="127.0.0.1", show_default=True, help="Keep it on loopback.")
@click.option("--port", default=8700, show_default=True)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    metavar="HOST",
    multiple=True,
    help="Another host name that requests may use; repeatable.",
)
@click.option(
    "--seed", default=1, show_default=True, help="The same seed gives the same company and events."
)
@click.option("--days", default=90, show_default=True, help="Days of history.")
@click.option(
    "--per-day", default=400.0, show_default=True, help="Records per day of a busy stream."
)
@click.option(
    "--rate", default=0.5, show_default=True, help="New records per second, over all streams."
)
@click.option(
    "--events",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Serve recorded records instead: DIR/KIND.ndjson or DIR/KIND/STREAM.ndjson.",
)
@click.option("--limits/--no-limits", default=False, help="Apply the vendors' rate limits.")
@click.option(
    "--push-to", metavar="URL", help="Receiver for webhooks that have no registration API."
)
@click.option("--lost", default=0.0, show_default=True, help="Share of pushes never sent.")
@click.option("--twice", default=0.0, show_default=True, help="Share of pushes sent twice.")
@click.option("--late", default=0.0, show_default=True, help="Share of pushes held back.")
@click.option("--settings", "show", is_flag=True, help="Print an auditlake.toml for it and exit.")
def sandbox_(show: bool, lost: float, twice: float, late: float, **options: Any) -> None:
    """Simulate the vendors' APIs, to try auditlake without an account anywhere."""
    from sandbox import server  # noqa: PLC0415 most commands do without it

    base_url = f"http://{options['host']}:{options['port']}"
    if show:
        for line in config_file.document(server.settings(base_url)).splitlines():
            echo(line)
        return
    echo(f"sandbox listening on {base_url}; press Ctrl-C to stop")
    mishaps = server.mishaps(lost, twice, late, options["seed"])
    server.serve(server.Options(**options, mishaps=mishaps))


main.add_command(completion.completion_)
for _command in (*integrity.COMMANDS, maintain.maintain_, maintain.retain, erase.erase_):
    main.add_command(_command)
main.add_command(events.normalise_)
main.add_command(events.renormalise_)
main.add_command(events.export_)
main.add_command(search.search_)
main.add_command(events.columns_)
main.add_command(webhooks.receive)
main.add_command(webhooks.webhooks_)
main.add_command(witness.witness_)


def _not_empty(sources: list[Any]) -> list[Any]:
    if not sources:
        raise ConfigurationError(
            "no integration is configured: add an [integrations.NAME] section, "
            "see auditlake.example.toml"
        )
    return sources


def _without_errors(sources: Sequence[Source], reports: Sequence[report.Report]) -> list[Source]:
    failed = {each.integration for each in reports if each.error}
    return [source for source in sources if source.name not in failed]


def _as_dict(report: report.Report) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(report), default=options.json_value))  # type: ignore[no-any-return]


def _seconds(span: timedelta | None) -> float | None:
    return span.total_seconds() if span is not None else None


def _report_line(report: report.Report) -> str:
    where = f"{report.integration} {report.stream}"
    if report.error:
        stored = f" ({report.rows:,} new before that)" if report.rows else ""
        return f"{where}: FAILED: {report.error}{stored}"
    newest = f", newest {options.json_value(report.newest)}" if report.newest else ""
    rejected = f", {report.rejected:,} rejected" if report.rejected else ""
    faults = "".join(f", {count:,} unreadable {name}" for name, count in report.faults.items())
    requests = f"{report.requests} request{'s' if report.requests != 1 else ''}"
    rows = f"{report.rows:,} new of {report.total:,} rows"
    return f"{where}: {rows}{newest}{rejected}{faults}, {requests}{_lost(report.gaps)}"


def _lost(gaps: Sequence[Gap]) -> str:
    if not gaps:
        return ""
    first, more = gaps[0], f" and {len(gaps) - 1:,} more" if len(gaps) > 1 else ""
    return f"; LOST: {_span_text(first.span)}: {first.reason}{more}"


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
        yield f"complete  {_span_text(span)}"
    for span in known.settling:
        yield f"settling  {_span_text(span)}  late events may still come"
    for gap in known.gaps:
        yield f"GAP       {_span_text(gap.span)}  {gap.reason}; polls or a backfill can fill it"
    for gap in known.lost:
        yield f"LOST      {_span_text(gap.span)}  {gap.reason}"


def _span_text(span: Span) -> str:
    length = status.length(span.until - span.since)
    return f"{span.since:%Y-%m-%d %H:%M:%S} to {_moment(span.until)}  ({length})"


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _print_error(error: Exception) -> None:
    for line in str(error).splitlines():
        options.echo(f"auditlake: {line}", err=True)


@contextmanager
def _progress_bars(*, show: bool) -> Iterator[report.Progress]:
    """Show one bar per stream on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    if not (show and console.is_terminal):
        yield lambda _: None
        return
    with progress.bars(console) as update:
        yield update
