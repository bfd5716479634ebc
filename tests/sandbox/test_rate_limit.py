"""A vendor's fixed windows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from sandbox.rate_limit import Limiter
from tests.sandbox.setups import ANCHOR

SECOND = timedelta(seconds=1)


def test_a_window_opens_with_its_first_request_and_is_counted_per_client() -> None:
    limiter = Limiter(count=2, seconds=60)
    first = limiter.take("a", ANCHOR)
    second = limiter.take("a", ANCHOR + 30 * SECOND)
    third = limiter.take("a", ANCHOR + 59 * SECOND)
    assert [each.allowed for each in (first, second, third)] == [True, True, False]
    assert [each.remaining for each in (first, second, third)] == [1, 0, 0]
    assert {each.reset for each in (first, second, third)} == {ANCHOR + 60 * SECOND}
    assert limiter.take("b", ANCHOR + 59 * SECOND).allowed


def test_a_new_window_begins_when_the_old_one_ends() -> None:
    limiter = Limiter(count=1, seconds=60)
    assert limiter.take("a", ANCHOR).allowed
    assert not limiter.take("a", ANCHOR + 59 * SECOND).allowed
    again = limiter.take("a", ANCHOR + 60 * SECOND)
    assert again.allowed
    assert again.reset == ANCHOR + 120 * SECOND


def test_a_limit_of_none_refuses_everything() -> None:
    refused = Limiter(count=0, seconds=60).take("a", ANCHOR)
    assert not refused.allowed
    assert refused.remaining == 0


def test_concurrent_requests_never_exceed_the_limit() -> None:
    limiter = Limiter(count=50, seconds=60)
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: limiter.take("a", ANCHOR).allowed, range(200)))
    assert sum(taken) == 50
