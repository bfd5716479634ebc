"""The command `auditlake`.

Exit codes: 0 success; 1 something failed, everything else was done; 2 invalid configuration.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click
import polars as pl
from rich.console import Console

from pipelines import registry, settings
from pipelines.cli import config_file, doctor, events, integrity, progress, status, webhooks
from pipelines.cli.options import Time
from pipelines.errors import AuditlakeError, ConfigurationError
from pipelines.extraction import client as service_client
from pipelines.extraction import report, rounds, schedule
from pipelines.extraction.backfill import fetch_span
from pipelines.extraction.replay import retry_rejected
from pipelines.lake import maintenance, tables
from pipelines.lake.spans import Coverage
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import lineage, normalise
from pipelines.sdk.contract import Integration, Stream
from pipelines.sdk.pages import Span
from pipelines.settings import Settings

_FAILED, _CONFIGURATION = 1, 2
_LINES = 10_000

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
names = click.argument("names", nargs=-1, metavar="[INTEGRATION]...")


class _Group(click.Group):
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


def configured(context: click.Context) -> tuple[Settings, Lake]:
    chosen = settings.load(context.obj)
    return chosen, open_lake(chosen)


def open_lake(chosen: Settings) -> Lake:
    return tables.configured(chosen)


@main.command()
@names
@as_json
@click.pass_context
def poll(context: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Fetch everything new once, update `events` and print one line per stream."""
    chosen, lake = configured(context)
    sources = _some(registry.sources(chosen, names))
    with _progress(show=not as_json) as progress:
        due = partial(schedule.claim_turn, lake)
        reports = rounds.poll(lake, sources, progress=progress, due=due)
    if as_json:
        click.echo(json.dumps([_report(r) for r in reports], indent=2))
    else:
        for report in reports:
            click.echo(_line(report))
    if any(report.error for report in reports):
        context.exit(_FAILED)


@main.command(name="normalise")
@click.argument("kind")
@click.argument("stream")
@click.option(
    "--explain", is_flag=True, help="Print the paths that each column was read from instead."
)
def normalise_(kind: str, stream: str, explain: bool) -> None:
    """Map raw vendor records, NDJSON on stdin, to event rows, NDJSON on stdout.

    `seq` is the number of the input line, from 0. Needs neither a configuration nor a lake.
    """
    integration = registry.kind(kind)
    found = _stream(integration, stream)
    write = _explain_rows if explain else _write_rows
    batch: list[tuple[int, bytes]] = []
    for number, line in enumerate(sys.stdin.buffer):
        if line.strip():
            batch.append((number, line.strip()))
        if len(batch) >= _LINES:
            write(integration, found, batch)
            batch = []
    write(integration, found, batch)


@main.command(name="status")
@as_json
@click.pass_context
def status_(context: click.Context, as_json: bool) -> None:
    """Show each stream's rows, newest event, last arrival and delay, and when it is polled next
    and why."""
    chosen, lake = configured(context)
    found = status.states(lake, registry.sources(chosen))
    if as_json:
        lines = [{**asdict(s), "state": s.state, "late": _seconds(s.late)} for s in found]
        click.echo(json.dumps(lines, default=_plain))
        return
    now = datetime.now(UTC)
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
    _table(header.split(", "), rows)
    for line in webhooks.remembered(chosen, lake):
        click.echo(line)


