"""The findings of rules as lists and counts, with the decisions about each. Pure.

The newest revision of a finding counts, and the newest row of `triage` about it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from dashboard.queries import Filter
from pipelines.schemas import FINDINGS, TRIAGE

LEVELS = ("critical", "high", "medium", "low", "informational")
MARKED = LEVELS[:3]
"""The levels that other pages mark in time; the rest would hide them."""
LESSER = LEVELS[3:]
"""The levels that a list leaves out by default; there are too many of them."""
URGENT = ("critical", "high")
REASONS = ("true positive", "benign", "false positive", "duplicate")
SHOWN = ("open", "mine", "closed", "all")
MOST = 1000
"""Rows of the list."""
_WEEK = timedelta(days=7)
_LISTED = (
    *("finding_uid", "revision", "seq", "status", "provisional", "time", "since", "found_at"),
    *("rule_id", "title", "level", "integration", "kind", "entity", "source_ip", "count"),
    "exception",
)
# The columns of a finding that have the values of a field of events.
_OF_EVENTS = {"integration": "integration", "source_ip": "source_ip", "actor": "entity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Which findings are listed; nothing chosen means all."""

    show: str = "open"
    levels: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    integrations: tuple[str, ...] = ()
    entity: str = ""
    since: datetime | None = None
    until: datetime | None = None
    hidden: bool = False
    """Also those that were withdrawn, or that an exception applies to."""
    lesser: bool = True
    """Also those of low levels, if no levels are chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The findings of a wish, the most serious first, and the number of those in each state."""

    rows: pl.DataFrame
    counts: dict[str, int]
    hidden: int
    """How many are withdrawn or excepted."""
    lesser: int
    """How many are of low levels, whether they are listed or not; 0 if levels are chosen."""


def newest(rows: pl.LazyFrame) -> pl.DataFrame:
    """Return the newest revision of each finding, with the columns of a list."""
    known = rows.select(_LISTED).collect()
    # Most findings have one revision, and to compare all of them takes several times as long.
    later = known.filter(pl.col("revision") > 0).sort("revision", "seq")
    kept = later.unique("finding_uid", keep="last", maintain_order=True)
    first = known.filter(pl.col("revision") == 0).join(kept, on="finding_uid", how="anti")
    return pl.concat([first, kept]).drop("seq")


def decided(found: pl.DataFrame, triage: pl.DataFrame) -> pl.DataFrame:
    """Return findings with the last decision; `triage` has its rows, oldest first.

    Adds state, assignee, reason, decided_at and `rank`, the place of the level.
    """
    last = triage.unique("finding_uid", keep="last", maintain_order=True).select(
        "finding_uid", "state", "assignee", "reason", decided_at="time"
    )
    known = pl.when(pl.col("state").is_in(["assigned", "closed"])).then("state")
    return found.join(last, on="finding_uid", how="left").with_columns(
        state=known.otherwise(pl.lit("open")),
        rank=pl.col("level").replace_strict(
            LEVELS, range(len(LEVELS)), default=len(LEVELS), return_dtype=pl.Int8
        ),
    )


NONE = decided(newest(pl.LazyFrame(schema=FINDINGS)), pl.DataFrame(schema=TRIAGE))
"""The findings of a lake without any."""


def queue(cases: pl.DataFrame, wish: Wish, who: str) -> Queue:
    """Return the findings that `who` asked for; the counts are of all states."""
    every = cases.filter(*_conditions(wish))
    low = pl.col("level").is_in(LESSER).fill_null(False)
    wanted = every if wish.lesser or wish.levels else every.filter(~low)
    counted = pl.lit(value=True) if wish.hidden else _counts()
    counting = wanted.filter(counted)
    states = {show: counting.filter(_shown(show, who)) for show in SHOWN}
    rows = states[wish.show].sort("rank", "time", "finding_uid", descending=[False, True, False])
    return Queue(
        rows=rows,
        counts={show: found.height for show, found in states.items()},
        hidden=wanted.filter(~_counts()).height,
        lesser=0 if wish.levels else every.filter(low, counted, _shown(wish.show, who)).height,
    )


def urgent(cases: pl.DataFrame) -> int:
    """Return the number of findings of level high and above that nobody has closed."""
    return cases.filter(
        _counts(), pl.col("state") != "closed", pl.col("level").is_in(URGENT)
    ).height


def revisions(rows: pl.LazyFrame, uid: str) -> pl.DataFrame:
    """Return all revisions of one finding, newest first, with all columns."""
    return rows.filter(finding_uid=uid).sort("revision", "seq", descending=True).collect()


