"""Sources: the state, coverage, polling and volume of each stream."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl
import streamlit as st

from dashboard import coverage, open_lake, queries, session, times, volumes
from dashboard.coverage import Known
from dashboard.lake import Lake
from dashboard.panels import notices, span_coverage
from dashboard.queries import Pushes
from pipelines import visible
from pipelines.clock import utc_now
from pipelines.extraction import schedule
from pipelines.extraction.schedule import NextPoll
from pipelines.lake import stream_state, tables
from pipelines.lake.stream_state import Summary
from pipelines.schemas import EVENTS

_RECENT = stream_state.RECENT
_STATES = {
    "up to date": ("#e4f2ec", "#1d3b33"),
    "late": ("#fbe6c6", "#6e4a16"),
    "failing": ("#f9d7d7", "#7a2530"),
    "not licensed": ("#eceef2", "#263041"),
    "events behind raw": ("#fbe6c6", "#6e4a16"),
    "never polled": ("#eceef2", "#263041"),
    "not polled": ("#fbe6c6", "#6e4a16"),
    "retired": ("#eceef2", "#263041"),
}
"""State -> its colours in the light and the dark theme."""
_MOST_GAPS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Now:
    lake: Lake
    known: Known

    @property
    def now(self) -> datetime:
        return self.known.now


def show() -> None:
    session.leave()
    lake = open_lake.configured()
    snapshot = lake.look()
    this = _Now(lake=lake, known=coverage.of(lake, utc_now(), open_lake.intended()))
    if not (snapshot and snapshot.rows) and not this.known.streams:
        notices.no_lake()
        return
    st.markdown("## Sources")
    minute = this.now.replace(second=0, microsecond=0)
    streams = (
        snapshot.ask(volumes.of_table, minute)
        if snapshot
        else volumes.of_events(pl.LazyFrame(schema=EVENTS), minute)
    )
    _table(this, _with_state(this, _with_silent(this, streams)))
    st.caption(
        "Coverage is the share of the last 14 days that was fetched successfully; Delay is the "
        "median time from event to arrival, backfill excluded; bars show events per UTC day, today "
        f"last · times in {session.zone().key}"
        + (f" · lake v{snapshot.version}" if snapshot else "")
    )
    _gaps(this)
    _rejected(this)
    span_coverage.show(this.known)


def _with_silent(this: _Now, streams: pl.DataFrame) -> pl.DataFrame:
    """Return the streams and those the lake knows of that have no events."""
    known = pl.DataFrame(
        list(this.known.streams), {"integration": pl.String, "stream": pl.String}, orient="row"
    )
    by = ["integration", "stream"]
    silent = known.join(streams, on=by, how="anti").with_columns(events=pl.lit(0, pl.UInt32))
    return pl.concat([streams, silent], how="diagonal_relaxed").sort(by)


def _with_state(this: _Now, streams: pl.DataFrame) -> pl.DataFrame:
    """Return the streams with columns for their state, coverage, polling and pushes."""
    logs = list(streams.select("integration", "stream").iter_rows())
    raws = this.lake.raws(logs)
    behind = this.lake.behind(raws)
    found = {log: this.known.summary(log, behind=log in behind) for log in logs}
    since = this.now - _RECENT
    refused = this.lake.ask("rejected", queries.rejected) or {}
    pushes = this.lake.ask("reconciliation", queries.pushes, since.date()) or {}
    pushed = this.lake.newest_pushes(raws, since.date())
    return streams.with_columns(
        # A list, since only multiselect columns can be coloured by value.
        pl.Series("state", [[found[log].state.name] for log in logs]),
        pl.Series("since_last", [_ago(this, t) for t in streams["last_event"]], pl.String),
        pl.Series("delay", [times.ago(d) if d is not None else "" for d in streams["delay"]]),
        pl.Series("shown", [_share(found[log].share) for log in logs], pl.String),
        pl.Series("gaps", [_count(found[log]) for log in logs], pl.String),
        pl.Series("lost", [_lost(found[log]) for log in logs], pl.String),
        pl.Series("polled", [_ago(this, found[log].polled_at) for log in logs], pl.String),
        pl.Series("next", [_next_poll(this, log) for log in logs], pl.String),
        pl.Series("reason", [_reason(this, log, found[log]) for log in logs], pl.String),
        pl.Series("rejected", [refused.get(log, 0) for log in logs]),
        pl.Series("pushed", [_ago(this, pushed.get(log)) for log in logs], pl.String),
        pl.Series("push", [_push_coverage(pushes.get(log)) for log in logs], pl.String),
    )


def _share(share: float | None) -> str:
    return f"{100 * share:.1f} %" if share is not None else ""


def _count(found: Summary) -> str:
    return f"{found.gaps:,}" if found.polled_at else ""


def _lost(found: Summary) -> str:
    return f"{found.lost:,}" if found.lost else ""


def _ago(this: _Now, time: datetime | None) -> str:
    return f"{times.ago(this.now - time)} ago" if time else ""


def _plan(this: _Now, log: coverage.Log) -> NextPoll | None:
    """Return the poller's plan for the stream, if it runs on this machine and is not outdated."""
    plan = schedule.load(tables.Lake(this.lake.root), tables.StreamKey(*log))
    last = this.known.polled_at(log)
    # A plan older than the last poll is outdated: the process that made it may have ended.
    return plan if plan and (last is None or plan.next > last) else None


