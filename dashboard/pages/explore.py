"""Explore: search, filter, group and chart all events, and open one."""

from __future__ import annotations

from datetime import UTC, datetime

import streamlit as st

from dashboard import opening, queries, session, state
from dashboard.panels import activity, events, filters, header, notices, standing_out


def show() -> None:
    session.follow_address()
    snapshot = opening.configured().look()
    if snapshot is None or not snapshot.rows:
        notices.no_lake()
        return
    query = session.view().query(datetime.now(UTC))
    total = sum(n for _, n in snapshot.ask(queries.days, query))
    session.record("searched", state.search(session.view()), total, snapshot.version)
    header.show(snapshot, query, total)
    filters.show(snapshot, query)
    if total:
        activity.show(snapshot, query)
        _tabs()
        if session.view().tab == "out":
            session.no_grid()
            standing_out.show(snapshot, query, total)
        else:
            events.show(snapshot, query, total)
    else:
        session.no_grid()
        notices.no_match(query, snapshot)
    session.write_address()


def _tabs() -> None:
    st.session_state["view_tab"] = session.view().tab
    st.segmented_control(
        "Show",
        list(state.TABS),
        format_func=state.TABS.__getitem__,
        key="view_tab",
        required=True,
        label_visibility="collapsed",
        on_change=_take_tab,
    )


def _take_tab() -> None:
    session.change(tab=st.session_state["view_tab"])
