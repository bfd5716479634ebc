"""SCIM filter expressions: eventType eq "user.session.start" and not (severity eq "INFO")."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Predicate = Callable[[Any], bool]

_TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|([()])|([^\s()"]+)|("))')
_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda found, wanted: found == wanted,
    "ne": lambda found, wanted: found != wanted,
    "co": lambda found, wanted: wanted in found,
    "sw": lambda found, wanted: found.startswith(wanted),
    "ew": lambda found, wanted: found.endswith(wanted),
    "gt": lambda found, wanted: found > wanted,
    "ge": lambda found, wanted: found >= wanted,
    "lt": lambda found, wanted: found < wanted,
    "le": lambda found, wanted: found <= wanted,
}


class Malformed(ValueError):
    """The filter is invalid; the message describes the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`attribute operator value`; the operator `pr` has no value."""

    attribute: str
    operator: str
    value: str

    def holds(self, record: Any) -> bool:
        found = list(_values(record, self.attribute.split(".")))
        if self.operator == "pr":
            return bool(found)
        compare = _OPERATORS[self.operator]
        # Of several values all must differ, while for other operators one match is enough.
        if self.operator == "ne":
            return all(compare(value, self.value) for value in found)
        return any(compare(value, self.value) for value in found)


def parse(text: str) -> tuple[Predicate, list[Comparison]]:
    """Return the filter as a predicate, and its comparisons. Raises Malformed."""
    parser = _Parser(text)
    predicate = parser.alternatives()
    if parser.current:
        raise Malformed(f"Unexpected '{parser.current}' at position {parser.position}")
    return predicate, parser.comparisons


class _Parser:
    """A recursive-descent parser for one filter."""

    def __init__(self, text: str) -> None:
        self.comparisons: list[Comparison] = []
        self._tokens = iter([(found[0].strip(), found.start()) for found in _TOKEN.finditer(text)])
        self.current, self.position = "", 0
        self._next()

    def alternatives(self) -> Predicate:
        first = self._conjunction()
        while self.current.lower() == "or":
            self._next()
            first = _either(first, self._conjunction())
        return first

    def _conjunction(self) -> Predicate:
        first = self._term()
        while self.current.lower() == "and":
            self._next()
            first = _both(first, self._term())
        return first

    def _term(self) -> Predicate:
        if self.current.lower() == "not":
            self._next()
            inner = self._term()
            return lambda record: not inner(record)
        if self.current == "(":
            self._next()
            inner = self.alternatives()
            if self._next() != ")":
                raise Malformed("Missing ')'")
            return inner
        return self._comparison().holds

    def _comparison(self) -> Comparison:
        attribute, position = self._next(), self.position
        operator = self._next().lower()
        if operator not in (*_OPERATORS, "pr"):
            raise Malformed(
                f"Unrecognized attribute operator '{operator}' at position {position}. "
                "Expected: eq,co,sw,pr,gt,ge,lt,le"
            )
        value = "" if operator == "pr" else self._value()
        self.comparisons.append(Comparison(attribute=attribute, operator=operator, value=value))
        return self.comparisons[-1]

    def _value(self) -> str:
        token = self._next()
        if token in ("", '"', "(", ")"):
            raise Malformed(f"Missing value at position {self.position}")
        return token.strip('"').replace('\\"', '"').casefold()

    def _next(self) -> str:
        """Return the current token and advance to the next one."""
        token = self.current
        self.current, self.position = next(self._tokens, ("", self.position + len(token)))
        return token


def _either(one: Predicate, other: Predicate) -> Predicate:
    return lambda record: one(record) or other(record)


def _both(one: Predicate, other: Predicate) -> Predicate:
    return lambda record: one(record) and other(record)


def _values(value: Any, names: list[str]) -> Iterator[str]:
    """Yield the values at a path as text, descending into lists."""
    match value:
        case None:
            return
        case list():
            for item in value:
                yield from _values(item, names)
        case dict() if names:
            yield from _values(value.get(names[0]), names[1:])
        case bool():
            yield str(value).lower()
        case _ if not names:
            yield str(value).casefold()
