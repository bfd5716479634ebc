"""The search box, the menus of filters, and one chip per active filter."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard import escaping, fields, session, times
from dashboard.lake import Snapshot
from dashboard.panels import facets, notices
from dashboard.queries import Filter, Query
from dashboard.state import Fault
from pipelines import visible


def show(snapshot: Snapshot, query: Query) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="search_bar"):
        _search_box()
        facets.show(snapshot, query)
    if (shown := visible.text(query.text)) != query.text:
        # The box has the text itself, which may hide characters from its reader.
        st.text(f"Searched for: {shown}")
    if query.filters or query.text or query.held:
        _chips(query)


def not_understood(query: Query, faults: Sequence[Fault]) -> None:
    """Show the search box and what is wrong with the search, instead of a result."""
    with st.container(key="search_bar"):
        _search_box()
    with st.container(border=True, key="faults"):
        st.error("This search is not understood; nothing was searched.", icon=":material/error:")
        for fault in faults:
            st.text(visible.text(fault.reason))
            st.code(fault.pointer, language=None)
    _chips(query)


def _search_box() -> None:
    st.session_state["search"] = session.view().text
    st.text_input(
        "Search",
        key="search",
        type="search",
        placeholder='Search events   e.g.  actor:ada*  -outcome:success  "access key"',
        label_visibility="collapsed",
        icon=":material/search:",
        on_change=_take_text,
    )


def _take_text() -> None:
    session.change(text=st.session_state["search"].strip())


def _chips(query: Query) -> None:
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center", key="chips"):
        for place, wanted in enumerate(query.filters):
            st.button(
                _chip(wanted),
                icon=":material/close:",
                icon_position="right",
                key=f"chip_{place}",
                on_click=_remove,
                args=(wanted,),
            )
        if query.held:
            st.button(
                f"As of {escaping.markdown(times.stamp(query.held, session.zone()))}",
                icon=":material/close:",
                icon_position="right",
                key="chip_held",
                on_click=session.change,
                kwargs={"held": None},
            )
        st.button("Clear all", type="tertiary", key="clear", on_click=notices.clear)


def _chip(wanted: Filter) -> str:
    sense = "is not" if wanted.negated else "is"
    value = escaping.markdown(fields.shown(wanted.value))
    return f"{fields.label(wanted.field)} {sense} {value}"


def _remove(wanted: Filter) -> None:
    session.ask(session.view().removing(wanted))
