"""The command that evaluates a rule on stored events, and shows who would have been alerted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import polars as pl
from rich.console import Console

from pipelines.cli import options, progress
from pipelines.cli.detect import print_failed, print_findings, short
from pipelines.cli.options import Time, counted
from pipelines.clock import utc_now
from pipelines.detections import backtest, interrupted, overlay
from pipelines.detections.alerts import rehearsal
from pipelines.detections.alerts.rehearsal import Rehearsal
from pipelines.detections.backtest import Part
from pipelines.detections.detector import exceptions_of
from pipelines.detections.overlay import Rulebook
from pipelines.detections.rules import Rule
from pipelines.errors import ConfigurationError

_SAMPLES, _ENTITIES = 5, 10


@click.command(name="backtest")
@click.argument("rule")
@click.option("--since", type=Time(), required=True, help="Start of the span of events.")
@click.option("--until", type=Time(), help="Its end, exclusive; by default now.")
@click.option(
    "--rules", "place", type=click.Path(path_type=Path), help="A file or folder of other rules."
)
@click.option(
    "--samples",
    type=click.IntRange(min=0),
    default=_SAMPLES,
    show_default=True,
    help="How many findings to print, the newest.",
)
@click.option("--restart", is_flag=True, help="Do not go on with an interrupted backtest.")
@options.as_json
@click.pass_context
def backtest_(
    context: click.Context,
    /,
    *,
    rule: str,
    place: Path | None,
    samples: int,
    restart: bool,
    as_json: bool,
    **span: Any,
) -> None:
    """Evaluate RULE, by its id or name, on stored events, as if it had always run.

    Prints its findings per day and per person or address, some samples, and how many messages the
    configured receivers would have had. Does not write to the lake. If it is interrupted, the same
    command goes on where it stopped.
    """
    options.check_order(**span)
    since, until = span["since"], span["until"] or utc_now()
    chosen, lake = options.configured(context)
    book = overlay.read(chosen.detections, utc_now(), [place] if place else None)
    named = _named(book, rule)
    parts = backtest.run(
        lake,
        book.ruleset,
        [named.id],
        since,
        until,
        exceptions=exceptions_of(lake, book),
        kept=interrupted.of(lake),
        restart=restart,
    )
    rows, found, failed = _followed(parts)
    played = rehearsal.rehearse(chosen.alerts, found.iter_rows(named=True), book.budgets)
    if as_json:
        told = {
            "rule": {"id": named.id, "title": named.title, "level": named.level},
            "since": since,
            "until": until,
            "rows": rows,
            **_figures(found, samples),
            "alerts": asdict(played),
        }
        options.echo_json(json.dumps(told, default=options.json_value))
    else:
        _print_figures(found, samples)
        _print_alerts(played, found.height)
    options.echo(
        f"{counted(rows, 'row')}, {counted(found.height, 'finding')} of {named.title}", err=True
    )
    print_failed(context, book.ruleset, failed)


def _named(book: Rulebook, rule: str) -> Rule:
    named = book.loaded.named(rule)
    if named is None:
        raise ConfigurationError(f"there is no rule {rule}: `auditlake rules list` prints them")
    if named.id in book.ruleset.refused:
        reason = book.ruleset.refused[named.id].reason
        raise ConfigurationError(f"{named.title} is refused: {reason}")
    return named


def _followed(parts: Iterator[Part]) -> tuple[int, pl.DataFrame, dict[str, str]]:
    """Show the progress of a backtest; return its rows, findings and the rules that failed."""
    rows, hits, found, failed = 0, 0, list[pl.DataFrame](), dict[str, str]()
    with progress.step(Console(stderr=True)) as show:
        try:
            for part in parts:
                rows, hits = rows + part.rows, hits + part.findings.height
                failed |= part.failed
                found.append(part.findings)
                done = f"{part.days - part.days_left:,} of {part.days:,} days of streams"
                again = ", evaluated before" if part.kept else ""
                show(f"{done}, {counted(rows, 'row')}, {counted(hits, 'finding')}{again}")
        except KeyboardInterrupt:
            options.echo("interrupted: the same command goes on from here", err=True)
            raise
    return rows, pl.concat(found).sort("time", "finding_uid"), failed


def _figures(found: pl.DataFrame, samples: int) -> dict[str, Any]:
    days = backtest.per_day(found).select(pl.col("day").cast(pl.String), findings="n")
    return {
        "findings": found.height,
        "days": days.to_dicts(),
        "entities": backtest.per_entity(found).rename({"n": "findings"}).to_dicts(),
        "samples": found.tail(samples).to_dicts(),
    }


def _print_figures(found: pl.DataFrame, samples: int) -> None:
    days = [(f"{day}", f"{n:,}") for day, n in backtest.per_day(found).iter_rows()]
    options.print_table(("day (UTC)", "findings"), days)
    options.echo()
    entities = backtest.per_entity(found)
    most = [(short(each or "-"), f"{n:,}") for each, n in entities.head(_ENTITIES).iter_rows()]
    options.print_table(("about", "findings"), most)
    if (more := entities.height - _ENTITIES) > 0:
        options.echo(f"... and {more:,} more")
    options.echo()
    print_findings(found.tail(samples))


def _print_alerts(played: Rehearsal, findings: int) -> None:
    options.echo()
    if not played.messages:
        options.echo("nobody would have been alerted: no receiver is configured")
        return
    apart = {
        "excepted": played.excepted,
        "provisional": played.provisional,
        "on no route": played.unrouted,
        "beyond max_per_day": played.flooding,
    }
    words = [f"{n:,} {reason}" for reason, n in apart.items() if n]
    shown = f" ({', '.join(words)})" if words else ""
    options.echo(
        f"{played.told:,} of {counted(findings, 'finding')} would have been alerted{shown}:"
    )
    counts = [
        (name, f"{each.alerts:,}", f"{each.updates:,}", f"{each.digests:,}")
        for name, each in played.messages.items()
    ]
    options.print_table(("receiver", "alerts", "updates", "digests"), counts)
