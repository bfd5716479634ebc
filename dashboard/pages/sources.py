"""Sources: what each stream has brought, and when it last brought something."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import streamlit as st

from dashboard import opening, queries, session, times
from dashboard.panels import notices


def show() -> None:
    session.leave()
    snapshot = opening.configured().look()
    if snapshot is None or not snapshot.rows:
        notices.no_lake()
        return
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    st.markdown("## Sources")
    _table(snapshot.ask(queries.sources, now), now)
    st.caption(
        "Delay is the median time from an event to its arrival over the last 14 days; bars are "
        f"events a day (UTC), today last · times in {session.zone().key} · lake v{snapshot.version}"
    )


def _table(streams: pl.DataFrame, now: datetime) -> None:
    zone = session.zone().key
    column = st.column_config
    delays = [times.ago(delay) if delay is not None else None for delay in streams["delay"]]
    silences = [f"{times.ago(now - last)} ago" for last in streams["last_event"]]
    st.dataframe(
        streams.with_columns(pl.Series("delay", delays), pl.Series("silence", silences)),
        hide_index=True,
        row_height=36,
        height="content",
        column_order=(
            "integration",
            "stream",
            "kind",
            "events",
            "last_event",
            "silence",
            "last_arrival",
            "delay",
            "daily",
        ),
        column_config={
            "integration": "Integration",
            "stream": "Stream",
            "kind": "Service",
            "events": column.NumberColumn("Events", format="localized"),
            "last_event": column.DatetimeColumn(
                "Last event", format="DD MMM HH:mm:ss", timezone=zone
            ),
            "silence": "Since then",
            "last_arrival": column.DatetimeColumn(
                "Last arrival", format="DD MMM HH:mm:ss", timezone=zone
            ),
            "delay": "Usual delay",
            "daily": column.BarChartColumn("Last 14 days", y_min=0, width="medium"),
        },
        alt="Streams and when they last brought something",
    )
