"""Coverage waits in a round until a cursor is stored after it."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipelines.extraction.pending import PendingCoverage
from pipelines.lake import spans
from pipelines.sdk.pages import Gap, Page, Span

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def span(first, until):
    return Span(since=NOON + timedelta(minutes=first), until=NOON + timedelta(minutes=until))


def page(covers=None, **keys):
    return Page(records=(), cursor="c", covers=covers, **keys)


def pending(recorded_at=NOON):
    return PendingCoverage(now=NOON, recorded_at=recorded_at)


def spans_of(waiting):
    return [Span(since=entry.since, until=entry.until) for entry in waiting.entries]


def test_spans_that_touch_become_one_entry():
    waiting = pending()
    waiting.add([page(span(2, 3)), page(), page(span(1, 2)), page(span(5, 6))])
    assert spans_of(waiting) == [span(1, 3), span(5, 6)]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=12))
def test_merging_neither_adds_nor_loses_time(parts):
    given_spans = [span(first, first + minutes) for first, minutes in parts]
    waiting = pending()
    waiting.add([page(covers) for covers in given_spans])
    assert spans.union(spans_of(waiting)) == spans.union(given_spans)


def test_a_gap_is_an_entry_of_its_own_with_its_reason():
    waiting = pending()
    lost = Gap(span=span(1, 2), reason="the vendor has deleted it")
    waiting.add([page(span(0, 1), gaps=[lost]), page(span(2, 3))])
    assert [(entry.outcome, entry.reason) for entry in waiting.entries] == [
        ("complete", None),
        ("gone", lost.reason),
        ("complete", None),
    ]
    assert waiting.due


def test_coverage_is_due_at_first_at_a_milestone_and_every_15_minutes():
    assert pending(recorded_at=None).due
    assert not pending(recorded_at=NOON - timedelta(minutes=14)).due
    assert pending(recorded_at=NOON - timedelta(minutes=15)).due
    waiting = pending()
    waiting.add([page(milestone=True)])
    assert waiting.due
    waiting.mark_recorded()
    recorded = NOON + timedelta(microseconds=1)  # later than the last one
    assert (waiting.due, waiting.entries, waiting.recorded_at) == (False, [], recorded)


def test_coverage_is_due_with_the_first_span_after_a_failure_and_only_then():
    waiting = PendingCoverage(now=NOON, recorded_at=NOON, failing=True)
    waiting.add([page()])
    assert not waiting.due
    waiting.add([page(span(0, 1))])
    assert waiting.due
    waiting.mark_recorded()
    waiting.add([page(span(1, 2))])
    assert not waiting.due
