"""Maintenance changes no row, even during reads and writes, and removes files."""

import os
import time
from datetime import date, timedelta
from multiprocessing import get_context

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from pipelines.errors import LakeError
from pipelines.lake import (
    commits,
    compaction,
    coverage,
    handles,
    maintenance,
    reconciliation,
    streams,
    tables,
)
from pipelines.lake import raw as raw_table
from pipelines.lake.coverage import Entry
from pipelines.lake.maintenance import MinimumAge
from pipelines.lake.stream_state import Facts
from pipelines.lake.tables import Lake, StreamKey
from tests.integrity import matrix
from tests.lake.batches import LOG, NOON, batch

FAR = date(2026, 6, 1)


AT_ONCE = MinimumAge(files=timedelta(0), temporary=timedelta(0), quiet=timedelta(0))


def rows(lake):
    return tables.scan(lake, LOG.table).collect().sort("seq")


def filled(lake, count=12):
    for number in range(count):
        entry = Entry(since=NOON, until=NOON + timedelta(hours=number), asked_at=NOON)
        raw_table.append(lake, LOG, batch(number), f"c{number}", entries=[entry])


def test_compaction_turns_many_files_into_one_and_changes_no_row(lake):
    filled(lake)
    before = rows(lake)
    (raw,) = [t for t in maintenance.maintain(lake, [], FAR, AT_ONCE) if t.table == LOG.table]
    assert (raw.files_before, raw.files_after) == (12, 1)
    assert raw.removed >= 12
    assert rows(lake).equals(before)
    assert len(list((lake.local / LOG.table).glob("date=*/*.parquet"))) == 1
    assert raw_table.position(lake, LOG).cursor == "c11"
    assert raw_table.append(lake, LOG, batch(3, 99), "c12").frame["seq"].to_list() == [12]


def test_coverage_is_copied_out_of_the_delta_log_before_it_is_trimmed(lake):
    filled(lake)
    handle = tables.open_table(lake, LOG.table)
    at_once = {"delta.logRetentionDuration": "interval 0 seconds"}
    handle.alter.set_table_properties(at_once, post_commithook_properties=compaction.NO_HOOKS)
    for path in (lake.local / LOG.table / "_delta_log").iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    list(maintenance.maintain(lake, [], FAR, AT_ONCE))
    assert coverage.entries(lake, LOG).filter(pl.col("until") > pl.col("since")).height == 11
    log = list((lake.local / LOG.table / "_delta_log").glob("*.json"))
    assert len(log) < 12
    assert raw_table.position(lake, LOG).cursor == "c11"


