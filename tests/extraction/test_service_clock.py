from datetime import timedelta

import httpx
import pytest

from pipelines.extraction.service_clock import ServiceClock, difference
from tests.promises.ledgers import Clock

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@pytest.fixture
def clock():
    return Clock()


def response(clock, ahead=timedelta(), **headers):
    sent = (clock() - ahead).strftime("%a, %d %b %Y %H:%M:%S GMT")
    return httpx.Response(200, headers={"Date": sent, **headers})


def seen(clock, *responses):
    service_clock = ServiceClock(clock)
    for each in responses:
        service_clock.observe(each)
    return service_clock


def test_the_first_response_shows_how_far_our_clock_is_ahead(clock):
    for ahead in (400 * DAY, -3 * DAY, 2 * MINUTE):
        shown = seen(clock, response(clock, ahead))
        assert (shown.ahead, shown.known, shown.confirmed) == (ahead, True, False)


def test_a_few_seconds_are_no_difference(clock):
    assert seen(clock, response(clock, timedelta(seconds=20))).ahead == timedelta()


def test_an_earlier_time_counts_at_once_and_a_later_one_once_two_responses_agree(clock):
    same, late, early = (response(clock, ahead) for ahead in (timedelta(), -DAY, DAY))
    assert seen(clock, same, early).ahead == DAY
    assert seen(clock, same, late).ahead == timedelta()
    assert seen(clock, same, late, late).ahead == -DAY


def test_a_cache_that_alternates_moves_the_clock_once(clock):
    cached, fresh = response(clock, 5 * 60 * MINUTE), response(clock)
    assert seen(clock, *[fresh, cached] * 5).ahead == 5 * 60 * MINUTE


def test_responses_from_a_cache_and_without_a_date_do_not_count(clock):
    shown = seen(clock, response(clock, DAY, Age="7"), httpx.Response(200))
    assert (shown.known, shown.ahead) == (False, timedelta())
    assert shown.decided, "no response shows a time: only our clock is left"
    assert not seen(clock, response(clock)).decided
    assert seen(clock, response(clock), response(clock)).decided


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (4 * MINUTE, None),
        (-4 * MINUTE, None),
        (65 * MINUTE, "this machine's clock is 1 h 5 min ahead"),
        (-3 * DAY - 60 * MINUTE, "this machine's clock is 3 d 1 h behind"),
    ],
)
def test_a_difference_of_minutes_is_described(ahead, words):
    assert difference(ahead) == words
