"""Texts that a record must contain to match a rule, found without parsing the record.

They are looked for in the bytes of records, without regard to case. Only runs of characters that
JSON never escapes are used. A record that escapes letters, or has one of the few letters that
become ASCII in lower case, may match anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import polars as pl
from sigma import types
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.exceptions import SigmaError

from pipelines.detections.paths import EVERYTHING, Path

Needles = tuple[frozenset[str], ...]
"""A matching record contains a text of each of these sets, in any case."""
Expand = Callable[[types.SigmaString], Iterable[list[Any]]]
_AS_WRITTEN = frozenset(
    {"value", "text", "trimmed", "unquoted", "words", "members", "everything", "bare"}
)
"""The kinds of values whose texts are made of parts of the record."""
_RUN = re.compile(r"[A-Za-z0-9_.@#$%=+-]{3,}")
# A number may be written in other ways; the letters of those are left out.
_NO_NUMBER = re.compile(r"[g-wyz]", re.IGNORECASE)
_ALWAYS = ("\\u", "\N{KELVIN SIGN}", "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}")
_MOST = 2000
_MOST_SETS = 4
_BETWEEN = "\0"
_FREQUENT = 0.02


def needles(parsed: Any, resolve: Callable[[str], tuple[Path, ...]], expand: Expand) -> Needles:
    """Return the needles of a rule; none if any record may match.

    `resolve` returns where a field is, `expand` the parts of a text for each combination of
    placeholders.
    """
    finder = _Finder(resolve, expand)
    conditions = [each.parsed for each in parsed.detection.parsed_condition]
    return _any_of(finder.node(each) for each in conditions)


def groups(records: pl.Series, rules: Sequence[Needles]) -> Iterator[tuple[list[int], pl.Series]]:
    """Yield rules, by their places in `rules`, with the places of the records to look at.

    Rules that may match many records are apart, so that those records are read for them alone.
    """
    wanted = {text for rule in rules for texts in rule for text in texts}
    patterns = [*sorted(wanted), *_ALWAYS]
    found = records.str.extract_many(patterns, ascii_case_insensitive=True, overlapping=True)
    # Few combinations of needles occur, so each is looked at once.
    combined = found.list.join(_BETWEEN).fill_null("").rank("dense").to_numpy() - 1
    first = np.unique(combined, return_index=True)[1]
    fits = np.array([_fits(texts, wanted, rules) for texts in found[first].to_list()], dtype=bool)
    records_of = np.bincount(combined) @ fits
    for frequent in (False, True):
        chosen = np.flatnonzero((records_of > _FREQUENT * len(records)) == frequent)
        places = np.flatnonzero(fits[:, chosen].sum(axis=1)[combined])
        if places.size:
            yield chosen.tolist(), pl.Series(places, dtype=pl.Int64)


def _fits(
    found: Iterable[str] | None, wanted: Collection[str], rules: Sequence[Needles]
) -> list[bool]:
    texts = {text.lower() for text in found or ()}
    always = not texts.issubset(wanted)  # one of _ALWAYS
    return [always or all(texts & each for each in rule) for rule in rules]


class _Finder:
    def __init__(self, resolve: Callable[[str], tuple[Path, ...]], expand: Expand) -> None:
        self._resolve = resolve
        self._expand = expand

    def node(self, node: Any) -> Needles:
        match node:
            case ConditionAND():
                found = dict.fromkeys(texts for arg in node.args for texts in self.node(arg))
                return tuple(sorted(found, key=_selective, reverse=True)[:_MOST_SETS])
            case ConditionOR():
                return _any_of(map(self.node, node.args))
            case ConditionFieldEqualsValueExpression():
                return self.compared(self._resolve(node.field), node.value)
            case ConditionValueExpression():
                return self.compared((EVERYTHING,), node.value)
        return ()

    def compared(self, where: tuple[Path, ...], value: Any) -> Needles:
        if any(path.kind not in _AS_WRITTEN for path in where):
            return ()
        match value:
            case types.SigmaExpansion():
                return _any_of(self.compared(where, each) for each in value.values)
            case types.SigmaString():
                with suppress(SigmaError):
                    return _any_of(map(_longest, self._expand(value)))
        return ()


def _any_of(parts: Iterable[Needles]) -> Needles:
    alternatives, found = list(parts), set[str]()
    if len(alternatives) == 1:
        return alternatives[0]
    for part in alternatives:
        if not part or len(found) > _MOST:
            return ()
        found |= max(part, key=_selective)
    return (frozenset(found),) if found else ()


def _selective(found: Collection[str]) -> tuple[int, int]:
    return min(map(len, found)), -len(found)


def _longest(parts: Iterable[Any]) -> Needles:
    runs = [run for part in parts if isinstance(part, str) for run in _runs(part)]
    return (frozenset({max(runs, key=len)}),) if runs else ()


def _runs(text: str) -> Iterator[str]:
    return (run.lower() for run in _RUN.findall(text) if _NO_NUMBER.search(run))
