"""Exceptions from rules: made from a finding, with a count of those they cover; and revoked."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl
import streamlit as st

from dashboard import open_lake, session, silences, times
from dashboard.cases import Case
from pipelines import visible
from pipelines.clock import utc_now
from pipelines.detections.exceptions import RuleException

_MOST_LISTED = 200
_DAY = timedelta(days=1)


def offer(case: Case) -> None:
    """Offer to make an exception from the rule for the subject of this finding."""
    key = f"silence_{case.uid[:16]}"
    with st.popover(
        "Silence this", icon=":material/notifications_off:", key=key, on_change="rerun"
    ) as menu:
        if menu.open:
            _form(case, key)


def _form(case: Case, key: str) -> None:
    if open_lake.configured().exceptions.elsewhere:
        st.caption(
            "This lake is read-only here, and rules are evaluated elsewhere: an exception made "
            "here would not be read. Put it into `rules.toml`."
        )
        return
    required = silences.required(open_lake.sight(), case.finding)
    if required and case.finding["count"] > 1:
        st.caption(
            "Findings of several events are not excepted by integration: ask somebody who sees all "
            "integrations."
        )
        return
    values = silences.offered(case.finding, case.events) | required
    st.caption("Findings of this rule are kept, but alert nobody, where all of these hold:")
    chosen = st.multiselect(
        "Fields",
        list(values),
        default=[name for name in ("entity", *required) if name in values],
        format_func=lambda name: visible.text(f"{silences.FIELDS[name]}: {values[name]}"),
        key=f"{key}_fields",
        label_visibility="collapsed",
    )
    now = utc_now()
    latest = (now + silences.LONGEST).date()
    until = st.date_input(
        "Until", latest, min_value=now.date() + _DAY, max_value=latest, key=f"{key}_until"
    )
    st.text_input("Owner", open_lake.visitor(), key=f"{key}_owner", max_chars=200)
    st.text_input("Reason", key=f"{key}_reason", max_chars=500)
    fields = {name: values[name] for name in {*chosen, *required}}
    if not fields or not isinstance(until, date):
        st.caption("Choose at least one field. A rule as a whole is disabled in `rules.toml`.")
        return
    wanted = silences.made(case.finding["rule_id"], fields, _midnight(until))
    _preview(wanted, now)
    st.button(
        "Record exception",
        key=f"{key}_save",
        type="primary",
        on_click=lambda: _save(wanted, key),
    )


def _preview(wanted: RuleException, now: datetime) -> None:
    lake = open_lake.configured()
    since = now - silences.BEFORE
    found = lake.recent("findings", silences.of_rule, wanted.rule_id, since)
    if found is None or found.is_empty():
        st.caption("No finding of this rule in the last 90 days.")
        return
    events = _events(found, wanted)
    covered = silences.covered(found, events, wanted)
    st.caption(
        f"It would have covered **{covered:,} of {found.height:,}** findings of this rule in the "
        "last 90 days."
    )


def _events(found: pl.DataFrame, wanted: RuleException) -> pl.DataFrame:
    names = silences.columns(wanted)
    snapshot = open_lake.configured().look() if names else None
    uids = found.filter(pl.col("count") == 1)["event_uids"].explode().drop_nulls()
    if snapshot is None:
        return pl.DataFrame({"event_uid": []}, schema={"event_uid": pl.String})
    since, until = min(found["since"].fill_null(found["time"])), max(found["time"])
    return snapshot.ask(silences.looked_at, tuple(uids), since, until, names)


def _save(wanted: RuleException, key: str) -> None:
    owner, reason = (st.session_state[f"{key}_{name}"].strip() for name in ("owner", "reason"))
    if not (owner and reason):
        st.toast("An exception needs an owner and a reason.", icon=":material/error:")
        return
    row = silences.row(wanted, open_lake.visitor(), owner, reason)
    open_lake.configured().exceptions.add(utc_now(), **row)
    st.session_state[key] = False
    st.toast("The exception is recorded.", icon=":material/notifications_off:")


def active(titles: dict[str, str]) -> None:
    """List the exceptions in force, each with a button that ends it; `titles` are of rules."""
    lake, now = open_lake.configured(), utc_now()
    rows = silences.active(lake.exceptions.every(), lake.sight, now)
    st.caption("Recorded in the dashboard. Others may be in `rules.toml`, which is edited by hand.")
    if rows.is_empty():
        st.caption("None is in force. Open a finding and choose *Silence this* to make one.")
    for one in rows.head(_MOST_LISTED).iter_rows(named=True):
        _one(one, titles)
    if rows.height > _MOST_LISTED:
        st.caption(f"{rows.height - _MOST_LISTED:,} more.")


def _one(one: dict[str, Any], titles: dict[str, str]) -> None:
    with st.container(border=True, gap="xsmall", key=f"exception_{one['exception'][:16]}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(visible.text(titles.get(one["rule_id"], one["rule_id"])), width="stretch")
            st.button(
                "Revoke",
                icon=":material/close:",
                key=f"revoke_{one['exception'][:16]}",
                on_click=_revoke,
                args=(one,),
            )
        st.text(visible.text(silences.worded(one["fields"])))
        until = times.to_second(one["expires"], session.zone())
        words = f"Until {until} · owner {one['owner']} · {one['reason']} · recorded by {one['who']}"
        st.text(visible.text(words))


def _revoke(one: dict[str, Any]) -> None:
    now = utc_now()
    row = silences.revoked(one, open_lake.visitor(), now)
    open_lake.configured().exceptions.add(now, **row)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
