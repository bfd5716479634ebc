"""Spans are sets of times: checked minute by minute against plain sets."""

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipelines.lake import spans
from pipelines.sdk.pages import Gap, Span

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTES = range(60)


def at(minute):
    return NOON + timedelta(minutes=minute)


def span(since, until):
    return Span(since=at(since), until=at(until))


pairs = st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)).map(sorted), max_size=6)


def minutes(found):
    found = list(found)
    return {m for m in MINUTES for s in found if s.since <= at(m) < s.until}


@given(pairs, pairs)
def test_union_and_minus_are_those_of_sets(some, others):
    some, others = [span(*p) for p in some], [span(*p) for p in others]
    assert minutes(spans.union(some)) == minutes(some)
    assert minutes(spans.minus(some, others)) == minutes(some) - minutes(others)
    apart = spans.union(some)
    assert all(a.until < b.since for a, b in itertools.pairwise(apart))


def test_a_span_of_whole_seconds_contains_the_span():
    assert spans.whole_seconds(span(0.001, 1)) == span(0, 1)
    assert spans.whole_seconds(span(1, 1.001)) == Span(since=at(1), until=at(1 + 1 / 60))


reasons = st.lists(st.tuples(pairs.map(lambda each: each[:1]), st.sampled_from("ab")), max_size=6)


@given(reasons)
def test_disjoint_gaps_are_the_same_times_each_once(made):
    gaps = [Gap(span=span(*p[0]), reason=why) for p, why in made if p]
    found = spans.disjoint(gaps)
    assert minutes(gap.span for gap in found) == minutes(gap.span for gap in gaps)
    assert all(a.span.until <= b.span.since for a, b in itertools.pairwise(found))


@given(reasons, st.tuples(st.integers(0, 59), st.integers(0, 59)).map(sorted))
def test_clipped_gaps_are_those_inside_the_bounds(made, bounds):
    gaps = [Gap(span=span(*p[0]), reason=why) for p, why in made if p and p[0][0] < p[0][1]]
    found = spans.clipped(gaps, span(*bounds))
    inside = minutes(gap.span for gap in gaps) & set(range(*bounds))
    assert minutes([gap.span for gap in found]) == inside


def minutely(since, until):
    """Return rows of polls each minute; `since` and `until` of a poll at a minute."""
    return [
        {"outcome": "complete", "since": at(since(m)), "until": at(until(m)), "asked_at": at(m)}
        for m in MINUTES
    ]


def test_an_hour_of_rounds_is_few_rows():
    rows = minutely(lambda minute: minute - 15, lambda minute: minute)
    assert len(spans.condensed(rows, timedelta(minutes=30))) == 2
    rows = minutely(lambda _: -60, lambda minute: minute)
    assert len(spans.condensed(rows, timedelta(0))) == 1


def test_a_condensed_row_keeps_what_was_complete_when_a_clock_is_set_back():
    first = {"outcome": "complete", "since": at(0), "until": at(30), "asked_at": at(30)}
    again = {**first, "until": at(31), "asked_at": at(10)}
    assert spans.condensed([first, again], timedelta(minutes=5)) == [first, again]


def test_removing_thousands_of_spans_takes_no_time_per_pair():
    some = [span(n, n + 0.5) for n in range(20_000)]
    left = spans.minus([span(0, 20_000)], some)
    assert len(left) == 20_000
