"""An opened finding: matched fields, its events, whom it is about, and the rule that made it.

Texts of events and rules are shown only by `st.text`, `st.code` and grids, which render no markup.
"""

from __future__ import annotations

import polars as pl
import streamlit as st

from dashboard import entities, fields, records, session, state, times
from dashboard.cases import Case
from dashboard.lake import Snapshot
from dashboard.panels import details, export, rule_text, silence, timeline, triage
from dashboard.queries import Filter
from dashboard.state import Opened, View
from pipelines import visible

_ROW = 28
_WORDS = {
    "assigned": "assigned to {}",
    "closed": "closed",
    "open": "open",
}


def show(snapshot: Snapshot | None, case: Case, decided: dict[str, str | None]) -> None:
    """Show a finding; `decided` has the state of its triage."""
    # Before anything is shown: if access cannot be recorded, the page fails.
    session.record("opened", f"finding {case.uid}", case.finding["count"])
    _title(case, decided)
    _act(case, decided)
    left, right = st.columns([1.7, 1], gap="medium")
    with left:
        _facts(case)
        if snapshot:
            _events(case)
            _record(case)
            _entity(snapshot, case)
    with right:
        rule_text.show(case.finding)
        st.markdown("#### Triage")
        triage.history(case.uid)
        if case.revisions.height > 1:
            st.markdown("#### Revisions")
            _revisions(case.revisions)
        _evidence(case)


def _title(case: Case, decided: dict[str, str | None]) -> None:
    finding = case.finding
    with st.container(horizontal=True, vertical_alignment="center", key="case_title"):
        rule_text.level(finding["level"])
        st.text(visible.text(finding["title"] or "Finding"), width="content")
    words = [_WORDS[str(decided["state"])].format(decided["assignee"] or "nobody")]
    if decided["reason"]:
        words.append(decided["reason"])
    if finding["provisional"]:
        words.append("provisional: the time has a known gap")
    if finding["status"] == "withdrawn":
        words.append("withdrawn: later events undid it")
    if finding["exception"]:
        words.append(f"excepted by {finding['exception']}, so nobody was alerted")
    st.text(visible.text(" · ".join([times.stamp(finding["time"], session.zone()), *words])))


def _act(case: Case, decided: dict[str, str | None]) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="case_acts"):
        triage.offer([case.uid], "one", closed=decided["state"] == "closed")
        silence.offer(case)
        finding = case.finding
        explore = (":material/manage_search:", "explore")
        if case.entity:
            address = {"kind": [case.entity.kind], "v": [case.entity.value]}
            session.link("entities", "Entity", ":material/person_search:", address)
            wanted = Filter(field=case.entity.kind, value=case.entity.value)
            session.link(explore[1], "Its events", explore[0], case.around(wanted))
        if finding["source_ip"] and finding["source_ip"] != finding["entity"]:
            wanted = Filter(field="source_ip", value=finding["source_ip"])
            session.link(explore[1], "From this address", ":material/lan:", case.around(wanted))
        session.link(explore[1], "Around this time", ":material/schedule:", case.around())


def _facts(case: Case) -> None:
    finding = case.finding
    zone = session.zone()
    span = times.to_second(finding["time"], zone)
    if finding["since"] and finding["since"] != finding["time"]:
        span = f"{times.to_second(finding['since'], zone)} to {span}"
    facts = {
        "Message": finding["message"],
        "Entity": finding["entity"],
        "IP address": finding["source_ip"],
        "Log": f"{finding['integration']}/{finding['stream']}",
        "Time": f"{span} {zone.key}",
        "Found": times.to_second(finding["found_at"], zone),
        "Events": f"{finding['count']:,}",
    }
    with st.container(key="fields", gap=None):
        for label, text in facts.items():
            if text:
                with st.container(horizontal=True, vertical_alignment="center", gap=None):
                    st.caption(label, width=104)
                    st.text(visible.text(str(text), keep="\n"), width="stretch")


