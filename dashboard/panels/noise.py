"""How many findings each rule makes per week, and how many were false positives."""

from __future__ import annotations

import polars as pl
import streamlit as st

from dashboard import findings
from dashboard.panels import queue
from pipelines import visible
from pipelines.clock import utc_now

WEEKS = 8


def show(cases: pl.DataFrame) -> None:
    rows = findings.noise(cases, utc_now(), WEEKS)
    if rows.is_empty():
        st.caption(f"No findings in the last {WEEKS} weeks.")
        return
    st.caption(
        f"Findings per rule in the last {WEEKS} weeks, the noisiest first. Excepted ones are "
        "counted, withdrawn ones are not."
    )
    shown = rows.with_columns(
        pl.concat_list("level"), week=pl.col("weeks").list.last(), false=pl.col("false") * 100
    )
    column = st.column_config
    st.dataframe(
        visible.frame(shown),
        hide_index=True,
        placeholder="",
        height=min(640, 38 + 30 * rows.height),
        row_height=30,
        column_order=("level", "title", "weeks", "week", "n", "excepted", "closed", "false"),
        column_config={
            "level": column.MultiselectColumn(
                "Level", options=list(queue.PALE), color=list(queue.tints().values()), width=104
            ),
            "title": column.TextColumn("Rule", width=330),
            "weeks": column.BarChartColumn("Per week", y_min=0, width=150),
            "week": column.NumberColumn("Last 7 days", format="localized", width=90),
            "n": column.NumberColumn(f"{WEEKS} weeks", format="localized", width=80),
            "excepted": column.NumberColumn("Excepted", format="localized", width=80),
            "closed": column.NumberColumn("Closed", format="localized", width=70),
            "false": column.NumberColumn("False positives", format="%.0f %%", width=110),
        },
        alt="Findings per rule and week, with the share of false positives among the closed ones",
    )
