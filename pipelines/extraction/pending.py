"""Coverage that a round has fetched and not recorded in the lake yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pipelines.lake.coverage import Entry
from pipelines.sdk.pages import Page, Span

_RECORD_EVERY = timedelta(minutes=15)
_TICK = timedelta(microseconds=1)


@dataclass(slots=True, kw_only=True)
class PendingCoverage:
    """The entries that a round has not recorded yet.

    A span is recorded together with the first cursor stored after it. If that cursor is lost, so
    are its spans, and they are fetched again.
    """

    now: datetime
    """The time of the round: by our clock or the service's, the earlier."""
    recorded_at: datetime | None
    """When coverage of this stream was last recorded."""
    entries: list[Entry] = field(default_factory=list)
    milestone: bool = False
    """Whether the next cursor must be stored even if no row is new."""
    failing: bool = False
    """Whether the last round failed."""
    covered: bool = False
    """Whether this round has fetched any span."""

    def want(self, span: Span) -> None:
        """Record with the next commit that a span is to be fetched."""
        self.entries.append(self._entry(span, outcome="wanted"))
        self.milestone = True

    def failure(self, reason: str) -> Entry:
        """Return the entry of a failed round."""
        now = self.asked_at
        return self._entry(Span(since=now, until=now), outcome="failed", reason=reason)

    def add(self, pages: Sequence[Page]) -> None:
        """Add the spans and gaps of pages that are about to land."""
        self.milestone |= any(page.milestone or page.gaps for page in pages)
        for page in pages:
            if page.covers:
                self._add_span(page.covers)
            for gap in page.gaps:
                self.entries.append(self._entry(gap.span, outcome="gone", reason=gap.reason))

    @property
    def asked_at(self) -> datetime:
        """Return the time to record, which is later than all recorded before it.

        Otherwise a recovery could seem older than the failure, where a clock was set back.
        """
        return self.now if self.recorded_at is None else max(self.now, self.recorded_at + _TICK)

    @property
    def due(self) -> bool:
        """Return True if the entries and the cursor should be recorded now."""
        last = self.recorded_at
        # Until a success is recorded, the stream is shown as failing.
        recovered = self.failing and self.covered
        # A commit per idle round would fill the log of `coverage`, hence the interval.
        return self.milestone or recovered or last is None or self.now - last >= _RECORD_EVERY

    def mark_recorded(self) -> None:
        self.entries, self.milestone, self.recorded_at = [], False, self.asked_at
        self.failing = self.failing and not self.covered

    def _add_span(self, span: Span) -> None:
        """Add a span, merged with the last entry if the two touch."""
        self.covered = True
        last = self.entries[-1] if self.entries else None
        if last and last.outcome == "complete" and _touch(last, span):
            since, until = min(last.since, span.since), max(last.until, span.until)
            self.entries[-1] = self._entry(Span(since=since, until=until))
        else:
            self.entries.append(self._entry(span))

    def _entry(self, span: Span, outcome: str = "complete", reason: str | None = None) -> Entry:
        return Entry(
            since=span.since,
            until=span.until,
            asked_at=self.asked_at,
            outcome=outcome,
            reason=reason,
        )


def _touch(entry: Entry, span: Span) -> bool:
    return entry.since <= span.until and span.since <= entry.until
