"""The menus of filters: every value with its count and a tick, several to be picked in one go.

A fragment: opening a menu and searching in its list rerun the menus alone, a pick the whole page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import polars as pl
import streamlit as st

from dashboard import fields, queries, session
from dashboard.lake import Snapshot
from dashboard.queries import Query

_MOST = 500
_ROW, _MOST_ROWS = 26, 13
_WIDTH = 350  # pixels
_WANTED = "facet_wanted"  # the field and the part of a value that a menu waits for
_COUNTED = "facet_counted"  # the question that was answered for it
_SENSES = ("is", "is not")
_OTHERS = (*fields.MORE_FILTERS, *(n for n in fields.NAMES if n not in fields.MORE_FILTERS))


@st.fragment
def show(snapshot: Snapshot, query: Query) -> None:
    session.rerun_if_stale()
    with st.container(horizontal=True, gap="xsmall", width="content"):
        for field in fields.FILTERS:
            _menu(fields.label(field), field, (field,), snapshot, query)
        others = tuple(name for name in _OTHERS if name not in fields.FILTERS)
        _menu("More", "more", others, snapshot, query)


def _menu(label: str, key: str, names: tuple[str, ...], snapshot: Snapshot, query: Query) -> None:
    """Show a menu for one of the fields `names`; values are counted only while it is open."""
    # Without the number of its filters: a menu whose label changes is another one, and closed.
    with st.popover(label, key=f"filter_{key}", on_change="rerun") as menu:
        if menu.open:
            # As wide as its list, or the counts would be out of view.
            with st.container(width=_WIDTH):
                _values(names[0] if len(names) == 1 else _chosen_field(names), snapshot, query)


def prepare(snapshot: Snapshot, query: Query) -> None:
    """Count the values that an open menu waits for; once, so that a closed one waits for none."""
    if wanted := st.session_state.pop(_WANTED, None):
        field, part = wanted
        counted = query.without(field), field, _MOST, part
        snapshot.ask(queries.values, *counted)
        st.session_state[_COUNTED] = counted


def _takes_long(snapshot: Snapshot, query: Query, field: str) -> bool:
    """Return whether events have to be read to count the values."""
    limited = snapshot.counts.limited
    return field == fields.TARGET and bool(query.text or query.filters or limited)


def _chosen_field(names: tuple[str, ...]) -> str:
    filtered = [one.field for one in session.view().filters if one.field in names]
    field: str = st.selectbox(
        "Column",
        names,
        index=names.index(filtered[0]) if filtered else 0,
        format_func=fields.label,
        key="more_field",
        filter_mode="contains",
        label_visibility="collapsed",
    )
    return field


def _values(field: str, snapshot: Snapshot, query: Query) -> None:
    negated = _negated(field)
    part = st.text_input(
        f"Find a value of {fields.label(field)}",
        key=f"find_{field}",
        type="search",
        live="300ms",
        placeholder="Find in this list",
        label_visibility="collapsed",
    )
    wanted = query.without(field), field, _MOST, part.strip()
    if _takes_long(snapshot, *wanted[:2]) and st.session_state.get(_COUNTED) != wanted:
        # The page counts them before this fragment, where that can be cancelled.
        st.session_state[_WANTED] = field, part.strip()
        session.rerun()
    found = snapshot.ask(queries.values, *wanted)
    _grid(field, found, negated=negated)
    if found.height == _MOST:
        st.caption(f"The {_MOST} most frequent. Type a part of the name to find others.")


def _negated(field: str) -> bool:
    key, view = f"sense_{field}", session.view()
    if key not in st.session_state:
        # The first time, start with "is not" if there are only exclusions.
        only_negated = view.chosen(field, negated=True) and not view.chosen(field, negated=False)
        st.session_state[key] = "is not" if only_negated else "is"
    label = fields.label(field)
    return st.segmented_control(label, _SENSES, key=key, required=True, width="stretch") == "is not"


def _grid(field: str, found: pl.DataFrame, *, negated: bool) -> None:
    chosen = session.view().chosen(field, negated=negated)
    counts = dict(found.iter_rows())
    # What was picked stays in the list, even if no event has it any more.
    values = [*counts, *(value for value in chosen if value not in counts)]
    key = f"facet-{field}-{_digest(values, negated)}"
    _tick(key, [row for row, value in enumerate(values) if value in chosen])
    st.dataframe(
        pl.DataFrame(
            {
                "value": [fields.shown(value) for value in values],
                "n": [counts.get(value, 0) for value in values],
            },
            schema={"value": pl.String, "n": pl.Int64},
        ),
        key=key,
        on_select=lambda: _pick(key, field, values, negated=negated),
        selection_mode=["multi-row", "single-cell"],
        hide_index=True,
        placeholder="",
        height=38 + _ROW * min(_MOST_ROWS, max(1, len(values))),
        row_height=_ROW,
        column_config={
            "value": st.column_config.TextColumn(fields.label(field), width=220),
            "n": st.column_config.NumberColumn("Events", format="localized", width=70),
        },
        alt=f"Values of {fields.label(field)} with their events; select those to filter by",
    )


def _digest(values: Sequence[str], negated: bool) -> str:
    return hashlib.sha256(repr((values, negated)).encode()).hexdigest()[:16]


def _tick(key: str, rows: list[int]) -> None:
    """Tick these rows, however their filters were added or removed."""
    known = st.session_state[key]["selection"]["rows"] if key in st.session_state else []
    if sorted(known) != rows:
        _select(key, rows)


def _select(key: str, rows: list[int]) -> None:
    st.session_state[key] = {"selection": {"rows": rows, "columns": [], "cells": []}}


def _pick(key: str, field: str, values: Sequence[str], *, negated: bool) -> None:
    """Filter by the ticked values; a click on a cell ticks its row, or clears the tick."""
    view, selection = session.view(), st.session_state[key]["selection"]
    rows = _ticked(selection, [values.index(v) for v in view.chosen(field, negated=negated)])
    # Without its cell, which would otherwise be clicked again with every later tick.
    _select(key, rows)
    session.ask(view.choosing(field, [values[row] for row in rows], negated=negated))


def _ticked(selection: dict[str, Any], before: Sequence[int]) -> list[int]:
    """Return the rows that are ticked now."""
    rows = set(selection["rows"])
    if rows == set(before) and selection["cells"]:
        rows ^= {selection["cells"][0][0]}
    return sorted(rows)
