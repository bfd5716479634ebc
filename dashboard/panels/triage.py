"""Decisions about findings: take, close and reopen them; with the history."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import polars as pl
import streamlit as st

from dashboard import findings, open_lake, session
from pipelines import visible
from pipelines.clock import utc_now

_MOST_NOTE = 2000


def offer(uids: Sequence[str], name: str, *, closed: bool) -> None:
    """Offer the decisions about these findings; `name` distinguishes an
    offer on a page from others."""
    # The key has the findings: a menu must not stay open over others.
    key = f"{name}_{hashlib.sha256(repr(sorted(uids)).encode()).hexdigest()[:8]}"
    st.button(
        "Take",
        icon=":material/back_hand:",
        key=f"take_{key}",
        help="Assign to me",
        on_click=decide,
        args=(uids, "assigned"),
    )
    if closed:
        st.button(
            "Reopen",
            icon=":material/undo:",
            key=f"reopen_{key}",
            on_click=decide,
            args=(uids, "open"),
        )
    else:
        with st.popover("Close", icon=":material/task_alt:", key=f"close_{key}"):
            _closing(uids, key)


def _closing(uids: Sequence[str], key: str) -> None:
    with st.form(f"closing_{key}", border=False):
        st.radio("Reason", [*findings.REASONS], format_func=str.capitalize, key=f"reason_{key}")
        st.text_area("Note", key=f"note_{key}", max_chars=_MOST_NOTE, height=80)
        st.form_submit_button(
            f"Close {len(uids):,} findings" if len(uids) > 1 else "Close finding",
            on_click=lambda: decide(
                uids, "closed", st.session_state[f"reason_{key}"], st.session_state[f"note_{key}"]
            ),
        )


def decide(uids: Sequence[str], state: str, reason: str | None = None, note: str = "") -> None:
    """Record a decision of the visitor about these findings, in one commit."""
    rows = findings.decision(uids, open_lake.visitor(), state, reason=reason, note=note)
    open_lake.configured().triage.add_all(utc_now(), rows)


def history(uid: str) -> None:
    """Show the decisions about a finding, with who and when; newest first."""
    rows = open_lake.configured().triage.every().filter(finding_uid=uid).reverse()
    if rows.is_empty():
        st.caption("Nobody has looked after this finding yet.")
        return
    column = st.column_config
    done = pl.when(pl.col("state") == "closed").then(
        pl.format("closed: {}", pl.col("reason").fill_null("no reason"))
    )
    st.dataframe(
        visible.frame(pl.DataFrame(rows.with_columns(state=done.otherwise("state")).to_dicts())),
        hide_index=True,
        placeholder="",
        height=min(240, 38 + 28 * rows.height),
        row_height=28,
        column_order=("time", "who", "state", "note"),
        column_config={
            "time": column.DatetimeColumn(
                "Time", format="DD MMM HH:mm", timezone=session.zone().key, width=92
            ),
            "who": column.TextColumn("User", width=140),
            "state": column.TextColumn("Decision", width=130),
            "note": column.TextColumn("Note"),
        },
        alt="Decisions about this finding, newest first",
    )
