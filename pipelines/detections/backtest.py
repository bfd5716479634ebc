"""Evaluate rules on any span of history by the code of the engine, without writing to the lake."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from importlib.metadata import version

import polars as pl

from pipelines.clock import Clock, utc_now
from pipelines.detections import evaluate, interrupted, positions, windows
from pipelines.detections.engine import Exceptions
from pipelines.detections.evaluate import Found
from pipelines.detections.gaps import Gaps
from pipelines.detections.interrupted import Parts
from pipelines.detections.positions import Log
from pipelines.detections.ruleset import Ruleset
from pipelines.detections.sources import Reader
from pipelines.lake import events, raw
from pipelines.lake.findings import is_nobodys
from pipelines.lake.tables import Lake, StreamKey
from pipelines.schemas import FINDINGS, HITS

_ROWS = 20_000
_COLUMNS = [name for name in FINDINGS if name != "seq"]
_DAY = timedelta(days=1)
NOTHING_KEPT = Parts(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some rows of a stream that were evaluated, or all windows of the correlations."""

    findings: pl.DataFrame
    """The rows they add: schemas.FINDINGS without `seq`."""
    log: Log | None = None
    day: datetime | None = None
    rows: int = 0
    days: int = 0
    """The days of streams to be evaluated in all."""
    days_left: int = 0
    kept: bool = False
    """Whether an interrupted backtest had evaluated them."""
    failed: dict[str, str] = field(default_factory=dict)
    """Id of a rule -> why it could not be evaluated on these rows."""


@dataclass(slots=True, kw_only=True)
class _Backtest:
    lake: Lake
    rules: Ruleset
    chosen: frozenset[str]
    first: datetime
    last: datetime
    """Events from `first` to before `last` are read."""
    reader: Reader
    logs: Sequence[Log]
    kept: Parts
    now: datetime
    digest: str
    failed: dict[str, str] = field(default_factory=dict)
    _persons: str = ""

    def days(self) -> list[tuple[date, Log]]:
        """Return the days of streams that have rows for the chosen rules, oldest first."""
        days = [
            (day, log)
            for log in self.logs
            if any(member.id in self.chosen for member in positions.members(self.rules, log))
            for day in raw.days(self.lake, log.key)
            if self.first.date() <= day <= self.last.date()
        ]
        return sorted(days, key=lambda each: each[0])

    def evaluated(self, day: date, log: Log, name: str) -> Iterator[tuple[Found, int, bool]]:
        """Yield the results of a day, their rows, and whether they were kept."""
        if known := self.kept.read(name):
            yield self._described(known[0]), known[1], True
            return
        members = {m.id for m in positions.members(self.rules, log)} & self.chosen
        done, count = [evaluate.nothing({})], 0
        for rows in self.reader.of_day(log, day, self.first, self.last, _ROWS):
            found = evaluate.evaluate(self.rules, members, rows, now=self.now, ruleset=self.digest)
            done.append(found)
            count += rows.raw.height
            yield found, rows.raw.height, False
        if not any(each.failed for each in done):
            findings = pl.concat([each.findings for each in done], how="diagonal")
            hits = pl.concat([each.hits for each in done])
            self.kept.write(name, Found(findings=findings, hits=hits), count)

    def name(self, day: date, log: Log) -> str:
        """Return the name of a part, which depends on all that its result depends on."""
        start = datetime.combine(day, time(), UTC)
        members = [m for m in positions.members(self.rules, log) if m.id in self.chosen]
        stored, until = raw.position_only(self.lake, log.key).rows, self.reader.until(log)
        return interrupted.name(
            version("auditlake"),
            positions.recorded(self.rules, members)[0],
            log,
            max(self.first, start),
            min(self.last, start + _DAY),
            raw.files_of_day(self.lake, log.key, day),
            events.files_of_day(self.lake, day),
            # Rows without events are left out; the files do not show which these are.
            until if until < stored else None,
            self._known(),
        )

    def _known(self) -> str:
        """Return a hash of the persons that accounts belong to."""
        if not self._persons:
            people = self.reader.people()
            self._persons = "".join(map(interrupted.digest, (people.always, people.on_days)))
        return self._persons

    def _described(self, found: Found) -> Found:
        """Return kept findings with the texts of their rules as they are now."""
        texts = [
            rows.with_columns(*evaluate.about(self.rules.rules[str(id_)].rule, self.digest))
            for (id_,), rows in found.findings.group_by("rule_id", maintain_order=True)
        ]
        findings = pl.concat([found.findings.clear(), *texts], how="diagonal")
        return Found(findings=findings, hits=found.hits)


