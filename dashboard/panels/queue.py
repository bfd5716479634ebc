"""The list of findings: its filters, its rows, and decisions about the ticked ones.

All of it is in the page's address, which the widgets write and are set from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import polars as pl
import streamlit as st

from dashboard import findings, session, times
from dashboard.findings import Queue, Wish
from dashboard.panels import time_choice, triage
from pipelines import visible
from pipelines.clock import utc_now

PALE = {
    "critical": "#f4b4b4",
    "high": "#fbd3bd",
    "medium": "#fbe6c6",
    "low": "#dfe8f7",
    "informational": "#eceef2",
}
DEEP = {
    "critical": "#8f2333",
    "high": "#7a3a1d",
    "medium": "#6e4a16",
    "low": "#23365c",
    "informational": "#263041",
}
_FILTERS = {"level": "Level", "rule": "Rule", "in": "Integration"}
_HEIGHT, _ROW = 560, 30


def wish(show: str) -> Wish:
    """Return the filters of the address."""
    given = st.query_params
    span = time_choice.chosen()
    since, until = times.bounds(span, utc_now()) if span else (None, None)
    return Wish(
        show=show,
        levels=tuple(given.get_all("level")),
        rules=tuple(given.get_all("rule")),
        integrations=tuple(given.get_all("in")),
        entity=given.get("entity", ""),
        since=since,
        until=until,
        hidden="hidden" in given,
        lesser="low" in given,
    )


def filters(cases: pl.DataFrame, wanted: Wish) -> None:
    """Offer the values that findings have, and those that are chosen already."""
    titles = dict(cases.sort("time").select("rule_id", "title").iter_rows())
    known = {
        "level": [*findings.LEVELS],
        "rule": sorted(titles, key=lambda rule: titles[rule].casefold()),
        "in": sorted(cases["integration"].drop_nulls().unique()),
    }
    chosen = {"level": wanted.levels, "rule": wanted.rules, "in": wanted.integrations}
    with st.container(horizontal=True, vertical_alignment="center", key="case_filters"):
        for name, label in _FILTERS.items():
            options = [*known[name], *(each for each in chosen[name] if each not in known[name])]
            key = f"findings_{name}"
            st.session_state[key] = list(chosen[name])
            st.multiselect(
                label,
                options,
                format_func=lambda one: visible.text(titles.get(one) or one),
                key=key,
                placeholder=label,
                filter_mode="contains",
                label_visibility="collapsed",
                width=220,
                on_change=_take_list,
                args=(name,),
            )
        st.session_state["findings_entity"] = wanted.entity
        st.text_input(
            "Entity or address",
            key="findings_entity",
            type="search",
            placeholder="Entity or address",
            label_visibility="collapsed",
            width=220,
            on_change=_take_entity,
        )
    time_choice.offer("All time")


def _take_list(name: str) -> None:
    put(name, st.session_state[f"findings_{name}"])


def _take_entity() -> None:
    put("entity", st.session_state["findings_entity"].strip())


def put(name: str, value: str | Sequence[str]) -> None:
    """Set a parameter of the address, or remove it if there is nothing in it."""
    if value:
        st.query_params[name] = value
    else:
        st.query_params.pop(name, None)


def show(queue: Queue, wanted: Wish) -> None:
    """Show the rows, and offer to decide about those that are ticked."""
    rows = queue.rows.head(findings.MOST)
    uids = rows["finding_uid"].to_list()
    _left_out(queue, wanted)
    if rows.is_empty():
        _nothing(queue, wanted)
        return
    key = f"queue-{hashlib.sha256(repr((wanted.show, uids)).encode()).hexdigest()[:16]}"
    ticked = [uids[row] for row in _ticked(key) if row < len(uids)]
    if ticked:
        with st.container(horizontal=True, vertical_alignment="center", key="bulk"):
            st.caption(f"{len(ticked):,} selected", width="content")
            triage.offer(ticked, "bulk", closed=wanted.show == "closed")
    _grid(rows, uids, key)
    _footer(queue, rows.height)


def _ticked(key: str) -> list[int]:
    selected = st.session_state[key]["selection"] if key in st.session_state else {}
    return list(selected.get("rows", ()))


def _left_out(queue: Queue, wanted: Wish) -> None:
    """Offer to show what the list leaves out, with its number."""
    with st.container(horizontal=True, key="case_left_out"):
        if queue.lesser and not wanted.levels:
            words = " and ".join(findings.LESSER)
            _switch(f"Show {queue.lesser:,} {words}", "low", on=wanted.lesser)
        if queue.hidden or wanted.hidden:
            _switch(f"Show {queue.hidden:,} withdrawn or excepted", "hidden", on=wanted.hidden)


def _switch(label: str, name: str, *, on: bool) -> None:
    """Show a switch that sets a parameter of the address."""
    key = f"findings_{name}"
    st.session_state[key] = on
    st.toggle(label, key=key, on_change=lambda: put(name, "1" if st.session_state[key] else ""))


def _nothing(queue: Queue, wanted: Wish) -> None:
    unfiltered = Wish(show=wanted.show, hidden=wanted.hidden, lesser=wanted.lesser)
    words = {
        "open": "No open findings",
        "mine": "You have taken no finding",
        "closed": "No closed findings",
        "all": "No findings",
    }
    above = f" of level {findings.MARKED[-1]} or above" if queue.lesser else ""
    with st.container(border=True, key="notice", gap="xsmall", horizontal_alignment="center"):
        st.markdown(f":material/task_alt: **{words[wanted.show]}{above}**", width="content")
        if wanted != unfiltered:
            st.caption("The filters above leave out others.", width="content")
            st.button("Clear filters", key="findings_clear", on_click=_clear)


def _clear() -> None:
    st.query_params.from_dict({"show": st.query_params.get("show", "open")})


def tints() -> dict[str, str]:
    """Return the colour of each level in the present theme."""
    return DEEP if st.context.theme.type == "dark" else PALE


def _grid(rows: pl.DataFrame, uids: list[str], key: str) -> None:
    column, zone = st.column_config, session.zone().key
    closed = pl.when(pl.col("state") == "closed").then(
        pl.format("closed: {}", pl.col("reason").fill_null("no reason"))
    )
    hidden = (
        pl.when(pl.col("status") == "withdrawn")
        .then(pl.lit("withdrawn"))
        .when(pl.col("exception").is_not_null())
        .then(pl.lit("excepted"))
    )
    shown = rows.with_columns(
        pl.concat_list("level"), state=pl.coalesce(hidden, closed, pl.col("state"))
    )
    st.dataframe(
        visible.frame(shown),
        key=key,
        on_select=lambda: _open(key, uids),
        selection_mode=["multi-row", "single-cell"],
        hide_index=True,
        placeholder="",
        height=min(_HEIGHT, 38 + _ROW * rows.height),
        row_height=_ROW,
        column_order=(
            *("level", "title", "entity", "time", "integration", "count", "state", "assignee"),
        ),
        column_config={
            "level": column.MultiselectColumn(
                "Level", options=list(PALE), color=list(tints().values()), width=104
            ),
            "title": column.TextColumn("Rule", width=330),
            "entity": column.TextColumn("Entity", width=220),
            "time": column.DatetimeColumn(
                "Time", format="DD MMM HH:mm:ss", timezone=zone, width=118
            ),
            "integration": column.TextColumn("Integration", width=120),
            "count": column.NumberColumn("Events", format="localized", width=64),
            "state": column.TextColumn("State", width=130),
            "assignee": column.TextColumn("Assignee", width=160),
        },
        alt="Findings, the most serious first; select a cell to open one, tick rows for several",
    )


def _open(key: str, uids: list[str]) -> None:
    selection = st.session_state[key]["selection"]
    if selection["cells"]:
        st.query_params["id"] = uids[selection["cells"][0][0]]


def _footer(queue: Queue, shown: int) -> None:
    first = f"the first {shown:,} of " if shown < queue.rows.height else ""
    st.caption(
        f"{first}{queue.rows.height:,} finding{'s' * (queue.rows.height != 1)} · by level, then "
        f"newest first · times in {session.zone().key}"
    )
