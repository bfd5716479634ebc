"""The line above everything: freshness, live, the span of time, sharing and export."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import available_timezones

import polars as pl
import streamlit as st

from dashboard import exports, opening, queries, session, times
from dashboard.lake import Snapshot
from dashboard.queries import Query

_PRESETS = {times.show(preset): preset for preset in times.PRESETS}


def show(snapshot: Snapshot, query: Query, total: int) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="header"):
        st.markdown("## Audit log", width="stretch")
        with st.container(width="content"):
            _watch(snapshot)
        st.toggle("Live", key="live", help="Show new events as they are collected")
        st.button("Refresh", icon=":material/refresh:", key="refresh")
        _span_of_time(query)
        _menu(snapshot, query, total)


def _watch(snapshot: Snapshot) -> None:
    every = timedelta(seconds=3 if st.session_state.get("live") else 30)
    st.fragment(_freshness, run_every=every)(snapshot)


def _freshness(snapshot: Snapshot) -> None:
    """The newest version against the one shown; rows under an open event are never moved."""
    session.rerun_if_stale()
    newest = opening.configured().look()
    if newest is None or newest.version == snapshot.version:
        _calm(snapshot)
    elif st.session_state.get("live") and not session.view().opened:
        st.rerun()
    else:
        new = newest.rows - snapshot.rows
        label = f"{new:,} new event{'s' * (new != 1)}" if new > 0 else "Newer version"
        st.button(
            label,
            icon=":material/arrow_upward:",
            type="primary",
            key="show_new",
            on_click=_look_anew,
        )


def _look_anew() -> None:
    session.ask(session.view())


def _calm(snapshot: Snapshot) -> None:
    dot = '<span class="live-dot"></span> ' if st.session_state.get("live") else ""
    age = times.ago(datetime.now(UTC) - snapshot.committed_at)
    st.html(
        f'<span class="quiet">{dot}lake v{snapshot.version} · {age} ago</span>', width="content"
    )


def _span_of_time(query: Query) -> None:
    zone = session.zone()
    label = f"{times.label(session.view().range, zone)} · {zone.key}"
    with st.popover(label, icon=":material/schedule:", key="range"):
        _presets()
        _absolute(query)
        _zone()


def _presets() -> None:
    shown = times.show(session.view().range)
    st.session_state["preset"] = shown if shown in _PRESETS else None
    st.pills(
        "Relative",
        list(_PRESETS),
        format_func=lambda key: times.label(_PRESETS[key], session.zone()),
        key="preset",
        on_change=_take_preset,
    )


def _take_preset() -> None:
    if chosen := st.session_state["preset"]:
        session.change(range=_PRESETS[chosen])


def _absolute(query: Query) -> None:
    zone = session.zone()
    since, until = (end.astimezone(zone).replace(tzinfo=None) for end in (query.since, query.until))
    suffix = times.show(session.view().range)
    keys = f"since-{suffix}", f"until-{suffix}"
    with st.form("absolute", border=False):
        left, right = st.columns(2)
        left.datetime_input("From", since, step=60, key=keys[0])
        right.datetime_input("To", until, step=60, key=keys[1])
        st.form_submit_button("Apply", on_click=_take_absolute, args=keys)


def _take_absolute(*keys: str) -> None:
    zone = session.zone()
    since, until = (st.session_state[key] for key in keys)
    if since and until:
        session.change(range=times.between(since.replace(tzinfo=zone), until.replace(tzinfo=zone)))


def _zone() -> None:
    st.session_state["zone"] = session.zone().key
    st.selectbox("Time zone", sorted(available_timezones()), key="zone", on_change=_take_zone)


def _take_zone() -> None:
    session.change(zone=st.session_state["zone"])


def _menu(snapshot: Snapshot, query: Query, total: int) -> None:
    with st.popover("Export", icon=":material/download:", key="export"):
        if total > exports.MOST:
            st.caption(f"A file holds up to {exports.MOST:,} events: narrow the search.")
            return
        st.caption(
            f"All {total:,} events of this search, in all columns · lake v{snapshot.version}"
        )
        with st.container(horizontal=True):
            _download("CSV", exports.csv, snapshot, query)
            _download("Parquet", exports.parquet, snapshot, query)


def _download(
    label: str, written: Callable[[pl.LazyFrame], bytes], snapshot: Snapshot, query: Query
) -> None:
    st.download_button(
        label,
        lambda: written(queries.export(snapshot.events, query)),
        file_name=f"audit-events-v{snapshot.version}.{label.lower()}",
        on_click="ignore",
        icon=":material/download:",
        key=f"download_{label.lower()}",
    )
