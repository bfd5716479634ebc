"""The command that searches events; registered in main.py."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime
from typing import Any

import click
import polars as pl

from pipelines import visible
from pipelines.cli import options
from pipelines.cli.options import Time, counted
from pipelines.errors import ConfigurationError
from pipelines.lake import identity_table, tables
from pipelines.lake.follow import Follower
from pipelines.lake.tables import Lake
from pipelines.mapping import export
from pipelines.mapping.export import Wanted
from pipelines.search import fields, parser
from pipelines.search.people import PERSON

_SHOWN = ("integration", "action", "actor", "target", "outcome", "source_ip")
_WIDEST = 60
_ORDER = ("time", "event_uid")
_EVERY = 1.0  # seconds between two looks
_MOST_FAILURES = 30


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
@click.option(
    "--follow", is_flag=True, help="Then print new matches as they are committed, until Ctrl-C."
)
@click.pass_context
def search_(
    context: click.Context, /, query: str, limit: int, as_json: bool, follow: bool, **span: Any
) -> None:
    """Print the events that match QUERY, newest first, and their number.

    QUERY is one argument in the language of docs/search.md, such as 'actor:ada* outcome:failure'.
    With --follow, the newest are last. Commands read the lake with the file rights of their user:
    the roles of the dashboard do not limit them.
    """
    if follow and span["until"]:
        raise ConfigurationError("--follow has no end: leave out --until")
    options.check_order(**span)
    parser.parse(query)  # raises, even if there are no events yet
    _, lake = options.configured(context)
    wanted, out = Wanted(search=query, **span), _Output(as_json=as_json)
    if follow:
        _follow(lake, wanted, limit, out)
        return
    events = tables.existing(lake, "events")
    _found(export.matching(events, wanted, identity_table.read(lake)), limit, out)


class _Output:
    """Prints events as rows of one table, or as JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self.printed = 0
        self._as_json = as_json
        self._widths: list[int] = []

    def show(self, found: pl.DataFrame) -> None:
        self.printed += found.height
        if self._as_json:
            options.echo_json(found.drop(PERSON).write_ndjson())
        elif found.height:
            header = [] if self._widths else ["time (UTC)", *map(_title, _SHOWN)]
            self._widths = options.print_table(header, _cells(found), self._widths)


def _found(matching: pl.LazyFrame, limit: int, out: _Output, *, newest_first: bool = True) -> None:
    """Print the newest matches, and how many of how many they are."""
    # Collected together, so that both share a scan.
    count, found = pl.collect_all(
        [matching.select(pl.len()), matching.top_k(limit, by=_ORDER)], engine="streaming"
    )
    out.show(found.sort(_ORDER, descending=newest_first))
    more = "; --limit prints more" if count.item() > found.height else ""
    options.echo(f"{found.height:,} of {counted(count.item(), 'event')}{more}", err=True)


def _follow(lake: Lake, wanted: Wanted, limit: int, out: _Output) -> None:
    """Print the newest matches, then each new one, until interrupted."""
    follower, people, failures = Follower(lake), identity_table.read(lake), 0

    def matching(rows: pl.LazyFrame) -> pl.LazyFrame:
        return export.matching(rows, wanted, people)

    with suppress(KeyboardInterrupt):
        _found(matching(follower.held()), limit, out, newest_first=False)
        while True:
            time.sleep(_EVERY)
            try:
                found = follower.fresh(lambda rows: matching(rows).sort(_ORDER))
                failures = 0
            except tables.STORE_ERRORS:
                # Such as a file that maintenance has just deleted: a newer version has its rows.
                failures += 1
                if failures > _MOST_FAILURES:
                    raise
                continue
            out.show(found)
    options.echo(f"{counted(out.printed, 'event')} printed", err=True)


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
