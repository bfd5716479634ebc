"""The search box, the filters with their counts, and one chip per active filter."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard import escaping, fields, links, queries, session
from dashboard.lake import Snapshot
from dashboard.links import Fault
from dashboard.panels import chips
from dashboard.queries import Query

_MOST = 500
_SENSES = ("is", "is not")


def show(snapshot: Snapshot, query: Query) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="search_bar"):
        _search_box()
        for field in fields.FILTERS:
            _popover(_with_count(fields.label(field), [field]), field, [field], snapshot, query)
        more = list(fields.MORE_FILTERS)
        _popover(_with_count("More", more), "more", more, snapshot, query)
    for remark in links.remarks(session.view()):
        st.warning(escaping.markdown(remark, 300), icon=":material/link_off:")
    view = session.view()
    if query.filters or query.text or query.held or view.off or view.off_filters or view.unread:
        chips.show()


def not_understood(faults: Sequence[Fault]) -> None:
    """Show the search box and what is wrong with the search, instead of a result."""
    with st.container(key="search_bar"):
        _search_box()
    with st.container(border=True, key="faults"):
        st.error("This search is not understood; nothing was searched.", icon=":material/error:")
        for fault in faults:
            st.text(fault.reason)
            st.code(fault.pointer, language=None)
    chips.show()


def _search_box() -> None:
    st.session_state["search"] = session.view().text
    st.text_input(
        "Search",
        key="search",
        type="search",
        placeholder='Search events   e.g.  actor:ada*  -outcome:success  "access key"',
        label_visibility="collapsed",
        icon=":material/search:",
        on_change=_take_text,
    )


def _take_text() -> None:
    session.change(text=st.session_state["search"].strip())


def _with_count(label: str, names: list[str]) -> str:
    n = sum(wanted.field in names for wanted in session.view().filters)
    return f"{label} · {n}" if n else label


def _popover(label: str, key: str, names: list[str], snapshot: Snapshot, query: Query) -> None:
    """Show a menu of filters; values are counted only while it is open."""
    with st.popover(label, key=f"filter_{key}", on_change="rerun") as popover:
        if popover.open:
            for field in names:
                _values(field, snapshot, query)


def _values(field: str, snapshot: Snapshot, query: Query) -> None:
    sense_key, values_key = f"sense_{field}", f"values_{field}"
    view = session.view()
    if sense_key not in st.session_state:
        # The first time, start with "is not" if there are only exclusions.
        only_negated = view.chosen(field, negated=True) and not view.chosen(field, negated=False)
        st.session_state[sense_key] = "is not" if only_negated else "is"
    negated = st.session_state[sense_key] == "is not"
    chosen = view.chosen(field, negated=negated)
    counts = dict(snapshot.ask(queries.values, query.without(field), field, _MOST).iter_rows())
    st.segmented_control(
        fields.label(field), _SENSES, key=sense_key, required=True, width="stretch"
    )
    st.session_state[values_key] = chosen
    st.multiselect(
        fields.label(field),
        # Chosen values stay options even if no event has them: Streamlit rejects unknown ones.
        [*counts, *(value for value in chosen if value not in counts)],
        key=values_key,
        format_func=lambda value: f"{fields.shown(value)}  ·  {counts.get(value, 0):,}",
        filter_mode="contains",
        label_visibility="collapsed",
        placeholder=f"{len(counts):,}{'+' * (len(counts) == _MOST)} values",
        on_change=_take_values,
        args=(field, negated),
    )


def _take_values(field: str, negated: bool) -> None:
    chosen = st.session_state[f"values_{field}"]
    session.ask(session.view().choosing(field, chosen, negated=negated))
