"""Findings on the other pages: of the time of a search, of events, and of an entity."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import polars as pl
import streamlit as st

from dashboard import findings, open_lake, session, times
from dashboard.entities import Entity
from dashboard.lake import UNREADABLE
from dashboard.panels import rule_text
from dashboard.queries import Query

_MOST = 5
COLUMN = "findings"
"""The column of the table of events that counts the findings of each."""


# These pages are shown even if findings cannot be read; the page Findings shows the reason.
def _cases() -> pl.DataFrame:
    with suppress(*UNREADABLE):
        return open_lake.configured().cases()
    return findings.NONE


def in_time(query: Query, edges: tuple[datetime, ...]) -> pl.DataFrame:
    """Return the findings per bucket of the graph, as `findings.marks` does."""
    return findings.marks(_cases(), edges, query.filters)


def link(found: pl.DataFrame, query: Query) -> None:
    """Show a link to the findings of marked levels in the time of the search, if any."""
    if n := int(found["n"].sum()):
        span = times.show(times.between(query.since, query.until))
        address = {"range": [span], "level": [*findings.MARKED]}
        session.link("findings", _counted(n), ":material/flag:", address)


def counts(rows: pl.DataFrame) -> pl.Series:
    """Return the number of findings of each event, null for none; rows have event_uid and time."""
    none = pl.Series(COLUMN, [None] * rows.height, pl.Int64)
    if rows.is_empty():
        return none
    uids = tuple(rows["event_uid"])
    moments = rows["time"].to_list()
    found = None
    with suppress(*UNREADABLE):
        found = open_lake.configured().recent(
            "findings", findings.of_events, min(moments), max(moments), uids
        )
    if found is None or found.is_empty():
        return none
    numbers = found.group_by("event_uid").agg(pl.len().cast(pl.Int64).alias(COLUMN))
    uid = rows.select("event_uid")
    return uid.join(numbers, on="event_uid", how="left", maintain_order="left")[COLUMN]


def of_event(event: dict[str, Any]) -> None:
    """Show links to the findings that name the event."""
    lake, named = open_lake.configured(), None
    with suppress(*UNREADABLE):
        named = lake.recent("findings", findings.of_event, event["time"], event["event_uid"])
    if named is not None and named.height:
        _links(_cases().join(named, on="finding_uid", how="semi"))


def of_entity(entity: Entity) -> None:
    """Show a link to the findings about the entity, if there are any."""
    values = pl.Series(entity.values, dtype=pl.String)
    names = ("entity", "source_ip") if entity.kind == "source_ip" else ("entity",)
    about = pl.any_horizontal(pl.col(names).is_in(values.implode()).fill_null(False))
    found = _cases().filter(about, pl.col("status") != "withdrawn")
    if found.height:
        address = {"entity": [entity.value], "show": ["all"], "low": ["1"]}
        session.link("findings", _counted(found.height), ":material/flag:", address)


def _links(cases: pl.DataFrame) -> None:
    shown = cases.sort("rank", "time", descending=[False, True])
    with st.container(gap=None, key="event_findings"):
        columns: Sequence[str] = ("finding_uid", "level", "title")
        for uid, level, title in shown.head(_MOST).select(columns).iter_rows():
            rule_text.link(uid, level, title)
        if shown.height > _MOST:
            st.caption(f"{shown.height - _MOST:,} more findings about this event")


def _counted(n: int) -> str:
    return f"{n:,} finding{'s' * (n != 1)}"
