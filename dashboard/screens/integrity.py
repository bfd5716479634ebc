"""The page Integrity: the last verification of each table, and its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl
import streamlit as st

from dashboard import integrity, open_lake, session, times, verdicts
from dashboard.integrity import Table
from dashboard.panels import notices
from pipelines import visible
from pipelines.clock import utc_now
from pipelines.integrity.verifier.log_reader import LogFiles

_MOMENT = "DD MMM YYYY HH:mm:ss"
_MOST = 500
_PAST = {
    "at": pl.Datetime("us", "UTC"),
    "size": pl.Int64(),
    "root": pl.String(),
    "by": pl.String(),
}
_COLORS = {
    "verified": ("#e4f2ec", "#1d3b33"),
    "overdue": ("#fbe6c6", "#6e4a16"),
    "not compared": ("#fbe6c6", "#6e4a16"),
    "not verified": ("#eceef2", "#263041"),
    "not signed": ("#fbe6c6", "#6e4a16"),
    "damaged": ("#fbe6c6", "#6e4a16"),
    "tampered": ("#f4b4b4", "#8f2333"),
}
_SHOWN = 20  # findings
_HEADLINES = {
    "verified": ":material/verified_user: All verified rows are as they were signed",
    "overdue": ":material/history: Verification overdue: last run more than a day ago",
    "not compared": ":material/help: Some events could not be compared with their records",
    "not verified": ":material/help: Signed, but not verified yet",
    "not signed": ":material/warning: Some tables are not signed",
    "damaged": ":material/heart_broken: Files are damaged",
    "tampered": ":material/gpp_bad: Tampering detected",
}


def show() -> None:
    session.leave()
    opened, now = open_lake.configured(), utc_now()
    lake = opened.shelf
    tables = integrity.worst_first(integrity.tables(lake, opened.sight), now)
    if not tables:
        notices.no_lake()
        return
    st.markdown("## Integrity")
    states = [table.state(now) for table in tables]
    worst = integrity.worst(states)
    red = worst in ("damaged", "tampered")
    st.markdown(f"### :red[{_HEADLINES[worst]}]" if red else f"### {_HEADLINES[worst]}")
    st.caption(_summary(tables, now))
    _findings(tables)
    _differing(tables)
    _table(tables, states)
    st.caption(
        "This page shows the last verification report and verifies nothing itself. To verify "
        "every row, run `auditlake verify --key KEY --full` with a KEY from outside the lake."
    )
    _checkpoints(lake, [table.name for table in tables if table.signed])


def _findings(tables: Sequence[Table]) -> None:
    """Show the findings in words, with the next step; the tables come worst first."""
    found = [
        (table, one)
        for table in tables
        if not table.verdict.get("ok", True)
        for one in table.findings
    ]
    for place, (table, one) in enumerate(found[:_SHOWN]):
        meaning = verdicts.meaning(one)
        with st.container(border=True, gap="xsmall", key=f"finding_{meaning.state[:3]}_{place}"):
            st.markdown(f"**{meaning.words}**")
            # As text: names and details may come from somebody who changed the lake.
            st.text(visible.text(f"{table.name}: {one.get('detail', '')}", keep="\n"))
            st.markdown(f"Next: {meaning.next}")
    if len(found) > _SHOWN:
        st.caption(f"{len(found) - _SHOWN:,} more findings: run `auditlake verify --json`.")


def _differing(tables: Sequence[Table]) -> None:
    """Show the records that arrived with other content: their rows are as signed nevertheless."""
    found = [(table, words) for table in tables for words in table.differing]
    if not found:
        return
    with st.container(border=True, gap="xsmall", key="differing"):
        st.markdown("**Other content arrived for the same id**")
        for table, words in found[-_SHOWN:]:
            st.text(visible.text(f"{table.name}: {words}"))
        if len(found) > _SHOWN:
            st.caption(f"{len(found) - _SHOWN:,} more: run `auditlake verify --full --json`.")
        st.markdown(
            "Next: compare with the vendor's console. If the pushed content is not the vendor's, "
            "somebody knows the webhook's secret: change it. All versions stay in raw."
        )


def _summary(tables: Sequence[Table], now: datetime) -> str:
    signed = sum(table.signed.size for table in tables if table.signed)
    since = sum(max(0, table.since) for table in tables)
    verified = [table.verified_at for table in tables if table.verified_at]
    when = f"last verified {times.ago(now - max(verified))} ago" if verified else "never verified"
    return f"{signed:,} rows signed, {since:,} of them since the last verification · {when}"


def _table(tables: Sequence[Table], states: Sequence[str]) -> None:
    zone, column = session.zone().key, st.column_config
    dark = st.context.theme.type == "dark"
    moments = pl.Datetime("us", "UTC")
    rows = pl.DataFrame(
        {
            "table": [table.name for table in tables],
            "state": [[state] for state in states],
            "signed": [table.signed.size if table.signed else 0 for table in tables],
            "since": [max(0, table.since) for table in tables],
            "removed": [table.verdict.get("removed", 0) for table in tables],
            "verified": pl.Series([table.verified_at for table in tables], dtype=moments),
            "full": pl.Series([table.all_read_at for table in tables], dtype=moments),
            "agree": [len(table.verdict.get("compared_with", ())) for table in tables],
            "found": [table.found for table in tables],
            "root": [table.signed.root.hex() if table.signed else "" for table in tables],
        }
    )
    st.dataframe(
        visible.frame(rows),
        hide_index=True,
        placeholder="",
        row_height=34,
        height="content",
        column_config={
            "table": "Table",
            "state": column.MultiselectColumn(
                "State", options=list(_COLORS), color=[pair[dark] for pair in _COLORS.values()]
            ),
            "signed": column.NumberColumn("Signed rows", format="localized"),
            "since": column.NumberColumn("Not yet verified", format="localized"),
            "removed": column.NumberColumn("Removed by acts", format="localized"),
            "verified": column.DatetimeColumn("Last verified", format=_MOMENT, timezone=zone),
            "full": column.DatetimeColumn("Last full verification", format=_MOMENT, timezone=zone),
            "agree": column.NumberColumn("Matching known checkpoints"),
            "found": "Findings",
            "root": "Root",
        },
        alt="Tables with their signed rows and last verification report",
    )


def _checkpoints(lake: LogFiles, names: Sequence[str]) -> None:
    if not names:
        return
    st.markdown("### Checkpoints")
    chosen = st.selectbox("Table", names, format_func=visible.text, key="checkpoints_of", width=360)
    past = integrity.checkpoints(lake, chosen, _MOST)
    rows = [(one.at, one.size, one.root, one.signers) for one in past]
    st.dataframe(
        visible.frame(pl.DataFrame(rows, schema=_PAST, orient="row")),
        hide_index=True,
        height=min(420, 40 + 28 * max(1, len(rows))),
        row_height=28,
        column_config={
            "at": st.column_config.DatetimeColumn(
                "Signed at", format=_MOMENT, timezone=session.zone().key
            ),
            "size": st.column_config.NumberColumn("Rows", format="localized"),
            "root": "Root",
            "by": "Signed by",
        },
        alt="The newest checkpoints of the table, newest first",
    )
