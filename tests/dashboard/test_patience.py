"""Searches are made in parts, and end between two of them."""

from __future__ import annotations

import pytest

from dashboard import patience
from dashboard.patience import LIMIT, TooLong


def test_without_a_watcher_nothing_is_limited() -> None:
    assert list(patience.each("abc")) == ["a", "b", "c"]


def test_the_page_is_told_the_share_before_each_part() -> None:
    shares: list[float] = []
    with patience.watched(lambda: 0.0, shares.append):
        assert list(patience.each("abcd")) == ["a", "b", "c", "d"]
    assert shares == [0.0, 0.25, 0.5, 0.75]


def test_the_page_is_told_of_a_search_of_several_parts_before_the_first() -> None:
    seen: list[object] = []
    with patience.watched(lambda: 0.0, seen.append, lambda: seen.append("begins")):
        assert list(patience.each("a")) == ["a"]
        assert list(patience.each("ab")) == ["a", "b"]
    assert seen == [0.0, "begins", 0.0, 0.5]


def test_a_search_ends_between_two_parts_once_its_time_is_over() -> None:
    now, done = [100.0], []
    with pytest.raises(TooLong), patience.watched(lambda: now[0], lambda _: None):
        for part in patience.each("abcd"):
            done.append(part)
            now[0] += LIMIT / 2 + 1
    assert done == ["a", "b"]


def test_the_page_can_end_a_search() -> None:
    class Changed(BaseException):
        """As Streamlit raises it where another search was requested."""

    def advance(share: float) -> None:
        if share:
            raise Changed

    done = []
    with pytest.raises(Changed), patience.watched(lambda: 0.0, advance):
        for part in patience.each("ab"):
            done.append(part)
    assert done == ["a"]
    patience.check()
