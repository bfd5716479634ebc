"""Evaluate rules on some rows of one stream: the findings, and the hits that correlations count.

Pure but for the time it takes: the same rows give the same findings, live and in a backtest.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from pipelines.detections import match
from pipelines.detections.compiler import Compiled
from pipelines.detections.correlations import Correlation
from pipelines.detections.match import GROUP, RULE, Matches
from pipelines.detections.paths import Path
from pipelines.detections.positions import Log
from pipelines.detections.rules import Rule
from pipelines.detections.ruleset import Ruleset
from pipelines.schemas import EVENTS, FINDINGS, HITS, MATCHED
from pipelines.sdk.record_versions import MARK
from pipelines.search.people import PERSON

EVENT = "event."
"""Begins the names of the columns with the values of the event, which exceptions may look at."""
DETECTION_FINDING = 2004
LIMIT = 30.0
"""Seconds that a rule may take for the rows of one call."""
_FINDINGS = {name: dtype for name, dtype in FINDINGS.items() if name != "seq"}
_READ = "="
_MOST_MATCHED, _MOST_TEXT = 30, 1000
_SAMPLE = 500
_VERSION = f"{MARK}[0-9a-f]*"
_IDENTITY = "\0identity"
_UIDS = "\0uids"
_COUNTED = [name for name in HITS if name in (RULE, *EVENTS)]
"""The columns that a hit which a correlation counts has from the event."""
_SOME = pl.col("actor_email").fill_null("") != ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of one stream, and the events derived from them, with the column `person`."""

    log: Log
    raw: pl.DataFrame
    events: pl.DataFrame
    republished: bool = False
    """Whether an id ends with `@` and the version of its record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    findings: pl.DataFrame
    """Columns of schemas.FINDINGS without `seq`, and those of the event."""
    hits: pl.DataFrame
    """Rows of schemas.HITS."""
    failed: dict[str, str] = field(default_factory=dict)
    """Id of a rule or correlation -> why it could not be evaluated."""
    seconds: float = 0.0


def evaluate(
    rules: Ruleset,
    chosen: Collection[str],
    rows: Rows,
    *,
    now: datetime,
    ruleset: str,
    limit: float = LIMIT,
    timer: Callable[[], float] = time.process_time,
) -> Found:
    """Return the findings of chosen rules and correlations; one that takes too long has failed."""
    started = timer()
    joined, used = _split(rules, chosen)
    found, slow = _matched(used, joined, rows, limit, timer)
    errors = {**found.errors, **slow}
    failed = {id_: errors[id_] for id_ in chosen if id_ in errors}
    for one in joined:
        if broken := [part for part in one.parts if part in errors]:
            failed[one.rule.id] = f"{rules.rules[broken[0]].rule.title}: {errors[broken[0]]}"
    sound = {id_ for id_ in chosen if id_ not in failed}
    return Found(
        findings=_findings(rules, sound, found.hits, now, ruleset),
        hits=_counted([one for one in joined if one.rule.id in sound], found.hits),
        failed=failed,
        seconds=timer() - started,
    )


def together(
    rules: Ruleset,
    chosen: Collection[str],
    parts: Sequence[Rows],
    *,
    now: datetime,
    ruleset: str,
    limit: float = LIMIT,
    timer: Callable[[], float] = time.process_time,
) -> list[Found] | None:
    """Return, for different streams, the findings of those chosen rules that read the stream.

    It costs less than one call of `evaluate` for each. None if a rule fails or takes too long,
    which then has to be found that way.
    """
    started = timer()
    joined, used = _split(rules, chosen)
    found = _match(used, joined, parts)
    if found.errors or timer() - started > limit:
        return None
    findings = _findings(rules, chosen, found.hits, now, ruleset)
    hits = _counted(joined, found.hits)
    seconds = (timer() - started) / max(1, sum(rows.raw.height for rows in parts))
    of_stream = [_by_stream(frame) for frame in (findings, hits)]
    return [
        Found(
            findings=of_stream[0].get(rows.log.key, findings.clear()),
            hits=of_stream[1].get(rows.log.key, hits.clear()),
            seconds=seconds * rows.raw.height,
        )
        for rows in parts
    ]


def _split(rules: Ruleset, chosen: Collection[str]) -> tuple[list[Correlation], list[Compiled]]:
    """Return the chosen correlations, and all rules that have to be evaluated."""
    joined = [rules.correlations[id_] for id_ in chosen if id_ in rules.correlations]
    needed = {*chosen}.union(*(one.parts for one in joined))
    return joined, [rule for id_, rule in rules.rules.items() if id_ in needed]


def _by_stream(frame: pl.DataFrame) -> dict[tuple[Any, ...], pl.DataFrame]:
    return frame.partition_by("integration", "stream", as_dict=True, maintain_order=True)


def nothing(failed: dict[str, str]) -> Found:
    """Return that these rules could not be evaluated."""
    return Found(
        findings=pl.DataFrame(schema=_FINDINGS), hits=pl.DataFrame(schema=HITS), failed=failed
    )


def _matched(
    used: Sequence[Compiled],
    joined: Sequence[Correlation],
    rows: Rows,
    limit: float,
    timer: Callable[[], float],
) -> tuple[Matches, dict[str, str]]:
    """Return the matches, with the columns of the event, and the rules that take too long."""
    started = timer()
    found = _match(used, joined, [rows])
    if timer() - started <= limit:
        return found, {}
    slow = {}
    for rule in used:
        begun = timer()
        part = Rows(log=rows.log, raw=rows.raw[:_SAMPLE], events=rows.events[:_SAMPLE])
        _match([rule], (), [part])
        share = max(rows.raw.height / _SAMPLE, 1.0)
        if (timer() - begun) * share > limit:
            slow[rule.rule.id] = f"took longer than {limit:g} s for {rows.raw.height} rows"
    return found, slow


def _match(
    used: Sequence[Compiled], joined: Sequence[Correlation], parts: Sequence[Rows]
) -> Matches:
    """Return the matches in the rows of different streams; rules over events see all of these."""
    named = dict(_wanted(used, joined))
    over = [rule for rule in used if match.over_events(rule)]
    events = [_identified(rows) for rows in parts]
    # In one chunk each: dozens of expressions look at these frames, which takes long per chunk.
    of_events = match.events(over, pl.concat(events, rechunk=True), named)
    hits, failed = [of_events.hits], dict(of_events.errors)
    for rows, its_events in zip(parts, events, strict=True):
        others = [rule for rule in used if rows.log.name in rule.source.streams]
        of_raw = match.records(others, rows.raw, named)
        failed |= of_raw.errors
        if of_raw.hits.height:
            hits.append(_described(of_raw.hits, its_events, rows))
    return Matches(hits=pl.concat(hits, how="diagonal_relaxed", rechunk=True), errors=failed)


def _identified(rows: Rows) -> pl.DataFrame:
    """Return the events with the person, the identity of each, and its uid in a list."""
    return rows.events.with_columns(
        pl.coalesce(pl.when(_SOME).then("actor_email"), PERSON).alias(PERSON),
        _identity(rows, "event_uid").alias(_IDENTITY),
        pl.concat_list("event_uid").alias(_UIDS),
    )


def _wanted(
    used: Sequence[Compiled], joined: Sequence[Correlation]
) -> Iterator[tuple[str, Mapping[str, tuple[Path, ...]]]]:
    """Yield the values wanted of each rule: its fields, and those that correlations group by."""
    for rule in used:
        read: dict[str, tuple[Path, ...]] = {}
        for path in rule.paths:
            if path.reads:
                read[f"{_READ}{path.text}"] = (*read.get(f"{_READ}{path.text}", ()), path)
        for one in joined:
            for name, places in one.wanted.get(rule.rule.id, {}).items():
                read[f"{one.rule.id}.{name}"] = places
        yield rule.rule.id, read


def _identity(rows: Rows, column: str) -> pl.Expr:
    """Return the uid of the event, which all versions of its record share."""
    found = pl.col(column).str.replace(_VERSION, "")
    return found.str.replace(r"@[^@#]*(#|$)", "${1}") if rows.republished else found


def _described(hits: pl.DataFrame, events: pl.DataFrame, rows: Rows) -> pl.DataFrame:
    """Return hits in raw records with the columns of the first event of each record."""
    key = rows.log.key
    events = events.filter(pl.col("seq").is_in(hits["seq"].unique().implode()))
    beside = [n for n in events.columns if n not in hits.columns and n != _UIDS]
    first = events.unique("seq", keep="first", maintain_order=True).select("seq", *beside)
    uids = events.group_by("seq").agg(pl.col("event_uid").alias(_UIDS))
    own = pl.concat_str(pl.lit(f"{key.app.replace('/', ':')}:"), "event_id")
    found = hits.join(first, on="seq", how="left", maintain_order="left")
    return (
        found.join(uids, on="seq", how="left", maintain_order="left")
        .with_columns(
            pl.lit(key.integration).alias("integration"),
            pl.lit(key.stream).alias("stream"),
            pl.lit(rows.log.kind).alias("kind"),
            # A record has no event where another version of it is shown.
            pl.coalesce("event_uid", own).alias("event_uid"),
            own.alias(_IDENTITY),
        )
        .with_columns(
            pl.coalesce(_UIDS, pl.concat_list("event_uid")).alias(_UIDS),
            _identity(rows, _IDENTITY).alias(_IDENTITY),
        )
    )


def _counted(joined: Sequence[Correlation], found: pl.DataFrame) -> pl.DataFrame:
    """Return the hits (schemas.HITS) that correlations count."""
    hit = set(found[RULE])
    counted = [_hits(one, found) for one in joined if not hit.isdisjoint(one.parts)]
    return pl.concat([pl.DataFrame(schema=HITS), *counted])


def _hits(one: Correlation, found: pl.DataFrame) -> pl.DataFrame:
    """Return the hits of a correlation's rules that have all values it needs."""

    def value(name: str) -> pl.Expr:
        given = [c for c in (f"{GROUP}{one.rule.id}.{name}", name) if c in found.columns]
        texts = [pl.col(column).cast(pl.String) for column in given] or [pl.lit(None, pl.String)]
        # As much of a value as a finding shows; nobody needs more to tell two apart.
        return pl.coalesce(texts).str.to_lowercase().str.slice(0, _MOST_TEXT)

    values = [value(name).alias(f"\0{place}") for place, name in enumerate(one.group_by)]
    counted = value(one.counted) if one.counted else pl.lit("")
    names = [f"\0{place}" for place in range(len(values))]
    group = pl.concat_list(names) if names else pl.lit([], pl.List(pl.String))
    kept = {*_COUNTED, _IDENTITY, "event_uid", "actor_id", *one.fields}
    kept |= {f"{GROUP}{one.rule.id}.{name}" for name in one.fields}
    # Few of the columns, of which there is one for each field that some rule reads.
    narrow = found.select(name for name in found.columns if name in kept)
    chosen = narrow.filter(pl.col(RULE).is_in(list(one.parts)))
    known = [n for n, name in zip(names, one.group_by, strict=True) if name != PERSON]
    # A person who is recognised later is looked up by the account.
    nobody = pl.lit(value=False)
    if PERSON in one.group_by:
        nobody = pl.col(names[one.group_by.index(PERSON)]).is_null()
    return (
        chosen.with_columns(*values, counted.alias("counted"))
        .with_columns(pl.when(nobody).then("actor_id").alias("account"))
        .filter(~nobody | pl.col("account").is_not_null())
        .drop_nulls([*known, "counted"])
        .select(
            pl.lit(one.rule.id).alias("correlation"),
            pl.lit(one.rule.logic_hash).alias("logic_sha256"),
            *_COUNTED,
            pl.col(_IDENTITY).alias("event"),
            pl.col("event_uid").alias("uid"),
            group.alias("group"),
            "account",
            "counted",
        )
        .select(pl.col(name).cast(dtype) for name, dtype in HITS.items())
    )


