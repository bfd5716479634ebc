"""Cursors, spans of time, gaps, and the pages of records that connectors yield."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

Cursor = str
"""A place in a stream, made and read by its stream alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Times from `since` up to, not including, `until`; both aware and in UTC."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """What was asked for and will not come, such as a file the vendor no longer has."""

    span: Span
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer: records as they came, and the place that resumes after them."""

    records: Sequence[bytes]
    """Each record's exact bytes."""
    cursor: Cursor
    """Once the records have landed, `pages` may start from here."""
    covers: Span | None = None
    """What is known to have been asked for completely once this page has landed."""
    gaps: Sequence[Gap] = ()
    """What will be missing for ever."""
    milestone: bool = False
    """The cursor is worth keeping although no record came with it."""
    fallback_time: datetime | None = None
    """The time of records that carry none, such as the time in a log file's name."""
