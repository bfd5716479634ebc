"""Maintenance of a lake in an object store: files are compacted, and logs stay short."""

from datetime import timedelta

import polars as pl
from deltalake import DeltaTable

from pipelines.lake import coverage, handles, maintenance, object_store, raw, streams, tables
from pipelines.lake.coverage import Entry
from pipelines.lake.stream_state import Facts
from tests.lake.batches import LOG, NOON, batch


def test_files_are_compacted_and_the_log_is_thinned_out_and_shortened(store, monkeypatch):
    monkeypatch.setattr(handles, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(maintenance, "_CHECKPOINTS", 2)
    monkeypatch.setattr(maintenance, "_VERSIONS_APART", 4)
    monkeypatch.setattr(maintenance, "_VERSIONS", 6)
    lake = store.lake()
    for number in range(12):
        raw.append(lake, LOG, batch(number), f"c{number}")
    before = raw.rows(lake, LOG, 0, 99)
    done = maintenance.maintain(lake, [LOG], NOON.date() + timedelta(days=30))
    (ours,) = [each for each in done if each.table == LOG.table]
    assert (ours.files_before, ours.files_after) == (12, 1)
    assert raw.rows(lake, LOG, 0, 99).equals(before)
    assert raw.position(lake, LOG).cursor == "c11"
    names = object_store.names(lake.uri(f"{LOG.table}/_delta_log"), lake.storage_options)
    checkpoints = [int(name[:20]) for name in names if name.endswith(".checkpoint.parquet")]
    assert checkpoints == [6, 10, 12, 13]
    assert min(int(name[:20]) for name in names if name[0] == "0") == 6
    old = DeltaTable(lake.uri(LOG.table), 7, storage_options=lake.storage_options)
    assert pl.scan_delta(old).select(pl.len()).collect().item() == 7
    assert raw.append(lake, LOG, batch(3, 99), "c12").frame["seq"].to_list() == [12]


def test_small_tables_that_are_read_whole_are_joined(store):
    lake, keys = store.lake(), [LOG._replace(stream=name) for name in "abcdef"]
    for key in keys:
        streams.record(lake, key, Facts(kind="okta"), NOON)
        for hours in range(2):
            until = NOON + timedelta(hours=hours)
            coverage.record(lake, key, [Entry(since=NOON, until=until, asked_at=until)])
    before = {key: coverage.entries(lake, key) for key in keys}
    facts = streams.facts(lake)
    done = {each.table: each for each in maintenance.maintain(lake, [], NOON.date())}
    assert (done["streams"].files_before, done["streams"].files_after) == (6, 1)
    assert (done["coverage"].files_before, done["coverage"].files_after) == (12, 6)
    assert all(coverage.entries(lake, key).equals(rows) for key, rows in before.items())
    assert streams.facts(lake) == facts
    before = tables.open_at(lake, "streams").version()
    list(maintenance.maintain(lake, [], NOON.date()))
    assert tables.open_at(lake, "streams").version() == before
