"""Leases on an object store; machines are state folders with clocks of their own."""

import pytest

from pipelines.lake.lease import Lease
from pipelines.lake.tables import Lake

TERM = 100.0


class Machine:
    """A machine whose monotonic clock stands still until it is moved."""

    def __init__(self, lake, folder, now=0.0):
        self.now = now
        self.lease = Lease(lake=lake, name="okta", folder=folder, term=TERM, clock=lambda: self.now)

    def claim(self):
        return self.lease.claim()


@pytest.fixture
def two(store, tmp_path):
    lake = store.lake()
    return Machine(lake, tmp_path / "a"), Machine(lake, tmp_path / "b", now=5_000.0)


def test_one_machine_has_the_lease_and_renews_it_with_few_requests(store, two):
    first, second = two
    assert (first.claim(), second.claim()) == (True, False)
    store.requests()
    first.now += TERM / 5
    assert first.claim()
    assert store.requests() == []
    first.now += TERM / 5
    assert first.claim()
    assert len(store.requests()) == 2


def test_a_lease_is_taken_over_when_it_has_not_changed_for_a_term(two):
    first, second = two
    assert (first.claim(), second.claim()) == (True, False)
    for _ in range(3):  # the holder renews it, so the watcher waits anew
        second.now += TERM * 0.9
        first.now += TERM * 0.9
        assert (first.claim(), second.claim()) == (True, False)
    second.now += TERM
    assert second.claim()
    first.now += TERM
    assert not first.claim()


def test_a_lease_that_was_released_is_free_at_once(two):
    first, second = two
    assert (first.claim(), second.claim()) == (True, False)
    first.lease.release()
    assert (second.claim(), first.claim()) == (True, False)


def test_an_observation_from_before_a_restart_does_not_count(two, tmp_path, monkeypatch):
    first, second = two
    assert (first.claim(), second.claim()) == (True, False)
    (tmp_path / "boot").write_text("another boot")
    monkeypatch.setattr("pipelines.lake.lease._BOOT", tmp_path / "boot")
    second.now += 10 * TERM
    assert not second.claim()


def test_a_lake_on_a_disk_needs_no_lease(tmp_path):
    machines = [Machine(Lake(str(tmp_path)), tmp_path / name) for name in "ab"]
    assert [machine.claim() for machine in machines] == [True, True]
    assert list(tmp_path.iterdir()) == []
