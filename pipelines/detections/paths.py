"""Paths into a record, and the texts found at them.

A path is names joined by dots. Lists on the way are entered, so that a path has as many values as
elements have it. `parameters{name=NEW_VALUE}` is the object of a list, or the member of an object,
whose `name` is NEW_VALUE, in any case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

_STEP = re.compile(r"([^.{}]+)(?:\{([^={}]+)=([^{}]*)\})?(?:\.|$)")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SUCCEEDED = frozenset(
    {"true", "success", "succeeded", "partiallysucceeded", "partially succeeded"}
)
_FAILED = frozenset({"false", "fail", "failed", "failure"})

Step = tuple[str, str, str]
"""A name, and the member and value that the element has to have; both empty for any element."""


@dataclass(frozen=True, slots=True)
class Path:
    """Where a value is, and how it is turned into texts: a key of `KINDS`."""

    text: str
    kind: str = "value"

    @property
    def column(self) -> str:
        return f"{self.text}:{self.kind}"

    @property
    def steps(self) -> tuple[Step, ...]:
        return _steps(self.text)

    @property
    def reads(self) -> bool:
        """False for a constant and for whole records."""
        return self.kind != "constant" and bool(self.text)


@cache
def _steps(text: str) -> tuple[Step, ...]:
    """Return the parsed path. Raises ValueError."""
    found, place = [], 0
    while place < len(text):
        step = _STEP.match(text, place)
        if not step:
            raise ValueError(f"{text!r} is not a path")
        found.append((step[1], step[2] or "", (step[3] or "").casefold()))
        place = step.end()
    return tuple(found)


def at(value: Any, steps: Sequence[Step]) -> list[Any]:
    """Return the values at a path, through the elements of lists. A step without a name stays."""
    found = [value]
    for name, member, wanted in steps:
        below = []
        for item in found:
            for one in _elements(item) if type(item) is list else (item,):
                if type(one) is dict:
                    inner = one.get(name) if name else one
                    if not member:
                        below.append(inner)
                    elif inner is not None:
                        below += _having(inner, member, wanted)
        found = below
    return found


def _elements(items: list[Any]) -> Iterator[Any]:
    """Yield the elements of a list and of the lists in it."""
    for item in items:
        if type(item) is list:
            yield from _elements(item)
        else:
            yield item


def _having(value: Any, member: str, wanted: str) -> Iterator[Any]:
    """Yield the objects with a member of this value."""
    for one in _elements(value) if type(value) is list else (value,):
        if type(one) is dict and scalar(one.get(member)).casefold() == wanted:
            yield one


def scalar(value: Any) -> str:
    """Return a number, boolean or text as text, and anything else as JSON."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return _digits(value)
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
    return _json(value)


def _digits(number: int) -> str:
    try:
        return str(number)
    except ValueError:  # longer than Python converts
        return hex(number)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _value(value: Any) -> Iterator[str]:
    """Yield the value, or the elements of a list."""
    if isinstance(value, list):
        for item in value:
            yield from _value(item)
    elif value is not None:
        yield scalar(value)


def _whole(value: Any) -> Iterator[str]:
    """Yield the whole subtree as one text."""
    if value is not None:
        yield scalar(value)


def _trimmed(value: Any) -> Iterator[str]:
    return (text.strip() for text in _value(value))


def _unquoted(value: Any) -> Iterator[str]:
    """Yield texts that contain JSON, such as `"\\"False\\""`, as they are and without quotes."""
    for text in _value(value):
        yield text
        if len(text) > 1 and text[0] == text[-1] == '"':
            yield text[1:-1]


def _words(value: Any) -> Iterator[str]:
    """Yield texts such as "ServicePrincipal" as they are and as "Service Principal"."""
    for text in _value(value):
        yield text
        if (spaced := _CAMEL.sub(" ", text)) != text:
            yield spaced


def _members(value: Any) -> Iterator[str]:
    """Yield all values of an object but its `name`."""
    if isinstance(value, dict):
        for name, below in value.items():
            if name != "name":
                yield from _leaves(below)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for below in value.values():
            yield from _leaves(below)
    elif isinstance(value, list):
        for below in value:
            yield from _leaves(below)
    elif value is not None:
        yield scalar(value)


def _everything(value: Any) -> Iterator[str]:
    """Yield all names and values of a record."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield name
            yield from _everything(below)
    elif isinstance(value, list):
        for below in value:
            yield from _everything(below)
    elif value is not None:
        yield scalar(value)


def _bare(value: Any) -> Iterator[str]:
    """Yield the objects of a list as JSON without their braces."""
    for item in value if isinstance(value, list) else (value,):
        if isinstance(item, dict):
            yield _json(item)[1:-1]


def _error_code(value: Any) -> Iterator[str]:
    """Yield "Success" for an error code of 0, "Failure" for others."""
    for text in _value(value):
        yield "Success" if text == "0" else "Failure"


def _result(value: Any) -> Iterator[str]:
    """Yield an outcome as it is, and as "success" or "failure"."""
    for text in _value(value):
        yield text
        if text.lower() in _SUCCEEDED:
            yield "success"
        elif text.lower() in _FAILED:
            yield "failure"


KINDS: dict[str, Callable[[Any], Iterator[str]]] = {
    "value": _value,
    "text": _whole,
    "trimmed": _trimmed,
    "unquoted": _unquoted,
    "words": _words,
    "members": _members,
    "everything": _everything,
    "bare": _bare,
    "error_code": _error_code,
    "result": _result,
    "constant": _value,
}
"""How a value is turned into texts."""
EVERYTHING = Path("", "everything")