def run(
    lake: Lake,
    rules: Ruleset,
    chosen: Collection[str],
    since: datetime,
    until: datetime,
    *,
    exceptions: Exceptions | None = None,
    reader: Reader | None = None,
    keys: Iterable[StreamKey] | None = None,
    kept: Parts = NOTHING_KEPT,
    restart: bool = False,
    clock: Clock = utc_now,
) -> Iterator[Part]:
    """Evaluate the chosen rules and correlations on the events from `since` to before `until`.

    Yields parts of a day of a stream, oldest first, then the findings of correlations. Events
    before and after the span count as well for a finding that ends in it. `keys`: the streams to
    be read, by default all. `kept` takes each day of a stream that is done, until the end: a
    backtest that was interrupted does not evaluate it again, unless `restart`. Raises LakeError.
    """
    reader, now = reader or Reader(lake), clock()
    spans = [rules.correlations[id_].span for id_ in chosen if id_ in rules.correlations]
    around = 2 * max(spans, default=timedelta())
    made = _Backtest(
        lake=lake,
        rules=rules,
        chosen=frozenset(chosen),
        first=since - around,
        last=until + around,
        reader=reader,
        logs=reader.logs(keys),
        kept=kept,
        now=now,
        digest=positions.recorded(rules)[0],
    )
    kept.expire()
    in_span, days = pl.col("time").is_between(since, until, "left"), made.days()
    hits, seen, names = [pl.DataFrame(schema=HITS)], set[str](), list[str]()
    for place, (day, log) in enumerate(days):
        names.append(made.name(day, log))
        if restart:
            kept.remove(names[-1:])
        for found, rows, known in made.evaluated(day, log, names[-1]):
            hits.append(found.hits)
            new = found.findings.filter(in_span, ~pl.col("finding_uid").is_in(list(seen)))
            fresh = _excepted(new, exceptions)
            seen |= set(fresh["finding_uid"])
            yield Part(
                findings=fresh,
                log=log,
                day=datetime.combine(day, time(), UTC),
                rows=rows,
                days=len(days),
                days_left=len(days) - place - 1,
                kept=known,
                failed=found.failed,
            )
    yield _correlated(made, pl.concat(hits), in_span, exceptions)
    kept.remove(names)


def _correlated(
    made: _Backtest, hits: pl.DataFrame, in_span: pl.Expr, exceptions: Exceptions | None
) -> Part:
    """Return the findings of correlations."""
    counted = hits.filter(~is_nobodys()).sort("time", "event")
    once = counted.unique(["correlation", "rule_id", "event"], keep="last", maintain_order=True)
    gaps = Gaps(made.lake, made.rules, made.logs, made.now)
    found = windows.revisions(
        made.rules,
        windows.touched(made.rules, once),
        once,
        pl.DataFrame(schema=FINDINGS),
        windows.Run(now=made.now, ruleset=made.digest, has_gap=gaps.within),
    )
    return Part(findings=_excepted(found.filter(in_span), exceptions))


def _excepted(found: pl.DataFrame, exceptions: Exceptions | None) -> pl.DataFrame:
    if exceptions and found.height:
        found = exceptions(found)
    return found.select(_COLUMNS)


def per_day(found: pl.DataFrame) -> pl.DataFrame:
    """Return the number of findings per day (UTC): day, n. Days without any are left out."""
    return found.group_by(day=pl.col("time").dt.date()).agg(n=pl.len()).sort("day")


def per_entity(found: pl.DataFrame) -> pl.DataFrame:
    """Return the number of findings per person or address, the most first: entity, n."""
    return found.group_by("entity").agg(n=pl.len()).sort("n", "entity", descending=[True, False])
