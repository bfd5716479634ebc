"""Spans are sets of times: checked minute by minute against plain sets."""

import itertools
from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from pipelines.lake import spans
from pipelines.schemas import COVERAGE
from pipelines.sdk.pages import Span

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTES = range(60)


def at(minute):
    return NOON + timedelta(minutes=minute)


def span(since, until):
    return Span(since=at(since), until=at(until))


pairs = st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)).map(sorted), max_size=6)


def minutes(found):
    return {m for m in MINUTES for s in found if s.since <= at(m) < s.until}


@given(pairs, pairs)
def test_union_and_minus_are_those_of_sets(some, others):
    some, others = [span(*p) for p in some], [span(*p) for p in others]
    assert minutes(spans.union(some)) == minutes(some)
    assert minutes(spans.minus(some, others)) == minutes(some) - minutes(others)
    apart = spans.union(some)
    assert all(a.until < b.since for a, b in itertools.pairwise(apart))


def claims(*rows):
    """(outcome, since, until, asked_at, reason) in minutes -> rows of schemas.COVERAGE."""
    return pl.DataFrame(
        [(o, at(s), at(u), at(a), r) for o, s, u, a, r in rows],
        {k: COVERAGE[k] for k in ("outcome", "since", "until", "asked_at", "reason")},
        orient="row",
    )


def known(*rows, lag=0, keeps=600, now=59):
    lag, keeps = timedelta(minutes=lag), timedelta(minutes=keeps)
    return spans.coverage(claims(*rows), lag=lag, keeps=keeps, now=at(now))


asks = st.lists(
    st.tuples(st.integers(0, 59), st.integers(0, 59), st.integers(0, 59)).map(
        lambda t: (min(t[:2]), max(t[:2]), max(t))
    ),
    max_size=6,
)


@given(asks, st.integers(0, 20), st.integers(5, 60))
def test_every_time_is_complete_settling_missing_or_lost_and_only_one(asked, lag, keeps):
    wanted = ("wanted", -1, 59, 59, None)
    rows = [("complete", s, u, a, None) for s, u, a in asked]
    found = known(wanted, *rows, lag=lag, keeps=keeps)
    parts = [
        minutes(found.complete),
        minutes(found.settling),
        minutes([gap.span for gap in found.gaps]),
        minutes([gap.span for gap in found.lost]),
    ]
    assert sorted(m for part in parts for m in part) == list(range(59))
    assert parts[0] == {m for s, u, a in asked for m in range(s, u) if m < a - lag}
    assert parts[0] | parts[1] == {m for s, u, _ in asked for m in range(s, u)}
    assert all(m < 59 - keeps for m in parts[3])
    assert all(m >= 59 - keeps for m in parts[2])


def test_a_gap_says_why_and_vanishes_when_it_was_filled():
    rows = [
        ("wanted", 0, 20, 20, None),
        ("complete", 0, 20, 20, None),
        ("failed", 30, 30, 30, "503 for hours"),
    ]
    (gap,) = known(*rows).gaps
    assert (gap.span, gap.reason) == (span(20, 30), "503 for hours")
    found = known(*rows, ("complete", 18, 40, 40, None))
    assert (found.gaps, found.complete) == ((), (span(0, 40),))


def test_what_is_gone_is_gone_for_ever():
    rows = [("complete", 0, 30, 30, None), ("gone", 10, 12, 30, "the file was deleted")]
    found = known(*rows, ("complete", 0, 59, 59, None))
    assert found.complete == (span(0, 10), span(12, 59))
    assert [(gap.span, gap.reason) for gap in found.lost] == [
        (span(10, 12), "the file was deleted")
    ]


def test_nothing_is_known_of_a_stream_that_was_never_asked():
    assert known() == spans.Coverage()


@given(asks, st.integers(0, 20))
def test_condensed_claims_say_the_same(asked, lag):
    asked = sorted(asked, key=lambda ask: ask[2])
    rows = [("wanted", -1, 59, 59, None), *(("complete", s, u, a, None) for s, u, a in asked)]
    table = claims(*rows)
    short = spans.condensed(table.to_dicts(), timedelta(minutes=lag))
    options = {"lag": timedelta(minutes=lag), "keeps": timedelta(days=1), "now": at(59)}
    condensed = pl.DataFrame(short, table.schema)
    assert len(short) <= table.height
    assert spans.coverage(condensed, **options) == spans.coverage(table, **options)


def test_an_hour_of_rounds_is_few_rows():
    rows = [("complete", minute - 15, minute, minute, None) for minute in range(60)]
    assert len(spans.condensed(claims(*rows).to_dicts(), timedelta(minutes=30))) == 1
    rows = [("complete", -60, minute, minute, None) for minute in range(60)]
    assert len(spans.condensed(claims(*rows).to_dicts(), timedelta(0))) == 1
