"""The commands that tidy the lake and delete by policy."""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, datetime

import click

from pipelines import registry
from pipelines.cli import options
from pipelines.cli.guide import FAILED
from pipelines.cli.options import as_json, counted, echo
from pipelines.clock import utc_now
from pipelines.errors import ConfigurationError
from pipelines.integrity import bundles, retention
from pipelines.integrity.retention import Applied, Removal
from pipelines.lake import maintenance
from pipelines.lake.maintenance import MaintenanceResult
from pipelines.lake.tables import Lake, StreamKey
from pipelines.settings import Settings


@click.command(name="maintain")
@as_json
@options.engine
@click.pass_context
def maintain_(context: click.Context, as_json: bool, engine: str) -> None:
    """Compact files, trim Delta logs and delete orphans.

    Changes no row, but deletes those whose period in retention.days is over.
    """
    chosen, lake = options.configured(context)
    logs, now = _logs(chosen), utc_now()
    _echo_unknown(lake, chosen, logs)
    removed = retention.apply(lake, chosen.retention, logs, now)
    if not as_json:
        _echo_applied(removed)
    pruned = bundles.prune(lake, maintenance.streams_of(lake, logs))
    if pruned and not as_json:
        echo(f"{pruned:,} entry bundles deleted, which `auditlake entries` makes again")
    done = []
    with options.opened_engine(context, engine) as crew:
        for tidied in maintenance.maintain(lake, logs, now.date(), engine=crew):
            done.append(tidied)
            if not as_json:
                echo(_line(tidied))
    if as_json:
        options.echo_json(json.dumps([asdict(tidied) for tidied in done], indent=2))
        for each in removed:
            if each.error:
                echo(f"{each.table}: FAILED: {each.error}", err=True)
    _exit(context, removed)


def _line(tidied: MaintenanceResult) -> str:
    return (
        f"{tidied.table}: {counted(tidied.files_before, 'file')}, now {tidied.files_after:,}; "
        f"{tidied.removed:,} removed; {tidied.seconds:.1f} s"
        + (f"; {tidied.busy}" if tidied.busy else "")
    )


@click.command(name="retain")
@click.argument("table", required=False)
@click.option("--before", type=click.DateTime(["%Y-%m-%d"]), help="A UTC day; with TABLE.")
@click.option("--why", help="The rule that requires it; recorded permanently; with TABLE.")
@click.option("--who", default=getpass.getuser, show_default="you", help="Recorded permanently.")
@click.option("--dry-run", is_flag=True, help="Print the rows to delete, and change nothing.")
@click.option("--yes", is_flag=True, help="Skip the confirmation.")
@click.pass_context
def retain(
    context: click.Context,
    /,
    *,
    table: str | None,
    before: datetime | None,
    why: str | None,
    who: str,
    dry_run: bool,
    yes: bool,
) -> None:
    """Permanently delete the days of TABLE before a date; the deletion is recorded and signed.

    Without TABLE, apply the periods in retention.days, as maintenance does.
    """
    chosen, lake = options.configured(context)
    if table is None:
        if before or why:
            raise click.UsageError("--before and --why need TABLE, such as raw/okta/system_log")
        _retain_configured(context, chosen, lake, dry_run=dry_run, yes=yes)
        return
    if before is None or (why is None and not dry_run):
        raise click.UsageError("TABLE needs --before DATE and --why RULE")
    integration, _, stream = table.removeprefix("raw/").partition("/")
    log, day = StreamKey(integration, stream), before.date()
    removal = Removal(log=log, before=day, who=who, why=why or "")
    count = retention.rows(lake, removal).height
    if dry_run:
        _echo_planned(lake, [removal])
        return
    if not yes:
        click.confirm(f"permanently delete {counted(count, 'row')} of {log.table}?", abort=True)
    removed = retention.remove(lake, removal, utc_now())
    echo(f"{log.table}: {counted(removed, 'row')} from before {day} deleted and recorded")


def _retain_configured(
    context: click.Context, chosen: Settings, lake: Lake, *, dry_run: bool, yes: bool
) -> None:
    if not chosen.retention.days:
        raise ConfigurationError(
            "retention.days is empty, so everything is kept: set it, or give TABLE and --before"
        )
    logs, now = _logs(chosen), utc_now()
    _echo_unknown(lake, chosen, logs)
    _echo_planned(lake, retention.due(lake, chosen.retention, logs, now))
    if dry_run:
        return
    if not yes:
        click.confirm("permanently delete these rows?", abort=True)
    done = retention.apply(lake, chosen.retention, logs, now)
    _echo_applied(done)
    _exit(context, done)


def _logs(chosen: Settings) -> list[StreamKey]:
    sources = registry.sources(chosen, secrets=False)
    return [
        StreamKey(source.name, stream.name) for source in sources for stream in source.streams()
    ]


def _echo_unknown(lake: Lake, chosen: Settings, logs: Sequence[StreamKey]) -> None:
    for name in retention.unknown(lake, chosen.retention, logs):
        echo(f"retention.days: {name} is no integration or stream here: check its name", err=True)


def _echo_planned(lake: Lake, removals: Sequence[Removal]) -> None:
    for removal in removals:
        _echo_plan(removal.log.app, removal.before, retention.planned(lake, removal))
    if not removals:
        echo("no row is older than its period in retention.days")


def _echo_plan(name: str, before: date, found: Sequence[retention.Planned]) -> None:
    echo(f"{name}: before {before}" + ("" if found else ": nothing"))
    for each in found:
        echo(f"  {each.table}: {counted(each.rows, 'row')}, {each.first} to {each.last}")


def _echo_applied(done: Sequence[Applied]) -> None:
    for each in done:
        if each.error:
            echo(f"{each.table}: FAILED: {each.error}", err=True)
        else:
            rows = counted(each.rows, "row")
            echo(f"{each.table}: {rows} from before {each.before} deleted and recorded")


def _exit(context: click.Context, done: Sequence[Applied]) -> None:
    if any(each.error for each in done):
        context.exit(FAILED)
