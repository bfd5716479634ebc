"""A choice of time for pages other than Explore, in the parameter `range` of their address."""

from __future__ import annotations

import streamlit as st

from dashboard import session, times
from dashboard.times import Range
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
        with st.popover("Dates", icon=":material/calendar_month:", key="time_dates"):
            _dates(span)


def _dates(span: Range | None) -> None:
    zone = session.zone()
    since, until = times.bounds(span or _PRESETS[-1], utc_now())
    with st.form("time_absolute", border=False):
        inputs = {"From": since, "To": until}
        keys = [f"time-{label}-{times.show(span) if span else ''}" for label in inputs]
        for key, (label, moment) in zip(keys, inputs.items(), strict=True):
            st.datetime_input(label, moment.astimezone(zone).replace(tzinfo=None), step=60, key=key)
        st.form_submit_button("Apply", on_click=_take_dates, args=keys)


def _take_dates(*keys: str) -> None:
    zone = session.zone()
    since, until = (st.session_state[key] for key in keys)
    if since and until:
        narrow(times.between(since.replace(tzinfo=zone), until.replace(tzinfo=zone)))
