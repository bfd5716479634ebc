"""The details pane of one event: its columns, the raw record and the events around it.

Values are shown only by `st.text`, `st.code` and grids, which don't render markup.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import streamlit as st

from dashboard import fields, open_lake, queries, session, times
from dashboard.lake import Record, Snapshot
from dashboard.panels import flags
from dashboard.queries import Filter, Query
from dashboard.state import Opened, View
from dashboard.times import Last
from pipelines import visible
from pipelines.schemas import EVENTS
from pipelines.search.people import PERSON

Event = dict[str, Any]
Step = Callable[[], None] | None
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
    "actor": ("All events by this actor", ":material/person_search:"),
    "source_ip": ("All events from this IP", ":material/lan:"),
    "target": ("All events on this target", ":material/target:"),
}
_SENSES = ((False, ":material/add:", "Only"), (True, ":material/remove:", "Exclude"))
_YEAR = Last(count=365, unit="d")
_COLUMNS = {**EVENTS, PERSON: pl.String()}
_MOST_TARGETS = 20
_MOST_RAW = 100_000  # characters; browsers take too long to highlight more


def show(snapshot: Snapshot, opened: Opened, steps: tuple[Step, Step]) -> None:
    """Show the event; `steps` open the previous and the next one, None if there is none."""
    event = snapshot.ask(queries.event, opened.date, opened.uid)
    _title(event, *steps)
    if event is None:
        _missing(opened)
        return
    session.record("opened", event["event_uid"], 1, snapshot.version)
    st.text(times.stamp(event["time"], session.zone()))
    _entities(event)
    flags.of_event(event)
    tabs = st.tabs(["Details", "Raw JSON", "Around this event"], key="tab", on_change="rerun")
    # Only the open tab is computed.
    for tab, panel in zip(tabs, (_columns, _raw, _around), strict=True):
        if tab.open:
            with tab:
                panel(snapshot, event)


def _missing(opened: Opened) -> None:
    """Say that a link names an event which this version does not have, and offer a search."""
    st.caption(
        f"The lake has no such event on {opened.date:%d %b %Y} (UTC). The link may be from another "
        "lake, or the event's day was deleted or its time corrected since. Its UID:"
    )
    st.text(visible.text(opened.uid))
    st.button(
        "Search the last year for it",
        key="search_uid",
        icon=":material/search:",
        on_click=session.ask,
        args=(View(range=_YEAR, filters=(Filter(field="event_uid", value=opened.uid),)),),
    )


def _title(event: Event | None, before: Step, after: Step) -> None:
    with st.container(horizontal=True, vertical_alignment="top", gap="xsmall", key="pane_title"):
        title = (event["message"] or event["action"] or "Event") if event else "Event not found"
        with st.container(key="said"):
            st.text(visible.text(title))
        _step("Previous event", ":material/keyboard_arrow_up:", "K", before)
        _step("Next event", ":material/keyboard_arrow_down:", "J", after)
        st.button(
            "Close details",
            icon=":material/close:",
            key="close",
            shortcut="Esc",
            type="tertiary",
            on_click=session.show_event,
            args=(None,),
        )


def _step(label: str, icon: str, shortcut: str, to: Step) -> None:
    st.button(
        label,
        icon=icon,
        key=f"step_{shortcut}",
        shortcut=shortcut,
        type="tertiary",
        disabled=to is None,
        on_click=to,
    )


def _entities(event: Event) -> None:
    """Show links to all events of the same actor, IP address and target."""
    with st.container(horizontal=True, gap="small", key="entities"):
        for kind, (label, icon) in _ENTITIES.items():
            if value := _value(event, kind):
                session.link("entities", label, icon, {"kind": [kind], "v": [value]})


def _columns(snapshot: Snapshot, event: Event) -> None:
    row = pl.DataFrame([event], schema=_COLUMNS).select(map(fields.value, (*_FIRST, *_REST)))
    texts = {name: text for name, text in row.row(0, named=True).items() if text}
    with st.container(key="fields", gap=None):
        for name in _FIRST:
            if name in texts:
                _field(name, texts[name])
        _targets(event)
        _arrival(event)
        st.caption("All columns")
        for name in _REST:
            if name in texts:
                _field(name, texts[name])


def _field(name: str, text: str) -> None:
    def narrow(negated: bool) -> None:
        session.filter_by(Filter(field=name, value=text, negated=negated))

    _row(name, fields.label(name), text, narrow)


def _row(key: str, label: str, text: str, narrow: Callable[[bool], None]) -> None:
    """Show a value with buttons to include or exclude it; `label` must be safe as Markdown."""
    with st.container(horizontal=True, vertical_alignment="center", gap=None):
        st.caption(label, width=104)
        st.text(visible.text(text, keep="\n"), width="stretch")
        for negated, icon, verb in _SENSES:
            st.button(
                f"{verb} this {label}",
                icon=icon,
                key=f"{verb.lower()}_{key}",
                type="tertiary",
                on_click=narrow,
                args=(negated,),
            )


def _value(event: Event, name: str) -> str:
    """Return the text that a filter on `name` compares with."""
    row = pl.DataFrame([event], schema=_COLUMNS)
    return row.select(fields.value(name)).item() or ""


def _targets(event: Event) -> None:
    """Show the targets after the first; their buttons search for their names."""
    names = [target["name"] for target in (event["targets"] or [])[1:] if target["name"]]
    for number, name in enumerate(names[:_MOST_TARGETS], start=2):
        _target(number, name)
    if len(names) > _MOST_TARGETS:
        st.caption(f"{len(names) - _MOST_TARGETS:,} more in the raw record.")


def _target(number: int, text: str) -> None:
    def narrow(negated: bool) -> None:
        session.search_for(text, negated=negated)

    _row(f"target_{number}", f"Target {number}", text, narrow)


def _arrival(event: Event) -> None:
    found = record(event)
    after = times.ago(event["ingested_at"] - event["time"])
    st.caption("Ingestion")
    st.text(f"{times.stamp(event['ingested_at'], session.zone())}, {after} after the event")
    st.text(visible.text(f"raw/{event['integration']}/{event['stream']}, row {event['seq']}"))
    st.text(_provenance(found) if found else "Raw record not found.")


def _provenance(record: Record) -> str:
    match = "matches" if record.intact() else "DOES NOT MATCH"
    return f"via {visible.text(record.via)} · SHA-256 {record.raw_sha256[:12]}… {match} the record"


def _raw(snapshot: Snapshot, event: Event) -> None:
    found = record(event)
    if found is None:
        st.caption("Raw record not found.")
        return
    as_received = st.toggle("Byte for byte, as received", key="as_received")
    text = found.raw if as_received else visible.json_text(_indented(found.raw))
    if len(text) > _MOST_RAW:
        st.caption(f"The first {_MOST_RAW:,} of {len(text):,} characters.")
    st.code(text[:_MOST_RAW], language="json", height=380, wrap_lines=as_received)


def _indented(raw: str) -> str:
    try:
        return json.dumps(json.loads(raw), indent=2, ensure_ascii=False)
    except ValueError:
        return raw


def record(event: Event) -> Record | None:
    """Return the raw record of an event; None if it is gone."""
    try:
        return open_lake.configured().record(
            event["integration"], event["stream"], event["date"], event["seq"]
        )
    # Also raised for an integration or stream name that cannot be a folder.
    except OSError:
        return None


def _around(snapshot: Snapshot, event: Event) -> None:
    """Show the events within half an hour, regardless of the page's filters."""
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
    total = sum(n for _, n in snapshot.ask(queries.days, query))
    rows = snapshot.ask(queries.nearest, query, event["time"])
    nearest = f", the {rows.height} nearest shown" if rows.height < total else ""
    st.caption(f"{total:,} event{'s' * (total != 1)} within 30 minutes{nearest} · newest first")
    _nearby_grid(rows, event["event_uid"])


