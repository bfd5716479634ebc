"""The list in a menu of filters: a tick, a value and its number of events in every row.

An HTML list, since the grid of `st.dataframe` takes 400 ms more until screen readers have its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import streamlit as st

from dashboard import fields

_STATIC = Path(__file__).parents[1] / "static"
_HTML = """<div class="value-list">
<div class="heads"><button type="button"></button><button type="button"></button></div>
<div class="values" role="group"></div>
</div>"""
_list = st.components.v2.component(
    "auditlake.value_list",
    html=_HTML,
    css=(_STATIC / "value_list.css").read_text(encoding="utf-8"),
    js=(_STATIC / "value_list.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


def show(
    name: str,
    counts: Mapping[str, int],
    ticked: Sequence[str],
    *,
    key: str,
    on_pick: Callable[[list[str]], None],
) -> None:
    """Show the values of `counts`; `on_pick` is called with those that are ticked after a click."""
    answered = f"{key}-answered"

    def pick() -> None:
        picked = st.session_state[key]["picked"]
        st.session_state[answered] = picked["number"]
        on_pick(picked["values"])

    _list(
        key=key,
        data={
            "heads": [name, "Events"],
            "rows": [_row(value, events) for value, events in counts.items()],
            "ticked": [*ticked],
            "answered": st.session_state.get(answered, 0),
        },
        on_picked_change=pick,
    )


def _row(value: str, events: int) -> list[int | str]:
    shown = fields.shown(value)
    return [events, shown] if shown == value else [events, shown, value]
