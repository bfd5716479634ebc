"""A parsed Sigma condition -> a Polars expression over extracted texts.

Texts are compared without regard to case. Of a field with several values, any may match. A field
without a value matches nothing but `null`, so that `not` is true of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import polars as pl
from sigma import types
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule
from sigma.types import CompareOperators, Placeholder, SpecialChars

from pipelines.detections import aliases, needles, networks, paths
from pipelines.detections.aliases import LogSource
from pipelines.detections.needles import Needles
from pipelines.detections.networks import Network
from pipelines.detections.paths import Path
from pipelines.detections.rules import Rule

LOWER = "~"
"""Ends the name of a column of lower-case texts."""
Placeholders = Mapping[str, Sequence[str]]
Columns = Mapping[str, bool]
"""The columns of a batch -> whether they hold lists."""
Build = Callable[[Columns], pl.Expr]
Test = Callable[[pl.Expr], pl.Expr]

_UNKNOWN = pl.lit(None, pl.Boolean)
_NUMBER = r"^[+-]?\d+(\.\d+)?([eE][+-]?\d+)?$"
_MOST_EXPANSIONS = 100_000
_SPECIAL = {SpecialChars.WILDCARD_MULTI: ".*", SpecialChars.WILDCARD_SINGLE: "."}
_MULTI = SpecialChars.WILDCARD_MULTI
_OPERATORS: dict[CompareOperators, Callable[[pl.Expr, float], pl.Expr]] = {
    CompareOperators.LT: pl.Expr.lt,
    CompareOperators.LTE: pl.Expr.le,
    CompareOperators.GT: pl.Expr.gt,
    CompareOperators.GTE: pl.Expr.ge,
    CompareOperators.NEQ: pl.Expr.ne,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compiled:
    """A rule that runs."""

    rule: Rule
    source: LogSource
    paths: tuple[Path, ...]
    """Where the fields are that it reads."""
    build: Build
    """Returns the expression for a batch: null where the columns that are there do not decide."""
    needles: Needles = ()
    """Texts that each matching record contains; none if any record may match."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A rule that does not run, and why."""

    rule: Rule
    reason: str
    invalid: bool = False
    """Whether the rule itself is wrong, and not only of no use here."""


class _NoMeaning(Exception):
    """A construct that cannot be evaluated."""


