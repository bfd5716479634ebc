"""A choice of time: the fields for it, and the whole choice on pages other than Explore.

Those have it in the parameter `range` of their address.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta

import streamlit as st

from dashboard import session, time_entry, times
from dashboard.time_entry import TimeRefused
from dashboard.times import Range
from pipelines import visible
from pipelines.clock import utc_now

_PRESETS = tuple(
    times.Last(count=count, unit=unit) for count, unit in [(24, "h"), (7, "d"), (30, "d")]
)


def chosen() -> Range | None:
    """Return the time range of the link; None if it has none, or none that is understood."""
    return times.parse(st.query_params.get("range", ""))


def narrow(span: Range | None) -> None:
    """Show another time range; None for the page's usual one."""
    if span:
        st.query_params["range"] = times.show(span)
    else:
        st.query_params.pop("range", None)


def offer(usual: str) -> None:
    """Offer time ranges and, as the first, the page's `usual` one; name one that means nothing."""
    span, zone = chosen(), session.zone()
    given = st.query_params.get("range", "")
    if given and span is None:
        st.warning("A part of this link is not understood.", icon=":material/link_off:")
        # As text: even an escaped URL becomes a link in Markdown.
        st.text(
            f"range={given[:60]} is no time; {usual[0].lower()}{usual[1:]} is shown. Use 7d or "
            "2026-11-01T00:00:00Z..2026-11-02T00:00:00Z."
        )
    presets = {times.show(one): one for one in _PRESETS}
    shown = times.show(span) if span else usual
    # A new key per range: otherwise the control would keep its old choice after Back.
    key = f"time-{shown}"
    with st.container(horizontal=True, vertical_alignment="center", key="time_choice"):
        st.segmented_control(
            "Time",
            [usual, *presets],
            default=shown if shown in (usual, *presets) else None,
            format_func=lambda one: times.label(presets[one], zone) if one in presets else one,
            key=key,
            label_visibility="collapsed",
            on_change=lambda: narrow(presets.get(st.session_state[key] or usual)),
        )
        if span and shown not in presets:
            st.button(
                f"{times.label(span, zone)} · {zone.key}",
                icon=":material/close:",
                icon_position="right",
                key="time_own",
                on_click=narrow,
                args=(None,),
            )
        with st.popover("Dates", icon=":material/calendar_month:", key=f"time_dates-{shown}"):
            typed("time_typed", narrow)
            since, until = times.bounds(span or _PRESETS[-1], utc_now())
            days(f"time_days-{shown}", since, until, narrow)


Take = Callable[[Range], None]


def typed(name: str, take: Take) -> None:
    """Show a field for a time as people type it, and why a text is no time."""
    with st.form(name, border=False):
        st.text_input("Time", key=f"{name}_text", placeholder=time_entry.FORMS[1])
        st.form_submit_button("Apply", on_click=_take_typed, args=(name, take))
    if fault := st.session_state.get(f"{name}_fault"):
        st.error("This time is not understood.", icon=":material/error:")
        st.text(visible.text(fault))
    st.caption(f"For example: {' · '.join(time_entry.FORMS)}")


def _take_typed(name: str, take: Take) -> None:
    st.session_state.pop(f"{name}_fault", None)
    try:
        chosen = time_entry.parse(st.session_state[f"{name}_text"], utc_now(), session.zone())
    except TimeRefused as refused:
        st.session_state[f"{name}_fault"] = str(refused)
        return
    st.session_state[f"{name}_text"] = ""
    take(chosen)


def days(key: str, since: datetime, until: datetime, take: Take) -> None:
    """Let the user choose whole days; a choice needs no Apply, which a calendar could cover."""
    ends = since, until - timedelta(microseconds=1)
    st.date_input(
        "Days",
        [end.astimezone(session.zone()).date() for end in ends],
        key=key,
        format="YYYY-MM-DD",
        on_change=_take_days,
        args=(key, take),
    )


def _take_days(key: str, take: Take) -> None:
    chosen: tuple[date, ...] = st.session_state[key]
    # After the first of two clicks there is one day.
    if len(chosen) == 2:
        since, after = chosen[0], chosen[1] + timedelta(days=1)
        take(times.between(*map(_midnight, (since, after))))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), session.zone())
