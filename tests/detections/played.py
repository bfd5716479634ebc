"""All our rules over everything that a sandbox records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from pipelines import registry
from pipelines.detections import correlations, match, rules, ruleset
from pipelines.detections.ruleset import Ruleset
from pipelines.mapping import normalise
from pipelines.search.people import PERSON
from sandbox import server
from sandbox.server import Sandbox

RULES = Path(__file__).parents[2] / "rules"
SEVERE = ("high", "critical")


@dataclass(frozen=True)
class Found:
    """A finding: the rule and the records it is about, such as "okta/system_log/<SHA-256>"."""

    rule: str
    level: str
    events: frozenset[str]

    def mostly_in(self, events: frozenset[str]) -> bool:
        """Return whether most of its events are among these: a window takes in others, too."""
        return len(self.events & events) > len(self.events) / 2


@dataclass
class Watched:
    findings: list[Found] = field(default_factory=list)
    records: int = 0

    @property
    def severe(self) -> list[Found]:
        return [found for found in self.findings if found.level in SEVERE]


def own_rules() -> Ruleset:
    loaded = rules.load([RULES])
    assert loaded.problems == ()
    return ruleset.compiled(loaded)


def watched(box: Sandbox, made: Ruleset, now: datetime) -> Watched:
    """Return the findings of all rules in all records that the sandbox shows."""
    result, hits = Watched(), []
    for kind, service in server.services().items():
        known = {stream.name for stream in registry.kind(kind).streams(None)}
        for stream in service.streams:
            records = [record.raw for record in box.log(kind, stream.name).visible()]
            if records and stream.name in known:
                result.records += len(records)
                hits += _hits(made, kind, stream.name, records, now)
    _judge(result, made, pl.concat(hits, how="diagonal"))
    return result


def _judge(result: Watched, made: Ruleset, hits: pl.DataFrame) -> None:
    for id_, event in hits.select(match.RULE, "event").iter_rows():
        if id_ not in made.silent:
            rule = made.rules[id_].rule
            name = f"{rule.file.parent.name}/{rule.file.stem}"
            result.findings.append(Found(name, rule.level, frozenset([event])))
    for one in made.correlations.values():
        for events in correlations.findings(one, hits)["events"]:
            result.findings.append(
                Found(one.rule.file.stem, one.rule.level, frozenset(events.to_list()))
            )


def _hits(
    made: Ruleset, kind: str, name: str, records: list[bytes], now: datetime
) -> Iterator[pl.DataFrame]:
    integration = registry.kind(kind)
    stream = next(each for each in integration.streams(None) if each.name == name)
    raw = normalise.read(stream, records, now, "poll", fallback=now)
    raw = raw.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("seq"))
    events = normalise.normalise(kind, integration, stream, raw).events
    events = events.with_columns(pl.col("actor_email").alias(PERSON))
    beside = [column for column in events.columns if column not in raw.columns]
    first = events.unique("seq", keep="first").select("seq", *beside)
    rows = raw.select("event_id", "time", "seq", "raw").join(
        first, on="seq", how="left", maintain_order="left"
    )
    wanted = _wanted(made)
    of_raw = [one for one in made.rules.values() if f"{kind}/{name}" in one.source.streams]
    over = [one for one in made.rules.values() if match.over_events(one)]
    for found in (match.records(of_raw, rows, wanted), match.events(over, events, wanted)):
        assert found.errors == {}
        hits = found.hits.join(raw.select("seq", "raw_sha256"), on="seq", maintain_order="left")
        yield hits.with_columns((pl.lit(f"{kind}/{name}/") + pl.col("raw_sha256")).alias("event"))


def _wanted(made: Ruleset) -> match.Wanted:
    found: dict[str, dict] = {}
    for one in made.correlations.values():
        for part, fields in one.wanted.items():
            found.setdefault(part, {}).update(fields)
    return found
