"""The command that searches events; registered in main.py."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click
import polars as pl

from pipelines import visible
from pipelines.cli import options
from pipelines.cli.options import Time
from pipelines.errors import LakeError
from pipelines.lake import tables
from pipelines.mapping import export
from pipelines.mapping.export import Wanted
from pipelines.search import fields

_SHOWN = ("integration", "action", "actor", "target", "outcome", "source_ip")
_WIDEST = 60
_ORDER = ("time", "event_uid")


@click.command(name="search")
@click.argument("query", default="")
@click.option("--since", type=Time(), help="Start of the range, such as 2026-03-01.")
@click.option("--until", type=Time(), help="End of the range, exclusive.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Print at most so many events.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line instead.")
@click.pass_context
def search_(context: click.Context, /, query: str, limit: int, as_json: bool, **span: Any) -> None:
    """Print the events that match QUERY, newest first, and their number.

    QUERY is one argument in the language of docs/search.md, such as 'actor:ada* outcome:failure'.
    """
    _, lake = options.configured(context)
    events = tables.scan(lake, "events")
    if events is None:
        raise LakeError("there are no events yet: run `auditlake poll` first")
    matching = export.matching(events, Wanted(search=query, **span))
    # Collected together, so that both share a scan.
    count, found = pl.collect_all(
        [matching.select(pl.len()), matching.top_k(limit, by=_ORDER)], engine="streaming"
    )
    found = found.sort(_ORDER, descending=True)
    if as_json:
        options.echo_json(found.write_ndjson())
    elif found.height:
        options.print_table(["time (UTC)", *map(_title, _SHOWN)], _cells(found))
    more = "; --limit prints more" if count.item() > found.height else ""
    options.echo(f"{found.height:,} of {count.item():,} events{more}", err=True)


def _title(field: str) -> str:
    return field.replace("_", " ")


def _cells(found: pl.DataFrame) -> list[list[str]]:
    rows = found.select("time", *(fields.value(name) for name in _SHOWN)).iter_rows()
    return [[_stamp(time), *map(_short, values)] for time, *values in rows]


def _stamp(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}"


def _short(text: str | None) -> str:
    shown = visible.text(text or "")
    return shown if len(shown) <= _WIDEST else f"{shown[: _WIDEST - 3]}..."
