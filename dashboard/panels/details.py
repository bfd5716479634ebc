"""The pane of one event: what happened, every column, the record as received, what was around.

Values are shown by `st.text`, `st.code` and grids only, which render nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import streamlit as st

from dashboard import fields, opening, queries, session, times
from dashboard.lake import Record, Snapshot
from dashboard.queries import Filter, Query
from dashboard.state import Opened
from pipelines.event import EVENTS

Event = dict[str, Any]
_FIRST = (
    "actor",
    "source_ip",
    "country",
    "city",
    "action",
    "activity_type",
    "action_type",
    "target",
    "outcome",
    "outcome_reason",
    "integration",
)
_REST = tuple(name for name in fields.NAMES if name not in _FIRST)
_AROUND = {
    "actor": "Same actor",
    "source_ip": "Same IP",
    "target": "Same target",
    "session_id": "Same session",
    "": "All",
}
_ENTITIES = {
    "actor": ("All of this actor", ":material/person_search:"),
    "source_ip": ("All of this IP", ":material/lan:"),
    "target": ("All of this target", ":material/target:"),
}
_MOST_RAW = 100_000  # characters shown; a browser colours no more in good time


def show(
    snapshot: Snapshot,
    opened: Opened,
    neighbours: tuple[Opened | None, Opened | None],
    go: Callable[[Opened | None], None],
) -> None:
    event = snapshot.ask(queries.event, opened.date, opened.uid)
    _title(event, neighbours, go)
    if event is None:
        st.caption("This event is not in the lake (any more). The link may belong to another lake.")
        return
    session.record("opened", event["event_uid"], 1, snapshot.version)
    st.text(times.stamp(event["time"], session.zone()))
    _entities(event)
    tabs = st.tabs(["Details", "Raw JSON", "Around this event"], key="tab", on_change="rerun")
    for tab, panel in zip(tabs, (_columns, _raw, _around), strict=True):
        if tab.open:
            with tab:
                panel(snapshot, event)


def _title(
    event: Event | None,
    neighbours: tuple[Opened | None, Opened | None],
    go: Callable[[Opened | None], None],
) -> None:
    newer, older = neighbours
    with st.container(horizontal=True, vertical_alignment="top", gap="xsmall", key="pane_title"):
        said = (event["message"] or event["action"] or "Event") if event else "Event not found"
        with st.container(key="said"):
            st.text(said)
        _step("Newer event", ":material/keyboard_arrow_up:", "K", newer, go)
        _step("Older event", ":material/keyboard_arrow_down:", "J", older, go)
        st.button(
            "Close details",
            icon=":material/close:",
            key="close",
            shortcut="Esc",
            type="tertiary",
            on_click=go,
            args=(None,),
        )


def _step(
    label: str, icon: str, shortcut: str, to: Opened | None, go: Callable[[Opened | None], None]
) -> None:
    st.button(
        label,
        icon=icon,
        key=f"step_{shortcut}",
        shortcut=shortcut,
        type="tertiary",
        disabled=to is None,
        on_click=go,
        args=(to,),
    )


def _entities(event: Event) -> None:
    """The ways on to what it is about, across everything that was recorded."""
    with st.container(horizontal=True, gap="small", key="entities"):
        for kind, (label, icon) in _ENTITIES.items():
            if value := _value(event, kind):
                session.link("entities", label, icon, {"kind": [kind], "v": [value]})


def _columns(snapshot: Snapshot, event: Event) -> None:
    said = {name: text for name in (*_FIRST, *_REST) if (text := _value(event, name))}
    with st.container(key="fields", gap=None):
        for name in _FIRST:
            if name in said:
                _field(name, said[name])
        _targets(event)
        _arrival(event)
        st.caption("All columns")
        for name in _REST:
            if name in said:
                _field(name, said[name])


def _field(name: str, text: str) -> None:
    label = fields.label(name)
    with st.container(horizontal=True, vertical_alignment="center", gap=None):
        st.caption(label, width=104)
        st.text(text, width="stretch")
        for negated, icon, verb in (
            (False, ":material/add:", "Only this"),
            (True, ":material/remove:", "Exclude this"),
        ):
            st.button(
                f"{verb} {label}",
                icon=icon,
                key=f"{verb.split()[0].lower()}_{name}",
                type="tertiary",
                help=f"{verb} value",
                on_click=session.filter_by,
                args=(Filter(field=name, value=text, negated=negated),),
            )


def _value(event: Event, name: str) -> str:
    """The very text that a filter on `name` compares."""
    row = pl.DataFrame([event], schema=EVENTS)
    return row.select(fields.value(name)).item() or ""


def _targets(event: Event) -> None:
    if len(event["targets"] or []) > 1:
        st.caption("Targets")
        st.dataframe(
            pl.DataFrame(event["targets"]),
            hide_index=True,
            row_height=26,
            height="content",
            column_order=("name", "type", "id"),
            alt="Targets",
        )


def _arrival(event: Event) -> None:
    record = _record(event)
    after = times.ago(event["ingested_at"] - event["time"])
    st.caption("How it arrived")
    st.text(f"{times.stamp(event['ingested_at'], session.zone())}, {after} after it happened")
    st.text(f"raw/{event['integration']}/{event['stream']}, row {event['seq']}")
    st.text(_provenance(record) if record else "The raw record cannot be found.")


def _provenance(record: Record) -> str:
    match = "matches" if record.intact() else "DOES NOT MATCH"
    return f"by {record.via} · SHA-256 {record.raw_sha256[:12]}… {match} the record"


def _raw(snapshot: Snapshot, event: Event) -> None:
    record = _record(event)
    if record is None:
        st.caption("The raw record cannot be found.")
        return
    as_received = st.toggle("Byte for byte, as received", key="as_received")
    text = record.raw if as_received else _indented(record.raw)
    if len(text) > _MOST_RAW:
        st.caption(f"The first {_MOST_RAW:,} of {len(text):,} characters.")
    st.code(text[:_MOST_RAW], language="json", height=380, wrap_lines=as_received)


def _indented(raw: str) -> str:
    try:
        return json.dumps(json.loads(raw), indent=2, ensure_ascii=False)
    except ValueError:
        return raw


def _record(event: Event) -> Record | None:
    try:
        return opening.configured().record(
            event["integration"], event["stream"], event["date"], event["seq"]
        )
    except OSError:
        return None


def _around(snapshot: Snapshot, event: Event) -> None:
    """Half an hour to either side, whatever the page is filtered by."""
    names = [name for name in _AROUND if not name or _value(event, name)]
    name = st.segmented_control(
        "Around",
        names,
        default=names[0],
        format_func=lambda name: _AROUND[name],
        key="around",
        required=True,
        label_visibility="collapsed",
    )
    query = _nearby(event["time"], Filter(field=name, value=_value(event, name)) if name else None)
    rows = snapshot.ask(queries.page, query, 1, snapshot.ask(queries.days, query))
    several = "s" * (rows.height != 1)
    st.caption(f"{rows.height:,} event{several} within 30 minutes · newest first")
    st.dataframe(
        rows.with_columns(
            here=pl.when(pl.col("event_uid") == event["event_uid"]).then(pl.lit("▸"))
        ),
        hide_index=True,
        height=340,
        row_height=26,
        column_order=("here", "time", "title", "outcome", "actor", "integration"),
        column_config={
            "here": st.column_config.TextColumn("", width=22),
            "time": st.column_config.DatetimeColumn(
                "Time", format="HH:mm:ss", timezone=session.zone().key, width=70
            ),
            "title": st.column_config.TextColumn("Event", width=190),
            "outcome": st.column_config.TextColumn("Outcome", width=70),
            "actor": st.column_config.TextColumn("Actor"),
            "integration": st.column_config.TextColumn("Integration"),
        },
        alt="Events around this one",
    )


def _nearby(instant: datetime, wanted: Filter | None) -> Query:
    margin = timedelta(minutes=30)
    return Query(
        since=instant - margin,
        until=instant + margin,
        filters=(wanted,) if wanted else (),
    )
