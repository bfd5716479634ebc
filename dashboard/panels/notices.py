"""Messages for when there is nothing to show, each with a next step."""

from __future__ import annotations

import logging

import streamlit as st

from dashboard import open_lake, session, times
from dashboard.lake import Snapshot
from dashboard.queries import Query
from dashboard.times import Last

_log = logging.getLogger(__name__)


def no_lake() -> None:
    with notice(":material/inbox:", "No events yet"):
        st.caption(
            "Events appear here once `auditlake poll` or `auditlake up` has collected some.",
            width="content",
        )
        st.button("Refresh", key="look_again")


def unreadable(error: BaseException) -> None:
    """Show only the class of the error: its text may contain addresses and credentials."""
    _log.warning("the lake cannot be read: %s", type(error).__name__)
    open_lake.unguarded().forget()
    with notice(":material/error:", "The lake cannot be read"):
        st.caption(
            "The object store returned an error, or a file is damaged. Check `[lake]` in "
            f"auditlake.toml and run `auditlake doctor`. ({type(error).__name__})",
            width="content",
        )
        st.button("Try again", key="try_again")


def misconfigured(error: Exception) -> None:
    """Show the error, whose text names settings but never their values."""
    with notice(":material/settings_alert:", "Invalid configuration"):
        st.text(str(error))
        st.button("Try again", key="try_again")


def no_match(query: Query, snapshot: Snapshot) -> None:
    zone = session.zone()
    since, until = (times.stamp(end, zone) for end in (query.since, query.until))
    with notice(":material/search_off:", "No events match"):
        st.caption(f"No events from {since} to {until} match this search.", width="content")
        newest = f"{snapshot.days[-1]:%d %b %Y}"
        st.caption(f"The most recent event is from {newest} (UTC).", width="content")
        with st.container(horizontal=True, horizontal_alignment="center"):
            if query.text or query.filters or query.held:
                st.button("Clear filters", on_click=clear, key="empty_clear")
            st.button("Search last 90 days", on_click=_widen, key="empty_widen")


def clear() -> None:
    session.change(text="", filters=(), off=(), off_filters=(), unread=(), ready="", held=None)


def _widen() -> None:
    session.change(range=Last(count=90, unit="d"))


def notice(icon: str, title: str) -> st.delta_generator.DeltaGenerator:
    box = st.container(border=True, horizontal_alignment="center", key="notice")
    box.markdown(f"### {icon} {title}", width="content")
    return box
