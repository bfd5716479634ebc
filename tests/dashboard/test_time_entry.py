"""Every form of a typed time range, and every refusal."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import time_entry, times
from dashboard.time_entry import TimeRefused
from dashboard.times import Last

LONDON, TOKYO = ZoneInfo("Europe/London"), ZoneInfo("Asia/Tokyo")
NOW = datetime(2026, 11, 28, 21, 30, tzinfo=UTC)  # a Saturday


def read(text: str, zone: ZoneInfo = LONDON) -> str:
    return times.show(time_entry.parse(text, NOW, zone))


def span(since: str, until: str) -> str:
    return f"2026-{since}Z..2026-{until}Z"


@pytest.mark.parametrize(
    ("text", "count", "unit"),
    [
        ("last 90m", 90, "m"),
        ("90m", 90, "m"),
        ("past 90 minutes", 90, "m"),
        ("Last 2 hours", 2, "h"),
        ("last hour", 1, "h"),
        ("30 d", 30, "d"),
        ("last 2 weeks", 14, "d"),
        ("last month", 30, "d"),
        ("last year", 365, "d"),
    ],
)
def test_relative_ranges(text: str, count: int, unit: str) -> None:
    assert time_entry.parse(text, NOW, LONDON) == Last(count=count, unit=unit)


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("today", "11-28T00:00:00", "11-29T00:00:00"),
        ("yesterday", "11-27T00:00:00", "11-28T00:00:00"),
        ("17 Nov", "11-17T00:00:00", "11-18T00:00:00"),
        ("17th november 2026", "11-17T00:00:00", "11-18T00:00:00"),
        ("Nov 17, 2026", "11-17T00:00:00", "11-18T00:00:00"),
        ("Tue 17 Nov", "11-17T00:00:00", "11-18T00:00:00"),
        ("2026-11-17", "11-17T00:00:00", "11-18T00:00:00"),
        ("monday", "11-23T00:00:00", "11-24T00:00:00"),
        ("Sat", "11-28T00:00:00", "11-29T00:00:00"),
        ("1 Jul", "06-30T23:00:00", "07-01T23:00:00"),
    ],
)
def test_days_are_those_of_the_zone(text: str, since: str, until: str) -> None:
    assert read(text) == span(since, until)


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("17 Nov 08:00", "11-17T08:00:00"),
        ("17 Nov at 08:00", "11-17T08:00:00"),
        ("  nov 17   8:00:15 ", "11-17T08:00:15"),
        ("yesterday 08:00", "11-27T08:00:00"),
        ("08:00", "11-28T08:00:00"),
        ("22:00", "11-27T22:00:00"),
        ("2026-11-17T08:00:00Z", "11-17T08:00:00"),
        ("2026-11-17T08:00+02:00", "11-17T06:00:00"),
        ("2026-11-17 08:00", "11-17T08:00:00"),
        ("since 17 Nov", "11-17T00:00:00"),
        ("1795899736", "11-28T21:02:16"),
        ("1795899736664", "11-28T21:02:16"),
    ],
)
def test_an_instant_begins_a_range_that_ends_now(text: str, since: str) -> None:
    assert read(text) == span(since, "11-28T21:30:00")


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("17 Nov 08:00 to 18 Nov 09:30", "11-17T08:00:00", "11-18T09:30:00"),
        ("17 Nov 08:00 to 10:30", "11-17T08:00:00", "11-17T10:30:00"),
        ("17 Nov 22:00 - 02:00", "11-17T22:00:00", "11-18T02:00:00"),
        ("from 16 Nov to 18 Nov", "11-16T00:00:00", "11-19T00:00:00"),
        ("16 Nov \N{EN DASH} 18 Nov", "11-16T00:00:00", "11-19T00:00:00"),
        ("16 Nov until now", "11-16T00:00:00", "11-28T21:30:00"),
        ("2026-11-17T08:00Z..2026-11-17T09:00Z", "11-17T08:00:00", "11-17T09:00:00"),
        ("2026-11-16 to yesterday", "11-16T00:00:00", "11-28T00:00:00"),
        ("around 17 Nov 08:00", "11-17T07:30:00", "11-17T08:30:00"),
    ],
)
def test_ranges_have_two_ends(text: str, since: str, until: str) -> None:
    assert read(text) == span(since, until)


def test_a_time_without_an_offset_is_in_the_zone_of_the_page() -> None:
    assert read("17 Nov 08:00 to 09:00", TOKYO) == span("11-16T23:00:00", "11-17T00:00:00")
    assert read("2026-11-17T08:00Z to 09:00", TOKYO).endswith("..2026-11-18T00:00:00Z")


def test_a_day_without_a_year_is_the_last_such_day() -> None:
    assert read("24 Dec").startswith("2025-12-24T")
    assert read("29 Feb").startswith("2024-02-29T")
    assert read("28 Nov").startswith("2026-11-28T")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "enter a time"),
        ("soon", "not understood"),
        ("to", "not understood"),
        ("last 0m", "from 1 to 10,000"),
        ("last 99999 weeks", "from 1 to 1,428"),
        ("31 Feb", "no day of the calendar"),
        ("2026-02-31", "no day of the calendar"),
        ("17 Nov 25:00", "no time of day"),
        ("17/11/2026", "could be swapped"),
        ("11.12.", "could be swapped"),
        ("29 Nov 2026 08:00", "is in the future"),
        ("18 Nov to 16 Nov", "the end is not after the start"),
        ("17 Foo", "not understood"),
        ("2026-11-17T99:00Z", "not understood"),
    ],
)
def test_what_is_no_range_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(TimeRefused, match=reason):
        read(text)


@pytest.mark.parametrize("text", time_entry.FORMS)
def test_the_examples_are_understood(text: str) -> None:
    assert ".." in read(text) or text == "last 90m"


@given(st.text(st.sampled_from("0123456789:-./ tonovlasmdhz\N{EN DASH}"), max_size=25) | st.text())
def test_any_text_is_a_range_or_refused(text: str) -> None:
    try:
        found = time_entry.parse(text, NOW, LONDON)
    except TimeRefused:
        return
    assert times.parse(times.show(found)) == found
