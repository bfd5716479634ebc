"""Times in response headers: odd values are ignored, delays follow the server's clock."""

from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sdk import headers

DATE = "Sun, 01 Mar 2026 12:00:00 GMT"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def answer(**values):
    return httpx.Response(429, headers={name.replace("_", "-"): v for name, v in values.items()})


@pytest.mark.parametrize(
    "value",
    [
        DATE,
        "Sun, 01 Mar 2026 12:00:00 -0000",  # "no time zone known"
        "Sun, 01 Mar 2026 13:00:00 +0100",
        "1 Mar 2026 12:00:00 GMT",
        "Sunday, 01-Mar-26 12:00:00 GMT",
    ],
)
def test_every_spelling_of_a_date_gives_the_same_aware_time(value):
    sent = headers.sent_at(answer(Date=value))
    assert sent == NOON
    assert sent.tzinfo is not None


@pytest.mark.parametrize(
    "value", ["", "soon", "2026-03-01T12:00:00Z", "Sun, 32 Mar 2026 12:00:00 GMT", "\u00ff", "0"]
)
def test_a_malformed_date_is_ignored(value):
    assert headers.sent_at(answer(Date=value.encode("latin-1"))) is None


def test_a_missing_date_is_ignored():
    assert headers.sent_at(answer()) is None


@pytest.mark.parametrize(
    ("value", "seconds"), [("120", 120), (" 5 ", 5), ("0.25", 0.25), ("0", 0), ("-30", 0)]
)
def test_retry_after_in_seconds(value, seconds):
    assert headers.retry_after(answer(Retry_After=value)) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("Sun, 01 Mar 2026 12:00:45 GMT", 45),
        ("Sun, 01 Mar 2026 13:01:00 +0100", 60),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
    ],
)
def test_retry_after_as_a_date_counts_from_the_servers_own_clock(value, seconds):
    """Our clock is years away from this date."""
    assert headers.retry_after(answer(Retry_After=value, Date=DATE)) == seconds


@pytest.mark.parametrize("value", ["", "soon", "1,5", "5 seconds", "2026-03-01", "1e"])
def test_a_malformed_retry_after_is_ignored(value):
    assert headers.retry_after(answer(Retry_After=value, Date=DATE)) is None
    assert headers.retry_after(answer(Date=DATE)) is None


@pytest.mark.parametrize("date", [{}, {"Date": "yesterday"}])
def test_a_retry_after_date_is_ignored_without_the_servers_clock(date):
    value = "Sun, 01 Mar 2026 12:00:45 GMT"
    assert headers.retry_after(answer(Retry_After=value, **date)) is None


@given(st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace")))
def test_no_header_raises_an_error_or_gives_a_negative_delay(value):
    odd = httpx.Response(429, headers=[(b"Date", value), (b"Retry-After", value)])
    assert headers.sent_at(odd) is None or headers.sent_at(odd).tzinfo
    delay = headers.retry_after(odd)
    assert delay is None or delay >= 0


def test_seconds_until_a_time_that_has_passed_are_zero():
    noon = NOON.timestamp()
    assert headers.server_seconds(answer(Date=DATE), noon + 90) == 90
    assert headers.server_seconds(answer(Date=DATE), noon - 90) == 0
    with pytest.raises(KeyError):
        headers.server_seconds(answer(), noon)
