"""Access: who searched, opened, looked up and exported which events."""

from __future__ import annotations

import streamlit as st

from dashboard import open_lake, session
from pipelines import visible

_MOST = 1000


def show() -> None:
    session.leave()
    lake = open_lake.configured()
    rows = lake.access.newest(_MOST, open_lake.visitor())
    st.markdown("## Access")
    st.caption(
        f"The newest {_MOST:,} {'of your own ' * lake.sight.limited}rows of the append-only table "
        "`access`, newest first · "
        f"times in {session.zone().key}"
    )
    column = st.column_config
    st.dataframe(
        visible.frame(rows),
        hide_index=True,
        placeholder="",
        height=min(640, 40 + 28 * max(1, rows.height)),
        row_height=28,
        column_config={
            "time": column.DatetimeColumn(
                "Time", format="DD MMM YYYY HH:mm:ss", timezone=session.zone().key, width=160
            ),
            "who": column.TextColumn("User", width=200),
            "what": column.TextColumn("Action", width=90),
            "about": column.TextColumn("Details"),
            "events": column.NumberColumn("Events", format="localized", width=90),
            "version": column.NumberColumn("Version", format="localized", width=80),
        },
        alt="Access to the dashboard, newest first",
    )
