"""Detection is killed at any point, or raced by others: nothing is missed, nothing is twice."""

import os

from tests.detections import kills
from tests.places import everywhere

KILLS = int(os.environ.get("AUDITLAKE_KILLS", "20"))


@everywhere(sampled=False)
def test_kills(tmp_path, place):
    share = 0.2 if KILLS < 100 else 0.5
    found = [*kills.killed(tmp_path, KILLS, seed=17, real=share, place=place)]
    assert found
    assert not any(found), found


@everywhere(sampled=False)
def test_two_workers_at_once(tmp_path, place):
    assert kills.race(tmp_path, 2, seed=4, place=place) == ""
