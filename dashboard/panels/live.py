"""How fresh the page is, and live mode, which adds new events at the top.

Only the browser knows where its user is in the table. In live mode it is the browser that presses
the button for new events, and it waits while they read further down or have a menu open.
"""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from dashboard import lake, links, open_lake, queries, session, times
from dashboard.lake import Snapshot
from dashboard.listing import NEWEST
from dashboard.state import View
from dashboard.times import Last
from pipelines.clock import utc_now

_FOLLOW = """<script>
if (!window.auditlakeFollow) {
  let last = 0;
  window.auditlakeFollow = () => {
    const newer = document.querySelector(".st-key-follow button");
    const table = document.querySelector('[class*="st-key-events-"] .dvn-scroller');
    const reading = table && (table.scrollTop > 0 || table.scrollLeft > 0);
    const choosing = document.querySelector('[data-testid="stPopoverBody"]');
    // Not again while the page reruns.
    if (newer && !reading && !choosing && Date.now() - last > 2000) {
      last = Date.now();
      newer.click();
    }
  };
  setInterval(window.auditlakeFollow, 300);
}
</script>"""


def show(snapshot: Snapshot) -> None:
    """Check for a newer version every 30 s, in live mode every 3 s."""
    # A fragment of its own: checking for a version does not rerun the page.
    every = timedelta(seconds=3 if st.session_state.get("live") else 30)
    with st.container(width="content"):
        st.fragment(_freshness, run_every=every)(snapshot)
    st.toggle("Live", key="live", help="Show new events as they are collected")
    if st.session_state.get("live"):
        st.html(_FOLLOW, unsafe_allow_javascript=True)


def _freshness(snapshot: Snapshot) -> None:
    session.rerun_if_stale()
    try:
        newest = open_lake.configured().look()
    except lake.UNREADABLE:
        _lost("The lake cannot be read")
        return
    if newest is None:
        _lost("The lake has vanished")
    elif newest is snapshot:
        _up_to_date(snapshot)
    else:
        _outdated(snapshot, newest)


def _outdated(snapshot: Snapshot, newest: Snapshot) -> None:
    """Offer a newer version, if it has another result."""
    new = _new(newest, snapshot)
    following = bool(st.session_state.get("live")) and _at_the_top(session.view())
    if new == 0 and not following:
        # The newer version has the same result.
        _up_to_date(newest)
        return
    with st.container(key="follow" if following else "newer"):
        st.button(
            f"{new:,} new event{'s' * (new != 1)}" if new else "Newer version",
            icon=":material/arrow_upward:",
            type="primary",
            key="show_new",
            on_click=_show_newest,
        )


def _new(newest: Snapshot, shown: Snapshot) -> int | None:
    """Return how many new events match the search; None if events were replaced too."""
    view = session.view()
    if links.faults(view):
        return None
    return newest.ask(queries.added, view.query(utc_now()), shown.counts)


def _at_the_top(view: View) -> bool:
    """Return whether new events appear at the top of the page, next to no open event."""
    newest_first = view.sort == NEWEST and view.page == 1 and isinstance(view.range, Last)
    return newest_first and not view.opened


def _lost(title: str) -> None:
    """Say so without replacing the page: its user may still be reading it."""
    st.badge(f"{title}: Refresh shows more", icon=":material/error:", color="red")


def _show_newest() -> None:
    session.ask(session.view())


def _up_to_date(snapshot: Snapshot) -> None:
    dot = '<span class="live-dot"></span> ' if st.session_state.get("live") else ""
    age = times.ago(utc_now() - snapshot.committed_at)
    st.html(
        f'<span class="quiet">{dot}lake v{snapshot.version} · {age} ago</span>', width="content"
    )
