"""The commands about `events`; registered in pipelines/cli/main.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from pipelines import registry, settings
from pipelines.cli.options import Time
from pipelines.errors import ConfigurationError, LakeError
from pipelines.extraction import renormalise
from pipelines.lake import tables
from pipelines.mapping import export, lineage
from pipelines.mapping.export import Wanted


@click.command(name="renormalise")
@click.argument("names", nargs=-1, metavar="[INTEGRATION]...")
@click.option(
    "--all", "everything", is_flag=True, help="Also events produced by the current mapping version."
)
@click.pass_context
def renormalise_(context: click.Context, names: tuple[str, ...], everything: bool) -> None:
    """Derive `events` from raw again, after an upgrade that improves a mapping.

    Sends no request to a vendor and blocks no reader. Can be stopped at any time: the next run
    without --all resumes where this one stopped.
    """
    chosen = settings.load(context.obj)
    lake = tables.configured(chosen)
    for source in registry.sources(chosen, names):
        for history in renormalise.histories(lake, source):
            rows = 0
            for done in renormalise.renormalise(history, everything=everything):
                rows += done.part.rows
                where = f"{source.name} {history.stream.name}"
                click.echo(f"{where}: {done.part.day}, {rows:,} rows done, {done.left:,} left")


@click.command(name="export")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(export.FORMATS)),
    required=True,
    help="ocsf writes one OCSF 1.8 event per line.",
)
@click.option("--since", type=Time(), help="Start of the range, such as 2026-03-01.")
@click.option("--until", type=Time(), help="End of the range, exclusive.")
@click.option(
    "--integration", "integrations", multiple=True, help="Only this integration; repeatable."
)
@click.option(
    "--where",
    multiple=True,
    metavar="COLUMN:VALUE",
    help="VALUE may contain *; -COLUMN:VALUE excludes matches; repeatable.",
)
@click.option("--text", default="", help="Text to find in any column.")
@click.option("--out", default="-", help="File to write, or - for standard output.")
@click.pass_context
def export_(context: click.Context, /, form: str, out: str, **wanted: Any) -> None:
    """Export matching events, newest first, without a limit on their number."""
    lake = tables.configured(settings.load(context.obj))
    events = tables.scan(lake, "events")
    if events is None:
        raise LakeError("there are no events yet: run `auditlake poll` first")
    pieces = export.chunks(export.matching(events, Wanted(**wanted)), form)
    if out == "-":
        _to_standard_output(pieces)
    else:
        _to_file(pieces, Path(out))


@click.command(name="columns")
def columns_() -> None:
    """Print the meaning of each column of `events` and its source in each vendor's records."""
    click.echo(lineage.page(registry.kinds().values()))


def _to_standard_output(pieces: Iterator[bytes]) -> None:
    for piece in pieces:
        sys.stdout.buffer.write(piece)


def _to_file(pieces: Iterator[bytes], path: Path) -> None:
    """Write to a temporary file next to `path` and rename it once it is complete."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        partial.replace(path)
    except OSError as error:
        raise ConfigurationError(f"--out {path}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
