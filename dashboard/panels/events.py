"""The table of events, newest first, beside the details of the one that is open.

A selection in a grid is an index, which means something only for the very rows that were shown:
the grid's key is a digest of their identities, and its callback carries them along.
"""

from __future__ import annotations

import hashlib
from typing import Any

import polars as pl
import streamlit as st

from dashboard import queries, session
from dashboard.lake import Snapshot
from dashboard.panels import details
from dashboard.queries import Query
from dashboard.state import Opened

_COLUMNS = ("time", "integration", "activity_type", "title", "actor", "outcome")
_IN_PANE_WHEN_OPEN = ("source_ip", "target")
_PALE = {"success": "#e4f2ec", "failure": "#f9d7d7", "unknown": "#fbe6c6"}
_DEEP = {"success": "#1d3b33", "failure": "#7a2530", "unknown": "#6e4a16"}
HEIGHT = 520


@st.fragment
def show(snapshot: Snapshot, query: Query, total: int) -> None:
    session.rerun_if_stale()
    view = session.view()
    pages = -(-total // queries.PAGE)
    number = min(view.page, pages)
    counted = snapshot.ask(queries.days, query)
    rows = snapshot.ask(queries.page, query, number, counted)
    places = _places(rows)
    left, right = st.columns([2.05, 1], gap="small") if view.opened else (st.container(), None)
    key = _key(places)
    with left:
        _grid(rows, places, key)
        _footer(number, pages, total)
    if right and view.opened:
        with right:
            _details(snapshot, view.opened, places, key)
    session.write_address()


def _places(rows: pl.DataFrame) -> list[Opened]:
    return [Opened(date=day, uid=uid) for day, uid in rows.select("date", "event_uid").iter_rows()]


def _key(places: list[Opened]) -> str:
    identities = "\n".join(opened.uid for opened in places)
    return f"events-{hashlib.sha256(identities.encode()).hexdigest()[:16]}"


def _grid(rows: pl.DataFrame, places: list[Opened], key: str) -> None:
    opened = session.view().opened
    _mirror(key, places.index(opened) if opened in places else None)
    st.dataframe(
        rows.with_columns(pl.concat_list("outcome")),
        key=key,
        on_select=lambda: _pick(key, places),
        selection_mode=["single-row", "single-cell"],
        hide_index=True,
        height=HEIGHT,
        row_height=28,
        column_order=_COLUMNS if opened else (*_COLUMNS, *_IN_PANE_WHEN_OPEN),
        column_config=_column_config(),
        alt="Audit events, newest first",
    )


def _column_config() -> dict[str, Any]:
    tints = _DEEP if st.context.theme.type == "dark" else _PALE
    text, column = st.column_config.TextColumn, st.column_config
    return {
        "time": column.DatetimeColumn(
            "Time", format="DD MMM HH:mm:ss", timezone=session.zone().key, width=118
        ),
        "integration": text("Integration", width=120),
        "activity_type": text("Activity", width=150),
        "title": text("Event", width=250),
        "actor": text("Actor", width=190),
        "outcome": column.MultiselectColumn(
            "Outcome", options=list(tints), color=list(tints.values()), width=80
        ),
        "source_ip": text("IP address", width=120),
        "target": text("Target"),
    }


def _mirror(key: str, row: int | None) -> None:
    """Tick the row of the open event and no other, whatever opened or closed it."""
    ticked = st.session_state[key]["selection"]["rows"] if key in st.session_state else None
    if ticked != [row] * (row is not None) or session.newly_shown(key):
        _select(key, row)


def _select(key: str, row: int | None, cell: list[Any] | None = None) -> None:
    rows = [] if row is None else [row]
    selection = {"rows": rows, "columns": [], "cells": [cell] if cell else []}
    st.session_state[key] = {"selection": selection}


def _pick(key: str, places: list[Opened]) -> None:
    """A cell, wherever it was clicked, opens its row; only un-ticking a row closes it."""
    selection = st.session_state[key]["selection"]
    match selection:
        case {"cells": [[row, column], *_]}:
            _select(key, row, [row, column])
            session.show_event(places[row])
        case {"rows": [row, *_]}:
            session.show_event(places[row])
        case _:
            session.show_event(None)


def _footer(number: int, pages: int, total: int) -> None:
    first = (number - 1) * queries.PAGE + 1
    last = min(total, number * queries.PAGE)
    with st.container(horizontal=True, vertical_alignment="center", key="footer"):
        st.caption(
            f"{first:,}\N{EN DASH}{last:,} of {total:,} · newest first · "
            f"times in {session.zone().key} · sorting by a header sorts this page",
            width="stretch",
        )
        if pages > 1:
            key = f"page-{number}-of-{pages}"
            st.pagination(
                pages, default=number, key=key, on_change=_turn, args=(key,), max_visible_pages=5
            )


def _turn(key: str) -> None:
    session.change(page=st.session_state[key], opened=None)


def _details(snapshot: Snapshot, opened: Opened, places: list[Opened], key: str) -> None:
    place = places.index(opened) if opened in places else None
    with st.container(border=True, height=HEIGHT + 44, key="details", gap="small"):
        details.show(snapshot, opened, _neighbours(places, place), lambda to: _go(key, places, to))


def _neighbours(places: list[Opened], place: int | None) -> tuple[Opened | None, Opened | None]:
    """The next newer and the next older event of the page."""
    if place is None:
        return None, None
    newer = places[place - 1] if place else None
    return newer, places[place + 1] if place + 1 < len(places) else None


def _go(key: str, places: list[Opened], to: Opened | None) -> None:
    _select(key, places.index(to) if to in places else None)
    session.show_event(to)
