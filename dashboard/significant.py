"""Outliers: values that are much more frequent in a selection than in its baseline.

Ordered by share, they describe the bulk of a selection; ordered by lift, its values that are rare
elsewhere, such as the one account taken over among many that were attacked.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl

from dashboard import fields, queries
from dashboard.queries import Counts, Query
from pipelines.search.terms import Every, Term, Word

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
_FEW = 5  # events; the lift of a rarer value is noise
_MORE = 0.03  # the gain in share, or
_LIFT = 3.0  # the lift that makes a value an outlier
_BEFORE = timedelta(days=7)


def baseline(query: Query) -> Query:
    """Return the same range without filters; for an unfiltered query, the seven days before."""
    if query.text or query.filters:
        return replace(query, text="", filters=())
    return replace(query, since=query.since - _BEFORE, until=query.since)


def found(counts: Counts, query: Query, order: str) -> pl.DataFrame:
    """Return the outliers, strongest first: field, value, n, share, before, usual, more, lift.

    `share` is of the selection's events, `usual` of the baseline's, where `before` have the value.
    Absent values and those that the query selects itself are left out.
    """
    sizes = [counts.rows(one).select(pl.col("n").sum()) for one in (query, baseline(query))]
    compared = [_compared(counts, query, field) for field in FIELDS]
    here, usual, *counted = pl.collect_all([*sizes, *compared], engine="streaming")
    ranked = pl.concat(_ranked(one, order, here.item(), usual.item()) for one in counted)
    return ranked.sort(_KEYS[order], "field", "value", descending=[True, False, False])


def newest_first(found: pl.DataFrame, new: Collection[tuple[str, str]]) -> pl.DataFrame:
    """Return the 20 strongest outliers of `found`, before all others those that are `new`."""
    is_new = [pair in new for pair in found.select("field", "value").iter_rows()]
    ordered = found.with_columns(pl.Series("new", is_new, pl.Boolean))
    return ordered.sort("new", descending=True, maintain_order=True).head(_MOST).drop("new")


def selected(query: Query, field: str) -> list[str]:
    """Return the values of `field`, in lower case, that the query's filters and terms ask for."""
    texts = [one.value for one in query.filters if not one.negated and _same(one.field, field)]
    node = query.wanted()
    for part in node.parts if isinstance(node, Every) else (node,):
        match part:
            case Term(field=str(name), words=words) if _same(name, field):
                texts += [word.text for word in words if isinstance(word, Word)]
    return [text.lower() for text in texts]


def _same(name: str, field: str) -> bool:
    """Return True if the two fields are read from a common column."""
    return bool({*fields.columns(name)} & {*fields.columns(field)})


def first_seen(
    events: pl.LazyFrame, values: tuple[tuple[str, str], ...]
) -> dict[tuple[str, str], datetime]:
    """Return the time of the first event with each (field, value), regardless of the selection."""
    wanted: dict[str, list[str]] = {}
    for field, value in values:
        wanted.setdefault(field, []).append(value)
    frames = pl.collect_all(
        # Exploded last: few of the lake's events have one of the values.
        fields.exploded(events.filter(_any_of(field, texts)), field)
        .select("time", pl.col("value").fill_null(""))
        .filter(pl.col("value").is_in(texts))
        .group_by("value")
        .agg(pl.col("time").min())
        for field, texts in wanted.items()
    )
    return {
        (field, value): time
        for field, frame in zip(wanted, frames, strict=True)
        for value, time in frame.iter_rows()
    }


def begins(events: pl.LazyFrame, query: Query) -> tuple[datetime, datetime] | None:
    """Return the times of the first event selected and of all; None for an empty selection."""
    first = pl.collect_all(
        [
            queries.matching(events, query).select(pl.col("time").min()),
            events.select(pl.col("time").min()),
        ]
    )
    selected, ever = (frame.item() for frame in first)
    return (selected, ever) if selected else None


def is_new(first: datetime, began: tuple[datetime, datetime] | None) -> bool:
    """Return True if the value is new in the selection and the lake reaches back further."""
    return began is not None and began[1] < began[0] <= first


_KEYS = {"share": "more", "lift": "lift"}


def _any_of(field: str, texts: Collection[str]) -> pl.Expr:
    """Return whether an event has one of the values of `field`; "" is an absent one."""
    return fields.among(field, texts).fill_null("" in texts)


def _compared(counts: Counts, query: Query, field: str) -> pl.LazyFrame:
    """Return (value, n, before, field) of the values that the query does not select itself."""
    here, usual = (_counted(counts, one, field) for one in (query, baseline(query)))
    lower = pl.col("value").str.to_lowercase()
    return (
        here.filter(lower.is_in(selected(query, field)).not_())
        .join(usual.rename({"n": "before"}), on="value", how="left")
        .with_columns(pl.col("before").fill_null(0), field=pl.lit(field))
    )


def _counted(counts: Counts, query: Query, field: str) -> pl.LazyFrame:
    """Return (value, n), where an event counts for each of its targets."""
    rows = (
        counts.targets(query)
        if field == fields.TARGET
        else counts.rows(query, *fields.columns(field)).select("n", value=fields.value(field))
    )
    return rows.drop_nulls("value").group_by("value").agg(pl.col("n").sum())


def _ranked(counted: pl.DataFrame, order: str, events: int, of: int) -> pl.DataFrame:
    """Return the outliers of one field among so many events of the selection and the baseline."""
    share, usual = pl.col("n") / max(events, 1), pl.col("before") / max(of, 1)
    return (
        counted.with_columns(share=share, usual=usual)
        .with_columns(
            more=pl.col("share") - pl.col("usual"),
            # Half an event more on both sides: a value absent from the baseline needs a lift too.
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
