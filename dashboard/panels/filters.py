"""The search box, the menus of filters, and one chip per active filter."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard import links, session
from dashboard.lake import Snapshot
from dashboard.links import Fault
from dashboard.panels import chips, facets
from dashboard.queries import Query
from pipelines import visible


def show(snapshot: Snapshot, query: Query) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="search_bar"):
        _search_box()
        facets.show(snapshot, query)
    if (shown := visible.text(query.text)) != query.text:
        # The box has the text itself, which may hide characters from its reader.
        st.text(f"Searched for: {shown}")
    if remarks := links.remarks(session.view()):
        st.warning("A part of this link is not understood.", icon=":material/link_off:")
        for remark in remarks:
            # As text: even an escaped URL becomes a link in Markdown.
            st.text(remark)
    view = session.view()
    if query.filters or query.text or query.held or view.off or view.off_filters or view.unread:
        chips.show()


def unanswered() -> None:
    """Show the search box and the chips of a search that has no result, so that it is changed."""
    with st.container(key="search_bar"):
        _search_box()
    chips.show()


def not_understood(faults: Sequence[Fault]) -> None:
    """Show the search box and the faults of the search, instead of a result."""
    with st.container(key="search_bar"):
        _search_box()
    with st.container(border=True, key="faults"):
        st.error("This search is not understood; nothing was searched.", icon=":material/error:")
        for fault in faults:
            st.text(visible.text(fault.reason))
            st.code(fault.pointer, language=None)
    chips.show()


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
