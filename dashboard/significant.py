"""What stands out in a selection: values that say more of it than of what it is compared with.

A share tells what the selection mostly is; the lift tells what it has that the baseline hardly
knows, which is where a taken-over account shows that is one among many.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl

from dashboard import fields, queries
from dashboard.queries import Query

FIELDS = (
    "source_ip",
    "country",
    "city",
    "actor",
    "actor_type",
    "action",
    "outcome",
    "outcome_reason",
    "integration",
    "target",
    "user_agent",
    "severity",
)
ORDERS = {"share": "By share", "lift": "By lift"}
_MOST = 20
_OF_A_FIELD = 4
_FEW = 5  # events of a value below which its lift says nothing
_MORE = 0.03  # of share, and
_LIFT = 3.0  # are worth telling
_BEFORE = timedelta(days=7)


def baseline(query: Query) -> Query:
    """The whole of the same span; for a whole span, the week before it."""
    if query.text or query.filters:
        return replace(query, text="", filters=())
    return replace(query, since=query.since - _BEFORE, until=query.since)


def found(events: pl.LazyFrame, query: Query, order: str) -> pl.DataFrame:
    """The most telling values first: field, value, n, share, before, usual, more, lift.

    `share` is of the selection, `usual` of the baseline, which has `before` such events.
    """
    compared = [_compared(events, query, field) for field in FIELDS]
    ranked = pl.concat(_ranked(one, order) for one in pl.collect_all(compared))
    return ranked.sort(_KEYS[order], "field", "value", descending=[True, False, False]).head(_MOST)


def first_seen(
    events: pl.LazyFrame, values: tuple[tuple[str, str], ...]
) -> dict[tuple[str, str], datetime]:
    """When the lake first knew each (field, value), whatever is selected."""
    asked: dict[str, list[str]] = {}
    for field, value in values:
        asked.setdefault(field, []).append(value)
    frames = pl.collect_all(
        events.select("time", value=fields.value(field).fill_null(""))
        .filter(pl.col("value").is_in(wanted))
        .group_by("value")
        .agg(pl.col("time").min())
        for field, wanted in asked.items()
    )
    return {
        (field, value): time
        for field, frame in zip(asked, frames, strict=True)
        for value, time in frame.iter_rows()
    }


def begins(events: pl.LazyFrame, query: Query) -> tuple[datetime, datetime] | None:
    """The first event of the selection, and of all; None where nothing is selected."""
    first = pl.collect_all(
        [
            queries.matching(events, query).select(pl.col("time").min()),
            events.select(pl.col("time").min()),
        ]
    )
    selected, ever = (frame.item() for frame in first)
    return (selected, ever) if selected else None


def is_new(first: datetime, began: tuple[datetime, datetime] | None) -> bool:
    """Was a value first seen ever in the selection, though the lake reaches back further?"""
    return began is not None and began[1] < began[0] <= first


_KEYS = {"share": "more", "lift": "lift"}


def _compared(events: pl.LazyFrame, query: Query, field: str) -> pl.LazyFrame:
    here, usual = (
        queries.matching(events, asked)
        .group_by(value=fields.value(field).fill_null(""))
        .agg(n=pl.len())
        for asked in (query, baseline(query))
    )
    usual = usual.select("value", before="n", all_before=pl.col("n").sum())
    return (
        here.with_columns(share=pl.col("n") / pl.col("n").sum(), kinds=pl.len())
        .sort("n", "value", descending=[True, False])
        .join(usual, on="value", how="left")
        .with_columns(
            pl.col("before").fill_null(0),
            field=pl.lit(field),
        )
    )


def _ranked(counted: pl.DataFrame, order: str) -> pl.DataFrame:
    """The values of one field that are worth telling."""
    total = counted["all_before"].max()
    of = float(total) if isinstance(total, int) else 0.0
    return (
        counted.with_columns(usual=pl.col("before") / max(of, 1.0))
        .with_columns(
            more=pl.col("share") - pl.col("usual"),
            # Half an event more on both sides, so that a value never seen before has a lift too.
            lift=pl.col("share") / ((pl.col("before") + 0.5) / (of + 1.0)),
        )
        .filter(
            (pl.col("n") >= _FEW)
            & (pl.col("more") > 0)
            & ((pl.col("more") > _MORE) | (pl.col("lift") >= _LIFT))
        )
        .sort(_KEYS[order], "value", descending=[True, False])
        .head(_OF_A_FIELD)
        .select("field", "value", "n", "share", "before", "usual", "more", "lift")
    )
