"""The table of events, next to the details of the open one.

A grid reports a selection as a row index, which is valid only for the rows that were on screen:
its key is a digest of their identities, and its callback carries them along. Its columns can be
selected, since Streamlit then reports a click on a header instead of sorting the page alone.
"""

from __future__ import annotations

import functools
import hashlib
import html
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import polars as pl
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from dashboard import fields, listing, queries, session, state, table
from dashboard.lake import Snapshot
from dashboard.listing import NEWEST, Order
from dashboard.panels import details, flags, hover, notices
from dashboard.panels.details import Step
from dashboard.queries import Query
from dashboard.state import Opened
from dashboard.table import Shown
from pipelines.search.fields import TIMES

_PALE = {"success": "#e4f2ec", "failure": "#f4b4b4", "unknown": "#eceef2"}
_DEEP = {"success": "#1d3b33", "failure": "#8f2333", "unknown": "#263041"}
HEIGHT = 520
_HEAD, _ROW = 31, 28  # pixels
_SHOWN = "events_shown"  # the rows of the page, and how they are shown by columns
SCRIPT = hover.script(head=_HEAD, row=_ROW)


def prepare(snapshot: Snapshot, query: Query, total: int) -> None:
    """Read the page of the result that `show` is going to show."""
    pages = -(-total // queries.PAGE)
    _page(snapshot, query, min(session.view().page, pages))


def preview(snapshot: Snapshot, query: Query) -> None:
    """Show the newest events of a long search while all of its events are counted."""
    view = session.view()
    if view.tab != "events" or view.sort != NEWEST or view.page > 1:
        return
    columns = _columns()
    rows = snapshot.ask(listing.newest_so_far, query, table.fetched(columns))
    if rows.is_empty():
        return
    # As for the whole result: if access cannot be recorded, the page fails.
    session.record("searched", state.search(view), None, snapshot.version)
    st.caption(f"The newest {rows.height:,}; the totals follow")
    st.dataframe(
        _coloured(table.shown(rows, columns).rows),
        hide_index=True,
        placeholder="",
        height=HEIGHT,
        row_height=_ROW,
        column_order=columns,
        column_config={name: _column(name) for name in columns},
        alt="Audit events, newest first, before all are counted",
    )


# A fragment: opening an event reruns this table alone.
@st.fragment
def show(snapshot: Snapshot, query: Query, total: int) -> None:
    with notices.in_fragment():
        _show(snapshot, query, total)


def _show(snapshot: Snapshot, query: Query, total: int) -> None:
    view = session.view()
    pages = -(-total // queries.PAGE)
    number = min(view.page, pages)
    rows = _page(snapshot, query, number)
    places = _places(rows)
    left, right = st.columns([2.05, 1], gap="small") if view.opened else (nullcontext(), None)
    key = _key(places, view.sort)
    columns = _columns()
    shown, flagged = _shown(rows, columns), flags.counts(rows)
    with left:
        if flagged.count():
            columns = (flags.COLUMN, *columns)
        _grid(shown.rows.with_columns(flagged).select(columns), places, key, columns)
        _footer(number, pages, total, shown)
    if right and view.opened:
        steps = _steps(view.opened, places, number, lambda other: _page(snapshot, query, other))
        with right.container(border=True, height=HEIGHT + 44, key="details", gap="small"):
            details.show(snapshot, view.opened, steps)


@st.fragment
def show_opened(snapshot: Snapshot) -> None:
    """Show the open event where the search finds none, as for a link whose range has moved on."""
    with notices.in_fragment():
        if opened := session.view().opened:
            with st.container(border=True, key="details", gap="small"):
                details.show(snapshot, opened, (None, None))


def _page(snapshot: Snapshot, query: Query, number: int) -> pl.DataFrame:
    counted = snapshot.ask(queries.days, query)
    # The same for an open event, to find the page in the cache.
    names = table.fetched(session.view().columns or table.USUAL)
    return snapshot.ask(
        listing.page, query, number, counted, order=session.view().sort, names=names
    )


def _shown(rows: pl.DataFrame, columns: tuple[str, ...]) -> Shown:
    """Return `table.shown` of a page, made once per list of columns while the page is shown."""
    known: tuple[pl.DataFrame | None, dict[tuple[str, ...], Shown]]
    known = st.session_state.get(_SHOWN, (None, {}))
    # The same page of the same result is the same object.
    if known[0] is not rows:
        known = st.session_state[_SHOWN] = rows, {}
    if columns not in known[1]:
        known[1][columns] = table.shown(rows, columns)
    return known[1][columns]


def _columns() -> tuple[str, ...]:
    view = session.view()
    return view.columns or (table.NEXT_TO_DETAILS if view.opened else table.USUAL)


def _places(rows: pl.DataFrame) -> list[Opened]:
    return [Opened(date=day, uid=uid) for day, uid in rows.select("date", "event_uid").iter_rows()]


def _key(places: list[Opened], order: Order) -> str:
    # With the order, since a selected header would stay selected in a grid that remains.
    identities = "\n".join([repr(order), *(opened.uid for opened in places)])
    return f"events-{hashlib.sha256(identities.encode()).hexdigest()[:16]}"


def _grid(shown: pl.DataFrame, places: list[Opened], key: str, columns: tuple[str, ...]) -> None:
    opened = session.view().opened
    _mirror(key, places.index(opened) if opened in places else None)
    st.dataframe(
        _coloured(shown),
        key=key,
        on_select=lambda: _pick(key, places),
        selection_mode=["single-row", "single-cell", "single-column"],
        hide_index=True,
        placeholder="",
        height=HEIGHT,
        row_height=_ROW,
        column_order=columns,
        column_config={name: _column(name) for name in columns},
        alt=f"Audit events, {_ordered(session.view().sort)}; select a header to sort",
    )


def _coloured(rows: pl.DataFrame) -> pl.DataFrame:
    # A list, since only multiselect columns can be coloured by value.
    return rows.with_columns(pl.concat_list("outcome")) if "outcome" in rows.columns else rows


def _column(name: str) -> ColumnConfig:
    config, width = st.column_config, table.width(name)
    if name == flags.COLUMN:
        return config.NumberColumn("Findings", format="localized", width=66)
    if name in TIMES:
        return config.DatetimeColumn(
            _header(name), format="DD MMM HH:mm:ss", timezone=session.zone().key, width=width
        )
    if name == "outcome":
        tints = _DEEP if st.context.theme.type == "dark" else _PALE
        colours = list(tints.values())
        return config.MultiselectColumn(
            _header(name), options=list(tints), color=colours, width=width
        )
    return config.TextColumn(_header(name), width=width)


def _header(field: str) -> str:
    """Return the label of a column, with an arrow if the result is sorted by it."""
    order, arrow = session.view().sort, ""
    if order.field == field:
        arrow = " \N{DOWNWARDS ARROW}" if order.descending else " \N{UPWARDS ARROW}"
    return f"{fields.label(field)}{arrow}"


def _ordered(order: Order) -> str:
    if order.field == "time":
        return "newest first" if order.descending else "oldest first"
    return f"{fields.label(order.field)} {'descending' if order.descending else 'ascending'}"


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
        # First, since a click on a header leaves the cell and the row selected.
        case {"columns": [flags.COLUMN, *_]}:
            _select(key, next(iter(selection["rows"]), None))
        case {"columns": [field, *_]}:
            # The whole page reruns, on which a sort that takes long can be cancelled.
            session.change(sort=_after_click(field, session.view().sort))
        case {"cells": [[row, column], *_]}:
            _select(key, row, [row, column])
            session.show_event(places[row])
        case {"rows": [row, *_]}:
            session.show_event(places[row])
        case _:
            session.show_event(None)


def _after_click(field: str, order: Order) -> Order:
    """Return the next order by `field`: ascending, descending, then newest first again."""
    if order.field != field:
        return Order(field=field, descending=False)
    if field == "time":
        return replace(order, descending=not order.descending)
    return NEWEST if order.descending else replace(order, descending=True)


def _footer(number: int, pages: int, total: int, shown: Shown) -> None:
    first = (number - 1) * queries.PAGE + 1
    last = min(total, number * queries.PAGE)
    with st.container(horizontal=True, vertical_alignment="center", key="footer"):
        about = (
            f"{first:,}\N{EN DASH}{last:,} of {total:,} · {_ordered(session.view().sort)} · "
            f"times in {session.zone().key} · click a header to sort the whole result"
        )
        # One element for both: each costs the browser some milliseconds after every click.
        quiet = f'<span class="quiet">{html.escape(about)}</span>'
        st.html(f"{quiet}{hover.hidden(shown.whole)}", width="stretch")
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
    """Return the steps to the previous and the next event, across pages too."""
    if opened not in places:
        return None, None
    place = places.index(opened)
    before = _step(places, place - 1, number) if place else _over(page, number - 1, -1)
    last = place + 1 == len(places)
    return before, _over(page, number + 1, 0) if last else _step(places, place + 1, number)


def _step(places: list[Opened], place: int, number: int) -> Step:
    return functools.partial(session.show_event, places[place], number)


def _over(page: Callable[[int], pl.DataFrame], number: int, end: int) -> Step:
    """Return the step to the first or last event of another page; None if there is no such page."""
    places = _places(page(number)) if number else []
    return _step(places, end, number) if places else None
