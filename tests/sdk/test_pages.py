"""Pages, spans and gaps are values: they compare by content and never change."""

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta

import pytest

from pipelines.sdk.pages import Gap, Page, Span

DAY = datetime(2026, 3, 1, tzinfo=UTC)
SPAN = Span(since=DAY, until=DAY + timedelta(days=1))


def test_equal_spans_and_gaps_are_one_in_a_set():
    """A round collects those of many pages; a span that was read twice counts once."""
    again = Span(since=DAY, until=DAY + timedelta(days=1))
    assert {SPAN, again} == {SPAN}
    assert len({Gap(span=SPAN, reason="expired"), Gap(span=again, reason="expired")}) == 1
    assert Gap(span=SPAN, reason="expired") != Gap(span=SPAN, reason="deleted")


def test_a_page_cannot_change_after_it_was_yielded():
    page = Page(records=[b"{}"], cursor="next")
    with pytest.raises(FrozenInstanceError):
        page.cursor = "other"
    with pytest.raises(FrozenInstanceError):
        SPAN.until = DAY
    with pytest.raises((AttributeError, TypeError)):
        page.extra = 1


def test_the_ends_of_a_span_are_given_by_name():
    """Two times in the wrong order would be a span that covers nothing."""
    with pytest.raises(TypeError):
        Span(DAY, DAY)


def test_a_page_claims_nothing_by_default():
    page = Page(records=[], cursor="next")
    assert (page.covers, page.gaps, page.milestone, page.fallback_time) == (None, (), False, None)
