"""The menus of filters: every value with its count and a tick, several to be picked in one go.

A fragment: opening a menu and searching in its list rerun the menus alone, a pick the whole page.
"""

from __future__ import annotations

import polars as pl
import streamlit as st

from dashboard import fields, queries, session
from dashboard.lake import Snapshot
from dashboard.panels import value_list
from dashboard.queries import Query

_MOST = 500
_WIDTH = 350  # pixels
_WANTED = "facet_wanted"  # the field and the part of a value that a menu waits for
_COUNTED = "facet_counted"  # the question that was answered for it
_SENSES = ("is", "is not")
_OTHERS = (*fields.MORE_FILTERS, *(n for n in fields.NAMES if n not in fields.MORE_FILTERS))


@st.fragment
def show(snapshot: Snapshot, query: Query) -> None:
    session.rerun_if_stale()
    with st.container(horizontal=True, gap="xsmall", width="content"):
        for field in fields.FILTERS:
            _menu(fields.label(field), field, (field,), snapshot, query)
        others = tuple(name for name in _OTHERS if name not in fields.FILTERS)
        _menu("More", "more", others, snapshot, query)


def _menu(label: str, key: str, names: tuple[str, ...], snapshot: Snapshot, query: Query) -> None:
    """Show a menu for one of the fields `names`; values are counted only while it is open."""
    # Without the number of its filters: a menu whose label changes is another one, and closed.
    with st.popover(label, key=f"filter_{key}", on_change="rerun") as menu:
        if menu.open:
            # As wide as its list, or the counts would be out of view.
            with st.container(width=_WIDTH):
                _values(names[0] if len(names) == 1 else _chosen_field(names), snapshot, query)


def prepare(snapshot: Snapshot, query: Query) -> None:
    """Count the values that an open menu waits for; once, so that a closed one waits for none."""
    if wanted := st.session_state.pop(_WANTED, None):
        field, part = wanted
        counted = query.without(field), field, _MOST, part
        snapshot.ask(queries.values, *counted)
        st.session_state[_COUNTED] = counted


def _takes_long(snapshot: Snapshot, query: Query, field: str) -> bool:
    """Return whether events have to be read to count the values."""
    limited = snapshot.counts.limited
    return field == fields.TARGET and bool(query.text or query.filters or limited)


def _chosen_field(names: tuple[str, ...]) -> str:
    filtered = [one.field for one in session.view().filters if one.field in names]
    field: str = st.selectbox(
        "Column",
        names,
        index=names.index(filtered[0]) if filtered else 0,
        format_func=fields.label,
        key="more_field",
        filter_mode="contains",
        label_visibility="collapsed",
    )
    return field


def _values(field: str, snapshot: Snapshot, query: Query) -> None:
    negated = _negated(field)
    part = st.text_input(
        f"Find a value of {fields.label(field)}",
        key=f"find_{field}",
        type="search",
        live="300ms",
        placeholder="Find in this list",
        label_visibility="collapsed",
    )
    wanted = query.without(field), field, _MOST, part.strip()
    if _takes_long(snapshot, *wanted[:2]) and st.session_state.get(_COUNTED) != wanted:
        # The page counts them before this fragment, where that can be cancelled.
        st.session_state[_WANTED] = field, part.strip()
        session.rerun()
    found = snapshot.ask(queries.values, *wanted)
    _list(field, found, negated=negated)
    if found.height == _MOST:
        st.caption(f"The {_MOST} most frequent. Type a part of the name to find others.")


def _negated(field: str) -> bool:
    key, view = f"sense_{field}", session.view()
    if key not in st.session_state:
        # The first time, start with "is not" if there are only exclusions.
        only_negated = view.chosen(field, negated=True) and not view.chosen(field, negated=False)
        st.session_state[key] = "is not" if only_negated else "is"
    label = fields.label(field)
    return st.segmented_control(label, _SENSES, key=key, required=True, width="stretch") == "is not"


def _list(field: str, found: pl.DataFrame, *, negated: bool) -> None:
    chosen = session.view().chosen(field, negated=negated)
    counts: dict[str, int] = dict(found.iter_rows())
    # What was picked stays in the list, even if no event has it any more.
    rare = {value: 0 for value in chosen if value not in counts}
    value_list.show(
        fields.label(field),
        counts | rare,
        chosen,
        key=f"facet-{field}",
        on_pick=lambda values: _pick(field, values, negated=negated),
    )


def _pick(field: str, values: list[str], *, negated: bool) -> None:
    session.ask(session.view().choosing(field, values, negated=negated))
