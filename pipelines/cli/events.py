"""The commands that map records to `events` and export them; registered in main.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import click
import polars as pl
from rich.console import Console

from pipelines import disk, registry
from pipelines.cli import options, progress
from pipelines.cli.options import Time, counted
from pipelines.clock import utc_now
from pipelines.errors import ConfigurationError
from pipelines.extraction import exporting, renormalise
from pipelines.mapping import export, lineage, normalise
from pipelines.mapping.export import Wanted
from pipelines.sdk.contract import Integration, Stream

_BATCH_LINES = 10_000


@click.command(name="normalise")
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
    found = options.stream(integration, stream)
    write = _explain_rows if explain else _write_rows
    # In batches: the input may be larger than memory.
    batch: list[tuple[int, bytes]] = []
    for number, line in enumerate(sys.stdin.buffer):
        if line.strip():
            batch.append((number, line.strip()))
        if len(batch) >= _BATCH_LINES:
            write(integration, found, batch)
            batch = []
    write(integration, found, batch)


@click.command(name="renormalise")
@options.names
@click.option(
    "--all", "everything", is_flag=True, help="Also events produced by the current mapping version."
)
@options.engine
@click.pass_context
def renormalise_(
    context: click.Context, names: tuple[str, ...], everything: bool, engine: str
) -> None:
    """Derive `events` from raw again, after an upgrade that improves a mapping.

    Sends no request to a vendor and blocks no reader. Can be stopped at any time: the next run
    without --all resumes where this one stopped.
    """
    chosen, lake = options.configured(context)
    sources = registry.sources(chosen, names, secrets=False)
    with options.opened_engine(context, engine) as crew:
        for history in chain.from_iterable(renormalise.histories(lake, each) for each in sources):
            where, rows = f"{history.source.name} {history.stream.name}", 0
            for done in renormalise.renormalise(history, everything=everything, engine=crew):
                rows += done.part.rows
                options.echo(
                    f"{where}: {done.part.day}, {counted(rows, 'row')} done, {done.left:,} left"
                )


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
    "--integration",
    "integrations",
    multiple=True,
    shell_complete=options.integrations,
    help="Only this integration; repeatable.",
)
@click.option(
    "--where",
    multiple=True,
    metavar="COLUMN:VALUE",
    help="VALUE may contain *; -COLUMN:VALUE excludes matches; repeatable.",
)
@click.option("--text", default="", help="Text to find in any column.")
@click.option("--search", default="", help="A search, as in the dashboard; see docs/search.md.")
@click.option("--out", default="-", help="File to write, or - for standard output.")
@options.engine
@click.pass_context
def export_(context: click.Context, /, form: str, out: str, engine: str, **wanted: Any) -> None:
    """Export matching events, newest first, without a limit on their number."""
    _, lake = options.configured(context)
    options.check_order(wanted["since"], wanted["until"])
    count = 0
    with (
        progress.step(Console(stderr=True)) as show,
        options.opened_engine(context, engine) as crew,
    ):

        def add(rows: int) -> None:
            nonlocal count
            count += rows
            show(counted(count, "event"))

        pieces = exporting.chunks(lake, Wanted(**wanted), form, crew, add)
        if out == "-":
            _to_standard_output(pieces)
        else:
            _to_file(pieces, Path(out))
    where = "" if out == "-" else f"{out}: "
    options.echo(f"{where}{counted(count, 'event')} exported as {form}", err=True)


@click.command(name="columns")
def columns_() -> None:
    """Print the meaning of each column of `events` and its source in each vendor's records."""
    for line in lineage.page(registry.kinds().values()).splitlines():
        options.echo(line)


def _to_standard_output(pieces: Iterator[bytes]) -> None:
    for piece in pieces:
        sys.stdout.buffer.write(piece)


def _to_file(pieces: Iterator[bytes], path: Path) -> None:
    try:
        disk.write_atomically(path, pieces, durable=False, mode=disk.READABLE)
    except OSError as error:
        raise ConfigurationError(f"--out {path}: {error.strerror}") from error


def _write_rows(
    integration: Integration, stream: Stream, batch: Sequence[tuple[int, bytes]]
) -> None:
    raw = _raw(stream, batch)
    rows = normalise.normalise(integration.kind, integration, stream, raw).events
    options.echo_json(rows.write_ndjson())


def _explain_rows(
    integration: Integration, stream: Stream, batch: Sequence[tuple[int, bytes]]
) -> None:
    for origins in lineage.explain(integration, stream, _raw(stream, batch)):
        for origin in origins:
            value = json.dumps(origin.value, ensure_ascii=False, default=options.json_value)
            options.echo(f"{origin.column:16}{value}  <-  {', '.join(origin.sources)}")
        options.echo()


def _raw(stream: Stream, batch: Sequence[tuple[int, bytes]]) -> pl.DataFrame:
    """Return raw rows for numbered lines, valid or not."""
    raw = normalise.read(stream, [line for _, line in batch], utc_now(), "poll")
    # Stand-ins, since an unreadable line has neither: rows require an ID and a record.
    return raw.with_columns(
        pl.col("event_id").fill_null(pl.col("raw_sha256")),
        pl.col("raw").fill_null("null"),
        seq=pl.Series([number for number, _ in batch], dtype=pl.Int64),
    )
