"""Values that stand out in the selected events, and when each was first seen."""

from __future__ import annotations

import hashlib
from datetime import datetime

import polars as pl
import streamlit as st

from dashboard import charts, fields, queries, session, significant
from dashboard.lake import Snapshot
from dashboard.queries import Filter, Query


def show(snapshot: Snapshot, query: Query, total: int) -> None:
    compared = sum(n for _, n in snapshot.ask(queries.days, significant.baseline(query)))
    with st.container(horizontal=True, vertical_alignment="center"):
        order = _order()
        st.caption(
            f"Values more frequent in these {total:,} events than in {_baseline(query)} "
            f"({compared:,} events), new ones first. Click a row to filter by it.",
            width="stretch",
        )
    if not compared:
        st.caption(
            "There are no events in the seven days before to compare with. Add a filter, or drag "
            "over part of the graph."
        )
        return
    found = snapshot.ask(significant.found, query, order)
    if found.is_empty():
        st.caption("Nothing stands out: no value with five or more events is much more frequent.")
        return
    known = snapshot.ask(significant.first_seen, tuple(found.select("field", "value").iter_rows()))
    began = snapshot.ask(significant.begins, query)
    new = {value for value, first in known.items() if significant.is_new(first, began)}
    found = significant.newest_first(found, new)
    values = found.select("field", "value").iter_rows()
    left, right = st.columns([1.9, 1], gap="small")
    with left:
        _grid(found, [_since(known.get(value), began) for value in values])
    with right.container(border=True):
        st.altair_chart(
            charts.shares(found),
            alt="Share of the events shown, compared with the baseline",
            width="stretch",
        )


def _order() -> str:
    st.session_state.setdefault("order", "share")
    chosen = st.segmented_control(
        "Order",
        list(significant.ORDERS),
        format_func=significant.ORDERS.__getitem__,
        key="order",
        required=True,
        label_visibility="collapsed",
    )
    return chosen or "share"


def _baseline(query: Query) -> str:
    return "all events in this range" if query.text or query.filters else "the seven days before"


def _grid(found: pl.DataFrame, first: list[str]) -> None:
    values = list(found.select("field", "value").iter_rows())
    key = f"findings-{hashlib.sha256(repr(values).encode()).hexdigest()[:16]}"
    column = st.column_config
    st.dataframe(
        _shown(found, first),
        key=key,
        on_select=lambda: _take(key, values),
        selection_mode="single-cell",
        hide_index=True,
        placeholder="",
        height="content",
        row_height=30,
        column_config={
            "field": column.TextColumn("Field", width=96),
            "value": column.TextColumn("Value", width=200),
            "n": column.NumberColumn("Events", format="localized", width=70),
            "share": column.ProgressColumn("Share", min_value=0, max_value=100, format="%.1f%%"),
            "usual": column.ProgressColumn("Baseline", min_value=0, max_value=100, format="%.1f%%"),
            "lift": column.NumberColumn("Lift", format="%.1f x", width=74),
            "first": column.TextColumn("First seen", width=140),
        },
        alt="Values that stand out; select one to filter by it",
    )


def _shown(found: pl.DataFrame, first: list[str]) -> pl.DataFrame:
    return found.select(
        pl.Series("field", [fields.label(name) for name in found["field"]]),
        pl.Series("value", [fields.shown(value) for value in found["value"]]),
        "n",
        pl.col("share") * 100,
        pl.col("usual") * 100,
        "lift",
        pl.Series("first", first),
    )


def _since(first: datetime | None, began: tuple[datetime, datetime] | None) -> str:
    if first is None:
        return ""
    when = f"{first.astimezone(session.zone()):%d %b %Y}"
    return f"NEW · {when}" if significant.is_new(first, began) else when


def _take(key: str, values: list[tuple[str, str]]) -> None:
    cells = st.session_state[key]["selection"]["cells"]
    if cells:
        field, value = values[cells[0][0]]
        session.filter_by(Filter(field=field, value=value))
