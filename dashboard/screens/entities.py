"""Entities: one person, IP address, user agent, session or target in all integrations."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from dashboard import charts, entities, escaping, fields, open_lake, session, state, times
from dashboard.entities import Entity, Profile
from dashboard.lake import Snapshot
from dashboard.panels import flags, notices, time_choice, timeline
from dashboard.queries import Filter
from dashboard.state import Opened, View
from pipelines import visible
from pipelines.clock import utc_now

_MOST_FOUND = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    snapshot: Snapshot
    entity: Entity
    profile: Profile


def show() -> None:
    session.leave()
    timeline.open_cell()
    snapshot = open_lake.configured().look()
    if snapshot is None or not snapshot.rows:
        notices.no_lake()
        return
    entity = _requested()
    _finder(snapshot, entity)
    if st.query_params.get("kind", "actor") not in entities.KINDS:
        st.warning("A part of this link is not understood.", icon=":material/link_off:")
        kind = st.query_params["kind"][:60]
        st.text(f"kind={kind} is none of {', '.join(entities.KINDS)}.")
    if entity.value:
        time_choice.offer("All time")
        _entity(snapshot, entity)


def _requested() -> Entity:
    kind, span = st.query_params.get("kind", "actor"), time_choice.chosen()
    since, until = times.bounds(span, utc_now()) if span else (None, None)
    return Entity(
        kind=kind if kind in entities.KINDS else "actor",
        value=st.query_params.get("v", ""),
        since=since,
        until=until,
    )


def _look_up(kind: str, value: str) -> None:
    named = {
        "kind": kind,
        "v": value,
        "range": times.show(span) if (span := time_choice.chosen()) else "",
    }
    st.query_params.from_dict({key: text for key, text in named.items() if text})


def _finder(snapshot: Snapshot, entity: Entity) -> None:
    st.session_state["entity_kind"] = entity.kind
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("## Entities", width="content")
        st.segmented_control(
            "Kind",
            list(entities.KINDS),
            format_func=entities.KINDS.__getitem__,
            key="entity_kind",
            required=True,
            label_visibility="collapsed",
            on_change=lambda: _look_up(st.session_state["entity_kind"], ""),
        )
        part = st.text_input(
            "Find",
            key="entity_part",
            type="search",
            placeholder="Part of a name",
            label_visibility="collapsed",
            icon=":material/search:",
        )
    if part or not entity.value:
        _matches(snapshot, entity.kind, part.strip())


def _matches(snapshot: Snapshot, kind: str, part: str) -> None:
    values = snapshot.ask(entities.suggestions, kind, part, _MOST_FOUND)
    if not values:
        st.caption("No matches. Try fewer characters or another entity type.")
        return
    st.caption(f"{len(values)} found, most active first. Select one to see its activity.")
    key = f"found-{hash((kind, part, tuple(values)))}"
    st.dataframe(
        visible.frame(pl.DataFrame({"value": values})),
        key=key,
        on_select=lambda: _choose(key, kind, values),
        selection_mode="single-cell",
        hide_index=True,
        placeholder="",
        height=min(360, 38 + 28 * len(values)),
        row_height=28,
        column_config={"value": entities.KINDS[kind]},
        alt="Matching entities; select one",
    )


def _choose(key: str, kind: str, values: list[str]) -> None:
    cells = st.session_state[key]["selection"]["cells"]
    if cells:
        # Possible only in a callback, before the text input is drawn again.
        st.session_state["entity_part"] = ""
        _look_up(kind, values[cells[0][0]])


def _entity(snapshot: Snapshot, entity: Entity) -> None:
    profile = snapshot.ask(entities.profile, entity)
    # Before anything is shown: if access cannot be recorded, the page fails.
    session.record("looked up", f"{entity.kind}:{entity.value}", profile.events, snapshot.version)
    shown = _Shown(snapshot=snapshot, entity=entity, profile=profile)
    _heading(shown)
    if not profile.events:
        st.caption(
            "No events for this entity in this time. Choose All time above."
            if entity.since
            else "No events for this entity."
        )
    else:
        _facts(profile)
        timeline.show(snapshot, entity, profile)
        left, right = st.columns([1.25, 1], gap="small")
        with left:
            _timeline(shown)
        with right:
            _related_values(shown)
        _events("Newest events", shown.snapshot.ask(entities.recent, entity))
    if entity.kind == "actor":
        _events("Actions on this account by others", shown.snapshot.ask(entities.done_to, entity))


def _heading(shown: _Shown) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="entity_name"):
        st.text(visible.text(shown.entity.value), width="stretch")
        for address in shown.snapshot.ask(entities.known_as, shown.entity):
            st.button(
                f"Known as {escaping.markdown(address)}",
                icon=":material/person_search:",
                key=f"known_as_{address}",
                on_click=_look_up,
                args=("actor", address),
            )
        flags.of_entity(shown.entity)
        view = all_events(shown.entity, shown.profile, utc_now())
        session.link("explore", "Show all events", ":material/manage_search:", state.params(view))


def all_events(entity: Entity, profile: Profile, now: datetime) -> View:
    """Return the view of all events that the profile counts, and of those to come."""
    days = (now - profile.first).days + 1 if profile.first else 0
    wanted = Filter(field=entity.kind, value=entity.value)
    every = times.Last(count=max(days, 365), unit="d")
    return View(range=time_choice.chosen() or every, filters=(wanted,))


def _facts(profile: Profile) -> None:
    zone = session.zone()
    facts = {
        "Events": f"{profile.events:,}",
        "Failed": f"{profile.failed:,} ({profile.failed / profile.events:.1%})",
        "First seen": times.stamp(profile.first, zone) if profile.first else "",
        "Last seen": times.stamp(profile.last, zone) if profile.last else "",
        "Integrations": f"{profile.integrations:,}",
        "Addresses": f"{profile.addresses:,}",
        "Actors": f"{profile.actors:,}",
        "Countries": profile.countries or fields.NONE,
    }
    with st.container(horizontal=True, key="facts"):
        for label, value in facts.items():
            with st.container(width="content", gap=None):
                st.caption(label)
                st.text(visible.text(value))


def _timeline(shown: _Shown) -> None:
    zone = session.zone().key
    counts = shown.snapshot.ask(entities.daily, shown.entity)
    places = session.colours("integration", counts["integration"].unique().to_list())
    with st.container(border=True):
        st.caption("Events per day (UTC) by integration")
        st.altair_chart(charts.daily(counts, places), alt="Events per day by integration")
        st.caption(f"Hours of the week · {zone}")
        hours = shown.snapshot.ask(entities.hours, shown.entity, zone)
        st.altair_chart(charts.week(hours), alt="Events by weekday and hour")


def _related_values(shown: _Shown) -> None:
    names = [fields.label(field) for field in entities.RELATED[shown.entity.kind]]
    if shown.entity.kind == "actor":
        names = [*names, "Names and accounts"]
    with st.container(border=True, height=436):
        tabs = st.tabs(names, key=f"related-{shown.entity.kind}", on_change="rerun")
        for field, tab in zip((*entities.RELATED[shown.entity.kind], ""), tabs, strict=False):
            if tab.open:
                with tab:
                    _related(shown, field) if field else _names(shown)


def _related(shown: _Shown, field: str) -> None:
    rows = shown.snapshot.ask(entities.related, shown.entity, field)
    values = rows["value"].to_list()
    key = f"related-{field}-{hash((shown.entity, tuple(values)))}"
    column = st.column_config
    st.dataframe(
        visible.frame(rows),
        key=key,
        on_select=lambda: _choose(key, field, values) if field in entities.KINDS else None,
        selection_mode="single-cell",
        hide_index=True,
        placeholder="",
        height=350,
        row_height=26,
        column_order=("value", "n", "failed", "first", "last"),
        column_config={
            "value": column.TextColumn(fields.label(field), width=150),
            "n": column.NumberColumn("Events", format="localized", width=64),
            "failed": column.NumberColumn("Failed", format="localized", width=60),
            "first": _moment("First"),
            "last": _moment("Last"),
        },
        alt=f"{fields.label(field)} values seen with this entity",
    )


def _names(shown: _Shown) -> None:
    rows = shown.snapshot.ask(entities.names, shown.entity)
    st.dataframe(
        visible.frame(rows),
        hide_index=True,
        placeholder="",
        height=350,
        row_height=26,
        column_order=("integration", "name", "account", "n", "last"),
        column_config={
            "integration": "Integration",
            "name": "Name",
            "account": "Account",
            "n": st.column_config.NumberColumn("Events", format="localized", width=64),
            "last": _moment("Last"),
        },
        alt="Names and accounts by integration",
    )


def _moment(label: str) -> ColumnConfig:
    return st.column_config.DatetimeColumn(
        label, format="DD MMM HH:mm", timezone=session.zone().key, width=92
    )


def _events(title: str, rows: pl.DataFrame) -> None:
    """List events; a click opens one in Explore, in a range of 24 hours around it."""
    if rows.is_empty():
        return
    st.caption(f"{title} · {rows.height:,} shown · times in {session.zone().key}")
    uids = rows["event_uid"].to_list()
    key = f"events-{title}-{hash(tuple(uids))}"
    chosen = st.dataframe(
        visible.frame(rows),
        key=key,
        on_select="rerun",
        selection_mode="single-cell",
        hide_index=True,
        placeholder="",
        height=min(430, 38 + 28 * rows.height),
        row_height=28,
        column_order=("time", "integration", "title", "actor", "outcome", "source_ip", "target"),
        column_config={
            "time": st.column_config.DatetimeColumn(
                "Time", format="DD MMM YYYY HH:mm:ss", timezone=session.zone().key, width=150
            ),
            "integration": "Integration",
            "title": "Event",
            "actor": "Actor",
            "outcome": "Outcome",
            "source_ip": "IP address",
            "target": "Target",
        },
        alt=f"{title}; select one to open it",
    )
    if cells := chosen.selection.cells:
        row = rows.row(cells[0][0], named=True)
        opened = Opened(date=row["date"], uid=row["event_uid"])
        session.go("explore", state.params(View(range=times.around(row["time"]), opened=opened)))