def _events(case: Case) -> None:
    shown, count = case.events.height, case.finding["count"]
    st.markdown("#### Events")
    if shown == 0:
        st.caption("The events are not in this lake: deleted, or not derived yet.")
        return
    words = f"{shown:,} of {count:,} shown" if shown < count else f"{shown:,}"
    st.caption(f"{words} · select one to open it in Explore · times in {session.zone().key}")
    columns = ("title", "integration", "actor", "outcome", "source_ip")
    rows = case.events.select(
        "event_uid", "date", "time", *(fields.value(name) for name in columns)
    )
    places = [Opened(date=day, uid=uid) for uid, day in rows.select("event_uid", "date").rows()]
    chosen = st.dataframe(
        visible.frame(rows),
        key=f"named-{case.uid[:16]}-{case.revisions.height}-{shown}",
        on_select="rerun",
        selection_mode="single-cell",
        hide_index=True,
        placeholder="",
        height=min(300, 38 + _ROW * rows.height),
        row_height=_ROW,
        column_order=("time", *columns),
        column_config={
            "time": st.column_config.DatetimeColumn(
                "Time", format="DD MMM HH:mm:ss", timezone=session.zone().key, width=118
            ),
            **{name: fields.label(name) for name in columns},
        },
        alt="The events of this finding, newest first; select one to open it",
    )
    if cells := chosen.selection.cells:
        row = cells[0][0]
        view = View(range=times.around(rows["time"][row]), opened=places[row])
        session.go("explore", state.params(view))


def _record(case: Case) -> None:
    """Show the last event's record, with the fields that the rule matched on first."""
    matched = case.finding["matched"] or []
    last = case.events.row(0, named=True) if case.events.height else None
    raw = details.record(last) if last else None
    rows = records.fields(raw.raw if raw else "", matched)
    if rows.is_empty():
        return
    st.markdown("#### Matched fields")
    # Marked and first: what the rule did not look at needs no attention.
    marked = rows.filter(pl.col("mark") != "")
    _fields(marked.drop("mark"), "Fields that the rule matched on, of the last event")
    if rows.height > marked.height:
        whole = st.expander("The whole record", key=f"record_{case.uid[:16]}", on_change="rerun")
        if whole.open:
            with whole:
                _fields(rows, "The record of the last event; matched fields are marked")


def _fields(rows: pl.DataFrame, name: str) -> None:
    column = st.column_config
    st.dataframe(
        visible.frame(rows),
        hide_index=True,
        placeholder="",
        height=min(420, 38 + _ROW * rows.height),
        row_height=_ROW,
        column_config={
            "mark": column.TextColumn("", width=24),
            "field": column.TextColumn("Field", width=220),
            "value": column.TextColumn("Value"),
        },
        alt=name,
    )


def _entity(snapshot: Snapshot, case: Case) -> None:
    if case.entity is None:
        return
    profile = snapshot.ask(entities.profile, case.entity)
    if profile.events:
        st.markdown("#### The entity around this time")
        timeline.show(snapshot, case.entity, profile)


def _revisions(rows: pl.DataFrame) -> None:
    column, zone = st.column_config, session.zone().key
    st.dataframe(
        visible.frame(rows),
        hide_index=True,
        placeholder="",
        height=min(200, 38 + _ROW * rows.height),
        row_height=_ROW,
        column_order=("revision", "found_at", "status", "count"),
        column_config={
            "revision": column.NumberColumn("No.", width=40),
            "found_at": column.DatetimeColumn(
                "Found", format="DD MMM HH:mm:ss", timezone=zone, width=118
            ),
            "status": column.TextColumn("Status", width=90),
            "count": column.NumberColumn("Events", format="localized", width=64),
        },
        alt="Revisions of this finding, newest first",
    )


def _evidence(case: Case) -> None:
    st.markdown("#### Evidence")
    st.caption("The events with their proofs, signed, to be checked offline.")
    st.button(
        "Evidence pack",
        icon=":material/verified:",
        key="case_pack",
        disabled=case.events.is_empty(),
        on_click=export.start_pack,
        args=(case.query, f"finding {case.uid}"),
    )
    export.progress()
    if case.command:
        st.code(visible.text(case.command), language=None, wrap_lines=True)
