"""The command that erases a person's records on request."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from datetime import timedelta

import click

from pipelines import registry
from pipelines.cli import options
from pipelines.cli.options import counted, echo
from pipelines.clock import utc_now
from pipelines.detections import interrupted
from pipelines.errors import AuditlakeError
from pipelines.integrity import erasure
from pipelines.integrity.erasure import Found, Request
from pipelines.lake.tables import Lake, StreamKey
from pipelines.settings import Settings
from pipelines.webhooks import spool

_ROUNDS = 5


@click.command(name="erase")
@click.option("--person", metavar="ADDRESS", help="The person's e-mail address.")
@click.option("--integration", metavar="NAME", help="Instead: where the events come from.")
@click.option("--event", "ids", metavar="ID", multiple=True, help="An event_id; repeatable.")
@click.option("--why", help="The number of the request; recorded permanently, so name no person.")
@click.option("--who", default=getpass.getuser, show_default="you", help="Recorded permanently.")
@click.option(
    "--dry-run", is_flag=True, help="Print the number of records to erase, and change nothing."
)
@click.option("--yes", is_flag=True, help="Skip the confirmation.")
@click.pass_context
def erase_(
    context: click.Context,
    /,
    *,
    person: str | None,
    integration: str | None,
    ids: tuple[str, ...],
    why: str | None,
    who: str,
    dry_run: bool,
    yes: bool,
) -> None:
    """Permanently erase the records of a person, or single ones; recorded and signed.

    Which rows are gone is recorded, but not whose they were. They do not come back by polling.
    """
    chosen, lake = options.configured(context)
    logs = _logs(chosen)
    find = _search(lake, person, integration, ids, logs)
    if why is None and not dry_run:
        raise click.UsageError("give --why, such as the number of the request")
    if person and why and person.lower() in why.lower():
        raise click.UsageError("--why is recorded permanently: do not name the person in it")
    found = find()
    _echo_found(found)
    if dry_run or found.empty:
        return
    _check_spool(chosen, lake)
    if not yes:
        click.confirm("permanently erase these rows?", abort=True)
    count, request = 0, Request(who=who, why=why or "")
    # A round that had read such a record before may have stored it meanwhile.
    for _ in range(_ROUNDS):
        count += erasure.erase(lake, found, request, utc_now())
        found = find()
        if found.empty:
            break
    else:
        raise AuditlakeError("such records are still being stored: run it again")
    interrupted.of(lake).expire(timedelta())  # backtests that had read such a record
    echo(f"{counted(count, 'record')} erased and recorded")


def _search(
    lake: Lake,
    person: str | None,
    integration: str | None,
    ids: tuple[str, ...],
    logs: list[StreamKey],
) -> Callable[[], Found]:
    if person and not integration and not ids:
        if "@" not in person:
            raise click.UsageError("--person needs an e-mail address")
        return lambda: erasure.of_person(lake, person, logs)
    if integration and ids and not person:
        return lambda: erasure.of_events(lake, integration, ids, logs)
    raise click.UsageError("give either --person, or --integration with --event")


def _check_spool(chosen: Settings, lake: Lake) -> None:
    """Raise AuditlakeError while deliveries wait that may name the person."""
    place = spool.configured_spool(chosen, lake)
    names = [path.name for path in place.root.glob("*") if path.is_dir()]
    if waiting := sum(len(place.waiting(name)) for name in names):
        raise AuditlakeError(
            f"{waiting:,} deliveries wait in {place.root}: let `auditlake receive` store them first"
        )
    if odd := sum(place.unreadable(name) for name in names):
        echo(f"{odd:,} unreadable deliveries in {place.root} are left: look into them", err=True)


def _echo_found(found: Found) -> None:
    for log, rows in found.rows.items():
        echo(f"{log.table}: {counted(len(rows), 'record')}")
    for table, values in found.others.items():
        echo(f"{table}: {counted(len(values), 'row')} or more")
    if found.empty:
        echo("no record was found")


def _logs(chosen: Settings) -> list[StreamKey]:
    sources = registry.sources(chosen, secrets=False)
    return [
        StreamKey(source.name, stream.name) for source in sources for stream in source.streams()
    ]
