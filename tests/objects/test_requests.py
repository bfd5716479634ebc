"""The number of requests that each command sends to a lake with several streams in a store.

The counts, not the times: they do not depend on the machine. Each is the measured one and a third.
"""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipelines import registry
from pipelines.cli import status
from pipelines.errors import NewerLake
from pipelines.extraction import rounds
from pipelines.integrity import files, reports
from pipelines.integrity.verifier import verify
from pipelines.integrity.verifier.job import WorkerPool
from pipelines.lake import coverage, handles, log, object_store, raw, streams, tables, versions
from pipelines.lake.coverage import Entry
from pipelines.lake.stream_state import Facts
from pipelines.schemas import COVERAGE
from pipelines.settings import IntegritySettings
from tests.lake.batches import LOG, NOON, batch


def test_the_commits_of_a_table_are_read_once(store, monkeypatch):
    monkeypatch.setattr(handles, "CHECKPOINT_EVERY", 4)
    lake = store.lake()
    for number in range(6):
        raw.append(lake, LOG, batch(number), f"c{number}")
    handle = tables.open_at(lake, LOG.table)
    store.requests()
    assert (log.fence(handle, LOG.app), log.fence(handle, "other")) == (6, 0)
    # The commits 5 and 6, and the checkpoint of version 4 with its name.
    assert len(store.requests()) == 4
    assert [each["version"] for each in log.history(handle)] == [6, 5, 4, 3, 2, 1, 0]
    assert list(log.history(handle)) == handle.history()


def test_one_listing_shows_all_raw_tables(store):
    lake = store.lake()
    other = LOG._replace(stream="other")
    for number in range(2):
        raw.append(lake, LOG, batch(number), f"c{number}")
    raw.append(lake, other, batch("x"), "x")
    store.requests()
    for _ in range(2):
        found = raw.logs(lake, [LOG, other, LOG._replace(stream="none")])
        assert {key.stream: each.fence(key.app) for key, each in found.items()} == {
            "system_log": 2,
            "other": 1,
        }
    assert len(store.requests()) == 4  # two listings, and the newest commit of each table
    files = pl.DataFrame(tables.open_at(lake, LOG.table).get_add_actions(flatten=True))
    listed = found[LOG].files().select("size_bytes", "max.time", "max.ingested_at").sort("max.time")
    assert listed["size_bytes"].sum() == files["size_bytes"].sum()
    assert found[LOG].since(datetime(2026, 1, 1, tzinfo=UTC).date()).collect().height == 2


def test_a_checkpoint_of_the_newest_version_is_all_that_is_read(store, monkeypatch):
    monkeypatch.setattr(handles, "CHECKPOINT_EVERY", 3)
    lake = store.lake()
    for number in range(3):
        raw.append(lake, LOG, batch(number), f"c{number}")
    store.requests()
    (found,) = raw.logs(lake, [LOG]).values()
    assert (found.number, found.fence(LOG.app), len(found.files())) == (3, 3, 3)
    assert len(store.requests()) == 2  # the listing, and the checkpoint of version 3
    raw.append(lake, LOG, batch(3), "c3")
    (later,) = raw.logs(lake, [LOG]).values()
    assert (later.fence(LOG.app), found.fence(LOG.app)) == (4, 3)


def test_a_table_that_was_replaced_is_not_taken_for_the_old_one(store):
    lake = store.lake()
    for number in range(2):
        raw.append(lake, LOG, batch(number), f"c{number}")
    assert raw.logs(lake, [LOG])[LOG].fence(LOG.app) == 2
    names = object_store.names(lake.root, lake.storage_options)
    object_store.delete(lake.root, lake.storage_options, names)
    other = replace(lake, storage_options={**lake.storage_options, "timeout": "29s"})
    for number in range(3):  # as another process would: with none of our handles
        raw.append(other, LOG, batch(f"b{number}"), f"b{number}")
    assert raw.logs(lake, [LOG])[LOG].fence(LOG.app) == 3


def _pairs(partition):
    return sorted(partition.items())


