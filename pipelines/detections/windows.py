"""The findings of correlations: only windows that new hits touch are evaluated again.

Another result is a new revision of the same finding, which is named by rule, logic, start of the
window and group. Where late events undo a finding, the new revision is "withdrawn".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from pipelines.detections import correlations
from pipelines.detections.correlations import Correlation
from pipelines.detections.evaluate import about, uid
from pipelines.detections.match import GROUP
from pipelines.detections.ruleset import Ruleset
from pipelines.schemas import FINDINGS, HITS

_DAY = timedelta(days=1)
_SHOWN = " | "
_OLD = "\0old"
_COMPARED = ("status", "provisional", "time", "since", "count", "event_uids", "source_ip")
_COLUMNS = {name: dtype for name, dtype in FINDINGS.items() if name != "seq"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """When and by which set of rules windows are evaluated."""

    now: datetime
    ruleset: str
    has_gap: Callable[[Correlation, datetime, datetime], bool]
    """Whether a stream that a correlation reads has a known gap between two times."""


@dataclass(frozen=True, slots=True)
class Window:
    """The windows of a group that begin in one span: what a finding is about."""

    start: datetime
    group: tuple[str, ...]

    def uid(self, one: Correlation) -> str:
        return uid(one.rule, self.start.isoformat(), *self.group)


Touched = Mapping[str, Collection[Window]]
"""Id of a correlation -> the windows to be evaluated."""


def touched(rules: Ruleset, hits: pl.DataFrame) -> Touched:
    """Return the windows that hits (schemas.HITS) can change."""
    found: dict[str, set[Window]] = {}
    for id_, time, group in hits.select("correlation", "time", "group").unique().iter_rows():
        starts = correlations.starts(rules.correlations[id_], [time])
        found.setdefault(id_, set()).update(Window(start, tuple(group)) for start in starts)
    return found


def settled(rules: Ruleset, provisional: pl.DataFrame, run: Run) -> Touched:
    """Return the windows of provisional findings whose spans have no known gap any more."""
    found: dict[str, set[Window]] = {}
    for row in provisional.iter_rows(named=True):
        one = rules.correlations.get(row["rule_id"])
        if one is None or one.rule.logic_hash != row["logic_sha256"]:
            continue
        start = max(correlations.starts(one, [row["since"]]))
        window = Window(start, tuple(each["value"] for each in row["matched"]))
        if not run.has_gap(one, *correlations.reach(one, start)):
            found.setdefault(one.rule.id, set()).add(window)
    return found


def days(rules: Ruleset, some: Touched) -> list[date]:
    """Return the days of the events that decide about windows."""
    found: set[date] = set()
    for id_, windows in some.items():
        for start in {window.start for window in windows}:
            since, until = correlations.reach(rules.correlations[id_], start)
            found |= {
                since.date() + n * _DAY for n in range((until.date() - since.date()).days + 1)
            }
    return sorted(found)


def deciding(rules: Ruleset, some: Touched) -> pl.Expr:
    """Return the condition for the hits that decide about windows."""
    chosen = [pl.lit(value=False)]
    for id_, windows in some.items():
        one = rules.correlations[id_]
        reached = [correlations.reach(one, window.start) for window in windows]
        groups = list({_key(window.group) for window in windows})
        chosen.append(
            (pl.col("correlation") == id_)
            & (pl.col("logic_sha256") == one.rule.logic_hash)
            & (pl.col("time") >= min(since for since, _ in reached))
            & (pl.col("time") < max(until for _, until in reached))
            & pl.col("group").list.join("\0").is_in(groups)
        )
    return pl.any_horizontal(chosen)


def _key(group: Iterable[str]) -> str:
    return "\0".join(group)


def revisions(
    rules: Ruleset,
    some: Touched,
    hits: pl.DataFrame,
    known: pl.DataFrame,
    run: Run,
) -> pl.DataFrame:
    """Return findings (schemas.FINDINGS without `seq`) that differ from the newest of `known`.

    `hits` are those that decide about the windows, `known` the findings that they may have.
    """
    made = [
        frame
        for id_, windows in some.items()
        for frame in _of_one(rules.correlations[id_], windows, hits, run)
    ]
    found = pl.concat([pl.DataFrame(schema=_COLUMNS), *made])
    names = [w.uid(rules.correlations[id_]) for id_, windows in some.items() for w in windows]
    before = newest(known).filter(pl.col("finding_uid").is_in(names))
    return _changed(found, before, run)


def newest(findings: pl.DataFrame) -> pl.DataFrame:
    """Return the newest revision of each finding."""
    return findings.sort("revision").unique("finding_uid", keep="last", maintain_order=True)


def _changed(found: pl.DataFrame, before: pl.DataFrame, run: Run) -> pl.DataFrame:
    both = found.join(before, on="finding_uid", how="left", suffix=_OLD, maintain_order="left")
    old = pl.col(f"revision{_OLD}")
    differs = [pl.col(name).ne_missing(pl.col(f"{name}{_OLD}")) for name in _COMPARED]
    fresh = both.filter(old.is_null() | pl.any_horizontal(differs))
    undone = before.filter(pl.col("status") == "found").join(found, on="finding_uid", how="anti")
    withdrawn = undone.with_columns(
        pl.lit("withdrawn").alias("status"),
        pl.lit(value=False).alias("provisional"),
        pl.lit(run.now, FINDINGS["found_at"]).alias("found_at"),
        pl.lit(run.ruleset).alias("ruleset"),
        pl.col("time").dt.date().alias("date"),
        revision=pl.col("revision") + 1,
    )
    revised = fresh.with_columns(revision=(old + 1).fill_null(0).cast(pl.Int32))
    return pl.concat([revised.select(*_COLUMNS), withdrawn.select(*_COLUMNS)])


def _of_one(
    one: Correlation,
    windows: Collection[Window],
    hits: pl.DataFrame,
    run: Run,
) -> Iterator[pl.DataFrame]:
    ours = hits.filter(pl.col("correlation") == one.rule.id)
    values = [
        pl.col("group").list.get(place).alias(f"{GROUP}{name}")
        for place, name in enumerate(one.group_by)
    ]
    if one.counted and one.counted not in one.group_by:
        values.append(pl.col("counted").alias(f"{GROUP}{one.counted}"))
    kept = [name for name in HITS if name not in one.fields]
    named = ours.select(*kept, *values)
    found = correlations.findings(one, named, {window.start for window in windows})
    uids = dict(ours.select("event", "event_uid").iter_rows())
    for row in found.iter_rows(named=True):
        window = Window(row["window_start"], tuple(row[f"{GROUP}{n}"] for n in one.group_by))
        if window in windows:
            row["events"] = [uids[event] for event in row["events"]]
            yield _finding(one, window, row, _last(ours, window, row["last"]), run)


def _last(hits: pl.DataFrame, window: Window, time: datetime) -> dict[str, Any]:
    """Return the last event of a finding."""
    ours = pl.col("group").list.join("\0") == _key(window.group)
    return hits.filter(pl.col("time") == time, ours).sort("event").row(-1, named=True)


def _finding(
    one: Correlation,
    window: Window,
    row: Mapping[str, Any],
    last: Mapping[str, Any],
    run: Run,
) -> pl.DataFrame:
    made = {
        "finding_uid": window.uid(one),
        "revision": 0,
        "status": "found",
        "provisional": run.has_gap(one, *correlations.reach(one, window.start)),
        "time": row["last"],
        "date": row["last"].date(),
        "since": row["first"],
        "found_at": run.now,
        **{name: last[name] for name in ("integration", "kind", "stream", "source_ip", "message")},
        "entity": _SHOWN.join(window.group) or None,
        "count": row["count"],
        "event_uids": row["events"],
        "matched": [
            {"field": name, "value": value}
            for name, value in zip(one.group_by, window.group, strict=True)
        ],
        "exception": None,
    }
    schema = {name: dtype for name, dtype in _COLUMNS.items() if name in made}
    return (
        pl.DataFrame([made], schema).with_columns(*about(one.rule, run.ruleset)).select(*_COLUMNS)
    )
