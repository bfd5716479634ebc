"""One page of a search result in any order, over the whole result.

Events with equal values are listed newest first, and those without a value last. By time or by a
field of `rollups`, the counts show where a page begins, so that only its own events are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import polars as pl

from dashboard import fields, patience, queries
from dashboard.queries import PAGE, Counts, Filter, Query
from pipelines.lake import rollup
from pipelines.schemas import EVENTS
from pipelines.search.fields import TIMES

COLUMNS = (*TIMES, "title", *fields.NAMES)
"""The fields that the table can show and be sorted by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    field: str = "time"
    descending: bool = True


NEWEST = Order()
_NEWEST_FIRST = ["time", "event_uid"]
_FIRST_READ, _MOST_READ = 25_000, 2_000_000
"""Rows that `newest_so_far` reads at first, and at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """A result, and how the table shows it."""

    counts: Counts
    query: Query
    order: Order
    names: tuple[str, ...]


def page(
    counts: Counts,
    query: Query,
    number: int,
    counted: queries.Days,
    *,
    order: Order = NEWEST,
    names: tuple[str, ...] = queries.ROW,
) -> pl.DataFrame:
    """Return these fields of page `number`, from 1; `counted` is from queries.days."""
    table = _Table(counts=counts, query=query, order=order, names=names)
    first = (number - 1) * PAGE
    if order == NEWEST:
        return queries.page(counts, query, number, counted, names)
    if order.field == "time":
        return _oldest(table, first, counted)
    if rollup.part_of(fields.columns(order.field)):
        return _by_group(table, first)
    return _sorted(table, first)


def newest_so_far(
    counts: Counts, query: Query, names: tuple[str, ...] = queries.ROW
) -> pl.DataFrame:
    """Return these fields of the newest events, at most a page, before all are counted.

    It reads more and more days until it has a page, or has read enough: then older events may
    match as well.
    """
    found = [queries.collected(queries.listed(counts.events(query, []), names))]
    left, wanted, read, have = counts.sizes(query), _FIRST_READ, 0, 0
    while left and have < PAGE and read < _MOST_READ:
        patience.check()
        days, rows = _first_days(left, wanted)
        events = queries.listed(counts.events(query, days), names)
        newest = events.sort(_NEWEST_FIRST, descending=True).head(PAGE - have)
        found.append(queries.collected(newest))
        left, read, have = left[len(days) :], read + rows, have + found[-1].height
        # As many as the rest of the page takes if the events are spread evenly, and some more.
        wanted = min(max(read, (PAGE - have) * read * 5 // (4 * max(1, have))), _MOST_READ - read)
    return pl.concat(found)


def _first_days(sizes: Sequence[tuple[date, int]], rows: int) -> tuple[list[date], int]:
    """Return the first of the days that have so many rows together, at least one, and the rows."""
    days, total = list[date](), 0
    for day, n in sizes:
        if days and total + n > rows:
            break
        days.append(day)
        total += n
    return days, total


def _oldest(table: _Table, first: int, counted: queries.Days) -> pl.DataFrame:
    stop = sum(n for _, n in counted) - first
    start = max(0, stop - PAGE)
    return queries.newest(
        table.counts, table.query, counted, table.names, start=start, stop=stop
    ).reverse()


def _by_group(table: _Table, first: int) -> pl.DataFrame:
    """Return the page that begins at place `first`: the values on it, then their events."""
    on_page = pl.col("stop") > first, pl.col("start") < first + PAGE
    # Large values, of which a part is on the page: at most one at either end.
    partly = (pl.col("start") < first) | (pl.col("stop") > first + PAGE)
    groups = _groups(table).filter(*on_page)
    parts = [
        (start, _part(table, value, first - start))
        for value, start in groups.filter(partly).select("value", "start").iter_rows()
    ]
    if inner := groups.filter(~partly)["value"].to_list():
        parts.append((groups.filter(~partly)["start"][0], _whole(table, inner)))
    rows = [part for _, part in sorted(parts, key=lambda part: part[0])]
    return pl.concat(rows) if rows else _no_rows(table)


def _groups(table: _Table) -> pl.DataFrame:
    """Return the values in this order with the places that their events take: start, stop."""
    value = fields.value(table.order.field).fill_null("")
    sums = table.counts.sums(table.query, value, *fields.columns(table.order.field))
    counted = queries.collected(sums.group_by("value").agg(pl.col("n").sum()))
    absent = pl.col("value") == ""
    return counted.sort(absent, "value", descending=[False, table.order.descending]).select(
        "value", start=pl.col("n").cum_sum() - pl.col("n"), stop=pl.col("n").cum_sum()
    )


def _part(table: _Table, value: str, start: int) -> pl.DataFrame:
    """Return one value's events that are on the page; it begins `start` after the first of them."""
    narrowed = _only(table, [value])
    counted = queries.days(table.counts, narrowed)
    return queries.newest(
        table.counts, narrowed, counted, table.names, start=max(0, start), stop=start + PAGE
    )


def _whole(table: _Table, values: Sequence[str]) -> pl.DataFrame:
    """Return all events of these values, in the order of the values."""
    places = pl.DataFrame({"value": values}).with_row_index("place").lazy()
    value = fields.value(table.order.field).fill_null("").alias("value")
    events = table.counts.events(_only(table, values)).with_columns(value)
    placed = events.join(places, on="value").sort(
        "place", *_NEWEST_FIRST, descending=[False, True, True]
    )
    return queries.collected(queries.listed(placed, table.names))


def _only(table: _Table, values: Sequence[str]) -> Query:
    """Return the query for events with these values, which it must allow."""
    field = table.order.field
    others = (f for f in table.query.filters if f.field != field or f.negated)
    wanted = (Filter(field=field, value=value) for value in values)
    return replace(table.query, filters=(*others, *wanted))


def _sorted(table: _Table, first: int) -> pl.DataFrame:
    """Return the page that begins at place `first`, by comparing the values of all events."""
    key, most = _key(table.order.field), first + PAGE
    best = pl.DataFrame()
    for part in table.counts.parts(table.query):
        # Not a slice: to find the first rows, not all have to be sorted.
        found = _sorted_by(table.order, part.select("date", *_NEWEST_FIRST, key=key)).head(most)
        kept = [each for each in (best, queries.collected(found)) if each.width]
        best = _sorted_by(table.order, pl.concat(kept).lazy()).head(most).collect()
    places = best[first:].select("date", "event_uid").with_row_index("place")
    events = table.counts.events(table.query, places["date"].unique().to_list())
    found = events.join(places.lazy().drop("date"), on="event_uid").sort("place")
    return queries.collected(queries.listed(found, table.names))


def _sorted_by(order: Order, keyed: pl.LazyFrame) -> pl.LazyFrame:
    descending = [order.descending, True, True]
    return keyed.sort("key", *_NEWEST_FIRST, descending=descending, nulls_last=True)


def _key(field: str) -> pl.Expr:
    """Return the sort key of events: numbers and times as such, not as text."""
    whole = EVENTS.get(field, pl.String())
    return fields.value(field) if isinstance(whole, pl.String) else pl.col(field)


def _no_rows(table: _Table) -> pl.DataFrame:
    return queries.collected(queries.listed(table.counts.events(table.query, []), table.names))