def _findings(
    rules: Ruleset, chosen: Collection[str], hits: pl.DataFrame, now: datetime, ruleset: str
) -> pl.DataFrame:
    """Return the findings of chosen rules; the hits of others only serve correlations."""
    shown = hits.filter(pl.col(RULE).is_in([id_ for id_ in chosen if id_ in rules.rules]))
    made = [
        _of_rule(rules.rules[str(id_)], part, now, ruleset)
        for (id_,), part in shown.group_by(RULE, maintain_order=True)
    ]
    found = pl.concat([pl.DataFrame(schema=_FINDINGS), *made], how="diagonal")
    return found.unique("finding_uid", keep="first", maintain_order=True)


def _of_rule(rule: Compiled, hits: pl.DataFrame, now: datetime, ruleset: str) -> pl.DataFrame:
    entity = pl.coalesce(PERSON, "actor_name", "actor_id", "source_ip")
    uids = [uid(rule.rule, identity) for identity in hits[_IDENTITY]]
    facts = hits.select(
        pl.Series("finding_uid", uids, pl.String),
        pl.lit(0, pl.Int32).alias("revision"),
        pl.lit("found").alias("status"),
        pl.lit(value=False).alias("provisional"),
        "time",
        "date",
        pl.col("time").alias("since"),
        pl.lit(now, FINDINGS["found_at"]).alias("found_at"),
        *about(rule.rule, ruleset),
        *("integration", "kind", "stream"),
        entity.str.slice(0, _MOST_TEXT).alias("entity"),
        *("source_ip", "message"),
        pl.lit(1, pl.Int64).alias("count"),
        pl.col(_UIDS).alias("event_uids"),
        pl.Series("matched", _values(rule, hits), pl.List(MATCHED)),
        pl.lit(None, pl.String).alias("exception"),
        *(pl.col(name).alias(f"{EVENT}{name}") for name in EVENTS if name in hits.columns),
    )
    return facts.with_columns(pl.col(n).cast(t) for n, t in _FINDINGS.items())