@pytest.mark.parametrize("kept", [100, 2])
def test_a_small_table_is_read_from_its_log_and_its_files(store, monkeypatch, kept):
    monkeypatch.setattr(handles, "CHECKPOINT_EVERY", kept)
    lake, others = store.lake(), [LOG._replace(stream=name) for name in "abc"]
    assert streams.facts(lake) == {}
    for key in others:
        streams.record(lake, key, Facts(kind="okta"), NOON)
        coverage.record(lake, key, [Entry(since=NOON, until=NOON, asked_at=NOON)])
    stored = tables.open_at(lake, "coverage")
    assert coverage.keys(lake) == {*others}
    found = versions.listed(lake, "coverage", COVERAGE)
    assert sorted(map(_pairs, found.partitions())) == sorted(map(_pairs, stored.partitions()))
    rows = pl.scan_delta(stored).select(*COVERAGE).collect().sort("stream")
    assert found.whole(lake).select(*COVERAGE).collect().sort("stream").equals(rows)
    assert streams.facts(lake) == dict.fromkeys(others, Facts(kind="okta"))
    store.requests()
    for _ in range(2):
        assert len(streams.facts(lake)) == 3
    assert len(store.requests()) == 2  # listings
    streams.record(lake, others[0], Facts(kind="okta", title="Okta"), NOON)
    assert streams.facts(lake)[others[0]].title == "Okta"
    stored.alter.set_table_properties({"auditlake.format": "99"}, raise_if_not_exists=False)
    with pytest.raises(NewerLake):
        coverage.keys(lake)


def test_a_table_that_does_not_exist_takes_one_request_until_it_does(store):
    lake = store.lake()
    for most in (2, 1, 1):
        assert tables.open_table(lake, LOG.table) is None
        assert len(store.requests()) == most
    raw.append(lake, LOG, batch(1), "c1")
    assert tables.open_table(lake, LOG.table).version() == 1


def test_the_state_of_many_streams_takes_few_requests(store, vendors):
    lake = store.lake()
    sources = [registry.source(kind, vendors.settings()[kind]) for kind in ("okta", "opsgenie")]
    rounds.poll(lake, sources)
    streams = [stream for source in sources for stream in source.streams()]
    handles.forget()
    store.requests()
    found = status.states(lake, sources, datetime.now(UTC))
    assert [each.state for each in found] == ["up to date"] * len(streams)
    store.expect(60, "states")


def test_a_checkpoint_that_was_read_is_swapped_with_one_request(store):
    one = files.of(store.lake(), "integrity/x")
    two = replace(one, _read={})
    assert one.swap("checkpoint", b"1", None)
    assert (one.get("checkpoint"), two.get("checkpoint")) == (b"1", b"1")
    store.requests()
    assert two.swap("checkpoint", b"2", b"1")
    assert len(store.requests()) == 1
    assert not one.swap("checkpoint", b"3", b"1")
    assert not one.swap("checkpoint", b"3", b"0")
    assert one.get("checkpoint") == b"2"
    assert one.swap("checkpoint", b"3", b"2")


def test_a_verification_reads_each_data_file_once(store, vendors, tmp_path):
    chosen = IntegritySettings(folder=tmp_path / "keys")
    lake = store.lake(integrity=chosen)
    sources = [registry.source(kind, vendors.settings()[kind]) for kind in ("okta", "opsgenie")]
    rounds.poll(lake, sources)
    where = reports.place(lake, chosen)
    named = [*verify.tables(where), *reports.derived(where)]
    store.requests()
    with WorkerPool() as crew:
        found = list(reports.verdicts(where, named, {}, crew, full=True))
    assert all(each.ok for each in found), found
    sent = Counter(request for request in store.requests() if ".zstd.parquet" in request)
    assert {request.partition("/")[2].partition("/")[0] for request in sent} >= {"raw", "events"}
    assert set(sent.values()) == {1}, sent


def test_only_files_that_may_have_pushed_rows_are_read_for_them(store, tmp_path):
    for lake in (store.lake(), tables.Lake(str(tmp_path))):
        for number, via in enumerate(["poll", "webhook", "backfill", "replay"]):
            raw.append(lake, LOG, batch(number).with_columns(via=pl.lit(via)), f"c{number}")
        store.requests()
        (found,) = raw.logs(lake, [LOG]).values()
        pushed = found.since(NOON.date(), "webhook").collect()
        assert pushed["via"].to_list() == ["webhook"]
        assert sum("date=" in request for request in store.requests()) <= 1
        assert found.since(NOON.date()).collect().height == 4
        assert found.since((NOON + timedelta(days=1)).date(), "webhook").collect().is_empty()
