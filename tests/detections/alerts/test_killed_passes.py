"""Passes are killed at every point: no finding is missed, and no receiver with a key gets it twice.

`AUDITLAKE_KILLS=1000 pytest tests/detections/alerts/test_killed_passes.py` kills more often.
"""

import json
import os
import random
from collections import defaultdict

import pytest

from tests.detections.alerts import killing
from tests.detections.alerts.killing import POINTS
from tests.detections.alerts.world import MINUTE, NOW, finding, hook, land, receiving, states
from tests.places import everywhere

KILLS = int(os.environ.get("AUDITLAKE_KILLS", "20"))


def told(server):
    """Return the ids of the messages about each entity, as a receiver that honours them sees it."""
    found = defaultdict(set)
    for got in server.got:
        entity = json.loads(got.body)["data"]["alert"]["entity"]
        found[entity].add(got.headers["webhook-id"])
    return found


@everywhere(sampled=False)
@pytest.mark.parametrize("racing", [False, True], ids=["alone", "racing"])
def test_after_kills_each_finding_was_told_once(lake, racing):
    chance, now, killed, expected = random.Random(KILLS), NOW, 0, []
    points = [*POINTS] * (KILLS // (2 * len(POINTS)) + 1)
    with receiving() as server:
        receivers = {"hook": hook(server.url, per_hour=100_000)}
        for point in points[: KILLS // 2]:
            now += 6 * MINUTE
            new = [f"{len(expected) + n}@example.com" for n in range(2)]
            land(lake, *(finding(name, entity=name, time=now) for name in new))
            expected += new
            turn = chance.randint(1, 2)
            workers = [killing.start(lake, receivers, now, point, turn)]
            workers += [killing.start(lake, receivers, now)] if racing else []
            killed += sum([killing.ended(worker) for worker in workers])
        for _ in range(2):
            now += 6 * MINUTE
            assert not killing.ended(killing.start(lake, receivers, now))
        found = told(server)
    assert sorted(found) == sorted(expected)
    assert {name: len(ids) for name, ids in found.items() if len(ids) != 1} == {}
    assert {state for *_, state in states(lake)} == {"sent"}
    assert killed >= (1 if racing else KILLS // 6)
