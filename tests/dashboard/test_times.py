"""Ranges, buckets and labels, including days on which clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import times
from dashboard.times import Last

LONDON = ZoneInfo("Europe/London")
ZONES = [LONDON, ZoneInfo("Asia/Kathmandu"), ZoneInfo("America/Havana"), ZoneInfo("UTC")]
instants = st.integers(0, 4 * 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
lengths = st.integers(1, 5 * 365 * 86400).map(lambda seconds: timedelta(seconds=seconds))


@given(since=instants, length=lengths, zone=st.sampled_from(ZONES))
def test_buckets_cover_the_range_and_are_few(
    since: datetime, length: timedelta, zone: ZoneInfo
) -> None:
    edges = times.edges(since, since + length, zone)
    assert edges[0] <= since < edges[1]
    assert edges[-2] < since + length <= edges[-1]
    assert all(a < b for a, b in pairwise(edges))
    assert len(edges) <= 120
    tick = times.tick(edges)
    assert all((edge - datetime(1970, 1, 1, tzinfo=UTC)) % tick == timedelta() for edge in edges)


@pytest.mark.parametrize(("month", "day", "hours"), [(3, 29, 23), (10, 25, 25), (6, 10, 24)])
def test_a_day_has_23_to_25_hours_when_clocks_change(month: int, day: int, hours: int) -> None:
    noon = datetime(2026, month, day, 12, tzinfo=LONDON)
    edges = times.edges(noon - timedelta(days=40), noon + timedelta(days=40), LONDON)
    lengths = {a.astimezone(LONDON).date(): b - a for a, b in pairwise(edges)}
    assert lengths[noon.date()] == timedelta(hours=hours)


def test_a_repeated_hour_is_two_buckets() -> None:
    since = datetime(2026, 10, 24, 12, tzinfo=UTC)
    edges = times.edges(since, since + timedelta(days=1, hours=3), LONDON)
    assert datetime(2026, 10, 25, 0, 0, tzinfo=UTC) in edges
    assert datetime(2026, 10, 25, 1, 0, tzinfo=UTC) in edges


def test_days_are_labelled_at_midnight_of_the_zone() -> None:
    since = datetime(2026, 11, 20, tzinfo=UTC)
    tokyo = ZoneInfo("Asia/Tokyo")
    ticks = times.ticks(times.edges(since, since + timedelta(days=5), tokyo), tokyo)
    assert ticks[datetime(2026, 11, 20, 15, tzinfo=UTC)] == "Sat 21 Nov"
    assert len(ticks) == 5


def test_a_relative_range_includes_the_current_second() -> None:
    now = datetime(2026, 11, 23, 9, 55, 59, 999999, tzinfo=UTC)
    since, until = times.bounds(Last(count=15, unit="m"), now)
    assert since < now < until
    assert until - since == timedelta(minutes=15)


@pytest.mark.parametrize("text", ["", "7", "7y", "0d", "..", "x..y", "2026-01-01..", "-1d"])
def test_invalid_ranges_are_rejected(text: str) -> None:
    assert times.parse(text) is None


def test_a_reversed_range_is_turned_round() -> None:
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    assert times.between(late, early) == times.between(early, late)


def test_neighbours_of_days_are_days_even_when_clocks_change() -> None:
    day = [datetime(2026, 10, number, tzinfo=LONDON) for number in (25, 26)]
    before, after = (times.neighbour(*day, LONDON, step) for step in (-1, 1))
    assert times.show(before) == "2026-10-23T23:00:00Z..2026-10-24T23:00:00Z"
    assert times.show(after) == "2026-10-26T00:00:00Z..2026-10-27T00:00:00Z"
    assert times.neighbour(
        day[0], day[0] + timedelta(hours=2), times.zone("UTC"), 1
    ) == times.between(day[0] + timedelta(hours=2), day[0] + timedelta(hours=4))


def test_the_calendar_has_ends() -> None:
    first = datetime.min.replace(tzinfo=UTC)
    span = times.between(first, first + timedelta(days=1))
    assert times.neighbour(span.since, span.until, times.zone("UTC"), -1) == span


def test_labels_name_the_day_only_once() -> None:
    since = datetime(2026, 11, 22, 3, tzinfo=UTC)
    one_day = times.label(times.between(since, since + timedelta(hours=6)), LONDON)
    two_days = times.label(times.between(since, since + timedelta(hours=30)), LONDON)
    assert one_day == "22 Nov 2026 03:00 \N{EN DASH} 09:00"
    assert two_days == "22 Nov 2026 03:00 \N{EN DASH} 23 Nov 09:00"
    assert times.label(Last(count=1, unit="h"), LONDON) == "Last hour"


def test_an_unknown_zone_is_utc() -> None:
    assert times.zone("Mars/Olympus").key == times.zone(None).key == "UTC"
