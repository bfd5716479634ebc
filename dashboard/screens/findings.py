"""Findings: the queue, a finding, and the coverage of rules."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import polars as pl
import streamlit as st

from dashboard import cases, findings, open_lake, session
from dashboard.findings import Queue, Wish
from dashboard.lake import Lake
from dashboard.panels import finding, noise, queue, silence, techniques, timeline
from pipelines import visible

_STATES = {"open": "Open", "mine": "Mine", "closed": "Closed", "all": "All"}
_OTHERS = {"noise": "Noise", "coverage": "ATT&CK", "exceptions": "Exceptions"}


def show() -> None:
    session.leave()
    timeline.open_cell()
    lake = open_lake.configured()
    known = lake.cases()
    wanted = queue.wish(_shown() if _shown() in _STATES else "open")
    listed = findings.queue(known, wanted, open_lake.visitor())
    if uid := st.query_params.get("id"):
        _opened(lake, known, listed, uid)
        return
    _heading(listed)
    match _shown():
        case "noise":
            noise.show(known)
        case "coverage":
            techniques.show()
        case "exceptions":
            silence.active(dict(known.sort("time").select("rule_id", "title").iter_rows()))
        case _:
            _list(known, wanted, listed)


def _shown() -> str:
    """Return the part of the page that the address names, by default the open findings."""
    name = st.query_params.get("show", "open")
    return name if name in _STATES or name in _OTHERS else "open"


def _heading(listed: Queue) -> None:
    labels = {name: f"{label} {listed.counts[name]:,}" for name, label in _STATES.items()}
    options = {**labels, **_OTHERS}
    st.session_state["findings_show"] = _shown()
    with st.container(horizontal=True, vertical_alignment="center", key="findings_head"):
        st.markdown("## Findings", width="content")
        st.segmented_control(
            "Show",
            list(options),
            format_func=options.__getitem__,
            key="findings_show",
            required=True,
            label_visibility="collapsed",
            on_change=lambda: queue.put("show", st.session_state["findings_show"]),
        )


def _list(known: pl.DataFrame, wanted: Wish, listed: Queue) -> None:
    if known.is_empty():
        with st.container(border=True, key="notice", gap="xsmall", horizontal_alignment="center"):
            st.markdown(":material/flag: **No findings yet**", width="content")
            st.caption(
                "Findings appear here once rules have been evaluated, by `auditlake detect` or "
                "`auditlake up`.",
                width="content",
            )
        return
    # Before anything is shown: if access cannot be recorded, the page fails.
    asked = {key: st.query_params.get_all(key) for key in sorted(st.query_params)}
    session.record("searched", f"findings {urlencode(asked, doseq=True)}", listed.rows.height)
    queue.filters(known, wanted)
    queue.show(listed, wanted)


def _opened(lake: Lake, known: pl.DataFrame, listed: Queue, uid: str) -> None:
    snapshot = lake.look()
    case = cases.opened(lake, snapshot, uid)
    _steps(listed.rows["finding_uid"].to_list(), uid)
    if case is None:
        st.caption("The lake has no such finding. The link may be from another lake. Its UID:")
        st.text(visible.text(uid[:200]))
        return
    decided: dict[str, Any] = known.filter(finding_uid=uid).row(0, named=True)
    finding.show(snapshot if snapshot and snapshot.rows else None, case, decided)


def _steps(uids: list[str], uid: str) -> None:
    """Lead back to the list, and to the previous and the next finding of it."""
    place = uids.index(uid) if uid in uids else None
    before = uids[place - 1] if place else None
    after = uids[place + 1] if place is not None and place + 1 < len(uids) else None
    with st.container(horizontal=True, gap="xsmall", key="case_steps"):
        st.button(
            "All findings",
            icon=":material/arrow_back:",
            key="case_back",
            on_click=_go,
            args=("",),
        )
        for label, icon, shortcut, other in (
            ("Previous finding", ":material/keyboard_arrow_up:", "K", before),
            ("Next finding", ":material/keyboard_arrow_down:", "J", after),
        ):
            st.button(
                label,
                icon=icon,
                key=f"case_{shortcut}",
                type="tertiary",
                shortcut=shortcut,
                disabled=other is None,
                on_click=_go,
                args=(other or "",),
            )


def _go(uid: str) -> None:
    queue.put("id", uid)
