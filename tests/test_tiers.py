"""Samples are always the same, and `make test-full` has every case."""

import pytest

from tests import tiers


def test_a_sample_is_the_same_every_time_and_in_order(monkeypatch):
    monkeypatch.setattr(tiers, "FULL", False)
    assert tiers.some(range(50), 5) == tiers.some(range(50), 5)
    assert tiers.some(range(50), 5) == sorted(tiers.some(range(50), 5))
    assert tiers.some("ab", 5) == ["a", "b"]


@pytest.mark.parametrize("count", [1, 8, 20, 500])
def test_each_case_is_in_one_combination_at_least(monkeypatch, count):
    monkeypatch.setattr(tiers, "FULL", False)
    found = tiers.crossed(range(8), "abc", [1, 2], count=count)
    assert len(found) == len(set(found)) == min(48, max(8, count))
    assert [set(values) for values in zip(*found, strict=True)] == [
        set(range(8)),
        set("abc"),
        {1, 2},
    ]


def test_everything_is_tested_in_full(monkeypatch):
    monkeypatch.setattr(tiers, "FULL", True)
    assert tiers.some("abc", 1) == ["a", "b", "c"]
    assert len(tiers.crossed(range(8), "abc", count=2)) == 24
