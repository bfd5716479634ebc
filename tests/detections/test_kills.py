"""Detection is killed at any point, or raced by others: nothing is missed, nothing is twice."""

import os

from tests.detections import kills

KILLS = int(os.environ.get("AUDITLAKE_KILLS", "20"))


def test_kills(tmp_path):
    found = [*kills.killed(tmp_path, KILLS, seed=17, real=0.2 if KILLS < 100 else 0.5)]
    assert found
    assert not any(found), found


def test_two_workers_at_once(tmp_path):
    assert kills.race(tmp_path, 2, seed=4) == ""