def test_few_checkpoints_remain_and_every_version_stays_readable(lake, monkeypatch):
    monkeypatch.setattr(handles, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(maintenance, "_CHECKPOINTS", 2)
    monkeypatch.setattr(maintenance, "_VERSIONS_APART", 10)
    filled(lake, 30)
    list(maintenance.maintain(lake, [], FAR))
    found = (lake.local / LOG.table / "_delta_log").glob("*.checkpoint.parquet")
    assert [int(path.name[:20]) for path in sorted(found)] == [2, 8, 18, 28, 30, 31]
    for version in range(1, 31):
        handle = DeltaTable(lake.uri(LOG.table), version=version)
        assert pl.scan_delta(handle).select(pl.len()).collect().item() == version


def test_the_newest_versions_stay_readable_and_nothing_else_changes(lake, monkeypatch):
    monkeypatch.setattr(handles, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(maintenance, "_VERSIONS", 10)
    filled(lake, 30)
    before = rows(lake)
    list(maintenance.maintain(lake, [], FAR))
    assert rows(lake).equals(before)
    assert raw_table.position(lake, LOG).cursor == "c29"
    assert coverage.entries(lake, LOG).filter(pl.col("until") > pl.col("since")).height == 29
    with pytest.raises(DeltaError):
        DeltaTable(lake.uri(LOG.table), version=19)
    for version in (20, 21, 30):
        old = DeltaTable(lake.uri(LOG.table), version=version)
        assert pl.scan_delta(old).select(pl.len()).collect().item() == version
    assert raw_table.append(lake, LOG, batch(3, 99), "c30").frame["seq"].to_list() == [30]


def test_today_is_left_alone_until_it_has_many_files(lake):
    filled(lake, 6)
    (raw, *_) = [
        t for t in maintenance.maintain(lake, [], NOON.date(), AT_ONCE) if t.table == LOG.table
    ]
    assert raw.files_after == 6


def test_a_table_that_is_being_created_is_skipped(lake):
    filled(lake, 1)
    (lake.local / "raw/okta/users/_delta_log").mkdir(parents=True)
    (lake.local / "raw/okta/users/_delta_log" / f"{0:020}.json#1").write_bytes(b"x")
    assert LOG.table in [tidied.table for tidied in maintenance.maintain(lake, [], FAR)]


def test_an_event_may_arrive_again_in_several_streams_and_both_ways(lake):
    for number in range(6):
        known = batch(number).select("event_id", "time", "date", seen_at="ingested_at")
        for way in ("poll", "webhook"):
            rows = known.with_columns(way=pl.lit(way))
            reconciliation.record(lake, {LOG: rows, StreamKey("okta-eu", LOG.stream): rows})
    (tidied,) = maintenance.maintain(lake, [], FAR)
    assert (tidied.table, tidied.files_before, tidied.files_after) == ("echoes", 12, 1)
    assert tables.scan(lake, "echoes").collect().height == 24


def test_temporary_files_of_a_killed_writer_are_deleted_and_fresh_ones_stay(lake):
    filled(lake, 2)
    folder = lake.local / LOG.table
    old, fresh = folder / "part-0.parquet#1", folder / "_delta_log" / "7.json#1"
    old.write_bytes(b"x")
    fresh.write_bytes(b"x")
    os.utime(old, (time.time() - 86_400,) * 2)
    list(maintenance.maintain(lake, [], FAR, MinimumAge()))
    assert (old.exists(), fresh.exists()) == (False, True)


def test_only_one_maintenance_runs_at_a_time(lake):
    filled(lake, 1)
    first = maintenance.maintain(lake, [], FAR)
    next(first)
    with pytest.raises(LakeError, match="is running"):
        next(maintenance.maintain(lake, [], FAR))
    first.close()
    assert list(maintenance.maintain(lake, [], FAR))


def test_two_concurrent_compactions_do_not_duplicate_rows(lake):
    """deltalake 1.6.4 to 1.6.6 duplicate them; if this fails, keep the old pin."""
    filled(lake)
    one, two = (DeltaTable(lake.uri(LOG.table)) for _ in range(2))
    one.optimize.compact()
    with pytest.raises(Exception, match="commit"):
        two.optimize.compact()
    assert rows(lake).height == 12


def write(root, number, turns):
    lake = Lake(root)
    for turn in range(turns):
        raw_table.append(lake, LOG, batch(f"{turn}-shared", f"{turn}-{number}"), f"{turn}")


def tidy(root, done):
    lake = Lake(root)
    while not done.is_set():
        list(maintenance.maintain(lake, [], FAR, MinimumAge()))


def test_maintenance_blocks_neither_writers_nor_readers(lake):
    filled(lake, 1)
    context = get_context("spawn")
    done = context.Event()
    tidier = context.Process(target=tidy, args=(lake.root, done))
    writers = [context.Process(target=write, args=(lake.root, n, 25)) for n in range(2)]
    for process in (tidier, *writers):
        process.start()
    seen = 0
    while any(writer.is_alive() for writer in writers):
        seq = tables.scan(lake, LOG.table).select("seq").collect()["seq"]
        assert sorted(seq) == list(range(seq.len()))
        assert seq.len() >= seen
        seen = seq.len()
    done.set()
    for process in (tidier, *writers):
        process.join()
    assert [process.exitcode for process in (tidier, *writers)] == [0, 0, 0]
    assert rows(lake).height == 1 + 25 * 3


def test_canary_two_overlapping_compactions_do_not_duplicate_rows(tmp_path):
    """deltalake 1.6.4 to 1.6.6 fail this; a version that passes may be used."""
    path = str(tmp_path / "t")
    for number in range(5):
        write_deltalake(
            path, pl.DataFrame({"n": range(number * 50, number * 50 + 50)}), mode="append"
        )
    first, second = DeltaTable(path), DeltaTable(path)
    first.optimize.compact()
    with pytest.raises(Exception, match="commit"):
        second.optimize.compact()
    assert pl.read_delta(path).height == 250


@matrix.attack(
    "plant a link in place of the lock of a lake in an object store",
    "the file is unchanged",
    matrix.MODES,
)
def test_the_lock_of_an_object_store_is_private_and_per_lake(tmp_path, monkeypatch):
    """It used to be /tmp/.maintenance.lock, which anyone could create first or make a link."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".maintenance.lock").symlink_to(tmp_path / "victim")
    one, two = (Lake(f"file://{tmp_path}/{name}") for name in ("one", "two"))
    with maintenance._exclusive_lock(one), maintenance._exclusive_lock(two):
        with (
            pytest.raises(LakeError, match="another maintenance"),
            maintenance._exclusive_lock(one),
        ):
            pass
        found = (tmp_path / "state" / "auditlake").iterdir()
        names = {path.name[:11] for path in found if path.is_file()}
    assert names == {"maintenance"}
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_table_that_a_kill_left_open_to_changes_is_append_only_again(lake):
    """In an object store, a deletion lifts the property while it runs."""
    filled(lake, 2)
    coverage.record(lake, LOG)
    streams.record(lake, LOG, Facts(kind="okta"), NOON)
    remote = Lake(f"file://{lake.root}")
    for table in (LOG.table, "coverage"):
        commits.set_append_only(remote, table, wanted=False)
    list(maintenance.maintain(remote, [LOG], FAR))
    settled = {name: commits.is_append_only(DeltaTable(lake.uri(name)))
               for name in (LOG.table, "coverage", "streams")}  # fmt: skip
    assert settled == {LOG.table: True, "coverage": True, "streams": False}
