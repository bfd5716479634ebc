"""The top bar: freshness, live mode, time range, saved views and export."""

from __future__ import annotations

import hashlib
from urllib.parse import parse_qs, urlencode

import streamlit as st

from dashboard import access_log, escaping, open_lake, session, state
from dashboard.lake import Snapshot
from dashboard.panels import export, live, ready, span
from dashboard.queries import Query
from pipelines.clock import utc_now

_MOST_VIEWS = 10_000  # rows read; each save or removal adds one


def show(snapshot: Snapshot, query: Query, total: int | None) -> None:
    """Show the bar; without Export if there is no result, not even an empty one."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="header"):
        st.markdown("## Audit log", width="stretch")
        live.show(snapshot)
        st.button("Refresh", icon=":material/refresh:", key="refresh")
        span.show(query)
        _views()
        span.links(query)
        if total is not None:
            export.show(snapshot, query, total)


def _views() -> None:
    # A key per search, so that the menu closes over the result of the chosen one.
    key = f"views-{hashlib.sha256(state.search(session.view()).encode()).hexdigest()[:16]}"
    with st.popover("Views", icon=":material/bookmark:", key=key, on_change="rerun") as views:
        if views.open:
            st.caption("Ready searches")
            ready.menu()
            st.caption("Saved views")
            _saved()
            with st.form("save_view", border=False, clear_on_submit=True):
                st.text_input("Name this view", key="view_name", max_chars=60)
                st.form_submit_button("Save", icon=":material/bookmark_add:", on_click=_save)


def _saved() -> None:
    rows = open_lake.configured().views.newest(_MOST_VIEWS, open_lake.visitor())
    known = access_log.saved(rows)
    if not known:
        st.caption("No saved views yet. Save this one to return to it by name.")
    for place, (name, address) in enumerate(known):
        with st.container(horizontal=True, vertical_alignment="center", key=f"saved_{place}"):
            # Not a link: one to the current page would not change its address.
            st.button(
                escaping.markdown(name),
                key=f"view_{place}",
                type="tertiary",
                on_click=session.ask,
                args=(state.from_params(parse_qs(address)),),
            )
            st.button(
                f"Remove {escaping.markdown(name)}",
                icon=":material/close:",
                key=f"forget_{place}",
                type="tertiary",
                on_click=_save_as,
                args=(name, ""),
            )


def _save() -> None:
    if name := st.session_state["view_name"].strip():
        _save_as(name, urlencode(state.params(session.view()), doseq=True))


def _save_as(name: str, address: str) -> None:
    """Save `address` under `name`; an empty address removes the name."""
    views, who = open_lake.configured().views, open_lake.visitor()
    if views.is_of_another(name, who):
        st.toast("This name is taken: choose another one.", icon=":material/bookmark:")
    else:
        views.add(utc_now(), who=who, name=name, address=address)
