"""The top bar: freshness, live mode, time range, saved views and export."""

from __future__ import annotations

from datetime import UTC, timedelta
from urllib.parse import parse_qs, urlencode

import streamlit as st

from dashboard import access_log, escaping, open_lake, session, state, times
from dashboard.lake import Snapshot
from dashboard.panels import export, ready
from dashboard.queries import Query
from pipelines.clock import utc_now

_MOST_VIEWS = 10_000  # rows read; each save or removal adds one
_PRESETS = {times.show(preset): preset for preset in times.PRESETS}


def show(snapshot: Snapshot, query: Query, total: int | None) -> None:
    """Show the bar; without Export if there is no result, not even an empty one."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="header"):
        st.markdown("## Audit log", width="stretch")
        with st.container(width="content"):
            _watch(snapshot)
        st.toggle("Live", key="live", help="Show new events as they are collected")
        st.button("Refresh", icon=":material/refresh:", key="refresh")
        _span_of_time(query)
        _views()
        if total is not None:
            export.show(snapshot, query, total)


def _watch(snapshot: Snapshot) -> None:
    """Check for a newer version every 30 s, in live mode every 3 s."""
    # A fragment of its own: checking for a version does not rerun the page.
    every = timedelta(seconds=3 if st.session_state.get("live") else 30)
    st.fragment(_freshness, run_every=every)(snapshot)


def _freshness(snapshot: Snapshot) -> None:
    """Show or offer a newer version; the rows around an open event are never replaced unasked."""
    session.rerun_if_stale()
    newest = open_lake.configured().look()
    if newest is None or newest.version == snapshot.version:
        _up_to_date(snapshot)
    elif st.session_state.get("live") and not session.view().opened:
        session.rerun()
    else:
        # Compaction and renormalising make a new version without new rows.
        new = newest.rows - snapshot.rows
        label = f"{new:,} new event{'s' * (new != 1)}" if new > 0 else "Newer version"
        st.button(
            label,
            icon=":material/arrow_upward:",
            type="primary",
            key="show_new",
            on_click=_show_newest,
        )


def _show_newest() -> None:
    session.ask(session.view())


def _up_to_date(snapshot: Snapshot) -> None:
    dot = '<span class="live-dot"></span> ' if st.session_state.get("live") else ""
    age = times.ago(utc_now() - snapshot.committed_at)
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
        _held()


def _presets() -> None:
    """Show the relative ranges, with a key per range: a closed menu would replay its old choice."""
    shown = times.show(session.view().range)
    key = f"preset-{shown}"
    st.pills(
        "Relative",
        list(_PRESETS),
        default=shown if shown in _PRESETS else None,
        format_func=lambda key: times.label(_PRESETS[key], session.zone()),
        key=key,
        on_change=_take_preset,
        args=(key,),
    )


def _take_preset(key: str) -> None:
    if chosen := st.session_state[key]:
        session.change(range=_PRESETS[chosen])


def _absolute(query: Query) -> None:
    zone = session.zone()
    since, until = (end.astimezone(zone).replace(tzinfo=None) for end in (query.since, query.until))
    # Keys depend on the range, or the inputs would keep their old values.
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
    zones, zone = times.zones(), session.zone().key
    key = f"zone-{zone}"
    st.selectbox(
        "Time zone", zones, index=zones.index(zone), key=key, on_change=_take_zone, args=(key,)
    )


def _take_zone(key: str) -> None:
    session.change(zone=st.session_state[key])


def _held() -> None:
    """Let the user search the lake as it was at another time, without later arrivals."""
    zone, held = session.zone(), session.view().held
    shown = held.astimezone(zone).replace(tzinfo=None) if held else None
    key = f"held-{times.instant(held) if held else ''}"
    st.datetime_input(
        "As of (without later arrivals)",
        shown,
        step=60,
        key=key,
        on_change=_take_held,
        args=(key,),
    )


def _take_held(key: str) -> None:
    chosen = st.session_state[key]
    session.change(held=chosen.replace(tzinfo=session.zone()).astimezone(UTC) if chosen else None)


def _views() -> None:
    with st.popover("Views", icon=":material/bookmark:", key="views", on_change="rerun") as views:
        if views.open:
            st.caption("Ready searches")
            ready.menu()
            st.caption("Saved views")
            _saved()
            with st.form("save_view", border=False, clear_on_submit=True):
                st.text_input("Name this view", key="view_name", max_chars=60)
                st.form_submit_button("Save", icon=":material/bookmark_add:", on_click=_save)


def _saved() -> None:
    known = access_log.saved(open_lake.configured().views.newest(_MOST_VIEWS))
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
    open_lake.configured().views.add(utc_now(), who=open_lake.visitor(), name=name, address=address)
