"""The activity graph with its totals, grouping control and legend."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import altair as alt
import polars as pl
import streamlit as st

from dashboard import (
    charts,
    coverage,
    fields,
    finding_marks,
    open_lake,
    queries,
    session,
    times,
    uncovered,
)
from dashboard.charts import Series
from dashboard.coverage import Gap
from dashboard.lake import Snapshot
from dashboard.panels import flags
from dashboard.queries import Filter, Query, Summary
from pipelines.clock import utc_now

_TOP = 8
_OTHER = "by_other"  # the list of columns other than the usual ones
_LEAVE = "explore_leave"  # the parameters of Sources, to be opened next
HATCHING = (Path(__file__).parents[1] / "static" / "hatching.html").read_text()


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Gaps in the streams that a search concerns, within its time range."""

    blind: tuple[Gap, ...] = ()
    streams: int = 0
    covering: int = 0
    """How many of them have no gap."""

    @property
    def sentence(self) -> str:
        plural = self.streams != 1
        return (
            f"{self.covering:,} of {self.streams:,} stream{'s' * plural} cover{'s' * (not plural)} "
            "this time"
        )


def show(snapshot: Snapshot, query: Query, covered: Coverage) -> None:
    """Show the graph, also of an empty result."""
    field = session.view().by
    summary = snapshot.ask(queries.summary, query)
    top = list(snapshot.ask(queries.stacked, query, field, _TOP).iter_rows())
    stacked = charts.series(
        top, summary.events, field, session.colours(field, [value for value, _ in top])
    )
    edges = times.edges(query.since, query.until, session.zone())
    found = flags.in_time(query, edges)
    with st.container(border=True, key="activity", gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            _totals(summary)
            if covered.covering < covered.streams:
                session.link("sources", covered.sentence, ":material/texture:", _same_time())
            flags.link(found, query)
            _group_by()
        left, right = st.columns([4.2, 1.25], gap="small")
        with left:
            span = query.since, query.until
            marks = finding_marks.layers(found, edges, span, session.zone())
            _graph(snapshot, query, field, stacked, covered, edges=edges, marks=marks)
        with right:
            if stacked:
                _legend(field, stacked)


def _totals(summary: Summary) -> None:
    share = summary.unsuccessful / max(1, summary.events)
    st.html(
        '<span class="quiet">'
        f"<b>{summary.events:,}</b> event{'s' * (summary.events != 1)} · "
        f"<b>{summary.actors:,}</b> actor{'s' * (summary.actors != 1)} · "
        f"<b>{summary.addresses:,}</b> IP{'s' * (summary.addresses != 1)} · "
        f"<b>{summary.unsuccessful:,}</b> failed ({share:.1%})</span>",
        width="stretch",
    )


def _group_by() -> None:
    # The URL decides, not the widget's own memory, which survives Back.
    st.session_state["by"] = by = session.view().by
    st.segmented_control(
        "Group by",
        fields.GROUPS if by in fields.GROUPS else (*fields.GROUPS, by),
        format_func=fields.label,
        key="by",
        required=True,
        label_visibility="collapsed",
        on_change=_take_group,
        args=("by",),
    )

    others = [name for name in fields.NAMES if name not in fields.GROUPS]
    st.selectbox(
        "Group by another column",
        others,
        index=None,
        format_func=fields.label,
        key=_OTHER,
        placeholder="Other",
        filter_mode="contains",
        label_visibility="collapsed",
        width=110,
        on_change=_take_group,
        args=(_OTHER,),
    )


def _take_group(key: str) -> None:
    if chosen := st.session_state[key]:
        session.arrange(by=chosen, page=session.view().page)
    if key == _OTHER:
        # Its list shows no former choice, without becoming a new element, which takes longer.
        st.session_state[_OTHER] = None


def _graph(
    snapshot: Snapshot,
    query: Query,
    field: str,
    stacked: tuple[Series, ...],
    covered: Coverage,
    *,
    edges: tuple[datetime, ...],
    marks: Sequence[alt.Chart],
) -> None:
    zone = session.zone()
    top = tuple(one.value for one in stacked if one.value is not None)
    counts = snapshot.ask(queries.activity, query, field, top, edges)
    # A new key per range: otherwise the old brush would stay on the new axis.
    key = f"graph-{times.show(session.view().range)}"
    st.altair_chart(
        charts.activity(
            counts,
            stacked,
            edges,
            (query.since, query.until),
            zone,
            blind=covered.blind,
            streams=covered.streams,
            marks=marks,
        ),
        key=key,
        on_select=lambda: _take(key),
        selection_mode=[charts.BRUSH, uncovered.CLICK],
        alt=f"Events over time by {fields.label(field)}",
        width="stretch",
    )


def coverage_of(query: Query) -> Coverage:
    """Return the gaps of the streams that a search concerns, up to now."""
    now = utc_now()
    until = min(query.until, now)
    if query.since >= until:
        return Coverage()
    known = coverage.of(open_lake.configured(), now, open_lake.intended())
    logs = queries.concerned(query, known.names).select("integration", "stream").rows()
    missing = [known.uncovered(log, query.since, until) for log in logs]
    return Coverage(
        blind=tuple(one for each in missing for one in each),
        streams=len(logs),
        covering=sum(not each for each in missing),
    )


def _take(key: str) -> None:
    """Zoom to the range that was drawn, or remember that the strip was clicked."""
    selection = st.session_state[key]["selection"]
    # A drag that ends on the strip is no click.
    if span := charts.brushed(selection):
        session.change(range=times.between(*span))
    elif uncovered.is_clicked(selection):
        # Pages are not left from a callback: the script does it when it runs.
        st.session_state[_LEAVE] = _same_time()
        session.ask(session.view())


def open_sources() -> None:
    """Leave for Sources if the strip of uncovered time was clicked."""
    if address := st.session_state.pop(_LEAVE, None):
        session.go("sources", address)


def _same_time() -> dict[str, str]:
    return {"range": times.show(session.view().range)}


def _legend(field: str, stacked: tuple[Series, ...]) -> None:
    rows = pl.DataFrame(
        {
            "colour": [charts.swatch(one.colour) for one in stacked],
            "value": [one.name for one in stacked],
            "n": [one.n for one in stacked],
        }
    )
    values = tuple(one.value for one in stacked)
    # A click arrives as a row index: a new key per list of values drops clicks on an older list.
    key = f"legend-{hashlib.sha256(repr((field, values)).encode()).hexdigest()[:16]}"
    st.dataframe(
        rows,
        key=key,
        on_select=lambda: _take_legend(key, field, values),
        selection_mode="single-cell",
        hide_index=True,
        placeholder="",
        height=charts.HEIGHT,
        row_height=20,
        # Counts before names: where the column is narrow, the end of a name is cut, not a number.
        column_order=("colour", "n", "value"),
        column_config={
            "colour": st.column_config.ImageColumn("", width=28),
            "value": st.column_config.TextColumn(fields.label(field), width=140),
            "n": st.column_config.NumberColumn("Events", format="localized", width=64),
        },
        alt=f"{fields.label(field)}: colours and events; select one to filter by it",
    )


def _take_legend(key: str, field: str, values: tuple[str | None, ...]) -> None:
    cells = st.session_state[key]["selection"]["cells"]
    value = values[cells[0][0]] if cells else None
    if value is not None:
        session.filter_by(Filter(field=field, value=value))
