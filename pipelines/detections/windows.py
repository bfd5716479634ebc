"""The findings of correlations: only windows that new hits touch are evaluated again.

Another result is a new revision of the same finding, which is named by rule, logic, start of the
window and group. Where late events undo a finding, the new revision is "withdrawn".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from pipelines.detections import correlations
from pipelines.detections.correlations import Correlation
from pipelines.detections.evaluate import about, uid
from pipelines.detections.match import GROUP
from pipelines.detections.ruleset import Ruleset
from pipelines.lake import findings as table
from pipelines.schemas import FINDINGS, HITS, Timestamp
from pipelines.search.people import PERSON, People

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


Touched = Mapping[str, pl.DataFrame]
"""Id of a correlation -> `start` and `key` (the group) of the windows to be evaluated."""


def touched(rules: Ruleset, hits: pl.DataFrame) -> Touched:
    """Return the windows that hits (schemas.HITS) can change."""
    found = {}
    for (id_,), ours in hits.filter(~table.is_nobodys()).group_by("correlation"):
        one = rules.correlations.get(str(id_))
        if one is None:
            continue
        # As `correlations.starts`: a window that began in the span before may reach here.
        spans = ours.select(_start(one, "time").alias("start"), table.key().alias("key")).unique()
        before = spans.with_columns(pl.col("start") - one.span)
        found[str(id_)] = pl.concat([spans, before]).unique()
    return found


def recognised(rules: Ruleset, hits: pl.DataFrame, people: People) -> pl.DataFrame:
    """Return the hits of accounts without a person whose person is known by now."""
    account = hits.with_columns(
        pl.lit(None, pl.String).alias("actor_email"), pl.col("account").alias("actor_id")
    )
    named = people.named(account.lazy()).filter(pl.col(PERSON).is_not_null()).collect()
    found = [pl.DataFrame(schema=HITS)]
    for (id_, logic), ours in named.group_by("correlation", "logic_sha256"):
        one = rules.correlations.get(str(id_))
        if one and one.rule.logic_hash == logic:
            values = [
                pl.col(PERSON).str.to_lowercase() if name == PERSON else pl.col("group").list.get(n)
                for n, name in enumerate(one.group_by)
            ]
            found.append(ours.with_columns(group=pl.concat_list(values)).select(*HITS))
    return pl.concat(found)


def settled(rules: Ruleset, provisional: pl.DataFrame, run: Run) -> Touched:
    """Return the windows of provisional findings whose spans have no known gap any more."""
    found = {}
    for id_, windows in _of_findings(rules, provisional):
        one = rules.correlations[id_]
        starts = windows["start"].unique()
        whole = [s for s in starts if not run.has_gap(one, *correlations.reach(one, s))]
        if whole:
            found[id_] = windows.filter(pl.col("start").is_in(whole)).select("start", "key")
    return found


def _of_findings(rules: Ruleset, findings: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield the findings of each correlation, with `start` and `key` of their windows."""
    for (id_, logic), ours in findings.group_by("rule_id", "logic_sha256"):
        one = rules.correlations.get(str(id_))
        if one and one.rule.logic_hash == logic:
            values = pl.col("matched").list.eval(pl.element().struct.field("value"))
            start, key = _start(one, "since"), values.list.join(table.BETWEEN)
            yield str(id_), ours.with_columns(start.alias("start"), key.alias("key"))


