"""Find the records and events that rules match; a rule that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import polars as pl

from pipelines import errors
from pipelines.detections import needles
from pipelines.detections.aliases import EVENTS_STREAM
from pipelines.detections.compiler import LOWER, Columns, Compiled
from pipelines.detections.extract import columns, extract
from pipelines.detections.paths import Path

RULE = "rule_id"
GROUP = "group."
"""Begins the names of the columns with the values that a correlation groups by or counts."""
Wanted = Mapping[str, Mapping[str, tuple[Path, ...]]]
"""Rule id -> name -> where its value is; of several values, the first counts."""
_CHUNK = 20_000
_FEW = 200
_QUICK = frozenset({"value", "trimmed", "words", "error_code", "result"})
_ROW = "\0row"


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    hits: pl.DataFrame
    """The columns of the rows given, without `raw`, and `rule_id`; in their order, by rule."""
    errors: dict[str, str]
    """Rule id -> why it could not be evaluated."""
    unread: int = 0
    """How many records could not be read, which match no rule."""


def records(rules: Sequence[Compiled], rows: pl.DataFrame, wanted: Wanted | None = None) -> Matches:
    """Return the rows of one stream's raw table that rules match, each once per rule.

    A hit also has the columns `group.<name>` for the values that are `wanted` of its rule.
    """
    found = _Found(rows.drop("raw"), wanted or {})
    for of_one, possible in _sieved(rules, rows.get_column("raw")):
        for each, group in _grouped(of_one):
            for offset in range(0, len(possible), _CHUNK):
                chosen = possible[offset : offset + _CHUNK]
                part = rows[chosen].get_column("raw").to_list()
                places, unread = _candidates(group, part, each)
                paths = [path for one in group for path in found.paths(one)]
                values = extract([part[place] for place in places], paths, each)
                origin = chosen[pl.Series(places, dtype=pl.Int64)[values.origin]]
                found.add(group, values.frame.with_columns(origin.alias(_ROW)))
                found.unread |= {int(chosen[place]) for place in unread}
    return found.matches([one.rule.id for one in rules])


def _sieved(
    rules: Sequence[Compiled], raw: pl.Series
) -> Iterator[tuple[list[Compiled], pl.Series]]:
    """Yield rules with the places of the records that may match them."""
    sieved = [one for one in rules if one.needles]
    if others := [one for one in rules if not one.needles]:
        yield others, pl.int_range(len(raw), eager=True)
    if sieved and len(raw):
        for chosen, places in needles.groups(raw, [one.needles for one in sieved]):
            yield [sieved[place] for place in chosen], places


def _grouped(rules: Sequence[Compiled]) -> Iterator[tuple[str, list[Compiled]]]:
    """Yield rules that explode the same list; apart, those that no quick field can rule out."""
    for each, chosen in groupby(sorted(rules, key=_each), key=_each):
        of_one = list(chosen)
        quick = set(_quick(_paths(of_one), each))
        ruled_out = [one for one in of_one if quick & {*one.paths}]
        others = [one for one in of_one if not quick & {*one.paths}]
        yield from ((each, group) for group in (ruled_out, others) if group)


def _each(rule: Compiled) -> str:
    return rule.source.each


def _paths(rules: Sequence[Compiled]) -> list[Path]:
    return [*dict.fromkeys(path for one in rules for path in one.paths)]


def _candidates(
    rules: Sequence[Compiled], part: list[str | None], each: str
) -> tuple[list[int], set[int]]:
    """Return the records that can match by the fields that are quick to read, and the unreadable.

    Few are left, of which the other fields are then read; of a few records, all are.
    """
    if len(part) <= _FEW:
        unread = set(extract(part, (), each).unread)
        return [place for place in range(len(part)) if place not in unread], unread
    values = extract(part, _quick(_paths(rules), each), each)
    columns = _columns(values.frame)
    frame = values.frame.lazy().with_columns(_lower(values.frame))
    possible = pl.any_horizontal([_built(one, columns).fill_null(True) for one in rules])
    try:
        with errors.explained():
            chosen = frame.with_columns(possible.alias(_ROW)).collect().get_column(_ROW)
            places = values.origin.filter(chosen).unique().sort()
    except errors.AuditlakeError:  # a rule that fails is found when they are evaluated
        places = values.origin.unique().sort()
    unread = set(values.unread)
    return [place for place in places if place not in unread], unread


def _quick(found: Sequence[Path], each: str) -> list[Path]:
    """Return the paths to single values outside of subtrees that are read whole."""
    whole = {_subtree(path, each) for path in found if path.reads and not _is_quick(path)}
    return [
        path
        for path in found
        if path.kind == "constant"
        or (path.reads and _is_quick(path) and _subtree(path, each) not in whole)
    ]


def _subtree(path: Path, each: str) -> tuple[str, ...]:
    names = tuple(name for name, _, _ in path.steps)
    return names[:2] if names[0] == each else names[:1]


def _is_quick(path: Path) -> bool:
    return path.kind in _QUICK and not any(member for _, member, _ in path.steps)


def events(rules: Sequence[Compiled], rows: pl.DataFrame, wanted: Wanted | None = None) -> Matches:
    """Return the rows of `events` that rules of `product: auditlake` match, as `records` does."""
    found = _Found(rows, wanted or {})
    numbered = rows.with_row_index(_ROW)
    for kind, chosen in groupby(sorted(rules, key=_kind), key=_kind):
        of_one = list(chosen)
        part = numbered.filter(pl.col("kind") == kind) if kind else numbered
        values = columns(part, [path for one in of_one for path in found.paths(one)])
        found.add(of_one, values.with_columns(part[_ROW].cast(pl.Int64)))
    return found.matches([one.rule.id for one in rules])


def over_events(rule: Compiled) -> bool:
    """Return True for a rule over the columns of `events`, not over raw records."""
    return rule.source.streams == (EVENTS_STREAM,)


def _kind(rule: Compiled) -> str:
    return rule.source.kind


class _Found:
    """The hits so far, chunk by chunk."""

    def __init__(self, rows: pl.DataFrame, wanted: Wanted) -> None:
        self.rows = rows
        self.wanted = wanted
        self.hits: dict[str, list[pl.DataFrame]] = {}
        self.errors: dict[str, str] = {}
        self.unread: set[int] = set()

    def paths(self, rule: Compiled) -> Iterator[Path]:
        yield from rule.paths
        for where in self.wanted.get(rule.rule.id, {}).values():
            yield from where

    def add(self, rules: Sequence[Compiled], frame: pl.DataFrame) -> None:
        """Add the rows of extracted values that rules match."""
        columns = _columns(frame)
        lowered = frame.lazy().with_columns(_lower(frame))
        matched = _evaluated(lowered, {one.rule.id: one for one in rules}, columns, self.errors)
        for name in matched.columns:
            if matched[name].any():
                chosen = frame.filter(matched[name])
                # Records are exploded for some streams: a record is one hit all the same.
                once = chosen.unique(_ROW, keep="first", maintain_order=True)
                self.hits.setdefault(name, []).append(self._hits(name, once, columns))

    def _hits(self, rule: str, chosen: pl.DataFrame, columns: Columns) -> pl.DataFrame:
        values = [
            pl.coalesce(_first(path.column, columns) for path in where).alias(f"{GROUP}{name}")
            for name, where in self.wanted.get(rule, {}).items()
        ]
        rows = self.rows[chosen[_ROW]]
        return rows.with_columns(pl.lit(rule).alias(RULE), *chosen.select(values).get_columns())

    def matches(self, order: Sequence[str]) -> Matches:
        made = [frame for rule in order for frame in self.hits.get(rule, ())]
        empty = self.rows.clear().with_columns(pl.lit("").alias(RULE))
        hits = pl.concat(made, how="diagonal") if made else empty
        return Matches(hits=hits, errors=self.errors, unread=len(self.unread))


def _columns(frame: pl.DataFrame) -> Columns:
    return {name: dtype == pl.List(pl.String) for name, dtype in frame.schema.items()}


def _built(rule: Compiled, columns: Columns) -> pl.Expr:
    return _built_for(rule, tuple(columns.items()))


@lru_cache(maxsize=4096)
def _built_for(rule: Compiled, columns: tuple[tuple[str, bool], ...]) -> pl.Expr:
    """Return the expression of a rule, which is the same for each batch with these columns."""
    return rule.build(dict(columns))


def _first(column: str, columns: Columns) -> pl.Expr:
    return pl.col(column).list.first() if columns[column] else pl.col(column)


def _lower(frame: pl.DataFrame) -> Iterator[pl.Expr]:
    for name, dtype in frame.schema.items():
        if dtype == pl.String:
            yield pl.col(name).str.to_lowercase().alias(name + LOWER)
        elif dtype == pl.List(pl.String):
            lower = pl.element().str.to_lowercase()
            yield pl.col(name).list.eval(lower).alias(name + LOWER)


def _evaluated(
    frame: pl.LazyFrame, rules: dict[str, Compiled], columns: Columns, failed: dict[str, str]
) -> pl.DataFrame:
    """Return a column of booleans per rule; one that fails is added to `failed` and left out."""
    rules = {name: rule for name, rule in rules.items() if name not in failed}
    try:
        with errors.explained():
            made = {name: _built(rule, columns) for name, rule in rules.items()}
            return frame.select(**made).collect()
    except errors.AuditlakeError as error:
        if len(rules) == 1:
            # The cause itself may quote a record.
            failed[next(iter(rules))] = f"not evaluated: {type(error.__cause__).__name__}"
            return pl.DataFrame()
    alone = [_evaluated(frame, {name: rule}, columns, failed) for name, rule in rules.items()]
    return pl.concat(alone, how="horizontal") if alone else pl.DataFrame()
