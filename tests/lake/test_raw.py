"""The lake's guarantees: dense seq, rows and cursor in one commit, one winner of a race."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier

import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import LakeError
from pipelines.lake import commits, coverage, events, raw, tables
from pipelines.lake.coverage import Entry
from pipelines.lake.tables import Lake, StreamKey
from pipelines.schemas import EVENTS, RAW, REJECTED

LOG = StreamKey("okta", "system_log")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def batch(*ids, day=0):
    """Return raw rows without seq; equal IDs have equal times, as at the vendor."""
    raws = [f'{{"uuid":"{i}"}}' for i in ids]
    times = [NOON + timedelta(days=day, seconds=sum(map(ord, str(i)))) for i in ids]
    return pl.DataFrame(
        {
            "event_id": [str(i) for i in ids],
            "time": pl.Series(times, dtype=RAW["time"]),
            "ingested_at": [NOON] * len(ids),
            "via": ["poll"] * len(ids),
            "raw": raws,
            "raw_sha256": [hashlib.sha256(r.encode()).hexdigest() for r in raws],
        }
    ).with_columns(pl.col("time").dt.date().alias("date"))


def rows(lake):
    return tables.scan(lake, LOG.table).collect().sort("seq")


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8), min_size=1, max_size=6))
def test_any_overlap_of_batches_lands_each_row_once_and_dense(tmp_path_factory, batches):
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    for number, ids in enumerate(batches):
        raw.append(lake, LOG, batch(*ids), f"c{number}")
    stored = rows(lake)
    assert sorted(stored["event_id"]) == sorted({str(i) for ids in batches for i in ids})
    assert stored["seq"].to_list() == list(range(stored.height))
    assert raw.position(lake, LOG).rows == stored.height


def test_the_first_writers_of_a_table_may_come_at_once(tmp_path):
    for turn in range(10):
        lake, at_once = Lake(str(tmp_path / f"{turn}")), Barrier(6)

        def land(number, lake=lake, at_once=at_once):
            at_once.wait()
            raw.append(lake, LOG, batch(number), "c")

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(land, range(6)))
        assert rows(lake)["seq"].to_list() == list(range(6))


def test_rows_and_position_are_one_commit(lake):
    raw.append(lake, LOG, batch("a", "b"), "after b")
    handle = tables.open_table(lake, LOG.table)
    assert (handle.version(), raw.position(lake, LOG).cursor) == (1, "after b")
    assert handle.transaction_version(LOG.app) == 2
    assert dict(pl.scan_delta(handle).collect_schema()) == RAW


def test_a_batch_without_new_rows_writes_nothing(lake):
    raw.append(lake, LOG, batch("a"), "one")
    again = raw.append(lake, LOG, batch("a"), "two")
    assert (again.version, again.frame.height) == (1, 0)
    assert raw.position(lake, LOG).cursor == "one"


def entry(hour, **keys):
    span = {"since": NOON + timedelta(hours=hour), "until": NOON + timedelta(hours=hour + 1)}
    return Entry(**span, asked_at=NOON + timedelta(hours=hour + 1), **keys)


def test_the_cursor_of_a_round_without_new_rows_is_kept_in_coverage(lake):
    raw.append(lake, LOG, batch("a"), "one")
    coverage.record(lake, LOG, [entry(1)], "two")
    position = raw.position(lake, LOG)
    assert (position.version, position.cursor, position.recorded_at) == (
        1,
        "two",
        NOON + timedelta(hours=2),
    )
    raw.append(lake, LOG, batch("b"), "three")
    assert raw.position(lake, LOG).cursor == "three"
    raw.append(lake, LOG, batch("c"), None)
    assert raw.position(lake, LOG).cursor == "three"


def test_coverage_in_raw_commits_is_copied_once_and_in_order(lake):
    raw.append(lake, LOG, batch("a"), "one", entries=[entry(0), entry(3, reason="x")])
    raw.append(lake, LOG, batch("b"), "two", entries=[entry(1)])
    for _ in range(3):
        coverage.record(lake, LOG)
    coverage.record(lake, LOG, [entry(2, outcome="failed")])
    recorded = coverage.entries(lake, LOG)
    assert recorded["since"].dt.hour().to_list() == [12, 13, 14, 15]
    assert recorded["rows"].to_list() == [1, 2, 2, 1]
    assert tables.open_table(lake, "coverage").version() == 2


def test_the_same_failure_is_recorded_once_per_hour(lake):
    for hour in (0, 0, 0.5, 1.5):
        coverage.record_failure(lake, LOG, entry(hour, outcome="failed", reason="vendor down"))
    assert coverage.entries(lake, LOG).height == 2


def test_the_cursor_survives_compaction_by_another_tool(lake):
    for number in range(3):
        raw.append(lake, LOG, batch(number), f"c{number}")
    tables.open_table(lake, LOG.table).optimize.compact()
    assert raw.position(lake, LOG).cursor == "c2"
    assert raw.append(lake, LOG, batch(1, 9), "c3").frame["seq"].to_list() == [3]


def test_a_raw_table_refuses_deletes_and_updates(lake):
    raw.append(lake, LOG, batch("a"), "one")
    handle = tables.open_table(lake, LOG.table)
    with pytest.raises(Exception, match="append-only"):
        handle.delete("event_id = 'a'")
    with pytest.raises(Exception, match="append-only"):
        handle.update({"raw": "'x'"})


def race(root, number, barrier):
    lake = Lake(root)
    for turn in range(10):
        barrier.wait()
        mine = [f"{turn}-shared-{i}" for i in range(5)] + [f"{turn}-{number}-{i}" for i in range(5)]
        raw.append(lake, LOG, batch(*mine), f"{turn}")


def test_racing_processes_lose_and_duplicate_nothing(lake):
    context = get_context("spawn")
    barrier = context.Barrier(3)
    racers = [context.Process(target=race, args=(lake.root, n, barrier)) for n in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0, 0, 0]
    stored = rows(lake)
    assert stored.height == 10 * (5 + 3 * 5)
    assert stored["event_id"].is_unique().all()
    assert stored["seq"].to_list() == list(range(stored.height))


def test_the_events_of_a_range_are_committed_once(lake):
    def derive():
        return pl.DataFrame(schema=EVENTS).clear(2).with_columns(pl.lit("x").alias("event_uid"))

    assert events.append(lake, LOG, 0, 2, derive).frame.height == 2
    assert events.append(lake, LOG, 0, 2, derive).frame.height == 0
    assert events.append(lake, LOG, 5, 6, derive).frame.height == 0
    assert events.derived(lake, LOG) == 2


def test_a_rejected_record_is_stored_once(lake):
    row = {"integration": "okta", "stream": "system_log", "ingested_at": NOON, "reason": "no id"}
    bad = pl.DataFrame([{**row, "raw": b"\xff", "raw_sha256": "x"}], schema=REJECTED)
    for _ in range(2):
        raw.append_rejected(lake, LOG, bad)
    assert tables.scan(lake, "rejected").collect()["raw"].to_list() == [b"\xff"]


def test_a_failure_after_the_commit_is_not_a_failure_of_the_commit(lake, monkeypatch):
    raw.append(lake, LOG, batch("a"), "one")
    write = write_deltalake

    def fails_afterwards(handle, *args, **options):
        write(handle, *args, **options)
        raise OSError("checkpoint could not be written")

    monkeypatch.setattr(commits, "write_deltalake", fails_afterwards)
    assert raw.append(lake, LOG, batch("b"), "two").frame.height == 1
    assert rows(lake)["event_id"].to_list() == ["a", "b"]


def test_an_unusable_root_is_reported_in_one_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LakeError, match=r"lake\.root") as error:
        raw.append(Lake(str(tmp_path / "file")), LOG, batch("a"), "c")
    assert "\n" not in str(error.value)


def test_a_damaged_delta_log_is_reported_in_one_line(lake):
    raw.append(lake, LOG, batch("a"), "c")
    log = Path(lake.uri(LOG.table)) / "_delta_log"
    (log / f"{1:020}.json").write_text('{"add": {"path"')
    with pytest.raises(LakeError) as error:
        raw.position(lake, LOG)
    assert "\n" not in str(error.value)


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


def test_canary_a_fresh_handle_accepts_a_repeated_transaction_version(tmp_path):
    """This is why every decision and its write use the same handle."""
    path = str(tmp_path / "t")
    fence = CommitProperties(app_transactions=[Transaction("a", 1)])
    for _ in range(2):
        write_deltalake(path, pl.DataFrame({"n": [1]}), mode="append", commit_properties=fence)
    assert pl.read_delta(path).height == 2


def test_a_record_of_the_last_microsecond_of_a_file_is_recognised(lake):
    """Delta's statistics are rounded down to milliseconds."""
    for number in range(3):
        raw.append(lake, LOG, batch(f"{number}", day=number), f"c{number}")
    late = batch("z").with_columns(pl.col("time") + timedelta(microseconds=1999))
    assert raw.append(lake, LOG, late, "c3").frame.height == 1
    assert raw.append(lake, LOG, late, "c4").frame.height == 0
