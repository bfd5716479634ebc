"""Evaluate rules on any span of history by the code of the engine, without writing anything."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from pipelines.clock import Clock, utc_now
from pipelines.detections import evaluate, positions, windows
from pipelines.detections.engine import Exceptions
from pipelines.detections.gaps import Gaps
from pipelines.detections.positions import Log
from pipelines.detections.ruleset import Ruleset
from pipelines.detections.sources import Reader
from pipelines.lake import raw
from pipelines.lake.findings import is_nobodys
from pipelines.lake.tables import Lake
from pipelines.schemas import FINDINGS, HITS

_ROWS = 20_000
_COLUMNS = [name for name in FINDINGS if name != "seq"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some rows of a stream that were evaluated, or all windows of the correlations."""

    findings: pl.DataFrame
    """The rows they add: schemas.FINDINGS without `seq`."""
    log: Log | None = None
    day: datetime | None = None
    rows: int = 0
    days_left: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Id of a rule -> why it could not be evaluated on these rows."""


def run(
    lake: Lake,
    rules: Ruleset,
    chosen: Collection[str],
    since: datetime,
    until: datetime,
    *,
    exceptions: Exceptions | None = None,
    clock: Clock = utc_now,
) -> Iterator[Part]:
    """Evaluate the chosen rules and correlations on the events from `since` to before `until`.

    Yields parts of a day of a stream, oldest first, then the findings of correlations. Events
    before and after the span count as well for a finding that ends in it.
    """
    reader, now = Reader(lake), clock()
    spans = [rules.correlations[id_].span for id_ in chosen if id_ in rules.correlations]
    around = 2 * max(spans, default=timedelta())
    first, last = since - around, until + around
    days = [
        (day, log)
        for log in reader.logs()
        if any(member.id in chosen for member in positions.members(rules, log))
        for day in raw.days(lake, log.key)
        if first.date() <= day <= last.date()
    ]
    in_span = pl.col("time").is_between(since, until, "left")
    digest = positions.recorded(rules)[0]
    hits, seen = [pl.DataFrame(schema=HITS)], set[str]()
    for place, (day, log) in enumerate(sorted(days, key=lambda each: each[0])):
        names = {member.id for member in positions.members(rules, log)} & {*chosen}
        for rows in reader.of_day(log, day, first, last, _ROWS):
            found = evaluate.evaluate(rules, names, rows, now=now, ruleset=digest)
            hits.append(found.hits)
            new = found.findings.filter(in_span, ~pl.col("finding_uid").is_in(list(seen)))
            fresh = _excepted(new, exceptions)
            seen |= set(fresh["finding_uid"])
            yield Part(
                findings=fresh,
                log=log,
                day=datetime.combine(day, datetime.min.time(), since.tzinfo),
                rows=rows.raw.height,
                days_left=len(days) - place - 1,
                failed=found.failed,
            )
    counted = pl.concat(hits).filter(~is_nobodys()).sort("time", "event")
    once = counted.unique(["correlation", "rule_id", "event"], keep="last", maintain_order=True)
    gaps = Gaps(lake, rules, reader.logs(), now)
    made = windows.revisions(
        rules,
        windows.touched(rules, once),
        once,
        pl.DataFrame(schema=FINDINGS),
        windows.Run(now=now, ruleset=digest, has_gap=gaps.within),
    )
    yield Part(findings=_excepted(made.filter(in_span), exceptions))


def _excepted(found: pl.DataFrame, exceptions: Exceptions | None) -> pl.DataFrame:
    if exceptions and found.height:
        found = exceptions(found)
    return found.select(_COLUMNS)
