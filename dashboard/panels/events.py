"""The table of events, newest first, next to the details of the open one.

A grid reports a selection as a row index, which is valid only for the rows that were on screen:
its key is a digest of their identities, and its callback carries them along.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import polars as pl
import streamlit as st

from dashboard import queries, session
from dashboard.lake import Snapshot
from dashboard.panels import details
from dashboard.panels.details import Step
from dashboard.queries import Query
from dashboard.state import Opened

_COLUMNS = ("time", "integration", "activity_type", "title", "actor", "outcome")
_IN_PANE_WHEN_OPEN = ("source_ip", "target")
_PALE = {"success": "#e4f2ec", "failure": "#f4b4b4", "unknown": "#eceef2"}
_DEEP = {"success": "#1d3b33", "failure": "#8f2333", "unknown": "#263041"}
HEIGHT = 520


# A fragment: opening an event reruns this table alone.
@st.fragment
def show(snapshot: Snapshot, query: Query, total: int) -> None:
    session.rerun_if_stale()
    view = session.view()
    pages = -(-total // queries.PAGE)
    number = min(view.page, pages)
    rows = _page(snapshot, query, number)
    places = _places(rows)
    left, right = st.columns([2.05, 1], gap="small") if view.opened else (st.container(), None)
    key = _key(places)
    with left:
        _grid(rows, places, key)
        _footer(number, pages, total)
    if right and view.opened:
        steps = _steps(view.opened, places, number, lambda other: _page(snapshot, query, other))
        with right.container(border=True, height=HEIGHT + 44, key="details", gap="small"):
            details.show(snapshot, view.opened, steps)
    session.write_address()


def _page(snapshot: Snapshot, query: Query, number: int) -> pl.DataFrame:
    return snapshot.ask(queries.page, query, number, snapshot.ask(queries.days, query))


def _places(rows: pl.DataFrame) -> list[Opened]:
    return [Opened(date=day, uid=uid) for day, uid in rows.select("date", "event_uid").iter_rows()]


def _key(places: list[Opened]) -> str:
    identities = "\n".join(opened.uid for opened in places)
    return f"events-{hashlib.sha256(identities.encode()).hexdigest()[:16]}"


def _grid(rows: pl.DataFrame, places: list[Opened], key: str) -> None:
    opened = session.view().opened
    _mirror(key, places.index(opened) if opened in places else None)
    st.dataframe(
        # A list, since only multiselect columns can be coloured by value.
        rows.with_columns(pl.concat_list("outcome")),
        key=key,
        on_select=lambda: _pick(key, places),
        selection_mode=["single-row", "single-cell"],
        hide_index=True,
        placeholder="",
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
        "title": text("Event", width=240),
        "actor": text("Actor", width=190),
        "outcome": column.MultiselectColumn(
            "Outcome", options=list(tints), color=list(tints.values()), width=90
        ),
        "source_ip": text("IP address", width=120),
        "target": text("Target"),
    }


def _mirror(key: str, row: int | None) -> None:
    """Tick the row of the open event and no other, however it was opened or closed."""
    ticked = st.session_state[key]["selection"]["rows"] if key in st.session_state else None
    # A grid that was off the page has lost its tick, even if the session state still has it.
    if ticked != [row] * (row is not None) or session.newly_shown(key):
        _select(key, row)


def _select(key: str, row: int | None, cell: list[Any] | None = None) -> None:
    rows = [] if row is None else [row]
    selection = {"rows": rows, "columns": [], "cells": [cell] if cell else []}
    st.session_state[key] = {"selection": selection}


def _pick(key: str, places: list[Opened]) -> None:
    """Open the row of the clicked cell; only clearing a row's tick closes the details."""
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


def _steps(
    opened: Opened, places: list[Opened], number: int, page: Callable[[int], pl.DataFrame]
) -> tuple[Step, Step]:
    """Return the steps to the next newer and next older event, across pages too."""
    if opened not in places:
        return None, None
    place = places.index(opened)
    newer = _step(places, place - 1, number) if place else _over(page, number - 1, -1)
    last = place + 1 == len(places)
    return newer, _over(page, number + 1, 0) if last else _step(places, place + 1, number)


def _step(places: list[Opened], place: int, number: int) -> Step:
    return functools.partial(session.show_event, places[place], number)


def _over(page: Callable[[int], pl.DataFrame], number: int, end: int) -> Step:
    """Return the step to the first or last event of another page; None if there is no such page."""
    places = _places(page(number)) if number else []
    return _step(places, end, number) if places else None
