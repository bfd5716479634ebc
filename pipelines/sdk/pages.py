"""Cursors, spans of time, gaps, and the pages of records that connectors yield."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

T = TypeVar("T")
Cursor = str
"""An opaque position in a stream; only the stream that made it can read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The half-open time range [since, until); both ends are aware and in UTC."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A range whose records will never arrive, such as a file the vendor has deleted."""

    span: Span
    reason: str


@contextmanager
def closing(pages: Iterator[T]) -> Iterator[Iterator[T]]:
    """Close the pages at the end, in this thread: connectors may hold a pool of threads open."""
    try:
        yield pages
    finally:
        if isinstance(pages, Generator):
            pages.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One response: its records, and the cursor that resumes after them."""

    records: Sequence[bytes]
    """The exact bytes of each record."""
    cursor: Cursor
    """Where `pages` may resume once the records have landed."""
    covers: Span | None = None
    """The range that is fetched completely once this page has landed."""
    gaps: Sequence[Gap] = ()
    """Ranges that will stay missing forever."""
    milestone: bool = False
    """Save the cursor even if the page has no records."""
    fallback_time: datetime | None = None
    """For records without a time of their own, such as the time in a log file's name."""
