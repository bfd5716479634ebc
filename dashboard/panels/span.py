"""The time range: its menu, the steps to the previous and next one, and links with and without it.

The menu's key contains the range, so that it closes once another is chosen. Its form is always
part of the page: a text that was typed but not applied is still there when the menu reopens.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from urllib.parse import urlencode

import streamlit as st

from dashboard import session, state, times
from dashboard.panels import time_choice
from dashboard.queries import Query
from dashboard.state import View
from dashboard.times import Range
from pipelines.clock import utc_now

_PRESETS = {times.show(preset): preset for preset in times.PRESETS}
_RECENT, _MOST_RECENT = "recent ranges", 6


def show(query: Query) -> None:
    _remember(session.view().range)
    zone, span = session.zone(), session.view().range
    _step("Previous time range", "left", times.neighbour(query.since, query.until, zone, -1))
    label = f"{times.label(span, zone)} · {zone.key}"
    with st.popover(label, icon=":material/schedule:", key=f"range-{times.show(span)}"):
        time_choice.typed("typed_time", _take)
        _presets()
        _recent()
        time_choice.days(f"days-{times.show(span)}", query.since, query.until, _take)
        _zone()
        _held()
    following = times.neighbour(query.since, query.until, zone, 1)
    _step("Next time range", "right", following, disabled=query.until >= utc_now())


def links(query: Query) -> None:
    """Show the address of this page, and the one in which a relative range is fixed."""
    with st.popover("Link", icon=":material/link:", key="link", on_change="rerun") as menu:
        if menu.open:
            view = session.view()
            fixed = replace(view, range=times.between(query.since, query.until))
            if view.range != fixed.range:
                st.caption(f"Relative: {times.label(view.range, session.zone())} when it is opened")
                st.code(_address(view), language=None)
            st.caption(f"Fixed time: {times.label(fixed.range, session.zone())}")
            st.code(_address(fixed), language=None)


def _address(view: View) -> str:
    base = (st.context.url or "").partition("?")[0]
    query = urlencode(state.params(view), doseq=True)
    return f"{base}?{query}" if query else base


def _step(label: str, side: str, to: Range, *, disabled: bool = False) -> None:
    st.button(
        label,
        icon=f":material/chevron_{side}:",
        key=f"span_{side}",
        disabled=disabled,
        on_click=session.change,
        kwargs={"range": to},
    )


def _take(chosen: Range) -> None:
    session.change(range=chosen)


def _presets() -> None:
    """Show the relative ranges, with a key per range: a closed menu would replay its old choice."""
    shown = times.show(session.view().range)
    _choice("Relative", "preset", list(_PRESETS), shown if shown in _PRESETS else None)


def _recent() -> None:
    """Show the ranges that were chosen before in this session."""
    shown = times.show(session.view().range)
    others = [text for text in st.session_state[_RECENT] if text not in (shown, *_PRESETS)]
    if others:
        _choice("Recent", "recent", others, None)


def _choice(label: str, name: str, options: list[str], chosen: str | None) -> None:
    key = f"{name}-{times.show(session.view().range)}"
    st.pills(
        label,
        options,
        default=chosen,
        format_func=lambda text: times.label(times.parse(text) or state.USUAL, session.zone()),
        key=key,
        on_change=_take_choice,
        args=(key,),
    )


def _take_choice(key: str) -> None:
    if chosen := st.session_state[key]:
        session.change(range=times.parse(chosen))


def _remember(span: Range) -> None:
    shown = times.show(span)
    others = [text for text in st.session_state.get(_RECENT, []) if text != shown]
    st.session_state[_RECENT] = [shown, *others][: _MOST_RECENT + 1]


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