def of_events(
    rows: pl.LazyFrame, since: datetime, until: datetime, uids: tuple[str, ...]
) -> pl.DataFrame:
    """Return which of these events, from that time, findings name: event_uid, finding_uid.

    Only revisions that are the newest of their finding count.
    """
    # An event is no later than the finding, whose `time` is that of its last event.
    near = rows.filter(
        pl.col("date") >= since.date(), pl.col("time") >= since, pl.col("since") <= until
    )
    return (
        near.sort("revision", "seq")
        .unique("finding_uid", keep="last")
        .filter(pl.col("status") != "withdrawn")
        .select("finding_uid", event_uid="event_uids")
        .explode("event_uid")
        .filter(pl.col("event_uid").is_in(list(uids)))
        .sort("finding_uid", "event_uid")
        .collect()
    )


def of_event(rows: pl.LazyFrame, time: datetime, uid: str) -> pl.DataFrame:
    """Return the findings that name one event, as `of_events` does."""
    return of_events(rows, time, time, (uid,))


def named(events: pl.LazyFrame, uids: tuple[str, ...], first: date, last: date) -> pl.DataFrame:
    """Return the events with these uids between two dates, newest first, with all columns."""
    return (
        events.filter(pl.col("date").is_between(first, last), pl.col("event_uid").is_in(uids))
        .sort("time", "event_uid", descending=True)
        .collect()
    )


def marks(
    cases: pl.DataFrame, edges: tuple[datetime, ...], filters: Iterable[Filter]
) -> pl.DataFrame:
    """Return the findings of marked levels per bucket of a graph: start, n, rank (the highest).

    Of the search, only filters that a finding has a column for are applied.
    """
    starts = pl.Series("start", edges[:-1], pl.Datetime("us", "UTC"))
    within = cases.filter(
        pl.col("level").is_in(MARKED),
        _counts(),
        pl.col("time").is_between(edges[0], edges[-1], closed="left"),
        *_kept(filters),
    )
    place = starts.search_sorted(within["time"], side="right") - 1
    found = within.with_columns(start=starts.gather(place))
    return found.group_by("start").agg(n=pl.len(), rank=pl.col("rank").min()).sort("start")


def noise(cases: pl.DataFrame, now: datetime, weeks: int) -> pl.DataFrame:
    """Return the findings of each rule per week, and their outcome, the noisiest first.

    Columns: rule_id, title, level, weeks (a number per week, the present one last), n, excepted,
    closed, false (the share of the closed ones that are false positives, null without any).
    """
    first = now - weeks * _WEEK
    week = (pl.col("time") - first).dt.total_seconds() // _WEEK.total_seconds()
    recent = cases.filter(
        pl.col("status") != "withdrawn", pl.col("time") > first, pl.col("time") <= now
    ).with_columns(week=week.clip(0, weeks - 1).cast(pl.Int64))
    closed = (pl.col("state") == "closed").sum()
    false = ((pl.col("state") == "closed") & (pl.col("reason") == "false positive")).sum()
    return (
        recent.sort("time")
        .group_by("rule_id")
        .agg(
            pl.col("title").last(),
            pl.col("level").last(),
            weeks=pl.concat_list((pl.col("week") == n).sum() for n in range(weeks)),
            n=pl.len(),
            excepted=pl.col("exception").is_not_null().sum(),
            closed=closed,
            false=pl.when(closed > 0).then(false / closed),
        )
        .sort("n", "rule_id", descending=[True, False])
    )


def decision(
    uids: Collection[str], who: str, state: str, *, reason: str | None = None, note: str = ""
) -> list[dict[str, Any]]:
    """Return rows of `triage`, without their time, that decide alike about these findings."""
    row = {
        "who": who,
        "state": state,
        "assignee": who if state == "assigned" else None,
        "reason": reason if state == "closed" else None,
        "note": note.strip() or None,
    }
    return [row | {"finding_uid": uid} for uid in uids]


def _counts() -> pl.Expr:
    return (pl.col("status") != "withdrawn") & pl.col("exception").is_null()


def _shown(show: str, who: str) -> pl.Expr:
    closed = pl.col("state") == "closed"
    mine = (pl.col("state") == "assigned") & (pl.col("assignee") == who)
    return {"open": ~closed, "mine": mine, "closed": closed, "all": pl.lit(value=True)}[show]


def _conditions(wish: Wish) -> list[pl.Expr]:
    lists = {"level": wish.levels, "rule_id": wish.rules, "integration": wish.integrations}
    found = [pl.col(name).is_in(values) for name, values in lists.items() if values]
    if wish.entity:
        holds = pl.col("entity", "source_ip").str.contains_any(
            [wish.entity], ascii_case_insensitive=True
        )
        found.append(pl.any_horizontal(holds))
    if wish.since:
        found.append(pl.col("time") >= wish.since)
    if wish.until:
        found.append(pl.col("time") < wish.until)
    return found


def _kept(filters: Iterable[Filter]) -> list[pl.Expr]:
    wanted: dict[tuple[str, bool], list[str]] = {}
    for one in filters:
        if one.field in _OF_EVENTS and one.value:
            wanted.setdefault((_OF_EVENTS[one.field], one.negated), []).append(one.value)
    found = {key: pl.col(key[0]).is_in(values).fill_null(False) for key, values in wanted.items()}
    return [~one if negated else one for (_, negated), one in found.items()]