def _nearby_grid(rows: pl.DataFrame, uid: str) -> None:
    places = [Opened(date=day, uid=u) for u, day in rows.select("event_uid", "date").iter_rows()]
    key = f"around-{hashlib.sha256(repr((places, uid)).encode()).hexdigest()[:16]}"
    column = st.column_config
    st.dataframe(
        visible.frame(rows).with_columns(
            here=pl.when(pl.col("event_uid") == uid).then(pl.lit("▸"))
        ),
        key=key,
        on_select=lambda: _open(key, places),
        selection_mode="single-cell",
        hide_index=True,
        placeholder="",
        height=340,
        row_height=26,
        column_order=("here", "time", "title", "outcome", "actor", "integration"),
        column_config={
            "here": column.TextColumn("", width=22),
            "time": column.DatetimeColumn(
                "Time", format="HH:mm:ss", timezone=session.zone().key, width=70
            ),
            "title": column.TextColumn("Event", width=190),
            "outcome": column.TextColumn("Outcome", width=70),
            "actor": column.TextColumn("Actor"),
            "integration": column.TextColumn("Integration"),
        },
        alt="Events around this one; select one to open it",
    )


def _open(key: str, places: list[Opened]) -> None:
    cells = st.session_state[key]["selection"]["cells"]
    if cells:
        session.show_event(places[cells[0][0]])


def _nearby(instant: datetime, wanted: Filter | None) -> Query:
    margin = timedelta(minutes=30)
    return Query(
        since=instant - margin,
        until=instant + margin,
        filters=(wanted,) if wanted else (),
        held=session.view().held,
    )
