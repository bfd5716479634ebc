"""Explore: search, filter, group and chart all events, and open one."""

from __future__ import annotations

from datetime import UTC, datetime

from dashboard import opening, queries, session
from dashboard.panels import activity, events, filters, header, notices


def show() -> None:
    session.follow_address()
    snapshot = opening.configured().look()
    if snapshot is None or not snapshot.rows:
        notices.no_lake()
        return
    query = session.view().query(datetime.now(UTC))
    total = sum(n for _, n in snapshot.ask(queries.days, query))
    header.show(snapshot, query, total)
    filters.show(snapshot, query)
    if total:
        activity.show(snapshot, query)
        events.show(snapshot, query, total)
    else:
        session.no_grid()
        notices.no_match(query, snapshot)
    session.write_address()
