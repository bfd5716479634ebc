"""How many events each stream has, how new and how late they are.

As far as possible from the statistics in the log of `events`: a file that holds one stream alone
is only read if it may have events that arrived as they happened, whose delay counts.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Protocol

import polars as pl

from pipelines.schemas import EVENTS

_HISTORY = 14  # days
_BY = ["integration", "stream"]
_PRECISION = timedelta(milliseconds=1)  # Delta may truncate statistics of times to it
_SUMS = {
    **{name: EVENTS[name] for name in ("integration", "stream", "date")},
    "n": pl.Int64(),
    "last_event": EVENTS["time"],
    "arrived": EVENTS["ingested_at"],
}
"""Of events of a stream and a day: how many, the newest, and the first arrival."""
_NONE = pl.DataFrame(schema=_SUMS)
_NEEDED = (
    *("path", "num_records", "partition.date", "max.time", "min.ingested_at"),
    *(f"{end}.{name}" for name in _BY for end in ("min", "max")),
)


class Table(Protocol):
    """One version of `events`, as a visitor may see it."""

    def statistics(self) -> pl.DataFrame: ...
    def read(self, files: pl.DataFrame) -> pl.LazyFrame: ...


def of_table(table: Table, now: datetime) -> pl.DataFrame:
    """Return what `of_events` does for all events of a table."""
    files = table.statistics()
    known = _known(files, _first(now, _HISTORY))
    events = table.read(files.join(known, on="path", how="anti"))
    return of_events(events, now, known.select(*_SUMS))


def of_events(
    events: pl.LazyFrame, now: datetime, known: pl.DataFrame = _NONE, history: int = _HISTORY
) -> pl.DataFrame:
    """Return one row per stream: events, last event, delay and daily counts.

    `delay` is the median over the last `history` days of events younger than the stream's first
    arrival, since backfilled events were not late. `daily` has one count per UTC day, today last.
    `known` has the sums of further events, which are all older than that arrival.
    """
    first = _first(now, history)
    read = events.group_by(*_BY, "date").agg(
        n=pl.len().cast(pl.Int64),
        last_event=pl.col("time").max(),
        arrived=pl.col("ingested_at").min(),
    )
    sums = pl.concat([read.select(*_SUMS).collect(), known]).lazy()
    totals = sums.group_by(_BY).agg(events=pl.col("n").sum(), last_event=pl.col("last_event").max())
    recent = sums.filter(pl.col("date") >= first)
    # From before its first arrival, a stream's events were backfilled.
    begun = recent.group_by(_BY).agg(begun=pl.col("arrived").min())
    delays = (
        events.filter(pl.col("date") >= first)
        .join(begun, on=_BY)
        .filter(pl.col("time") >= pl.col("begun"))
        .group_by(_BY)
        .agg(delay=(pl.col("ingested_at") - pl.col("time")).median())
    )
    counts = recent.group_by(*_BY, "date").agg(pl.col("n").sum())
    # A bar chart needs zeros for days without events, not missing rows.
    daily = (
        _every_day(totals.select(_BY), first, now.date())
        .join(counts, on=[*_BY, "date"], how="left")
        .sort("date")
        .group_by(_BY)
        .agg(daily=pl.col("n").fill_null(0))
    )
    found = totals.join(delays, on=_BY, how="left").join(daily, on=_BY, how="left")
    return found.sort(_BY).collect()


def _known(files: pl.DataFrame, first: date) -> pl.DataFrame:
    """Return `path` and the sums of the files that need not be read."""
    if not {*_NEEDED} <= {*files.columns}:
        return pl.DataFrame(schema={"path": pl.String(), **_SUMS})
    alone = pl.all_horizontal(pl.col(f"min.{name}") == pl.col(f"max.{name}") for name in _BY)
    stated = files.select(
        "path",
        date="partition.date",
        **{name: pl.when(alone).then(f"min.{name}") for name in _BY},
        n="num_records",
        last_event="max.time",
        arrived="min.ingested_at",
    )
    recent = stated.filter(pl.col("date") >= first)
    # A stream has not begun before this: other files may hold some of it.
    mixed = recent.filter(pl.col("stream").is_null())["arrived"]
    begun = recent.group_by(_BY).agg(begun=pl.col("arrived").min())
    earliest = pl.min_horizontal("begun", pl.lit(mixed.min(), _SUMS["arrived"]))
    is_backfill = pl.col("last_event") + _PRECISION < earliest
    whole = pl.all_horizontal(pl.col(*_SUMS).is_not_null())
    unknown = recent["arrived"].has_nulls()
    found = stated.join(begun, on=_BY, how="left").filter(
        whole, (pl.col("date") < first) | (is_backfill & (not unknown))
    )
    return found.select("path", *(pl.col(name).cast(dtype) for name, dtype in _SUMS.items()))


def _first(now: datetime, history: int) -> date:
    return (now - timedelta(days=history - 1)).date()


def _every_day(streams: pl.LazyFrame, first: date, last: date) -> pl.LazyFrame:
    calendar = pl.date_range(first, last, eager=True).alias("date").to_frame().lazy()
    return streams.join(calendar, how="cross")
