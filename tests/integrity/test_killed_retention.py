"""`retain` killed at any step: the lake can be verified, and the next run finishes it."""

import multiprocessing
import os
import shutil
import signal
from datetime import date

import pytest
from deltalake import DeltaTable

from pipelines import registry
from pipelines.extraction import renormalise
from pipelines.integrity import operator_acts, removals, reports, retention
from pipelines.integrity.verifier import verify
from pipelines.integrity.verifier.job import WorkerPool
from pipelines.lake import commits, identity_table, per_file, rollup_table, text_index_table
from tests.integrity import killing
from tests.integrity.conftest import move_memory
from tests.integrity.worlds import LOG, NOON, Signed

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.integrity.killing"])
POINTS = {
    "after the act": ("_publish", 2),
    "between events and rows": ("_commit", 1),
    "between rows and what was derived": ("derive", 1),
}


@pytest.fixture
def full(signed):
    """A lake whose events are counted, and whose persons are derived."""
    rollup_table.roll_up(signed.lake, date(2027, 1, 1))
    text_index_table.index(signed.lake, date(2027, 1, 1))
    identity_table.derive(signed.lake)
    return signed


def killed(signed, number, name=None):
    """Return whether the run was killed before it ended by itself."""
    process = processes.Process(target=killing.retain_until, args=(signed.folder, number, name))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def problems(signed):
    """Return what the commands and checks that verify this lake find."""
    where = reports.place(signed.lake, signed.integrity)
    named = [*verify.tables(where), *reports.derived(where)]
    with WorkerPool(1) as workers:
        found = list(reports.verdicts(where, named, {"okta": "okta"}, workers, full=True))
    okta = registry.source("okta", {"base_url": "https://acme.okta.com", "api_token": "t"})
    (history,) = renormalise.histories(signed.lake, okta)
    compared = renormalise.check(history, rows=200, seed=1)
    return [*(bad for each in found for bad in each.findings), *[compared] * (not compared.sound)]


def append_only(signed):
    return commits.is_append_only(DeltaTable(signed.lake.uri(LOG.table)))


def survived(signed):
    """Check the lake that a kill has left, and the one after the next run."""
    assert append_only(signed)
    assert problems(signed) == []
    retention.finish(signed.lake, NOON)
    retention.remove(signed.lake, killing.REMOVAL, NOON)
    assert signed.rows()["seq"].to_list() == list(range(300, 700))
    assert removals.unfinished(operator_acts.recorded(signed.lake)) == []
    assert append_only(signed)
    verdict = signed.verify(full=True)
    assert (verdict.ok, verdict.removed, verdict.events) == (True, 300, 400)
    assert list(signed.table.rglob("date=2026-03-01/*.parquet")) == []
    counted, files = rollup_table.rolled_up(signed.lake)[0], per_file.event_files(signed.lake)
    indexed = text_index_table.indexed(signed.lake)[0]
    for known in (counted, indexed):
        assert known["path"].is_in(files["path"].implode()).all()


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_run_leaves_a_lake_that_can_be_verified_and_the_next_finishes_it(full, point):
    name, number = POINTS[point]
    assert killed(full, number, name)
    survived(full)


@pytest.mark.skipif("AUDITLAKE_KILLS" not in os.environ, reason="takes minutes: `make soak`")
def test_so_does_a_run_that_is_killed_at_any_step(full, tmp_path):
    step = 0
    while True:
        step += 1
        world = Signed(tmp_path / f"killed{step}")
        shutil.copytree(full.folder, world.folder)
        move_memory(full, world)
        if not killed(world, step):
            break
        survived(world)
        shutil.rmtree(world.folder)
    assert step > 30
