"""A backtest of the rule that is shown: its start, its progress and what it has found."""

from __future__ import annotations

import polars as pl
import streamlit as st

from dashboard import backtests, escaping, open_lake, rule_files, session, state, times
from dashboard.backtests import Backtest
from dashboard.state import Opened, View
from pipelines import settings, visible
from pipelines.clock import utc_now
from pipelines.detections import backtest
from pipelines.detections.alerts import rehearsal
from pipelines.detections.rules import Rule

_JOB, _SEEN = "backtest", "backtest_seen"
_SAMPLES, _ENTITIES = 5, 10
_ROW = 28


def offer(rule: Rule) -> None:
    """Offer to evaluate a rule on stored events; show how far that is, or its result."""
    book = rule_files.rulebook()
    if rule.id not in book.ruleset.all():
        st.caption("The rule does not run as this machine is configured.")
        return
    job = _job(rule)
    with st.container(key="backtest", border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            days = st.segmented_control(
                "Days to evaluate",
                backtests.DAYS,
                default=backtests.DAYS[0],
                format_func=lambda n: f"{n} days",
                required=True,
                key="backtest_days",
                label_visibility="collapsed",
                disabled=job is not None and job.running,
            )
            st.button(
                "Backtest",
                icon=":material/history:",
                key="backtest_start",
                help="Evaluate this rule on stored events, as if it had always run",
                disabled=job is not None and job.running,
                on_click=_start,
                args=(rule, days),
            )
        if job is None:
            return
        if job.running:
            st.fragment(_progress, run_every=1.0)()
        else:
            _ended(job)


def _job(rule: Rule) -> Backtest | None:
    """Return the backtest of a rule that this visitor has started, if they may see it all."""
    job: Backtest | None = st.session_state.get(_JOB)
    if job is None or job.rule.id != rule.id or job.sight != open_lake.sight():
        return None
    return job


def _start(rule: Rule, days: int) -> None:
    _stop()
    lake, book = open_lake.configured(), rule_files.rulebook()
    st.session_state[_JOB] = backtests.start(
        rule,
        open_lake.sight(),
        days,
        utc_now(),
        lambda since, until: lake.backtest(book, rule.id, since, until),
    )


def _stop() -> None:
    job: Backtest | None = st.session_state.get(_JOB)
    if job:
        job.stop()


def _progress() -> None:
    job: Backtest | None = st.session_state.get(_JOB)
    if job is None or not job.running:
        session.rerun()
        return
    job.look()
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.progress(job.share, text=f"{job.share:.0%}: {job.rows:,} rows, {job.hits:,} findings")
        st.button("Cancel", key="backtest_cancel", on_click=_stop)


def _ended(job: Backtest) -> None:
    if job.found is None:
        st.caption(
            "Cancelled. Start it again to go on from there." if job.stopped else "It has failed:"
        )
        if job.error:
            st.text(visible.text(job.error))
        return
    # Before anything is shown: if access cannot be recorded, the page fails.
    about = f"backtest {job.rule.id} {job.since:%Y-%m-%dT%H:%M:%SZ} {job.days}d"
    session.record("searched", about, job.found.height)
    early = ", then it was ended: the rule is too noisy" if job.ended_early else ""
    st.caption(
        f"{job.found.height:,} findings in {job.rows:,} rows of the last {job.days} days{early}"
    )
    for reason in job.failed.values():
        st.text(visible.text(f"Not evaluated: {reason}"))
    if job.found.is_empty():
        return
    days = backtests.per_day(job.found, job.since, job.until)
    st.altair_chart(backtests.chart(days), alt="Findings of the backtest per day")
    if not job.sight.limited:
        _alerts(job.found)
    _entities(job.found)
    _samples(job.found)


def _alerts(found: pl.DataFrame) -> None:
    """Show how many messages receivers would have had, if the finder may see all findings."""
    chosen, budgets = settings.found().alerts, rule_files.rulebook().budgets
    played = rehearsal.rehearse(chosen, found.iter_rows(named=True), budgets)
    if not played.messages:
        st.caption("Nobody would have been alerted: no receiver is configured.")
        return
    told = [
        f"{escaping.markdown(name)} {each.alerts:,} alerts, {each.updates:,} updates, "
        f"{each.digests:,} digests"
        for name, each in played.messages.items()
    ]
    words = f"{played.told:,} findings would have been alerted"
    excepted = f", {played.excepted:,} are excepted" if played.excepted else ""
    st.caption(f"{words}{excepted}: {'; '.join(told)}")


def _entities(found: pl.DataFrame) -> None:
    rows = backtest.per_entity(found).head(_ENTITIES)
    st.dataframe(
        visible.frame(rows.with_columns(pl.col("entity").fill_null("-"))),
        hide_index=True,
        placeholder="",
        height=38 + _ROW * rows.height,
        row_height=_ROW,
        column_config={
            "entity": st.column_config.TextColumn("About", width=220),
            "n": st.column_config.NumberColumn("Findings", format="localized", width=80),
        },
        alt="Findings of the backtest per person or address, the most first",
    )


def _samples(found: pl.DataFrame) -> None:
    """Show the newest findings, with links to their last events."""
    newest = found.tail(_SAMPLES).reverse()
    for row in newest.select("time", "date", "event_uids", "entity", "message").iter_rows(
        named=True
    ):
        about = f"{row['entity'] or ''}: {row['message'] or ''}"
        label = f"{times.to_second(row['time'], session.zone())} {escaping.markdown(about)}"
        opened = Opened(date=row["date"], uid=row["event_uids"][-1])
        address = state.params(View(range=times.around(row["time"]), opened=opened))
        session.link("explore", label, ":material/manage_search:", address)
