"""A parsed query: a tree of terms, and the error for a text that is not one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from pipelines import visible
from pipelines.errors import ConfigurationError

Sign = Literal["<", "<=", ">", ">="]
_BEFORE, _AFTER = 50, 40  # characters that are shown around an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    text: str
    quoted: bool = False  # a quoted word has no wildcards


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A range of IP addresses."""

    network: IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """Any of the words: as the value of a field, or as part of any searched column."""

    words: tuple[Word | Network, ...]
    field: str | None = None  # None: in every searched column
    exact: bool = False  # the case counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A time before or after a moment."""

    field: str
    sign: Sign
    moment: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Not:
    part: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """All of the parts; without parts, every event."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Either:
    """At least one of the parts."""

    parts: tuple[Node, ...]


Node = Term | Compared | Not | Every | Either


class Fault(Exception):
    """A place and a reason, for a SearchError."""

    def __init__(self, place: int, reason: str) -> None:
        super().__init__(reason)
        self.place = place
        self.reason = reason


class SearchError(ConfigurationError):
    """A search that is not understood: where, why, and the right form."""

    def __init__(self, text: str, place: int, reason: str) -> None:
        self.place = place
        self.reason = reason
        self.pointer = pointer(text, place)
        super().__init__(f"search: {reason}\n{self.pointer}")


def depth(node: Node) -> int:
    """Return the number of nested levels of the tree."""
    match node:
        case Not(part=part):
            return 1 + depth(part)
        case Every(parts=parts) | Either(parts=parts):
            return 1 + max(map(depth, parts), default=0)
    return 1


def pointer(text: str, place: int) -> str:
    """Return the text around `place`, and a caret below it."""
    start = max(place - _BEFORE, 0)
    # One cell per character, or the caret would point elsewhere.
    shown = "".join(
        char if visible.text(char) == char else " " for char in text[start : place + _AFTER]
    ).rstrip()
    dots = "..." if start else ""
    return f"{dots}{shown}\n{' ' * (len(dots) + place - start)}^"
