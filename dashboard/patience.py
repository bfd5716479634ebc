"""Long searches: counted in parts, between which they can be cancelled, and end after a minute.

A page watches the searches that it makes; without a watcher, nothing is limited. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

LIMIT = 60.0  # seconds for all searches of a page


class TooLong(Exception):
    """A search took longer than the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """Called before each part of a search; an exception ends it."""

    clock: Callable[[], float]
    """Seconds, from any start."""
    until: float
    advance: Callable[[float], None]
    """Shows the share that is done, from 0 to 1."""
    begin: Callable[[], None]
    """Called before a search of several parts."""


_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(
    clock: Callable[[], float],
    advance: Callable[[float], None],
    begin: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Watch the searches in this context, which have LIMIT seconds together. Raises TooLong."""
    watcher = Watcher(clock=clock, until=clock() + LIMIT, advance=advance, begin=begin)
    before = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(before)


def each(parts: Sequence[T], *, brief: bool = False) -> Iterator[T]:
    """Yield the parts of a search. Raises TooLong, and any error of the page's `advance`.

    If all parts together are `brief`, nothing is shown before their result.
    """
    watcher = _watcher.get()
    if watcher and len(parts) > 1 and not brief:
        watcher.begin()
    for place, part in enumerate(parts):
        check(place / len(parts))
        yield part


def check(share: float = 0.0) -> None:
    """Raise TooLong if the time is over; let the page show the share that is done."""
    watcher = _watcher.get()
    if watcher is None:
        return
    if watcher.clock() > watcher.until:
        raise TooLong
    watcher.advance(share)
