"""Two machines, as processes with state folders of their own, poll with one credential."""

import json
import signal
import uuid
from datetime import UTC, datetime

import pytest

from pipelines.integrity import reports
from pipelines.integrity.verifier.job import WorkerPool
from pipelines.lake import object_store
from pipelines.settings import IntegritySettings
from sandbox.server import Options, running
from tests.conftest import World
from tests.objects.machine import ELSEWHERE, started
from tests.places import on_stores
from tests.promises.ledgers import difference
from tests.tiers import FULL
from tests.waiting import until

KEY = "raw/okta/system_log"


@pytest.fixture
def polled(place, tmp_path):
    """A vendor that enforces its rate limit, a signed lake, and the settings that read it."""
    with running(Options(days=1, per_day=30, rate=0, limits=True)) as vendor:
        lake = place.lake(integrity=IntegritySettings(folder=tmp_path / "keys"))
        keys = {**vendor.settings()["okta"], "streams": ["system_log"]}
        yield World(running=vendor, lake=lake), keys


def happen(world):
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}"
    records = [
        {"uuid": uuid.uuid4().hex, "eventType": "user.session.start", "published": now}
        for _ in range(3)
    ]
    found = [json.dumps(record).encode() for record in records]
    world.running.sandbox.append("okta", "system_log", found)


def leased(lake):
    return object_store.names(lake.uri("leases"), lake.storage_options)


def rows(told):
    return [each for each in told if isinstance(each, int)]


def polls(message):
    return isinstance(message, int)


def elsewhere(message):
    return message == ELSEWHERE


def sound(lake):
    where = reports.place(lake, lake.integrity)
    with WorkerPool(1) as crew:
        found = list(reports.verdicts(where, (KEY, "events", reports.ACTS), {"okta": "okta"}, crew))
    return [verdict.ok for verdict in found] == [True] * 3


@on_stores()
def test_a_watcher_takes_over_and_a_holder_that_wakes_stores_nothing_twice(polled, tmp_path):
    world, keys = polled
    with started(world.lake, keys, tmp_path / "a", freeze=True) as first:
        until(lambda: leased(world.lake), "the first machine holds the lease")
        with started(world.lake, keys, tmp_path / "b") as second:
            told = second.heard(polls)
            assert set(told[:-1]) == {ELSEWHERE}
            assert told[-1] == len(world.issued("okta", "system_log")) > 0
            first.signal(signal.SIGCONT)  # between its decision about the same rows and the commit
            woken = first.heard(elsewhere)
            assert rows(woken) == [0]
            second.signal(signal.SIGKILL)
        happen(world)
        assert sum(rows(first.heard(lambda message: message == 3))) == 3
    assert difference(world, "okta", "system_log") == ""
    assert sound(world.lake)


@pytest.mark.skipif(not FULL, reason="`make test-full` runs it")
@on_stores()
def test_two_machines_never_exceed_a_limit_that_each_would_use_half_of(polled, tmp_path):
    world, keys = polled
    most = 40
    with (
        started(world.lake, keys, tmp_path / "a", most=most) as first,
        started(world.lake, keys, tmp_path / "b", most=most) as second,
    ):
        for machine in (first, second):
            machine.process.join()
            told = [machine.told.recv() for _ in range(most)]
            assert set(map(type, told)) == {int} or set(told) == {ELSEWHERE}
    sent, _ = world.running.sandbox.requests("okta")
    assert most <= sent < 60  # Okta's limit in a minute; both would have sent twice as many
    assert difference(world, "okta", "system_log") == ""
