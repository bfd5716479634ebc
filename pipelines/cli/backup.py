"""The commands that copy a lake and put a copy back."""

from __future__ import annotations

import getpass
from pathlib import Path

import click

from pipelines.cli.options import configured, counted, echo
from pipelines.clock import utc_now
from pipelines.integrity import backup, restore
from pipelines.integrity.restore import Plan, Request

_folder = click.Path(path_type=Path, file_okay=False)


@click.command(name="backup")
@click.argument("folder", metavar="DEST", type=_folder)
@click.pass_context
def backup_(context: click.Context, folder: Path) -> None:
    """Copy the lake to a new folder in DEST, consistently, while polling continues.

    Files that an earlier backup in DEST has are hard links to it. Signing keys are not copied.
    """
    _, lake = configured(context)
    done = backup.backup(lake, folder, utc_now())
    files = f"{counted(done.files, 'file')}, {done.linked:,} of them as in an earlier backup"
    echo(f"{done.folder}: {counted(done.tables, 'table')}, {files}")
    echo("keys are not part of it: keep a copy of integrity.folder elsewhere", err=True)


@click.command(name="restore")
@click.argument("source", metavar="SRC", type=_folder)
@click.option("--why", help="The reason; recorded permanently.")
@click.option("--who", default=getpass.getuser, show_default="you", help="Recorded permanently.")
@click.option("--dry-run", is_flag=True, help="Print the rows that would be lost; change nothing.")
@click.option("--yes", is_flag=True, help="Skip the confirmation.")
@click.pass_context
def restore_(
    context: click.Context, *, source: Path, why: str | None, who: str, dry_run: bool, yes: bool
) -> None:
    """Replace the tables of the lake by those of a backup; recorded and signed.

    SRC is a backup, or a folder of them, of which the newest is taken. Stop everything that writes
    to the lake before. Lost rows are listed, and the next polls fetch them again where the vendor
    still has them.
    """
    if why is None and not dry_run:
        raise click.UsageError("give --why, such as the number of the incident")
    _, lake = configured(context)
    found = restore.chosen(source)
    plans = restore.plans(lake, found)
    for plan in plans:
        echo(_line(plan))
    if dry_run:
        return
    if not yes:
        click.confirm(f"replace the tables of {lake.root} by those of {found}?", abort=True)
    restore.restore(lake, Request(who=who, why=why or "", source=found), utc_now())
    echo(f"{counted(len(plans), 'stream')} restored, recorded and signed; the former tables are "
         "next to the lake: run `auditlake poll`, then `auditlake verify --full`")  # fmt: skip


def _line(plan: Plan) -> str:
    rows = f"{plan.log.table}: {counted(plan.rows, 'row')}"
    if not plan.whole:
        return f"{rows}; its signed log is lost and begins again"
    if not plan.lost:
        return f"{rows}, none lost"
    lost = f"{counted(len(plan.lost), 'row')} from {plan.lost.start:,} are lost"
    return (
        f"{plan.log.table}: {counted(plan.rows, 'row')}; {lost}, unless the vendor still has them"
    )
