"""The timeline of an entity, whose cells are clicked."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import streamlit as st

from dashboard import session, state, timeline, times
from dashboard.entities import Entity, Profile
from dashboard.lake import Snapshot
from dashboard.panels import time_choice
from dashboard.queries import Filter
from dashboard.state import View

_LEAVE = "entities_leave"  # the parameters of the page to open next


def show(snapshot: Snapshot, entity: Entity, profile: Profile) -> None:
    """Show the timeline; a click divides a day into hours, or opens an hour in Explore."""
    zone = session.zone()
    if not (profile.first and profile.last):
        return
    since = entity.since or profile.first
    until = entity.until or profile.last + timedelta(seconds=1)
    edges = timeline.edges(since, until, zone)
    counts = snapshot.ask(timeline.counted, entity, edges)
    with st.container(border=True, key="timeline"):
        st.caption(
            f"Timeline by integration · {zone.key} · red outline: failures. Click a cell to see "
            "its hours, then its events."
        )
        # A new key per range and entity: a selection must not outlive its cells.
        key = f"timeline-{hash((entity, edges))}"
        st.altair_chart(
            timeline.chart(counts, edges, zone),
            key=key,
            on_select=lambda: _take_cell(key, entity, counts, edges),
            selection_mode=timeline.CELL,
            alt="Events by integration and time; select a cell to see its events",
        )


def _take_cell(key: str, entity: Entity, counts: pl.DataFrame, edges: tuple[datetime, ...]) -> None:
    found = timeline.clicked(st.session_state[key]["selection"], counts, edges)
    if found is None:
        return
    integration, since, until = found
    if timeline.is_long(since, until):
        time_choice.narrow(times.between(since, until))
        return
    wanted = (
        Filter(field=entity.kind, value=entity.value),
        Filter(field="integration", value=integration),
    )
    # Pages are not left from a callback: the script does it when it runs.
    st.session_state[_LEAVE] = state.params(View(range=times.between(since, until), filters=wanted))


def open_cell() -> None:
    """Leave for Explore if an hour was clicked."""
    if address := st.session_state.pop(_LEAVE, None):
        session.go("explore", address)
