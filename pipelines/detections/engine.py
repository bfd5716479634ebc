"""Evaluate the rules on everything behind their positions, and commit the findings.

For each stream, the rules that have reached the same row form a group, which is evaluated on the
next rows. The group that is ahead goes first, so that a new rule, which starts with the first
row, does not delay the others; once it has caught up, it is in the same group.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from typing import Any

import polars as pl

from pipelines import errors
from pipelines.clock import Clock, utc_now
from pipelines.detections import evaluate, positions, windows
from pipelines.detections.evaluate import Found, Rows
from pipelines.detections.gaps import Gaps
from pipelines.detections.positions import Log, Member
from pipelines.detections.ruleset import Ruleset
from pipelines.detections.sources import Reader
from pipelines.lake import coverage, events, identity_table, look, versions
from pipelines.lake import findings as table
from pipelines.lake.findings import Evaluated, Stored
from pipelines.lake.look import Look
from pipelines.lake.tables import Lake, StreamKey
from pipelines.schemas import FINDINGS
from pipelines.settings import telemetry

ROWS = 30_000
"""The most raw rows that are evaluated at once."""
RETRY = timedelta(minutes=10)
"""How long a rule that failed waits before it is evaluated again."""
_REMEMBERED = timedelta(days=30)
_PERSONS = "detect/persons"
"""The fence that counts the versions of `identities` by which accounts were recognised."""
Exceptions = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One commit."""

    findings: pl.DataFrame
    """The new rows of `findings`."""
    evaluated: tuple[Mapping[str, Any], ...]
    """The new rows of `evaluations`."""

    @property
    def rows(self) -> int:
        """Return how many raw rows were evaluated; those of a rule that failed do not count."""
        done = (each for each in self.evaluated if each["error"] is None)
        ranges = {(e["integration"], e["stream"], e["since_seq"]): e["rows"] for e in done}
        return sum(ranges.values())

    @property
    def failed(self) -> dict[str, str]:
        """Return why rules could not be evaluated, by their ids."""
        return {each["rule_id"]: each["error"] for each in self.evaluated if each["error"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Rules that have reached the same row of a stream, and the next rows for them."""

    log: Log
    members: frozenset[Member]
    seqs: range
    ahead: bool
    """Whether no other rule has reached more of the stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """A part that was evaluated."""

    part: _Part
    found: Found
    rows: int
    ruleset: str

    @property
    def members(self) -> frozenset[Member]:
        return frozenset(m for m in self.part.members if m.id not in self.found.failed)


@dataclass(slots=True, kw_only=True)
class _Engine:
    lake: Lake
    rules: Ruleset
    logs: Sequence[Log]
    exceptions: Exceptions | None
    clock: Clock
    limit: float
    reader: Reader
    sets: list[str] = field(default_factory=list)
    stopped: set[tuple[StreamKey, str]] = field(default_factory=set)
    """Streams and rules that failed in this pass, or not long before."""
    failing: set[tuple[StreamKey, str]] = field(default_factory=set)
    """Streams and rules whose last evaluation had failed."""
    _known: dict[tuple[Log, int], Mapping[str, frozenset[Member]]] = field(default_factory=dict)
    _gaps: tuple[list[int | None], Gaps] | None = None
    """The versions of tables, and the gaps that they tell of."""
    _rest: tuple[int, pl.DataFrame] | None = None
    """The fence of persons and the provisional findings, once all rows are evaluated."""

    def step(self, *, first: bool = False) -> Step | None:
        """Evaluate the next rows and commit the findings; return None if there are none."""
        with telemetry.span("detect") as span:
            if not (done := self._next(first=first)):
                return None
            step = self._commit(done)
            span.set("auditlake.rows", step.rows)
            span.set("auditlake.findings", step.findings.height)
        return step

    def _next(self, *, first: bool) -> list[_Done]:
        with look.look(self.lake) as seen:
            table.flush_at(self.lake, found := seen.handle(table.FINDINGS.name))
            if first:
                self._heed_failures()
            parts = self._parts(seen)
            if not parts and self.rules.correlations:
                self._rest = seen.fence(table.FINDINGS.name, _PERSONS), table.provisional_at(found)
            if first and self._begins(parts):
                identity_table.derive(self.lake)
            wanted = [(part.log, part.seqs) for part in parts]
            rows = dict(zip(parts, self.reader.rows(seen, wanted), strict=True)) if parts else {}
        whole = [part for part in parts if part.members == self.wanted(part.log)]
        others = [part for part in parts if part not in whole]
        return [*self._evaluated(whole, rows), *self._evaluated(others, rows)]

    def _heed_failures(self) -> None:
        failed = table.failures(self.lake, self.clock() - _REMEMBERED)
        self.failing |= _pairs(failed)
        self.stopped |= _pairs(failed.filter(pl.col("evaluated_at") > self.clock() - RETRY))

    def behind(self, rows: Mapping[StreamKey, int] | None) -> int:
        """Return how many of the first `rows`, or of all, lie behind the position of some rule."""
        with look.look(self.lake) as seen:
            found = self.reader.stored(self.logs, seen) if rows is None else rows
            return sum(
                max(0, found.get(log.key, 0) - min(self.reached(log, wanted, seen).values()))
                for log in self.logs
                if (wanted := self.wanted(log))
            )

    def _parts(self, seen: Look) -> list[_Part]:
        """Return the parts to evaluate next, each of another stream, at most `ROWS` rows in all."""
        waiting = [part for log in self.logs for part in self._of_log(log, seen)]
        chosen: dict[Log, _Part] = {}
        ahead, left = any(part.ahead for part in waiting), ROWS
        for part in sorted(waiting, key=lambda each: len(each.seqs)):
            if part.ahead == ahead and part.log not in chosen and left:
                chosen[part.log] = replace(part, seqs=part.seqs[:left])
                left -= len(chosen[part.log].seqs)
        return [*chosen.values()]

    def _begins(self, parts: Iterable[_Part]) -> bool:
        """Return whether a correlation has all of a stream before it, so that persons matter."""
        return any(
            member.id in self.rules.correlations
            for part in parts
            if part.seqs.start == 0
            for member in part.members
        )

    def wanted(self, log: Log) -> frozenset[Member]:
        """Return the rules and correlations that read a stream."""
        return positions.members(self.rules, log)

    def _of_log(self, log: Log, seen: Look) -> Iterator[_Part]:
        if not (wanted := self.wanted(log)):
            return
        reached = self.reached(log, wanted, seen)
        # The stream's own table is opened only if there may be new rows.
        if seen.fence(events.TABLE.name, log.key.app) <= min(reached.values()):
            return
        until, most = self.reader.until(log, seen), max(reached.values())
        for place in sorted(set(reached.values()), reverse=True):
            members = frozenset(m for m, at in reached.items() if at == place)
            chosen = frozenset(m for m in members if (log.key, m.id) not in self.stopped)
            if chosen and place < until:
                seqs = range(place, min(place + ROWS, until))
                yield _Part(log=log, members=chosen, seqs=seqs, ahead=place == most)

    def reached(
        self, log: Log, wanted: Iterable[Member], stored: Look | Stored
    ) -> dict[Member, int]:
        """Return the position of each rule in a look, or in what a commit is decided on."""
        place = log, len(self.sets)
        if place not in self._known:
            self._known[place] = positions.sets(self.sets, log)
        known = self._known[place]
        if isinstance(stored, Stored):
            fences = {app: stored.position(app) for app in known}
        else:
            fences = {app: stored.fence(table.FINDINGS.name, app) for app in known}
        return positions.reached(wanted, known, fences)

    def _evaluated(self, parts: Sequence[_Part], rows: Mapping[_Part, Rows]) -> Iterator[_Done]:
        """Evaluate parts, if possible all at once, which costs less."""
        names = {member.id for part in parts for member in part.members}
        found = None
        if len(parts) > 1 and all(self._has_all(part, names) for part in parts):
            ruleset = self._register(parts)
            with suppress(errors.Unexpected), errors.explained():  # found again one by one
                given = names, [rows[part] for part in parts]
                found = evaluate.together(
                    *(self.rules, *given), now=self.clock(), ruleset=ruleset, limit=self.limit
                )
        if found is None:
            yield from (self._alone(part, rows[part]) for part in parts)
            return
        for part, each in zip(parts, found, strict=True):
            count = rows[part].raw.height
            yield _Done(part=part, found=each, rows=count, ruleset=ruleset)

    def _has_all(self, part: _Part, names: Collection[str]) -> bool:
        """Return whether a part has all of these rules that read its stream."""
        return part.members == {each for each in self.wanted(part.log) if each.id in names}

    def _alone(self, part: _Part, rows: Rows) -> _Done:
        ruleset = self._register([part])
        names = {member.id for member in part.members}
        try:
            with errors.explained():
                found = evaluate.evaluate(
                    *(self.rules, names, rows), now=self.clock(), ruleset=ruleset, limit=self.limit
                )
        except errors.Unexpected as error:  # such as rows of a shape that nobody foresaw
            found = evaluate.nothing(dict.fromkeys(names, str(error)))
        if found.failed:
            self.stopped |= {(part.log.key, id_) for id_ in found.failed}
            left = frozenset(m for m in part.members if m.id not in found.failed)
            ruleset = self._register([replace(part, members=left)]) if left else ruleset
        return _Done(part=part, found=found, rows=rows.raw.height, ruleset=ruleset)

    def _register(self, parts: Sequence[_Part]) -> str:
        """Record the rules of parts, before a position names them, and return their SHA-256."""
        whole = all(part.members == self.wanted(part.log) for part in parts)
        members = frozenset(member for part in parts for member in part.members)
        digest, text = positions.recorded(self.rules, None if whole else members)
        if text not in self.sets:
            table.register(self.lake, {digest: text}, self.clock())
            self.sets = table.rulesets(self.lake)
        return digest

    def _commit(self, done: Sequence[_Done]) -> Step:
        """Commit findings and positions of parts; those that others have committed are left out."""
        table.append_hits(self.lake, pl.concat([each.found.hits for each in done]))
        kept: list[Mapping[str, Any]] = []

        def decide(stored: Stored) -> Evaluated | None:
            kept.clear()
            fit = [each for each in done if self._is_next(each, stored)]
            if not fit:
                return None
            found = pl.concat([each.found.findings for each in fit], how="diagonal")
            fresh = self._excepted(stored.lacking(found))
            joined = self._excepted(self._revised(fit, stored))
            rows = pl.concat([fresh, joined]).sort("time", "finding_uid", maintain_order=True)
            kept.extend(self._evaluations(fit, rows))
            moved = {e.part.log.app(e.members): e.part.seqs.stop for e in fit if e.members}
            return Evaluated(rows, moved, kept)

        found = table.commit(self.lake, decide)
        return Step(findings=found, evaluated=tuple(kept))

    def _is_next(self, done: _Done, stored: Stored) -> bool:
        reached = self.reached(done.part.log, done.part.members, stored)
        return set(reached.values()) == {done.part.seqs.start}

    def recognise(self) -> Step:
        """Evaluate the windows of accounts whose persons have become known."""
        identities = versions.newest(self.lake, identity_table.TABLE.name)
        versions_now = identities.number + 1 if identities else 0
        if self._rest and versions_now <= self._rest[0]:
            return Step(findings=pl.DataFrame(schema=FINDINGS), evaluated=())
        self._rest = None
        since = (self.clock() - _REMEMBERED).date()
        waiting, before = table.nobodys_hits(self.lake, since)
        hits = windows.recognised(self.rules, waiting, identity_table.read(self.lake))
        table.append_hits(self.lake, hits)
        # Also those before, whose windows a process may not have reached.
        some = windows.touched(self.rules, pl.concat([before, hits]))

        def decide(stored: Stored) -> Evaluated | None:
            if versions_now <= stored.position(_PERSONS):
                return None
            run = self._run(positions.recorded(self.rules)[0])
            rows = self._excepted(self._revisions(some, stored, run))
            return Evaluated(rows, {_PERSONS: versions_now}, ())

        return Step(findings=table.commit(self.lake, decide), evaluated=())

    def settle(self) -> Step:
        """Evaluate provisional findings again whose spans have become complete."""
        run = self._run(positions.recorded(self.rules)[0])
        waiting = self._rest[1] if self._rest else table.provisional(self.lake)
        some = windows.settled(self.rules, waiting, run)

        def decide(stored: Stored) -> Evaluated | None:
            rows = self._excepted(self._revisions(some, stored, run))
            return Evaluated(rows, {}, ()) if rows.height else None

        found = table.commit(self.lake, decide) if some else pl.DataFrame(schema=FINDINGS)
        return Step(findings=found, evaluated=())

    def _run(self, ruleset: str) -> windows.Run:
        # Looked up at the first window, if there is any, and then the same for all.
        gaps = cache(self._gaps_now)
        return windows.Run(
            now=self.clock(), ruleset=ruleset, has_gap=lambda *asked: gaps().within(*asked)
        )

    def _gaps_now(self) -> Gaps:
        """Return the gaps, read again if polls were recorded or events derived meanwhile."""
        read = (versions.newest(self.lake, each.name) for each in (coverage.TABLE, events.TABLE))
        now = [each.number if each else None for each in read]
        if self._gaps is None or self._gaps[0] != now:
            self._gaps = now, Gaps(self.lake, self.rules, self.reader.logs(), self.clock())
        return self._gaps[1]

    def _revised(self, done: Sequence[_Done], stored: Stored) -> pl.DataFrame:
        hits = pl.concat([each.found.hits for each in done])
        some = windows.touched(self.rules, hits)
        return self._revisions(some, stored, self._run(done[0].ruleset))

    def _revisions(self, some: windows.Touched, stored: Stored, run: windows.Run) -> pl.DataFrame:
        """Return the findings of these windows that differ from those that are stored."""
        if not some:
            return pl.DataFrame(schema={n: t for n, t in FINDINGS.items() if n != "seq"})
        days = windows.days(self.rules, some)
        deciding = windows.deciding(self.rules, some)
        within = windows.reach(self.rules, some)
        known = stored.on(days, within).filter(pl.col("rule_id").is_in(list(some)))
        hits = table.hits(self.lake, days, deciding, within)
        return windows.revisions(self.rules, some, hits, known.collect(), run)

    def _excepted(self, found: pl.DataFrame) -> pl.DataFrame:
        if self.exceptions and found.height:
            found = self.exceptions(found)
        return found.drop(pl.selectors.starts_with(evaluate.EVENT))

    def _evaluations(
        self, done: Sequence[_Done], found: pl.DataFrame
    ) -> Iterator[Mapping[str, Any]]:
        at, whole = self.clock(), positions.recorded(self.rules)[0]
        left = found["finding_uid", "rule_id"]
        for each in done:
            log, seqs = each.part.log, each.part.seqs
            shared = {
                "integration": log.key.integration,
                "stream": log.key.stream,
                "since_seq": seqs.start,
                "until_seq": seqs.stop,
                "rows": each.rows,
                "seconds": each.found.seconds,
                "evaluated_at": at.isoformat(),
            }
            for members, rule in self._apart(each):
                # A finding of a correlation counts for the first stream with a hit of it.
                ours = pl.col("finding_uid").is_in(each.found.findings["finding_uid"].implode())
                ours |= pl.col("rule_id").is_in(each.found.hits["correlation"].implode())
                ours &= pl.col("rule_id").is_in([member.id for member in members])
                count, left = left.filter(ours).height, left.filter(~ours)
                facts = {"ruleset": each.ruleset, "rule_id": rule, "hits": count, "error": None}
                yield {**shared, **facts}
            for id_, reason in each.found.failed.items():
                yield {**shared, "ruleset": whole, "rule_id": id_, "hits": 0, "error": reason}

    def _apart(self, done: _Done) -> Iterator[tuple[frozenset[Member], str | None]]:
        """Yield the rules that were evaluated together, and those that had failed one by one."""
        again = {m for m in done.members if (done.part.log.key, m.id) in self.failing}
        if rest := done.members - again:
            yield rest, None
        yield from ((frozenset({member}), member.id) for member in sorted(again))


def detect(
    lake: Lake,
    rules: Ruleset,
    keys: Iterable[StreamKey] | None = None,
    *,
    exceptions: Exceptions | None = None,
    clock: Clock = utc_now,
    limit: float = evaluate.LIMIT,
) -> Iterator[Step]:
    """Evaluate the rows behind the positions, and yield each commit until nothing is left.

    `keys` are the streams to be read, by default all. `limit`: seconds that a rule may take for
    the rows of one step. Whoever stops iterating loses nothing. Raises LakeError.
    """
    engine = _engine(lake, rules, keys, exceptions=exceptions, clock=clock, limit=limit)
    step = engine.step(first=True)
    while step:
        yield step
        step = engine.step()
    if rules.correlations:
        for step in (engine.recognise(), engine.settle()):
            if step.findings.height:
                yield step


def behind(
    lake: Lake,
    rules: Ruleset,
    keys: Iterable[StreamKey] | None = None,
    rows: Mapping[StreamKey, int] | None = None,
) -> int:
    """Return how many of these rows, or of all, lie behind a rule's position; writes nothing."""
    return _engine(lake, rules, keys).behind(rows)


def _engine(
    lake: Lake,
    rules: Ruleset,
    keys: Iterable[StreamKey] | None,
    *,
    exceptions: Exceptions | None = None,
    clock: Clock = utc_now,
    limit: float = evaluate.LIMIT,
) -> _Engine:
    reader = Reader(lake)
    return _Engine(
        lake=lake,
        rules=rules,
        logs=reader.logs(keys),
        exceptions=exceptions,
        clock=clock,
        limit=limit,
        reader=reader,
        sets=table.rulesets(lake),
    )


def _pairs(evaluations: pl.DataFrame) -> set[tuple[StreamKey, str]]:
    names = evaluations.select("integration", "stream", "rule_id").iter_rows()
    return {(StreamKey(integration, stream), id_) for integration, stream, id_ in names}
