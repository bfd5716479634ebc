"""The ready search that is shown: its purpose, its limits and, for some, its findings."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import polars as pl
import streamlit as st

from dashboard import ready, session, times
from dashboard.lake import Snapshot
from dashboard.queries import Filter, Query
from dashboard.state import View
from pipelines import visible

_MARGIN = timedelta(minutes=90)  # around a finding


def menu() -> None:
    """Offer all ready searches, in the time range that is shown."""
    with st.container(key="ready_menu", gap=None):
        for key, search in ready.SEARCHES.items():
            st.button(
                search.title,
                key=f"ready_{key}",
                type="tertiary",
                on_click=_choose,
                args=(key,),
            )


def _choose(key: str) -> None:
    view = session.view()
    session.ask(View(range=view.range, zone=view.zone, text=ready.SEARCHES[key].text, ready=key))


def show(snapshot: Snapshot, query: Query) -> None:
    """Show the chosen ready search; nothing if there is none."""
    search = ready.SEARCHES.get(session.view().ready)
    if search is None:
        return
    with st.container(border=True, key="ready", gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            changed = "" if session.view().text == search.text else " (changed)"
            st.markdown(f"**{search.title}**{changed} · {search.about}", width="stretch")
            st.button(
                "Close",
                icon=":material/close:",
                type="tertiary",
                key="ready_close",
                on_click=session.change,
                kwargs={"ready": ""},
            )
        if search.find:
            _findings(snapshot.ask(search.find, query))
        with st.expander("Not found by this search", key="ready_unseen"):
            st.markdown("\n".join(f"- {limit}" for limit in search.unseen()))


def _findings(found: pl.DataFrame) -> None:
    if found.is_empty():
        st.caption("No findings in this time; the events that were compared are below.")
        return
    rows = list(found.iter_rows(named=True))
    key = f"ready-{hashlib.sha256(repr(rows).encode()).hexdigest()[:16]}"
    zone, column = session.zone().key, st.column_config
    st.dataframe(
        visible.frame(found),
        key=key,
        on_select=lambda: _open(key, rows),
        selection_mode="single-cell",
        hide_index=True,
        placeholder="",
        height=min(240, 38 + 28 * found.height),
        row_height=28,
        column_order=("actor", "detail", "first", "last", "n"),
        column_config={
            "actor": column.TextColumn("Account", width=240),
            "detail": column.TextColumn("Finding"),
            "first": column.DatetimeColumn("First", format="DD MMM HH:mm:ss", timezone=zone),
            "last": column.DatetimeColumn("Last", format="DD MMM HH:mm:ss", timezone=zone),
            "n": column.NumberColumn("Events", format="localized", width=80),
        },
        alt="Findings, most serious first; select one to see its events",
    )
    st.caption(f"{found.height:,} found, most serious first. Click a row to see its events.")


def _open(key: str, rows: list[dict[str, Any]]) -> None:
    cells = st.session_state[key]["selection"]["cells"]
    if cells:
        session.ask(opened(session.view(), rows[cells[0][0]]))


def opened(view: View, row: dict[str, Any]) -> View:
    """Return the view of a finding's events: its account, and the time around it."""
    span = times.between(row["first"] - _MARGIN, row["last"] + _MARGIN)
    found = view.adding(Filter(field="actor", value=row["actor"])).changing(range=span)
    if row["field"]:
        found = found.adding(Filter(field=row["field"], value=row["value"]))
    return found
