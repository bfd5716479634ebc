"""Messages for when there is nothing to show, each with a next step."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from dashboard import absence, coverage, open_lake, patience, session, times
from dashboard.absence import Absence
from dashboard.coverage import Known
from dashboard.lake import UNREADABLE, Snapshot
from dashboard.panels import elsewhere, waiting
from dashboard.panels.activity import Coverage
from dashboard.queries import Query
from dashboard.times import Last
from pipelines import visible
from pipelines.clock import utc_now

_log = logging.getLogger(__name__)


def no_lake() -> None:
    """Say that there are no events, and whether any stream was polled."""
    if missing := absence.explained(open_lake.configured().seen, open_lake.raw_records()):
        _missing(missing)
        return
    with notice(":material/inbox:", "No events yet"):
        for line in _why_empty(
            coverage.of(open_lake.configured(), utc_now(), open_lake.intended())
        ):
            st.caption(line, width="content")
        session.link("sources", "Sources", ":material/monitor_heart:", {})
        st.button("Refresh", key="look_again")


def _why_empty(known: Known) -> list[str]:
    states = Counter(known.summary(log).state.name for log in known.streams)
    if not states.keys() - {"never polled"}:
        return [
            "Nothing was polled yet.",
            "Events appear here once `auditlake poll` or `auditlake up` has collected some.",
        ]
    counts = ", ".join(f"{count:,} {name}" for name, count in states.most_common())
    return [
        "The streams were polled, and none has returned an event. Sources lists them.",
        f"Their states: {counts}.",
    ]


def _missing(events: Absence) -> None:
    with notice(":material/error:", events.title):
        for line in events.lines:
            st.caption(line, width="content")
        st.button("Refresh", key="look_again")


def unreadable(error: BaseException) -> None:
    """Show only the class of the error: its text may contain addresses and credentials."""
    _log.warning("the lake cannot be read: %s", type(error).__name__)
    open_lake.configured().forget()
    with notice(":material/error:", "The lake cannot be read"):
        st.caption(
            "The object store returned an error, or a file is damaged. Check `[lake]` in "
            f"auditlake.toml and run `auditlake doctor`. ({type(error).__name__})",
            width="content",
        )
        st.button("Try again", key="try_again")


@contextmanager
def in_fragment() -> Iterator[None]:
    """Do for a fragment of Explore what the page does, which the rerun of a fragment bypasses.

    If the lake cannot be read, what follows the fragment is not shown, as on any page.
    """
    session.rerun_if_stale()
    try:
        yield
    except UNREADABLE as error:
        session.no_grid()
        unreadable(error)
        session.write_address()
        st.stop()
    session.write_address()


def misconfigured(error: Exception) -> None:
    """Show the error, whose text names settings and integrations but never their values."""
    _log.warning("%s", visible.text(str(error), keep="\n"))
    with notice(":material/settings_alert:", "Invalid configuration"):
        if open_lake.sees_everything():
            st.text(visible.text(str(error), keep="\n"))
        else:
            st.caption("The log of the dashboard has the reason.", width="content")
        st.button("Try again", key="try_again")


def no_match(query: Query, snapshot: Snapshot, covered: Coverage) -> None:
    """Show that a result is empty, and whether that means that nothing happened."""
    zone = session.zone()
    since, until = (times.stamp(end, zone) for end in (query.since, query.until))
    blind = covered.streams and not covered.covering
    icon, title = (
        (":material/visibility_off:", "This time is not covered")
        if blind
        else (":material/search_off:", "No events match")
    )
    with notice(icon, title):
        st.caption(f"No events from {since} to {until} match this search.", width="content")
        for line in _what_it_means(covered):
            st.caption(line, width="content")
        newest = f"{snapshot.days[-1]:%d %b %Y}"
        st.caption(f"The most recent event is from {newest} (UTC).", width="content")
        elsewhere.show(snapshot, query)
        with st.container(horizontal=True, horizontal_alignment="center"):
            if query.text or query.filters or query.held:
                st.button("Clear filters", on_click=clear, key="empty_clear")
            st.button("Search last 90 days", on_click=_widen, key="empty_widen")


def _what_it_means(covered: Coverage) -> Iterator[str]:
    """Yield how far the coverage allows to conclude that nothing happened, and what to do."""
    if not covered.streams:
        return
    yield f"{covered.sentence}."
    if covered.covering < covered.streams:
        yield (
            "Where a stream does not cover it, events may be missing: *Sources* has the reasons, "
            "and `auditlake backfill` fetches a range again."
        )


def cancelled() -> None:
    with notice(":material/cancel:", "Search cancelled"):
        st.caption("Change the search or its time range, or start it again.", width="content")
        waiting.start_again()


def too_long() -> None:
    with notice(":material/timer_off:", "This search takes too long"):
        st.caption(
            f"It was ended after {patience.LIMIT:.0f} seconds, so that it does not slow down the "
            "searches of others.",
            width="content",
        )
        st.caption(
            "Choose a shorter time range, add a filter, or name the field of a word: "
            "`actor:ada` is faster than `ada`.",
            width="content",
        )
        waiting.start_again()


def clear() -> None:
    session.change(text="", filters=(), off=(), off_filters=(), unread=(), ready="", held=None)


def _widen() -> None:
    session.change(range=Last(count=90, unit="d"))


def notice(icon: str, title: str) -> st.delta_generator.DeltaGenerator:
    box = st.container(border=True, horizontal_alignment="center", key="notice")
    box.markdown(f"### {icon} {title}", width="content")
    return box