def compile_rule(rule: Rule, placeholders: Placeholders | None = None) -> Compiled | Refused:
    """Return a rule, not a correlation, in executable form, or why it cannot run."""
    source = aliases.log_source(rule.product, rule.service, rule.category)
    if isinstance(source, str):
        return Refused(rule=rule, reason=source)
    if rule.status in ("deprecated", "unsupported"):
        return Refused(rule=rule, reason=f"its status is {rule.status}")
    if rule.faults:
        return _faulty(rule)
    made = _Compiler(source=source, placeholders=placeholders or {})
    try:
        build = made.rule(rule.parsed)
        build({})
    except _NoMeaning as error:
        return Refused(rule=rule, reason=str(error))
    except (SigmaError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        return Refused(rule=rule, reason=f"its condition is not valid: {reason}", invalid=True)
    return Compiled(
        rule=rule,
        source=source,
        paths=tuple(made.used),
        build=build,
        needles=needles.needles(rule.parsed, made.paths, made.expanded),
    )


def _faulty(rule: Rule) -> Refused:
    # RE2, with which pySigma checks expressions, has no look-around either.
    ours = [fault for fault in rule.faults if "egular expression" in fault]
    return Refused(rule=rule, reason="; ".join(rule.faults), invalid=len(ours) < len(rule.faults))


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One comparison of a field."""

    paths: tuple[Path, ...]
    test: Test
    lower: bool = True
    among: tuple[str, ...] = ()
    """The whole texts to look for, if the comparison is with them; `test` is not used then."""

    def __call__(self, columns: Columns) -> pl.Expr:
        return pl.any_horizontal([self._found(path.column, columns) for path in self.paths])

    def _found(self, name: str, columns: Columns) -> pl.Expr:
        if name not in columns:
            return _UNKNOWN
        text = pl.col(name + LOWER * self.lower)
        if columns[name]:
            return text.list.eval(self._tested(pl.element())).list.any().fill_null(False)
        return self._tested(text).fill_null(False)

    def _tested(self, text: pl.Expr) -> pl.Expr:
        if not self.among:
            return self.test(text)
        return text == self.among[0] if len(self.among) == 1 else text.is_in(list(self.among))


@dataclass(slots=True, kw_only=True)
class _Compiler:
    source: LogSource
    placeholders: Placeholders
    used: dict[Path, None] = field(default_factory=dict)

    def rule(self, parsed: Any) -> Build:
        if not isinstance(parsed, SigmaRule):
            raise _NoMeaning("it is a correlation")
        conditions = [each.parsed for each in parsed.detection.parsed_condition]
        return _joined(pl.any_horizontal, [self.node(each) for each in conditions])

    def node(self, node: Any) -> Build:
        match node:
            case ConditionAND():
                return _joined(pl.all_horizontal, [self.node(each) for each in node.args])
            case ConditionOR():
                parts = [self.node(each) for each in node.args]
                return _joined(pl.any_horizontal, [*_merged(parts)])
            case ConditionNOT():
                return _negated(self.node(node.args[0]))
            case ConditionFieldEqualsValueExpression():
                return self.leaf(node.field, node.value)
            case ConditionValueExpression():
                return self.keyword(node.value)
        raise _NoMeaning("its condition is empty")

    def leaf(self, name: str, value: Any) -> Build:
        return self.compared(self.paths(name), value)

    def paths(self, name: str) -> tuple[Path, ...]:
        try:
            found = self.source.table.paths(name)
            self.used |= dict.fromkeys(found)
            if not all(path.steps for path in found if path.reads):
                found = ()
        except ValueError:
            found = ()
        if not found:
            raise _NoMeaning(f"its field {name} is not known in this log source")
        return found

    def keyword(self, value: Any) -> Build:
        """Return a search for a text anywhere in the record."""
        where = (paths.EVERYTHING,)
        self.used |= dict.fromkeys(where)
        if isinstance(value, types.SigmaNumber | types.SigmaBool):
            value = types.SigmaString(str(value))
        if isinstance(value, types.SigmaString):
            found = value.__class__()
            found.s = [_MULTI, *value.s, _MULTI]
            value = found
        return self.compared(where, value)

    def compared(self, where: tuple[Path, ...], value: Any) -> Build:  # noqa: PLR0911 one per type
        match value:
            case types.SigmaString():
                return self.text(where, value)
            case types.SigmaRegularExpression():
                return self.expression(where, value)
            case types.SigmaTimestampPart():
                raise _NoMeaning("parts of times cannot be compared")
            case types.SigmaNumber() | types.SigmaBool():
                return _equals(where, str(value).lower())
            case types.SigmaNull():
                return _negated(_present(where))
            case types.SigmaExists():
                return _present(where) if value.exists else _negated(_present(where))
            case types.SigmaCompareExpression():
                return _Leaf(where, partial(_number, _OPERATORS[value.op], value.number.number))
            case types.SigmaCIDRExpression():
                return _Leaf(where, partial(_within, (value.network,)))
            case types.SigmaFieldReference():
                return partial(_refers, where, self.paths(value.field), value)
            case types.SigmaExpansion():
                return _joined(
                    pl.any_horizontal, [self.compared(where, each) for each in value.values]
                )
        raise _NoMeaning(f"{type(value).__name__} cannot be evaluated")

    def text(self, where: tuple[Path, ...], value: types.SigmaString) -> Build:
        lower = not isinstance(value, types.SigmaCasedString)
        parts = [_text(where, each, lower=lower) for each in self.expanded(value)]
        if within := self.networks(value):
            parts.append(_Leaf(where, partial(_within, within)))
        return _joined(pl.any_horizontal, [*_merged(parts)])

    def networks(self, value: types.SigmaString) -> tuple[Network, ...]:
        """Return the networks among the values of a placeholder that is the whole text."""
        match value.s:
            case [Placeholder() as part] | (Placeholder() as part,):
                found = map(networks.parsed, self.placeholders.get(part.name, ()))
                return tuple(each for each in found if each)
        return ()

    def expression(self, where: tuple[Path, ...], value: types.SigmaRegularExpression) -> Build:
        flags = "".join(sorted(value.sigma_to_re_flag[flag] for flag in value.flags))
        found: list[Build] = []
        for parts in self.expanded(value.regexp):
            pattern = "".join(part if isinstance(part, str) else _LITERAL[part] for part in parts)
            pattern = f"(?{flags}){pattern}" if flags else pattern
            _check(pattern)
            found.append(_Leaf(where, partial(_matches, pattern), lower=False))
        return _joined(pl.any_horizontal, found)

    def expanded(self, value: types.SigmaString) -> Iterator[list[Any]]:
        """Yield the parts of a text with each combination of the values of its placeholders."""
        choices = [self.choices(part) for part in value.s]
        count = 1
        for each in choices:
            count *= len(each)
        if count > _MOST_EXPANSIONS:
            raise _NoMeaning(f"its placeholders have more than {_MOST_EXPANSIONS} combinations")
        for chosen in itertools.product(*choices):
            yield _adjoined(itertools.chain.from_iterable(chosen))

    def choices(self, part: Any) -> list[list[Any]]:
        if not isinstance(part, Placeholder):
            return [[part]]
        given = self.placeholders.get(part.name)
        if not given:
            raise _NoMeaning(f"its placeholder %{part.name}% has no value")
        return [types.SigmaString(str(each)).s for each in given]


_LITERAL = {SpecialChars.WILDCARD_MULTI: "*", SpecialChars.WILDCARD_SINGLE: "?"}


def _adjoined(parts: Iterable[Any]) -> list[Any]:
    """Return parts with neighbouring texts joined."""
    found: list[Any] = []
    for part in parts:
        if isinstance(part, str) and found and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return found


def _joined(join: Callable[..., pl.Expr], parts: Sequence[Build]) -> Build:
    if len(parts) == 1:
        return parts[0]
    return lambda columns: join([part(columns) for part in parts])


def _negated(part: Build) -> Build:
    return lambda columns: part(columns).not_()


def _merged(parts: Iterable[Build]) -> Iterator[Build]:
    """Yield parts of which any has to match; comparisons of a field with whole texts are one."""
    texts: dict[tuple[tuple[Path, ...], bool], list[str]] = {}
    for part in parts:
        if isinstance(part, _Leaf) and part.among:
            texts.setdefault((part.paths, part.lower), []).extend(part.among)
        else:
            yield part
    for (where, lower), found in texts.items():
        yield _Leaf(where, _nothing, lower, tuple(dict.fromkeys(found)))


def _nothing(text: pl.Expr) -> pl.Expr:
    return text.is_null()


def _equals(where: tuple[Path, ...], text: str, *, lower: bool = True) -> _Leaf:
    return _Leaf(where, _nothing, lower, (text,))


def _present(where: tuple[Path, ...]) -> _Leaf:
    return _Leaf(where, pl.Expr.is_not_null)


def _text(where: tuple[Path, ...], parts: list[Any], *, lower: bool) -> _Leaf:
    """Return the comparison with a text whose parts are texts and wildcards."""
    parts = [part.lower() if lower and isinstance(part, str) else part for part in parts]
    literal = next((part for part in parts if isinstance(part, str)), "")
    if not literal.startswith('"'):  # the members of an object do, and are slow to read
        where = tuple(path for path in where if path.kind != "bare") or where
    match parts:
        case []:
            return _equals(where, "", lower=lower)
        case [str(text)]:
            return _equals(where, text, lower=lower)
        case [SpecialChars.WILDCARD_MULTI]:
            return _present(where)
        case [str(text), SpecialChars.WILDCARD_MULTI]:
            test: Test = partial(_starts, text)
        case [SpecialChars.WILDCARD_MULTI, str(text)]:
            test = partial(_ends, text)
        case [SpecialChars.WILDCARD_MULTI, str(text), SpecialChars.WILDCARD_MULTI]:
            test = partial(_contains, text)
        case _:
            inner = (pl.escape_regex(p) if isinstance(p, str) else _SPECIAL[p] for p in parts)
            test = partial(_matches, f"(?s)^{''.join(inner)}$")
    return _Leaf(where, test, lower)


def _starts(start: str, text: pl.Expr) -> pl.Expr:
    return text.str.starts_with(start)


def _ends(end: str, text: pl.Expr) -> pl.Expr:
    return text.str.ends_with(end)


def _contains(part: str, text: pl.Expr) -> pl.Expr:
    return text.str.contains(part, literal=True)


def _matches(pattern: str, text: pl.Expr) -> pl.Expr:
    return text.str.contains(pattern)


def _check(pattern: str) -> None:
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.ComputeError:
        raise _NoMeaning(
            f"its regular expression {pattern!r} is not supported: look-around and "
            "back-references are not"
        ) from None


def _number(operator: Callable[[pl.Expr, float], pl.Expr], limit: float, text: pl.Expr) -> pl.Expr:
    number = pl.when(text.str.contains(_NUMBER)).then(text).cast(pl.Float64, strict=False)
    return operator(number, limit)


def _within(within: Sequence[Network], text: pl.Expr) -> pl.Expr:
    return text.map_batches(
        partial(networks.contain, within), return_dtype=pl.Boolean, is_elementwise=True
    )


def _refers(
    left: tuple[Path, ...],
    right: tuple[Path, ...],
    value: types.SigmaFieldReference,
    columns: Columns,
) -> pl.Expr:
    """Return whether any value of a field is, begins or ends with any value of another one."""
    pairs = [
        _compared_columns(one.column, other.column, value, columns)
        for one in left
        for other in right
    ]
    return pl.any_horizontal(pairs)


def _compared_columns(
    one: str, other: str, value: types.SigmaFieldReference, columns: Columns
) -> pl.Expr:
    if not {one, other} <= columns.keys():
        return _UNKNOWN
    texts = ((pl.col(name + LOWER), columns[name]) for name in (one, other))
    as_lists = [text if lists else pl.concat_list(text) for text, lists in texts]
    if not value.starts_with and not value.ends_with:
        return (
            as_lists[0]
            .list.drop_nulls()
            .list.set_intersection(as_lists[1].list.drop_nulls())
            .list.len()
            > 0
        ).fill_null(False)
    starts = value.starts_with
    return pl.struct(as_lists[0].alias("one"), as_lists[1].alias("other")).map_batches(
        partial(_any_affix, starts=starts), return_dtype=pl.Boolean, is_elementwise=True
    )


def _any_affix(pairs: pl.Series, *, starts: bool) -> pl.Series:
    affix = str.startswith if starts else str.endswith
    found = [
        any(
            affix(text, part)
            for text in pair["one"] or ()
            if text
            for part in pair["other"] or ()
            if part
        )
        for pair in pairs
    ]
    return pl.Series(found, dtype=pl.Boolean)
