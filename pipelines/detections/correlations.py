"""Sigma correlations: https://sigmahq.io/docs/meta/correlations.html

A window begins with an event and lasts for the time span, so that no boundary divides a burst.
Windows that begin in the same span since the epoch are one finding. Which findings there are thus
depends on the events alone, not on the order in which they arrived, and a late event changes no
finding but those of its own span and of the one before it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from sigma.correlations import (
    SigmaCorrelationCondition,
    SigmaCorrelationConditionOperator,
    SigmaCorrelationRule,
)

from pipelines.detections.compiler import Compiled, Refused
from pipelines.detections.match import GROUP, RULE
from pipelines.detections.paths import Path
from pipelines.detections.rules import Loaded, Rule
from pipelines.schemas import EVENTS, Timestamp
from pipelines.search.people import PERSON

MOST_EVENTS = 1000
"""The most events that a finding names; `count` is of all."""
_TYPES = ("event_count", "value_count", "temporal", "temporal_ordered")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OPERATORS: dict[SigmaCorrelationConditionOperator, Callable[[Any, Any], Any]] = {
    SigmaCorrelationConditionOperator.LT: np.less,
    SigmaCorrelationConditionOperator.LTE: np.less_equal,
    SigmaCorrelationConditionOperator.GT: np.greater,
    SigmaCorrelationConditionOperator.GTE: np.greater_equal,
    SigmaCorrelationConditionOperator.EQ: np.equal,
    SigmaCorrelationConditionOperator.NEQ: np.not_equal,
}
AT_LEAST = (SigmaCorrelationConditionOperator.GT, SigmaCorrelationConditionOperator.GTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """A correlation that runs."""

    rule: Rule
    type: str
    parts: tuple[str, ...]
    """The ids of the rules whose hits it correlates, in its order."""
    span: timedelta
    group_by: tuple[str, ...]
    counted: str | None
    """Of a value_count: the field whose distinct values are counted."""
    operator: SigmaCorrelationConditionOperator
    count: float
    wanted: Mapping[str, Mapping[str, tuple[Path, ...]]]
    """Part -> field -> where its value is; others are columns of `events`, or `person`."""

    @property
    def generates(self) -> bool:
        """Whether the hits of the parts are findings of their own as well."""
        return isinstance(self.rule.parsed, SigmaCorrelationRule) and self.rule.parsed.generate

    @property
    def fields(self) -> tuple[str, ...]:
        return (*self.group_by, self.counted) if self.counted else self.group_by


def compile_correlation(
    rule: Rule, loaded: Loaded, compiled: Mapping[str, Compiled | Refused]
) -> Correlation | Refused:
    """Return a correlation in executable form, or why it cannot run."""
    parsed = rule.parsed
    if rule.faults or not isinstance(parsed, SigmaCorrelationRule):
        reason = "; ".join(rule.faults) or "it is no correlation"
        return Refused(rule=rule, reason=reason, invalid=True)
    try:
        condition = _condition(parsed)
        parts = [_part(reference, loaded, compiled) for reference in rule.correlates]
        group_by = tuple(parsed.group_by or ())
        counted = str(condition.fieldref) if parsed.type.name == "VALUE_COUNT" else None
        fields = (*group_by, counted) if counted else group_by
        wanted = {part.rule.id: dict(_places(part, fields, parsed)) for part in parts}
    except _NoMeaning as error:
        return Refused(rule=rule, reason=str(error))
    return Correlation(
        rule=rule,
        type=parsed.type.name.lower(),
        parts=tuple(part.rule.id for part in parts),
        span=timedelta(seconds=parsed.timespan.seconds),
        group_by=group_by,
        counted=counted,
        operator=condition.op,
        count=condition.count,
        wanted=wanted,
    )


class _NoMeaning(Exception):
    """A construct that cannot be evaluated."""


def _condition(parsed: SigmaCorrelationRule) -> SigmaCorrelationCondition:
    kind, condition = parsed.type.name.lower(), parsed.condition
    if kind not in _TYPES:
        raise _NoMeaning(f"correlations of type {kind} are not supported")
    if not isinstance(condition, SigmaCorrelationCondition):
        raise _NoMeaning("conditions with and, or and not are not supported")
    if isinstance(condition.fieldref, list):
        raise _NoMeaning("more than one field to count is not supported")
    if kind == "temporal_ordered" and condition.count != len(parsed.rules or ()):
        raise _NoMeaning("a sequence has to have all its rules: leave the condition out")
    return condition


def _part(reference: str, loaded: Loaded, compiled: Mapping[str, Compiled | Refused]) -> Compiled:
    rule = loaded.named(reference)
    if rule is None:
        raise _NoMeaning(f"its rule {reference} is missing")
    found = compiled.get(rule.id)
    if isinstance(found, Refused):
        raise _NoMeaning(f"its rule {reference} is refused: {found.reason}")
    if found is None:
        raise _NoMeaning(f"its rule {reference} is a correlation itself")
    return found


def _places(
    part: Compiled, fields: Iterable[str], parsed: SigmaCorrelationRule
) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """Yield where a part has the values of fields. Raises _NoMeaning for one it does not have."""
    names = {part.rule.id, part.rule.name}
    aliases = {
        alias.alias: name
        for alias in parsed.aliases
        for reference, name in alias.mapping.items()
        if reference.reference in names
    }
    for field in fields:
        if field in (*EVENTS, PERSON) and field not in aliases:
            continue
        found = part.source.table.paths(aliases.get(field, field))
        if not found:
            raise _NoMeaning(f"the field {field} is not known in {part.rule.title}")
        yield field, found


def starts(correlation: Correlation, times: Iterable[datetime]) -> set[datetime]:
    """Return the starts of the findings that events of these times can change."""
    span = correlation.span
    spans = {(time - _EPOCH) // span for time in times}
    return {_EPOCH + (number - before) * span for number in spans for before in (0, 1)}


def reach(correlation: Correlation, start: datetime) -> tuple[datetime, datetime]:
    """Return from when to before when the events lie that decide about a finding."""
    return start, start + 2 * correlation.span


def findings(
    correlation: Correlation, hits: pl.DataFrame, only: Collection[datetime] | None = None
) -> pl.DataFrame:
    """Return a row per finding, by start and group; with `only`, those with these starts.

    Hits have `rule_id`, `time`, `event` (a text that identifies it), and a column `group.<name>`
    or `<name>` for each field. Those without a value to group by are left out. The result has
    `window_start`, `window_end`, `first`, `last`, `count`, `events` and `group.<name>`.
    """
    keys = [f"{GROUP}{name}" for name in correlation.group_by]
    made = [
        {**dict(zip(keys, key, strict=True)), **finding}
        for key, group in _grouped(correlation, _prepared(correlation, hits), keys)
        for finding in _of_group(correlation, group)
        if only is None or finding["window_start"] in only
    ]
    found = pl.DataFrame(made, _schema(keys))
    return found.sort("window_start", *keys)


class _Hits(NamedTuple):
    """The hits of one group, by time."""

    times: np.ndarray
    """Microseconds since the epoch."""
    rules: list[str]
    events: list[str]
    counted: Sequence[str] = ()
    """The values that a value_count counts."""


def _grouped(
    correlation: Correlation, rows: pl.DataFrame, keys: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], _Hits]]:
    """Yield the hits of each group; of many groups, lists are cheaper than frames."""
    lists = {
        "times": pl.col("time").to_physical(),
        "rules": pl.col(RULE),
        "events": pl.col("event"),
    }
    if correlation.counted:
        lists["counted"] = pl.col(f"{GROUP}{correlation.counted}")
    for row in rows.group_by(keys or pl.lit(""), maintain_order=True).agg(**lists).iter_rows():
        times, *others = row[-len(lists) :]
        yield row[: len(keys)], _Hits(np.array(times), *others)


def _schema(keys: Sequence[str]) -> dict[str, Any]:
    return {
        "window_start": Timestamp,
        "window_end": Timestamp,
        "first": Timestamp,
        "last": Timestamp,
        "count": pl.Int64,
        "events": pl.List(pl.String),
        **dict.fromkeys(keys, pl.String),
    }


def _prepared(correlation: Correlation, hits: pl.DataFrame) -> pl.DataFrame:
    """Return the hits of the parts, sorted and each once, with their values in lower case."""
    values = [_value(name, hits).alias(f"{GROUP}{name}") for name in correlation.fields]
    keyed = ["event"] if correlation.type.endswith("_count") else [RULE, "event"]
    return (
        hits.filter(pl.col(RULE).is_in(correlation.parts))
        .select(RULE, "event", pl.col("time").cast(Timestamp), *values)
        .drop_nulls([f"{GROUP}{name}" for name in correlation.fields])
        .sort("time", "event", RULE)
        .unique(keyed, keep="first", maintain_order=True)
    )


def _value(name: str, hits: pl.DataFrame) -> pl.Expr:
    given = [column for column in (f"{GROUP}{name}", name) if column in hits.columns]
    if not given:
        raise ValueError(f"the hits have no column {name}")
    return pl.coalesce(pl.col(column).cast(pl.String) for column in given).str.to_lowercase()


def _of_group(correlation: Correlation, hits: _Hits) -> Iterator[dict[str, Any]]:
    times = hits.times
    span = correlation.span // timedelta(microseconds=1)
    ends = np.searchsorted(times, times + span, side="left")
    spans = times // span
    if correlation.operator in AT_LEAST:
        sizes = _sizes(correlation, hits, ends)
    else:
        # "Fewer than" is true of the rest of any window, so a window is a whole span here.
        ends = np.searchsorted(times, (spans + 1) * span, side="left")
        begins = np.append(True, spans[1:] != spans[:-1])
        sizes = np.where(begins, _sizes(correlation, hits, ends), np.nan)
    with np.errstate(invalid="ignore"):
        holds = _OPERATORS[correlation.operator](sizes, correlation.count) & ~np.isnan(sizes)
    for number in np.unique(spans[holds]):
        places = np.flatnonzero(holds & (spans == number))
        # Windows that begin within one span overlap, so all their events follow each other.
        begin = int(np.searchsorted(times, times[places[0]], side="left"))
        end = int(ends[places].max())
        events = [*dict.fromkeys(hits.events[begin:end])]
        start = _EPOCH + int(number) * correlation.span
        yield {
            "window_start": start,
            "window_end": start + correlation.span,
            "first": _EPOCH + timedelta(microseconds=int(times[begin])),
            "last": _EPOCH + timedelta(microseconds=int(times[end - 1])),
            "count": len(events),
            "events": events[:MOST_EVENTS],
        }


def _sizes(correlation: Correlation, hits: _Hits, ends: np.ndarray) -> np.ndarray:
    """Return the number that the condition compares, for the window that each event begins."""
    match correlation.type:
        case "event_count":
            return (ends - np.arange(len(ends))).astype(float)
        case "value_count":
            return _distinct(hits.counted, ends)
        case "temporal":
            return _distinct(hits.rules, ends)
    return _sequence(correlation, hits, ends)


def _distinct(values: Sequence[Any], ends: np.ndarray) -> np.ndarray:
    """Return the number of different values in each window; both of its ends only move forward."""
    counts: Counter[Any] = Counter()
    sizes = np.zeros(len(ends))
    reached = 0
    for place, end in enumerate(ends):
        for value in values[reached:end]:
            counts[value] += 1
        reached = max(reached, int(end))
        sizes[place] = len(counts)
        counts[values[place]] -= 1
        if not counts[values[place]]:
            del counts[values[place]]
    return sizes


def _sequence(correlation: Correlation, hits: _Hits, ends: np.ndarray) -> np.ndarray:
    """Return how many of the rules follow each other from the event that begins each window."""
    times, rules, events = hits.times, hits.rules, hits.events
    places: dict[str, list[int]] = {part: [] for part in correlation.parts}
    for place, rule in enumerate(rules):
        places[rule].append(place)
    # Of events of the same time, either order counts.
    earliest = np.searchsorted(times, times, side="left")
    sizes = np.zeros(len(ends))
    for first in places[correlation.parts[0]]:
        at, sizes[first] = first, 1
        for part in correlation.parts[1:]:
            following = _following(places[part], int(earliest[at]), events, at)
            if following is None or following >= ends[first]:
                break
            at, sizes[first] = following, sizes[first] + 1
    return sizes


def _following(places: list[int], since: int, events: list[str], at: int) -> int | None:
    """Return the first place from `since` on whose event is not the one at `at`."""
    after = bisect_left(places, since)
    return next((place for place in places[after:] if events[place] != events[at]), None)