def _start(one: Correlation, column: str) -> pl.Expr:
    """Return the start of the span that a time is in."""
    span = one.span // timedelta(microseconds=1)
    since_epoch = pl.col(column).dt.epoch("us")
    return (since_epoch // span * span).cast(Timestamp)


def days(rules: Ruleset, some: Touched) -> list[date]:
    """Return the days of the events that decide about windows."""
    found: set[date] = set()
    for id_, windows in some.items():
        # The last window of a day reaches as far as the others of it.
        for start in windows.group_by(pl.col("start").dt.date().alias("day")).max()["start"]:
            since, until = correlations.reach(rules.correlations[id_], start)
            count = (until.date() - since.date()).days + 1
            found |= {since.date() + n * _DAY for n in range(count)}
    return sorted(found)


def reach(rules: Ruleset, some: Touched) -> tuple[datetime, datetime]:
    """Return from when to when the events lie that decide about windows, if there are any."""
    spans = [_reach(rules.correlations[id_], windows) for id_, windows in some.items()]
    return min(since for since, _ in spans), max(until for _, until in spans)


def _reach(one: Correlation, windows: pl.DataFrame) -> tuple[datetime, datetime]:
    first, last = windows.select(pl.col("start").min(), last=pl.col("start").max()).row(0)
    return correlations.reach(one, first)[0], correlations.reach(one, last)[1]


def deciding(rules: Ruleset, some: Touched) -> pl.DataFrame:
    """Return the groups, as `findings.hits` expects them, whose hits decide about windows."""
    made = []
    for id_, windows in some.items():
        one = rules.correlations[id_]
        since, until = _reach(one, windows)
        facts = {
            "correlation": pl.lit(id_),
            "logic_sha256": pl.lit(one.rule.logic_hash),
            "since": pl.lit(since, Timestamp),
            "until": pl.lit(until, Timestamp),
        }
        made.append(windows.select("key").unique().with_columns(**facts))
    return pl.concat(made)


def revisions(
    rules: Ruleset, some: Touched, hits: pl.DataFrame, known: pl.DataFrame, run: Run
) -> pl.DataFrame:
    """Return findings (schemas.FINDINGS without `seq`) that differ from the newest of `known`.

    `hits` are those that decide about the windows, `known` the findings that they may have.
    """
    of_one = hits.with_columns(table.key().alias("key")).partition_by("correlation", as_dict=True)
    made = [
        frame
        for id_, windows in some.items()
        if (id_,) in of_one
        for frame in _of_one(rules.correlations[id_], windows, of_one[id_,], run)
    ]
    found = pl.concat([pl.DataFrame(schema=_COLUMNS), *made])
    before = [
        ours.join(some[id_], on=["start", "key"], how="semi").drop("start", "key")
        for id_, ours in _of_findings(rules, newest(known))
        if id_ in some
    ]
    return _changed(found, pl.concat([known.clear(), *before]), run)


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
    one: Correlation, windows: pl.DataFrame, hits: pl.DataFrame, run: Run
) -> Iterator[pl.DataFrame]:
    ours = _possible(one, windows, hits)
    if ours.is_empty():
        return
    ours = ours.sort("time", "event").unique(table.HIT, keep="last", maintain_order=True)
    values = [
        pl.col("group").list.get(place).alias(f"{GROUP}{name}")
        for place, name in enumerate(one.group_by)
    ]
    if one.counted and one.counted not in one.group_by:
        values.append(pl.col("counted").alias(f"{GROUP}{one.counted}"))
    kept = [name for name in HITS if name not in one.fields]
    found = correlations.findings(one, ours.select(*kept, *values), [*windows["start"].unique()])
    if found.is_empty():
        return
    uids = dict(ours.select("event", "uid").iter_rows())
    groups = [f"{GROUP}{name}" for name in one.group_by]
    key = pl.concat_str(groups, separator=table.BETWEEN) if groups else pl.lit("")
    chosen = found.with_columns(key.alias("key")).join(
        windows.rename({"start": "window_start"}),
        on=["window_start", "key"],
        how="semi",
        maintain_order="left",
    )
    last = _last(ours, chosen)
    made = []
    for row in chosen.iter_rows(named=True):
        group = tuple(row[name] for name in groups)
        row["events"] = [uids[event] for event in row["events"]]
        made.append(_finding(one, group, row, last[row["key"], row["last"]], run))
    if made:
        schema = {name: dtype for name, dtype in _COLUMNS.items() if name in made[0]}
        rows = pl.DataFrame(made, schema)
        yield rows.with_columns(*about(one.rule, run.ruleset)).select(*_COLUMNS)


def _last(hits: pl.DataFrame, found: pl.DataFrame) -> dict[tuple[str, datetime], dict[str, Any]]:
    """Return the last hit of each window found, by the key and time of it."""
    ends = found.select("key", pl.col("last").alias("time"))
    rows = hits.join(ends, on=["key", "time"], how="semi").sort("event")
    return {(row["key"], row["time"]): row for row in rows.iter_rows(named=True)}


def _possible(one: Correlation, windows: pl.DataFrame, hits: pl.DataFrame) -> pl.DataFrame:
    """Return the hits in those windows that have as many events, values or rules as it takes."""
    if one.operator not in correlations.AT_LEAST:
        return hits
    counted = {"event_count": "event", "value_count": "counted"}.get(one.type, "rule_id")
    placed = hits.with_columns(_start(one, "time").alias("start"))
    seen = placed.select("start", "key", counted).unique()
    # A window that begins in a span ends in the next one, and counts no hit of any other.
    both = pl.concat([seen, seen.with_columns(pl.col("start") - one.span)]).unique()
    key = ["start", "key"]
    enough = (
        both.join(windows, on=key, how="semi")
        .group_by(key)
        .len()
        .filter(pl.col("len") >= one.count)
    )
    spans = pl.concat([enough, enough.with_columns(pl.col("start") + one.span)])
    kept = placed.join(spans, on=key, how="semi")["event"]
    # With all rows of these events, of which one may have been stored with another time.
    return hits.filter(pl.col("event").is_in(kept.unique().implode()))


def _finding(
    one: Correlation,
    group: tuple[str, ...],
    row: Mapping[str, Any],
    last: Mapping[str, Any],
    run: Run,
) -> dict[str, Any]:
    start = row["window_start"]
    return {
        "finding_uid": uid(one.rule, start.isoformat(), *group),
        "revision": 0,
        "status": "found",
        "provisional": run.has_gap(one, *correlations.reach(one, start)),
        "time": row["last"],
        "date": row["last"].date(),
        "since": row["first"],
        "found_at": run.now,
        **{name: last[name] for name in ("integration", "kind", "stream", "source_ip", "message")},
        "entity": _SHOWN.join(group) or None,
        "count": row["count"],
        "event_uids": row["events"],
        "matched": [
            {"field": name, "value": value} for name, value in zip(one.group_by, group, strict=True)
        ],
        "exception": None,
    }
