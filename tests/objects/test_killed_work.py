"""Retention, erasure, signing and exports are killed at a request to the store.

Afterwards `verify` finds nothing but rows that wait for their signature, and the next run completes
the work: nothing is lost, and nothing is twice.
"""

import json
from collections import Counter

import pytest

from pipelines.integrity import operator_acts, removals
from pipelines.lake import commits, tables
from tests import places
from tests.integrity.worlds import LOG, record
from tests.objects import killing
from tests.promises.contents import content
from tests.tiers import FULL

KINDS = ("killed", "killed late")
SAMPLES = {"retention": (9, 17), "erasure": (6, 14), "signing": (2, 7, 12), "export": (12,)}
"""The requests at which `make test` kills the work; `make test-full` kills it at each."""
LAST = {"retention": 20, "erasure": 14, "signing": 12, "export": 12}
"""The work has at least so many requests."""
UNFINISHED = {"signing": {"unsigned"}}
"""What `verify` may say of a lake until the next run."""


@pytest.mark.parametrize("name", killing.WORK)
def test_killed_work_is_completed_by_the_next_run(store, tmp_path, name):
    number = 0
    for number in range(1, 1_000) if FULL else SAMPLES[name]:
        for kind in KINDS if FULL else [KINDS[number % 2]]:
            world = killing.filled(store, tmp_path / f"{number}{kind[6:]}")
            ended = not killing.killed(world, name, number, kind)
            assert findings(world, name) <= UNFINISHED.get(name, set()), (name, number, kind)
            killing.WORK[name][0](world)
            assert findings(world, name) == set(), (name, number, kind)
            COMPLETED[name](world)
        if ended:
            break
    assert number >= (LAST[name] if FULL else 1)


def findings(world, name):
    """Return what `verify` finds; the rounds that are killed while signing derive no events."""
    verdict = world.verify(events=name != "signing", full=True)
    return {each.kind for each in verdict.findings} | (
        {"uncompared"} if verdict.uncompared else set()
    )


def without(gone):
    return [seq for seq in range(4 * killing.BATCH) if not gone(seq)]


def retained(world):
    assert world.rows()["seq"].to_list() == without(lambda seq: seq < 3 * killing.BATCH)
    assert events(world) == Counter(world.rows()["seq"])
    finished(world)


def erased(world):
    assert world.rows()["seq"].to_list() == without(lambda seq: seq % 7 == 3)
    assert events(world) == Counter(world.rows()["seq"])
    finished(world)
    folder = world.folder / "files"
    for number, (name, data) in enumerate(places.files(world.lake, "").items()):
        path = folder / f"{number}-{name.rpartition('/')[2]}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        assert killing.PERSON not in content(path), name


def finished(world):
    assert removals.unfinished(operator_acts.recorded(world.lake)) == []
    assert commits.is_append_only(tables.open_at(world.lake, LOG.table))


def signed(world):
    """The rows are numbered without gaps, each record is there once, and all are signed."""
    rows = world.rows()
    assert rows["seq"].to_list() == list(range(rows.height))
    assert rows["event_id"].is_unique().all()
    assert world.verify(events=False).size == rows.height


def exported(world):
    lines = (world.folder / killing.EXPORTED).read_text().splitlines()
    ids = Counter(json.loads(line)["event_id"] for line in lines)
    numbers = range(4 * killing.BATCH)
    assert ids == Counter(json.loads(record(number))["uuid"] for number in numbers)


def events(world):
    return Counter(tables.existing(world.lake, "events").select("seq").collect()["seq"])


COMPLETED = {"retention": retained, "erasure": erased, "signing": signed, "export": exported}
