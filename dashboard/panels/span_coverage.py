"""The coverage of a chosen time, as the graph and a certificate state it, with the last poll."""

from __future__ import annotations

from functools import partial
from zoneinfo import ZoneInfo

import polars as pl
import streamlit as st

from dashboard import session, times
from dashboard.coverage import Known, Log
from dashboard.panels import time_choice
from dashboard.panels.activity import Coverage
from pipelines import visible
from pipelines.integrity import coverage_certificate
from pipelines.lake import stream_state
from pipelines.sdk.pages import Span

_USUAL = times.Last(count=14, unit="d")
_COMPLETE, _NOT = ":material/check_circle:", ":material/warning:"


def show(known: Known) -> None:
    if not known.streams:
        return
    st.markdown("### Coverage of a time")
    time_choice.offer(times.label(_USUAL, session.zone()))
    since, until = times.bounds(time_choice.chosen() or _USUAL, known.now)
    span = Span(since=since, until=min(until, known.now)) if since < known.now else None
    if span is None:
        st.caption("This time is in the future.")
        return
    covered = _covered(known, span)
    icon = _COMPLETE if covered.covering == covered.streams else _NOT
    st.caption(
        f"{icon} {sentence(known, span)}. Export in Explore makes a signed certificate of it."
    )
    zone = session.zone()
    _table([row(known, log, span, zone) for log in sorted(known.streams)])


def sentence(known: Known, span: Span) -> str:
    """Return how many streams cover the time, and how many of those may change."""
    settling = sum(
        any(part.since < span.until and span.since < part.until for part in one.settling)
        for _, one in known.streams.values()
    )
    late = f"; late events of {settling:,} may still come" if settling else ""
    return f"{_covered(known, span).sentence}{late}"


def _covered(known: Known, span: Span) -> Coverage:
    missing = [known.uncovered(log, span.since, span.until) for log in known.streams]
    return Coverage(streams=len(missing), covering=sum(not each for each in missing))


Row = tuple[str, str, str, str, str, str]


def row(known: Known, log: Log, span: Span, zone: ZoneInfo) -> Row:
    """Return integration, stream, covered share, last poll, its result, and the open time.

    The time since a recent poll is not open yet, as in `Known.uncovered`.
    """
    history, covered = known.streams[log]
    share = stream_state.share(history, covered, span)
    polled = history.polled_at
    due = stream_state.due(history, span, known.now)
    shown = partial(times.to_second, zone=zone)
    parts = coverage_certificate.open_parts(history, due, known.now, shown) if due else []
    return (
        *log,
        f"{100 * share:.1f} %" if share is not None else "",
        f"{times.ago(known.now - polled)} ago" if polled else "never",
        _result(known, log),
        "; ".join(parts),
    )


def _result(known: Known, log: Log) -> str:
    history, _ = known.streams[log]
    if history.polled_at is None:
        return ""
    state = stream_state.state(history, known.now)
    return f"failed: {state.reason}" if state.reason else "succeeded"


def _table(rows: list[Row]) -> None:
    names = ["integration", "stream", "share", "polled", "result", "missing"]
    text = st.column_config.TextColumn
    st.dataframe(
        visible.frame(pl.DataFrame(rows, dict.fromkeys(names, pl.String), orient="row")),
        hide_index=True,
        placeholder="",
        height="content",
        row_height=28,
        column_config={
            "integration": text("Integration", width=125),
            "stream": "Stream",
            "share": text("Covered", alignment="right", width=80),
            "polled": text("Last poll", width=90),
            "result": text("Result", width=200),
            "missing": "Not complete",
        },
        alt="Coverage of each stream in the chosen time, and its last poll",
    )