def _next_poll(this: _Now, log: coverage.Log) -> str:
    """Return the planned time; without a plan, an estimate from the usual interval."""
    plan = _plan(this, log)
    due = plan.next if plan else this.known.next_due(log)
    if due is None:
        return ""
    return f"in {times.ago(due - this.now)}" if due > this.now else "due"


def _reason(this: _Now, log: coverage.Log, found: Summary) -> str:
    """Return why the stream fails, or why it is polled at its interval."""
    state = found.state
    if state.since is not None:
        return f"failing for {times.ago(this.now - state.since)}: {state.reason}"
    if ended := this.known.ended(log):
        return ended
    plan = _plan(this, log)
    return f"every {times.ago(timedelta(seconds=plan.interval))}: {plan.why}" if plan else ""


def _push_coverage(found: Pushes | None) -> str:
    """Return the share of polled events that were pushed too, and how many pushes lack a poll."""
    if found is None:
        return ""
    share = f"{found.both / found.polled:.0%} of polled" if found.polled else "nothing polled"
    return f"{share}, {found.unconfirmed:,} unconfirmed" if found.unconfirmed else share


def _table(this: _Now, streams: pl.DataFrame) -> None:
    zone, column = session.zone().key, st.column_config
    dark = st.context.theme.type == "dark"
    tints = [pair[dark] for pair in _STATES.values()]
    st.dataframe(
        visible.frame(streams),
        hide_index=True,
        placeholder="",
        row_height=34,
        height="content",
        column_order=(
            *("integration", "stream", "state", "events", "last_event", "since_last", "delay"),
            *("polled", "next", "reason", "shown", "gaps", "lost", "rejected"),
            *("pushed", "push", "daily"),
        ),
        column_config={
            "integration": column.TextColumn("Integration", width=125),
            "stream": "Stream",
            "state": column.MultiselectColumn("State", options=list(_STATES), color=tints),
            "events": column.NumberColumn("Events", format="localized"),
            "last_event": column.DatetimeColumn(
                "Last event", format="DD MMM HH:mm:ss", timezone=zone
            ),
            "since_last": "Last event ago",
            "delay": "Delay",
            "polled": "Last polled",
            "next": "Next poll",
            "reason": "Reason",
            "shown": column.TextColumn("Coverage", alignment="right"),
            "gaps": column.TextColumn("Gaps", alignment="right"),
            "lost": column.TextColumn("Lost", alignment="right"),
            "rejected": column.NumberColumn("Rejected", format="localized"),
            "pushed": "Last push",
            "push": "Push coverage",
            "daily": column.BarChartColumn("Last 14 days", y_min=0, width="medium"),
        },
        alt="Streams with their state, coverage and volume",
    )


def _gaps(this: _Now) -> None:
    if not this.known.streams:
        return
    rows = _missing(this)
    st.markdown("### Coverage gaps of the last 14 days, and lost ranges")
    if not rows:
        st.caption(_no_gaps(this))
        return
    names = ["integration", "stream", "since", "until", "long", "reason"]
    zone = session.zone().key
    shown = pl.DataFrame(rows, schema=names, orient="row").sort("until", descending=True)
    st.dataframe(
        visible.frame(shown.head(_MOST_GAPS)),
        hide_index=True,
        placeholder="",
        height="content",
        row_height=28,
        column_config={
            "integration": "Integration",
            "stream": "Stream",
            "since": st.column_config.DatetimeColumn("From", timezone=zone, format=_MOMENT),
            "until": st.column_config.DatetimeColumn("To", timezone=zone, format=_MOMENT),
            "long": "Duration",
            "reason": "Reason",
        },
        alt="Coverage gaps",
    )


_MOMENT = "DD MMM YYYY HH:mm:ss"


def _missing(this: _Now) -> list[tuple[str, str, datetime, datetime, str, str]]:
    """Return the recent gaps of all streams and all losses: a row each, as they are shown."""
    since = this.now - _RECENT
    return [
        (*log, one.since, one.until, times.ago(one.until - one.since), f"{label}{one.reason}")
        for log in this.known.streams
        for label, found in (
            ("", this.known.open_gaps(log, since, this.now)),
            ("LOST: ", this.known.lost(log)),
        )
        for one in found
    ]


def _no_gaps(this: _Now) -> str:
    logs = this.known.streams
    polled = sum(this.known.polled_at(log) is not None for log in logs)
    if polled == len(logs):
        return "No gaps: every stream was fetched completely up to its last poll."
    return (
        f"No gaps in the {polled:,} of {len(logs):,} streams that were polled; the others were "
        "never polled."
    )


def _rejected(this: _Now) -> None:
    rows = this.lake.ask("rejected", queries.newest_rejected)
    if rows is None or rows.is_empty():
        return
    st.markdown("### Rejected records")
    st.caption(
        "Records that could not be parsed are kept as received; retry them with `auditlake replay`."
    )
    st.dataframe(
        visible.frame(rows),
        hide_index=True,
        placeholder="",
        height="content",
        row_height=28,
        column_config={
            "integration": "Integration",
            "stream": "Stream",
            "ingested_at": st.column_config.DatetimeColumn(
                "Arrived", timezone=session.zone().key, format=_MOMENT
            ),
            "reason": "Reason",
            "raw_sha256": "SHA-256",
        },
        alt="The newest rejected records",
    )
