"""Matching events outside a time range in which there are none."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

import streamlit as st

from dashboard import queries, session, times
from dashboard.lake import Snapshot
from dashboard.panels import waiting
from dashboard.patience import TooLong
from dashboard.queries import Query

_DAY = timedelta(days=1)
_SEARCH = "outside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    events: int
    first: date
    last: date
    """Days of UTC."""


def show(snapshot: Snapshot, query: Query) -> None:
    """Offer to show the events outside the range; nothing if none are found in time."""
    if waiting.was_cancelled(_SEARCH):
        waiting.start_again(_SEARCH, "Search outside this time")
        return
    found = None
    with (
        suppress(TooLong),
        st.spinner("Searching outside this time", show_time=True),
        waiting.cancellable(key=_SEARCH),
    ):
        found = outside(snapshot, query)
    if found:
        st.button(
            f"{found.events:,} event{'s' * (found.events != 1)} outside this time, "
            f"last on {found.last:%d %b %Y} (UTC): show",
            key="elsewhere",
            type="primary",
            on_click=session.change,
            kwargs={"range": times.between(_midnight(found.first), _midnight(found.last + _DAY))},
        )


def outside(snapshot: Snapshot, query: Query) -> Elsewhere | None:
    """Return the events that match the query at any time; None if there are none."""
    ends = _midnight(snapshot.days[0]), _midnight(snapshot.days[-1] + _DAY)
    ever = replace(query, since=ends[0], until=ends[1])
    counted = snapshot.ask(queries.days, ever)
    if not counted:
        return None
    return Elsewhere(events=sum(n for _, n in counted), first=counted[-1][0], last=counted[0][0])


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
