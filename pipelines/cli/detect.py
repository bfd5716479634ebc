"""The commands that run the detection rules, and show their findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import polars as pl
from rich.console import Console

from pipelines import registry, visible
from pipelines.cli import options, progress
from pipelines.cli.guide import FAILED
from pipelines.cli.options import Time
from pipelines.clock import utc_now
from pipelines.detections import backtest, overlay, windows
from pipelines.detections.detector import Detector, exceptions_of
from pipelines.detections.overlay import Rulebook
from pipelines.detections.ruleset import Ruleset
from pipelines.errors import ConfigurationError
from pipelines.lake import findings as table
from pipelines.lake import streams, tables
from pipelines.settings import Settings

LEVELS = ("informational", "low", "medium", "high", "critical")
_LISTED = ("time", "level", "title", "entity", "source_ip", "integration")
_HEADER = ("time (UTC)", "level", "rule", "about", "address", "integration")
_WIDEST = 60
_MONTH = timedelta(days=30)
_SAMPLES, _ENTITIES = 5, 10


@click.command(name="detect")
@options.names
@options.as_json
@click.pass_context
def detect_(context: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Evaluate all rules once on the rows behind their positions, and print their findings.

    Exits with 1 if a rule could not be evaluated; the others are not held up by it.
    """
    chosen, lake = options.configured(context)
    wanted = chosen.detections.model_copy(update={"enabled": True})
    detector = Detector(lake=lake, settings=wanted)
    made = _running(detector.rulebook(), chosen)
    if names:
        registry.sources(chosen, names, secrets=False)  # raises for a name that is not configured
    keys = [key for key in streams.facts(lake) if not names or key.integration in names]
    printed: list[int] = []
    total, rows, failed = 0, 0, dict[str, str]()
    with progress.step(Console(stderr=True)) as show:
        for step in detector.detect(keys):
            total, rows = total + step.findings.height, rows + step.rows
            failed |= step.failed
            printed = _print(step.findings, printed, as_json=as_json)
            show(f"{rows:,} rows, {total:,} findings")
    options.echo(f"{rows:,} rows evaluated, {total:,} findings", err=True)
    _print_failed(context, made, failed)


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
    _print(found, [], as_json=as_json)
    options.echo(f"{found.height:,} findings since {start:%Y-%m-%d %H:%M} UTC", err=True)


@click.command(name="backtest")
@click.argument("rule")
@click.option("--since", type=Time(), required=True, help="Start of the span of events.")
@click.option("--until", type=Time(), help="Its end, exclusive; by default now.")
@click.option(
    "--rules", "place", type=click.Path(path_type=Path), help="A file or folder of other rules."
)
@options.as_json
@click.pass_context
def backtest_(
    context: click.Context, /, rule: str, place: Path | None, as_json: bool, **span: Any
) -> None:
    """Evaluate RULE, by its id or name, on stored events, as if it had always run.

    Prints its findings per day and per person or address, and some samples. Writes nothing.
    """
    options.check_order(**span)
    until = span["until"] or utc_now()
    chosen, lake = options.configured(context)
    book = overlay.read(chosen.detections, utc_now(), [place] if place else None)
    made, named = book.ruleset, book.loaded.named(rule)
    excepted = exceptions_of(lake, book)
    if named is None:
        raise ConfigurationError(f"there is no rule {rule}: `auditlake rules list` prints them")
    if named.id in made.refused:
        raise ConfigurationError(f"{named.title} is refused: {made.refused[named.id].reason}")
    rows, parts, failed = 0, [], dict[str, str]()
    with progress.step(Console(stderr=True)) as show:
        for part in backtest.run(lake, made, [named.id], span["since"], until, exceptions=excepted):
            rows += part.rows
            failed |= part.failed
            parts.append(part.findings)
            show(f"{rows:,} rows, {part.days_left} days of streams left")
    found = pl.concat(parts).sort("time")
    if as_json:
        options.echo_json(found.write_ndjson())
    else:
        _print_figures(found)
    options.echo(f"{rows:,} rows, {found.height:,} findings of {named.title}", err=True)
    _print_failed(context, made, failed)


def _running(book: Rulebook, chosen: Settings) -> Ruleset:
    """Return the rules that run. Raises ConfigurationError if none of them does."""
    for problem in book.loaded.problems:
        options.echo(f"error: {problem.file}: {problem.reason}", err=True)
    if not book.ruleset.rules:
        places = ", ".join(map(str, chosen.detections.rules))
        raise ConfigurationError(f"no rule in {places} runs: see `auditlake rules check`")
    return book.ruleset


def _print(found: pl.DataFrame, widths: list[int], *, as_json: bool) -> list[int]:
    """Print findings as JSON, or as rows of one table of these widths, and return the widths."""
    if as_json:
        options.echo_json(found.write_ndjson())
        return widths
    if found.is_empty():
        return widths
    rows = found.select(_LISTED).iter_rows()
    cells = [[f"{time:%Y-%m-%d %H:%M:%S}", *map(_short, values)] for time, *values in rows]
    return options.print_table([] if widths else _HEADER, cells, widths)


def _short(text: str | None) -> str:
    shown = visible.text(text or "")
    return shown if len(shown) <= _WIDEST else f"{shown[: _WIDEST - 3]}..."


def _print_figures(found: pl.DataFrame) -> None:
    days = Counter(f"{time:%Y-%m-%d}" for time in found["time"])
    options.print_table(("day (UTC)", "findings"), _cells(sorted(days.items())))
    entities = Counter(str(entity or "-") for entity in found["entity"])
    options.echo()
    options.print_table(("about", "findings"), _cells(entities.most_common(_ENTITIES)))
    options.echo()
    _print(found.tail(_SAMPLES), [], as_json=False)


def _cells(counts: Iterable[tuple[str, int]]) -> list[list[str]]:
    return [[_short(name), f"{count:,}"] for name, count in counts]


def _print_failed(context: click.Context, made: Ruleset, failed: dict[str, Any]) -> None:
    for id_, reason in failed.items():
        options.echo(f"error: {made.all()[id_].rule.title}: {reason}", err=True)
    if failed:
        context.exit(FAILED)