@main.command(name="coverage")
@names
@as_json
@click.pass_context
def coverage_(context: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Show which time ranges are complete, still settling, missing or lost, and why."""
    chosen, lake = configured(context)
    now = datetime.now(UTC)
    known = [
        (source.name, stream.name, status.coverage(lake, source, stream, now))
        for source in registry.sources(chosen, names)
        for stream in source.streams()
    ]
    if as_json:
        lines = [{"integration": i, "stream": s, **asdict(k)} for i, s, k in known]
        click.echo(json.dumps(lines, default=_plain, indent=2))
        return
    for integration, stream, found in known:
        click.echo(f"{integration} {stream}")
        for line in _covered(found):
            click.echo(f"  {line}")


@main.command(name="backfill")
@click.argument("name", metavar="INTEGRATION")
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
    chosen, lake = configured(context)
    (source,) = registry.sources(chosen, (name,))
    picked = [_stream(source.integration, s) for s in streams] or source.streams()
    span = Span(since=since, until=until or datetime.now(UTC))
    if span.since >= span.until:
        raise ConfigurationError("--since must be before --until")
    with _progress(show=True) as progress, service_client.connect(source) as client:
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
        click.echo(_line(each))
    if any(each.error for each in reports):
        context.exit(_FAILED)


@main.command()
@names
@click.pass_context
def replay(context: click.Context, names: tuple[str, ...]) -> None:
    """Retry rejected records after a fix. Those that can be read now are stored, each once."""
    chosen, lake = configured(context)
    for source in registry.sources(chosen, names):
        for stream in source.streams():
            report = retry_rejected(lake, source, stream, datetime.now(UTC))
            if report.rows or report.rejected:
                where = f"{report.integration} {report.stream}"
                click.echo(f"{where}: {report.rows:,} stored, {report.rejected:,} still rejected")


@main.command()
@as_json
@click.pass_context
def maintain(context: click.Context, as_json: bool) -> None:
    """Compact files, trim Delta logs and delete orphans. Never changes a row."""
    chosen, lake = configured(context)
    logs = [StreamKey(i.name, s.name) for i in registry.sources(chosen) for s in i.streams()]
    done = []
    for tidied in maintenance.maintain(lake, logs, datetime.now(UTC).date()):
        done.append(tidied)
        if not as_json:
            click.echo(
                f"{tidied.table}: {tidied.files_before:,} files, now {tidied.files_after:,}; "
                f"{tidied.removed:,} removed; {tidied.seconds:.1f} s"
                + (f"; {tidied.busy}" if tidied.busy else "")
            )
    if as_json:
        click.echo(json.dumps([asdict(tidied) for tidied in done], indent=2))


@main.command(name="doctor")
@as_json
@click.pass_context
def doctor_(context: click.Context, as_json: bool) -> None:
    """Check the lake, every credential and every stream, and report how to fix what fails."""
    chosen, lake = configured(context)
    findings = []
    for found in doctor.examine(lake, registry.sources(chosen), datetime.now(UTC)):
        findings.append(found)
        if not as_json:
            click.echo(f"{'ok  ' if found.fault is None else 'FAIL'}  {found.subject}"
                       + (f": {found.fault}" if found.fault else ""))  # fmt: skip
    if as_json:
        click.echo(json.dumps([asdict(found) for found in findings], indent=2))
    if any(found.fault for found in findings):
        context.exit(_FAILED)


@main.command(name="up")
@click.pass_context
def up_(context: click.Context) -> None:
    """Run extraction, Dagster and the dashboard. Ctrl-C stops everything.

    Without auditlake.toml it starts the sandbox, which simulates the vendors, and polls it.
    """
    from pipelines.cli import up  # noqa: PLC0415 most commands do without it

    up.up(context.obj, click.echo, Console(stderr=True))


@main.command(name="sandbox")
@click.option("--host", default="127.0.0.1", show_default=True, help="Keep it on loopback.")
@click.option("--port", default=8700, show_default=True)
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
        click.echo(config_file.document(server.settings(base_url)))
        return
    click.echo(f"sandbox listening on {base_url}; press Ctrl-C to stop")
    mishaps = server.mishaps(lost, twice, late, options["seed"])
    server.serve(server.Options(**options, mishaps=mishaps))


main.add_command(integrity.verify_)
main.add_command(integrity.prove_)
main.add_command(integrity.verify_proof)
main.add_command(integrity.evidence_)
main.add_command(integrity.retain)
main.add_command(integrity.keys_)
main.add_command(events.renormalise_)
main.add_command(events.export_)
main.add_command(events.columns_)
main.add_command(webhooks.receive)
main.add_command(webhooks.webhooks_)


def _some(sources: list[Any]) -> list[Any]:
    if not sources:
        raise ConfigurationError(
            "no integration is configured: add an [integrations.NAME] section, "
            "see auditlake.example.toml"
        )
    return sources


def _stream(integration: Integration, name: str) -> Stream:
    streams = {stream.name: stream for stream in integration.streams(None)}
    if name not in streams:
        raise ConfigurationError(f"{integration.kind} has no stream {name!r}: {', '.join(streams)}")
    return streams[name]


def _write_rows(
    integration: Integration, stream: Stream, batch: Sequence[tuple[int, bytes]]
) -> None:
    raw = _raw(stream, batch)
    rows = normalise.normalise(integration.kind, integration, stream, raw).events
    sys.stdout.write(rows.write_ndjson())


def _explain_rows(
    integration: Integration, stream: Stream, batch: Sequence[tuple[int, bytes]]
) -> None:
    for origins in lineage.explain(integration, stream, _raw(stream, batch)):
        for origin in origins:
            value = json.dumps(origin.value, ensure_ascii=False, default=_plain)
            click.echo(f"{origin.column:16}{value}  <-  {', '.join(origin.sources)}")
        click.echo()


def _raw(stream: Stream, batch: Sequence[tuple[int, bytes]]) -> pl.DataFrame:
    """Return raw rows for numbered lines, valid or not."""
    raw = normalise.read(stream, [line for _, line in batch], datetime.now(UTC), "poll")
    return raw.with_columns(
        pl.col("event_id").fill_null(pl.col("raw_sha256")),
        pl.col("raw").fill_null("null"),
        seq=pl.Series([number for number, _ in batch], dtype=pl.Int64),
    )


def _report(report: report.Report) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(report), default=_plain))  # type: ignore[no-any-return]


def _seconds(span: timedelta | None) -> float | None:
    return span.total_seconds() if span is not None else None


def _plain(value: Any) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def _line(report: report.Report) -> str:
    where = f"{report.integration} {report.stream}"
    if report.error:
        stored = f" ({report.rows:,} new before that)" if report.rows else ""
        return f"{where}: FAILED: {report.error}{stored}"
    newest = f", newest {_plain(report.newest)}" if report.newest else ""
    rejected = f", {report.rejected:,} rejected" if report.rejected else ""
    faults = "".join(f", {count:,} unreadable {name}" for name, count in report.faults.items())
    requests = f"{report.requests} request{'s' if report.requests != 1 else ''}"
    rows = f"{report.rows:,} new of {report.total:,} rows"
    return f"{where}: {rows}{newest}{rejected}{faults}, {requests}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _covered(known: Coverage) -> Iterator[str]:
    """Yield one line per time range; gaps and losses with their reason."""
    if known == Coverage():
        yield "never polled"
    for span in known.complete:
        yield f"complete  {_span(span)}"
    for span in known.settling:
        yield f"settling  {_span(span)}  late events may still come"
    for gap in known.gaps:
        yield f"GAP       {_span(gap.span)}  {gap.reason}; will be fetched again"
    for gap in known.lost:
        yield f"LOST      {_span(gap.span)}  {gap.reason}"


def _span(span: Span) -> str:
    length = status.length(span.until - span.since)
    return f"{span.since:%Y-%m-%d %H:%M:%S} to {span.until:%Y-%m-%d %H:%M:%S} UTC  ({length})"


def _print_error(error: Exception) -> None:
    for line in str(error).splitlines():
        click.echo(f"auditlake: {line}", err=True)


@contextmanager
def _progress(*, show: bool) -> Iterator[report.Progress]:
    """Show one bar per stream on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    if not (show and console.is_terminal):
        yield lambda _: None
        return
    with progress.bars(console) as update:
        yield update
