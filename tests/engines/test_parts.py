"""Each command gives the same result with every engine, and no secret travels to the workers."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipelines import engines
from pipelines.extraction import exporting, renormalise
from pipelines.integrity import reports, retention
from pipelines.integrity.crew import EngineCrew
from pipelines.integrity.retention import Removal
from pipelines.integrity.verifier.job import WorkerPool
from pipelines.lake import identity_table, rollup_table, tables
from pipelines.lake.tables import Lake
from pipelines.mapping import export
from pipelines.mapping.export import Wanted
from tests.engines import lakes
from tests.integrity.worlds import LOG, NOON, once
from tests.tiers import FULL

ROWS, PER_DAY = (64_000, 16_000) if FULL else (900, 300)
KILLS = int(os.environ.get("AUDITLAKE_KILLS") or (20 if FULL else 5))
FAR = date(2027, 1, 1)
NAMES = [
    "processes",
    pytest.param("ray", marks=pytest.mark.engines),
    pytest.param("dask", marks=pytest.mark.engines),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A lake that tests must not change."""
    return lakes.filled(tmp_path_factory.mktemp("world") / "a", ROWS, PER_DAY)


@pytest.fixture(scope="module")
def engine_named():
    """Return engines by name; each is started once."""
    with ExitStack() as stack:
        opened = {}

        def named(name):
            if name not in opened:
                opened[name] = stack.enter_context(engines.opened(name, workers=2))
            return opened[name]

        yield named


