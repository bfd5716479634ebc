"""The lake's guarantees: dense seq, rows and cursor in one commit, one winner of a race."""

from datetime import timedelta
from multiprocessing import get_context

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.lake import coverage, raw, tables
from pipelines.lake.tables import Lake
from pipelines.schemas import RAW, REJECTED
from tests.lake.batches import LOG, NOON, batch, entry, rows


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8), min_size=1, max_size=6))
def test_any_overlap_of_batches_lands_each_row_once_and_dense(tmp_path_factory, batches):
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    for number, ids in enumerate(batches):
        raw.append(lake, LOG, batch(*ids), f"c{number}")
    stored = rows(lake)
    assert sorted(stored["event_id"]) == sorted({str(i) for ids in batches for i in ids})
    assert stored["seq"].to_list() == list(range(stored.height))
    assert raw.position(lake, LOG).rows == stored.height


def test_rows_and_position_are_one_commit(lake):
    raw.append(lake, LOG, batch("a", "b"), "after b")
    handle = tables.open_table(lake, LOG.table)
    assert (handle.version(), raw.position(lake, LOG).cursor) == (1, "after b")
    assert handle.transaction_version(LOG.app) == 2
    assert dict(pl.scan_delta(handle).collect_schema()) == RAW


def test_a_stream_that_has_no_table_yet_begins_at_the_first_row(lake, monkeypatch):
    new = raw.Position(rows=0, cursor=None, version=-1)
    assert raw.position(lake, LOG) == raw.position_only(lake, LOG) == raw.Position() == new
    assert raw.landed(lake) == set()
    raw.append(lake, LOG, batch("a"), "one")
    assert raw.landed(lake) == {LOG}
    monkeypatch.setattr(raw.object_store, "logs", lambda *_: {"raw/okta/system_log": None})
    assert raw.landed(Lake("s3://bucket")) == {LOG}


def test_a_batch_without_new_rows_writes_nothing(lake):
    raw.append(lake, LOG, batch("a"), "one")
    again = raw.append(lake, LOG, batch("a"), "two")
    assert (again.version, again.frame.height) == (1, 0)
    assert raw.position(lake, LOG).cursor == "one"


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


def test_a_rejected_record_is_stored_once(lake):
    row = {"integration": "okta", "stream": "system_log", "ingested_at": NOON, "reason": "no id"}
    bad = pl.DataFrame([{**row, "raw": b"\xff", "raw_sha256": "x"}], schema=REJECTED)
    for _ in range(2):
        raw.append_rejected(lake, LOG, bad)
    assert tables.scan(lake, "rejected").collect()["raw"].to_list() == [b"\xff"]


def test_a_record_of_the_last_microsecond_of_a_file_is_recognised(lake):
    """Delta's statistics are rounded down to milliseconds."""
    for number in range(3):
        raw.append(lake, LOG, batch(f"{number}", day=number), f"c{number}")
    late = batch("z").with_columns(pl.col("time") + timedelta(microseconds=1999))
    assert raw.append(lake, LOG, late, "c3").frame.height == 1
    assert raw.append(lake, LOG, late, "c4").frame.height == 0


def arriving(first, last, *, since=NOON, via="poll"):
    """Return rows that arrived first, first + 1, ... seconds after their time."""
    ids = [f"{via}{number}" for number in range(first, last)]
    delays = pl.Series([timedelta(seconds=number) for number in range(first, last)])
    time = pl.lit(since).cast(RAW["time"])
    return batch(*ids).with_columns(
        time=time, ingested_at=time + delays, date=pl.lit(since.date()), via=pl.lit(via)
    )


def test_the_lateness_of_live_records_is_measured_in_quantiles(lake):
    assert raw.lateness(lake, LOG, NOON) == ()
    raw.append(lake, LOG, arriving(0, 1), "c")
    raw.append(lake, LOG, arriving(1, 99), "c")
    assert raw.lateness(lake, LOG, NOON) == ()
    raw.append(lake, LOG, arriving(99, 100), "c")
    assert raw.lateness(lake, LOG, NOON) == tuple(timedelta(seconds=s) for s in (89, 98, 99))
    raw.append(lake, LOG, arriving(100, 1001), "c")
    quantiles = tuple(timedelta(seconds=s) for s in (900, 990, 999))
    assert raw.lateness(lake, LOG, NOON) == quantiles
    # Neither what a backfill read, nor what is older than the table, arrived late.
    raw.append(lake, LOG, arriving(5000, 6000, via="backfill"), "c")
    raw.append(lake, LOG, arriving(2000, 3000, since=NOON - timedelta(seconds=1)), "c")
    assert raw.lateness(lake, LOG, NOON - timedelta(days=9)) == quantiles
    assert raw.lateness(lake, LOG, NOON + timedelta(seconds=1)) == ()
