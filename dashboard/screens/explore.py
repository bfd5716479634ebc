"""Explore: search, filter, group and chart all events, and open one."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from dashboard import completion, links, open_lake, queries, session, state
from dashboard.lake import Snapshot
from dashboard.panels import (
    activity,
    columns,
    events,
    facets,
    filters,
    header,
    notices,
    ready,
    significant,
    waiting,
)
from dashboard.panels.activity import Coverage
from dashboard.patience import TooLong
from dashboard.queries import Query
from dashboard.state import View
from pipelines import visible
from pipelines.clock import utc_now

# "/" focuses the search box, unless the user is typing elsewhere.
_SLASH = """<script>
if (!window.auditlakeSlash) {
  window.auditlakeSlash = true;
  document.addEventListener("keydown", (event) => {
    const box = document.querySelector(".st-key-search input");
    const writing = event.target.closest("input, textarea, [contenteditable]");
    if (event.key === "/" && box && !writing) { event.preventDefault(); box.focus(); }
  });
}
</script>"""

# One element for all: each costs the browser some milliseconds after every click.
_SCRIPTS = "\n".join((_SLASH, completion.SCRIPT, activity.HATCHING, events.SCRIPT))


def show() -> None:
    session.follow_address()
    activity.open_sources()
    st.set_page_config(page_title=_name(session.view()))
    snapshot = open_lake.configured().look()
    if snapshot is None or not snapshot.rows:
        notices.no_lake()
        return
    query = session.view().query(utc_now())
    if faults := links.faults(session.view()):
        header.show(snapshot, query, None)
        filters.not_understood(faults)
        session.no_grid()
    elif waiting.was_cancelled():
        _ended(snapshot, query, notices.cancelled)
    else:
        try:
            _found(snapshot, query)
        except TooLong:
            _ended(snapshot, query, notices.too_long)
    session.write_address()
    st.html(_SCRIPTS, unsafe_allow_javascript=True)


def _ended(snapshot: Snapshot, query: Query, notice: Callable[[], None]) -> None:
    """Show the search with a notice in place of its result."""
    header.show(snapshot, query, None)
    filters.unanswered()
    notice()
    session.no_grid()


def _found(snapshot: Snapshot, query: Query) -> None:
    """Show the result of a search, or that it is empty."""
    # The long scans of a search: the panels below use their answers.
    with waiting.cancellable(lambda: events.preview(snapshot, query)):
        total = sum(n for _, n in snapshot.ask(queries.days, query))
        facets.prepare(snapshot, query)
        if total and session.view().tab == "events":
            events.prepare(snapshot, query, total)
    # Before anything is shown: if access cannot be recorded, the page fails.
    session.record("searched", state.search(session.view()), total, snapshot.version)
    header.show(snapshot, query, total)
    filters.show(snapshot, query)
    ready.show(snapshot, query)
    covered = activity.coverage_of(query)
    _activity(snapshot, query, covered)
    if total:
        with st.container(horizontal=True, vertical_alignment="center"):
            _tabs()
            if session.view().tab == "events":
                columns.show()
        if session.view().tab == "out":
            session.no_grid()
            significant.show(snapshot, query, total)
        else:
            events.show(snapshot, query, total)
    else:
        session.no_grid()
        notices.no_match(query, snapshot, covered)
        events.show_opened(snapshot)


# A fragment: grouping by another column reruns the graph alone.
@st.fragment
def _activity(snapshot: Snapshot, query: Query, covered: Coverage) -> None:
    with notices.in_fragment():
        activity.show(snapshot, query, covered)


def _name(view: View) -> str:
    """Return the title of the browser tab, which is shown as plain text."""
    parts = [*(wanted.value for wanted in view.filters), view.text]
    return visible.text(" · ".join([*filter(None, parts), "auditlake"]))[:120]


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
