"""The commands that run the detection rules, and show their findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import click
import polars as pl
from rich.console import Console

from pipelines import registry, visible
from pipelines.cli import options, progress
from pipelines.cli.guide import FAILED
from pipelines.cli.options import Time, counted
from pipelines.clock import utc_now
from pipelines.detections import windows
from pipelines.detections.detector import Detector
from pipelines.detections.overlay import Rulebook
from pipelines.detections.ruleset import Ruleset
from pipelines.errors import ConfigurationError
from pipelines.lake import findings as table
from pipelines.lake import streams, tables
from pipelines.settings import Settings

LEVELS = ("informational", "low", "medium", "high", "critical")
_SHOWN = "medium"
_LISTED = ("time", "level", "title", "entity", "source_ip", "integration")
_HEADER = ("time (UTC)", "level", "rule", "about", "address", "integration")
_WIDEST = 60
_MONTH = timedelta(days=30)


@click.command(name="detect")
@options.names
@click.option(
    "--level",
    type=click.Choice(LEVELS),
    help=f"The lowest level to print; by default {_SHOWN}, and all in JSON.",
)
@options.as_json
@click.pass_context
def detect_(
    context: click.Context, names: tuple[str, ...], level: str | None, as_json: bool
) -> None:
    """Evaluate all rules once on the rows behind their positions, and print their findings.

    Those below the lowest level are only counted. Exits with 1 if a rule could not be evaluated;
    the others are not held up by it.
    """
    lowest = LEVELS.index(level or (LEVELS[0] if as_json else _SHOWN))
    chosen, lake = options.configured(context)
    wanted = chosen.detections.model_copy(update={"enabled": True})
    detector = Detector(lake=lake, settings=wanted)
    made = _running(detector.rulebook(), chosen)
    if names:
        registry.sources(chosen, names, secrets=False)  # raises for a name that is not configured
    keys = [key for key in streams.facts(lake) if not names or key.integration in names]
    printed: list[int] = []
    counts, rows, failed = Counter[str](), 0, dict[str, str]()
    with progress.step(Console(stderr=True)) as show:
        for step in detector.detect(keys):
            counts.update(step.findings["level"])
            rows += step.rows
            failed |= step.failed
            shown = step.findings.filter(~pl.col("level").is_in(LEVELS[:lowest]))
            printed = print_findings(shown, printed, as_json=as_json)
            show(f"{counted(rows, 'row')}, {counted(counts.total(), 'finding')}")
    options.echo(f"{counted(rows, 'row')} evaluated, {_summary(counts, lowest)}", err=True)
    print_failed(context, made, failed)


@click.command(name="findings")
@click.option("--level", type=click.Choice(LEVELS), default=LEVELS[0], help="The lowest level.")
@click.option("--since", type=Time(), help="Only events since then; by default, of 30 days.")
@options.as_json
@click.pass_context
def findings_(context: click.Context, level: str, since: datetime | None, as_json: bool) -> None:
    """Print the findings of rules, in the newest revision of each finding, oldest first."""
    _, lake = options.configured(context)
    stored = tables.existing(lake, table.FINDINGS.name)
    start = since or utc_now() - _MONTH
    ours = pl.col("level").is_in(LEVELS[LEVELS.index(level) :]) & (pl.col("time") >= start)
    with tables.store_errors(table.FINDINGS.name):
        # A withdrawn revision may be of another time, so they are compared before.
        rows = stored.filter(pl.col("date") >= start.date()).collect()
    found = windows.newest(rows).filter(ours, pl.col("status") == "found").sort("time")
    print_findings(found, as_json=as_json)
    options.echo(f"{counted(found.height, 'finding')} since {start:%Y-%m-%d %H:%M} UTC", err=True)


def _summary(counts: Counter[str], lowest: int) -> str:
    """Return the number of findings by level, and of those that are not shown."""
    total = counted(counts.total(), "finding")
    kinds = [f"{counts[each]:,} {each}" for each in reversed(LEVELS[lowest:]) if counts[each]]
    if less := sum(counts[each] for each in LEVELS[:lowest]):
        kinds.append(f"{less:,} below {LEVELS[lowest]} not shown (--level {LEVELS[0]} shows all)")
    return f"{total}: {', '.join(kinds)}" if kinds else total


def _running(book: Rulebook, chosen: Settings) -> Ruleset:
    """Return the rules that run. Raises ConfigurationError if none of them does."""
    for problem in book.loaded.problems:
        options.echo(f"error: {problem.file}: {problem.reason}", err=True)
    if not book.ruleset.rules:
        places = ", ".join(map(str, chosen.detections.rules))
        raise ConfigurationError(f"no rule in {places} runs: see `auditlake rules check`")
    return book.ruleset


def print_findings(
    found: pl.DataFrame, widths: Sequence[int] = (), *, as_json: bool = False
) -> list[int]:
    """Print findings as JSON, or as rows of one table of these widths, and return the widths."""
    if as_json:
        options.echo_json(found.write_ndjson())
        return [*widths]
    if found.is_empty():
        return [*widths]
    rows = found.select(_LISTED).iter_rows()
    cells = [[f"{time:%Y-%m-%d %H:%M:%S}", *map(short, values)] for time, *values in rows]
    return options.print_table([] if widths else _HEADER, cells, widths)


def short(text: str | None) -> str:
    """Return a text as it fits into a column."""
    shown = visible.text(text or "")
    return shown if len(shown) <= _WIDEST else f"{shown[: _WIDEST - 3]}..."


def print_failed(context: click.Context, made: Ruleset, failed: dict[str, str]) -> None:
    """Print the rules that could not be evaluated, and exit with 1 if there are any."""
    for id_, reason in failed.items():
        options.echo(f"error: {made.all()[id_].rule.title}: {reason}", err=True)
    if failed:
        context.exit(FAILED)