@pytest.fixture(autouse=True)
def many_parts(monkeypatch):
    monkeypatch.setattr(engines, "_FEW_ROWS", 0)
    monkeypatch.setattr(renormalise, "_PART", PER_DAY // 2)
    monkeypatch.setattr(rollup_table, "_ROLLED_AT_ONCE", PER_DAY // 2)
    monkeypatch.setattr(export, "_SPAN", ROWS // 10)


def derive(world, engine, *, everything=True):
    found = renormalise.renormalise(lakes.history(world), everything=everything, engine=engine)
    return list(found)


@pytest.mark.parametrize("name", NAMES)
def test_renormalised_events_and_their_files_are_equal_byte_for_byte(
    world, engine_named, tmp_path, monkeypatch, name
):
    # Of a day in several parts, delta-rs writes the rows of the other parts in any order.
    monkeypatch.setattr(renormalise, "_PART", PER_DAY)
    alone, shared = (lakes.copied(world, tmp_path / each) for each in ("alone", "shared"))
    done = derive(alone, None)
    assert derive(shared, engine_named(name)) == done
    assert len(done) == ROWS // PER_DAY
    assert lakes.stored(shared).equals(lakes.stored(alone))
    assert lakes.contents(shared) == lakes.contents(alone)


@pytest.mark.parametrize("name", NAMES)
def test_days_in_several_parts_are_derived_whole(world, engine_named, tmp_path, name):
    copy = lakes.copied(world, tmp_path / "copy")
    assert len(derive(copy, engine_named(name))) == 2 * ROWS // PER_DAY
    assert lakes.stored(copy).equals(lakes.stored(world))


@pytest.mark.parametrize("name", NAMES)
def test_rollups_are_equal(world, engine_named, tmp_path, name):
    alone, shared = (lakes.copied(world, tmp_path / each) for each in ("alone", "shared"))
    rollup_table.roll_up(alone.lake, FAR)
    rollup_table.roll_up(shared.lake, FAR, engine_named(name))
    ours, theirs = (lakes.sorted_rows(each, "rollups") for each in (alone, shared))
    assert ours.height
    assert ours.equals(theirs)


@pytest.mark.parametrize("name", NAMES)
def test_exports_are_equal_byte_for_byte(world, engine_named, name):
    wanted, counted = Wanted(search="actor:u1*"), []
    events = tables.existing(world.lake, "events")
    matching = export.matching(events, wanted, identity_table.read(world.lake))
    for form in export.FORMATS:
        shared = exporting.chunks(world.lake, wanted, form, engine_named(name), counted.append)
        assert b"".join(shared) == b"".join(export.chunks(matching, form))
    assert sum(counted) == 4 * matching.collect().height > 0


@pytest.mark.parametrize("name", NAMES)
def test_verification_finds_the_same(world, engine_named, tmp_path, name):
    sound, changed = (lakes.copied(world, tmp_path / each) for each in ("sound", "changed"))
    file = next((changed.table).glob("date=*/*.parquet"))
    rows = pl.read_parquet(file)
    rows.with_columns(event_id=pl.col("event_id").str.replace("id-", "ID-")).write_parquet(file)
    for each in (sound, changed):
        alone, shared = (
            verified(each, crew)
            for crew in (WorkerPool(1), EngineCrew(engine_named(name), each.lake))
        )
        assert shared == alone
        assert bool(shared["findings"]) == (each is changed)
        assert shared["read"] == ROWS


def verified(world, crew):
    (found,) = reports.verdicts(world.place, [LOG.table], {"okta": "okta"}, crew, full=True)
    document = reports.document(found)
    # Each run also agrees with the one before.
    for key in ("at", "seconds", "compared_with"):
        del document[key]
    return document


def test_no_secret_travels_to_the_workers(world, tmp_path):
    copy = lakes.copied(world, tmp_path / "copy")
    options = {"aws_secret_access_key": lakes.SECRET}
    lake = Lake(copy.lake.root, options, copy.integrity)
    history = renormalise.History(lake=lake, source=lakes.SOURCE, stream=lakes.STREAM)
    engine = lakes.Posted()
    assert list(renormalise.renormalise(history, everything=True, engine=engine))
    rollup_table.roll_up(lake, FAR, engine)
    assert b"".join(exporting.chunks(lake, Wanted(), "ndjson", engine))
    place = reports.place(lake, copy.integrity)
    crew = EngineCrew(engine, lake)
    (verdict,) = reports.verdicts(place, [LOG.table], {"okta": "okta"}, crew, full=True)
    assert verdict.ok
    lakes.without_a_secret(engine)


def test_records_that_change_after_they_were_mapped_are_mapped_again(world, tmp_path):
    """Retention deletes a day while a mapped part of it waits to be committed."""
    copy = lakes.copied(world, tmp_path / "copy")
    removal = Removal(log=LOG, before=NOON.date() + timedelta(days=2), who="ada", why="a test")

    class Slow(lakes.Posted):
        def map(self, work, parts, rows):
            found = list(super().map(work, parts, rows))
            retention.remove(copy.lake, removal, NOON + timedelta(days=40))
            yield from found

    derive(copy, Slow())
    left = lakes.stored(copy)
    assert left["seq"].to_list() == list(range(2 * PER_DAY, ROWS))
    assert renormalise.check(lakes.history(copy), rows=ROWS, seed=1).sound


def test_rows_that_arrive_after_a_part_was_mapped_do_not_disturb_it(world, tmp_path):
    copy = lakes.copied(world, tmp_path / "copy")

    class Slow(lakes.Posted):
        def map(self, work, parts, rows):
            found = list(super().map(work, parts, rows))
            copy.land(*range(ROWS, ROWS + 50), day=1)
            yield from found

    derive(copy, Slow())
    assert lakes.stored(copy)["seq"].to_list() == list(range(ROWS + 50))
    assert renormalise.check(lakes.history(copy), rows=ROWS, seed=1).sound


def test_what_was_mapped_is_committed_without_mapping_it_again(world, tmp_path, monkeypatch):
    copy, engine = lakes.copied(world, tmp_path / "copy"), lakes.Posted()
    expected = len(renormalise.parts(lakes.history(copy), everything=True))
    mapped, derive_again = [], renormalise.History.derive

    def counted(history, raw):
        mapped.append(1)
        return derive_again(history, raw)

    monkeypatch.setattr(renormalise.History, "derive", counted)
    derive(copy, engine)
    assert len(mapped) == expected


def test_a_part_that_no_worker_can_read_is_mapped_here(world, tmp_path, monkeypatch):
    copy = lakes.copied(world, tmp_path / "copy")

    def gone():
        raise FileNotFoundError

    once(monkeypatch, renormalise.raw_table, "reaches", gone)
    derive(copy, lakes.Posted())
    assert renormalise.check(lakes.history(copy), rows=ROWS, seed=1).sound


DRIVER = """
import sys
from pathlib import Path
from pipelines import engines
from pipelines.extraction import renormalise
from tests.engines import lakes
from tests.integrity.worlds import Signed

if __name__ == "__main__":
    engines._FEW_ROWS, renormalise._PART = 0, int(sys.argv[2])
    history = lakes.history(Signed(Path(sys.argv[1])))
    with engines.opened(sys.argv[3], workers=2) as engine:
        for done in renormalise.renormalise(history, everything=True, engine=engine):
            print(done.left, flush=True)
"""


@pytest.mark.parametrize("name", NAMES)
def test_killed_workers_and_drivers_lose_nothing_and_write_nothing_twice(world, tmp_path, name):
    copy, program = lakes.copied(world, tmp_path / "copy"), tmp_path / "driver.py"
    program.write_text(DRIVER)
    before, dice = lakes.stored(copy), random.Random(7)
    command = [sys.executable, str(program), str(copy.folder), str(PER_DAY // 2), name]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for turn in range(KILLS):
        driver = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        for _ in range(dice.randrange(4)):
            driver.stdout.readline()
        time.sleep(dice.uniform(0, 0.3))
        victims = workers_of(driver.pid) if turn % 2 else [driver.pid]
        for victim in dice.sample(victims, min(1, len(victims))):
            kill(victim)
        driver.stdout.read()
        driver.stdout.close()
        assert driver.wait() in (0, -signal.SIGKILL)
        assert lakes.stored(copy).equals(before)
    derive(copy, None)
    assert lakes.stored(copy).equals(before)


def workers_of(pid):
    """Return the processes below `pid` that run Python."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    found = []
    for child in map(int, children):
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes()
        except FileNotFoundError:
            continue
        if b"spawn_main" in command or b"ray::" in command:
            found.append(child)
        found += workers_of(child)
    return found


def kill(pid):
    with suppress(ProcessLookupError):  # it has just ended by itself
        os.kill(pid, signal.SIGKILL)