def about(rule: Rule, ruleset: str) -> Iterator[pl.Expr]:
    """Yield the columns of a finding that its rule determines."""
    yield pl.lit(DETECTION_FINDING, pl.Int32).alias("class_uid")
    texts = {
        "rule_id": rule.id,
        "logic_sha256": rule.logic_hash,
        "ruleset": ruleset,
        "title": rule.title,
        "level": rule.level or "informational",
        "author": rule.author,
        "url": rule.references[0] if rule.references else None,
        "license": rule.license,
    }
    for name, text in texts.items():
        yield pl.lit(text or None, pl.String).alias(name)
    yield pl.lit([*rule.tags], pl.List(pl.String)).alias("tags")


def uid(rule: Rule, *identity: str) -> str:
    """Return the `finding_uid` of a rule and the identity of the event or the group."""
    parts = [part.encode() for part in (rule.id, rule.logic_hash, *identity)]
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hashlib.sha256(framed).hexdigest()


def _values(rule: Compiled, hits: pl.DataFrame) -> list[list[dict[str, Any]]]:
    """Return the values of the fields that a rule read, per hit."""
    names = list(dict.fromkeys(path.text for path in rule.paths))
    known = {name: f"{GROUP}{_READ}{name}" for name in names}
    present = {name: hits[column] for name, column in known.items() if column in hits.columns}
    return [
        [
            {"field": name, "value": str(column[row])[:_MOST_TEXT]}
            for name, column in present.items()
            if column[row] is not None
        ][:_MOST_MATCHED]
        for row in range(hits.height)
    ]
