"""Each raw row is derived once and in order, however many writers derive."""

import shutil
from pathlib import Path

import pytest
from deltalake import DeltaTable

from pipelines.extraction import derive
from pipelines.extraction import report as reports
from pipelines.lake import events, tables
from pipelines.lake import raw as raw_rows
from pipelines.lake.tables import StreamKey
from tests.lake.batches import LOG, batch
from tests.promises.ledgers import check
from tests.webhooks.conftest import source


def test_events_are_caught_up_after_a_kill_between_raw_and_events(still_world, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(derive, "derive", lambda *_, **__: True)
        patched.setattr(derive, "catch_up", lambda *_: None)
        still_world.poll("okta")
    assert tables.scan(still_world.lake, "events") is None
    still_world.poll("okta")
    check(still_world)


def test_two_writers_that_derive_at_once_miss_no_row(still_world, monkeypatch):
    monkeypatch.setattr(derive, "_DERIVE_ROWS", 100)
    with monkeypatch.context() as patched:
        patched.setattr(derive, "derive", lambda *_, **__: True)
        patched.setattr(derive, "catch_up", lambda *_: None)
        still_world.poll("okta")
    source = still_world.source("okta")
    (stream,) = source.streams()
    real, others = raw_rows.rows, iter([150, 270])

    def overtaken(lake, log, first, until):
        """Return the rows, after another writer has derived more of them in its own batches."""
        rows = real(lake, log, first, until)
        if further := next(others, None):
            report = reports.Report(integration="okta", stream=stream.name)
            theirs = real(lake, log, first, further)
            derive.derive(lake, source, stream, theirs, report)
        return rows

    monkeypatch.setattr(raw_rows, "rows", overtaken)
    report = reports.Report(integration="okta", stream=stream.name)
    derive.catch_up(still_world.lake, source, stream, report)
    check(still_world)


def test_rows_removed_by_retention_do_not_block_others(still_world):
    still_world.poll("okta")
    oldest = raw_rows.days(still_world.lake, StreamKey("okta", "system_log"))[0]
    shutil.rmtree(Path(still_world.lake.root) / "events")
    raw = DeltaTable(still_world.lake.uri("raw/okta/system_log"))
    raw.alter.set_table_properties({"delta.appendOnly": "false"})
    raw.delete(f"date = '{oldest}'")
    source = still_world.source("okta")
    (stream,) = source.streams()
    report = reports.Report(integration="okta", stream=stream.name)
    derive.catch_up(still_world.lake, source, stream, report)
    kept = still_world.stored("okta", "system_log")["seq"].to_list()
    assert 0 < len(kept) < events.derived(still_world.lake, StreamKey("okta", "system_log"))
    assert still_world.events("okta", "system_log")["seq"].to_list() == kept


def prepared(lake, *ids):
    """Return (source, stream, raw rows) after storing these records."""
    okta = source("okta")
    raw_rows.append(lake, LOG, batch(*ids), "c")
    return okta, okta.streams()[0], raw_rows.rows(lake, LOG, 0, len(ids))


def test_rows_are_derived_once_and_not_before_earlier_ones(lake):
    okta, stream, rows = prepared(lake, "a", "b", "c")
    report = reports.Report(integration="okta", stream=stream.name)
    offers = [rows[1:], rows[:1], rows[:1], rows[1:], rows]
    landed = [derive.derive(lake, okta, stream, offer, report) for offer in offers]
    assert landed == [False, True, False, True, False]
    assert (report.events, events.derived(lake, LOG)) == (3, 3)
    assert tables.scan(lake, "events").sort("seq").collect()["event_id"].to_list() == [
        "a",
        "b",
        "c",
    ]


@pytest.mark.parametrize("grouped", [0, 2000])
def test_large_and_small_batches_become_the_same_events(lake, monkeypatch, grouped):
    monkeypatch.setattr(derive, "_GROUP_COMMIT_ROWS", grouped)
    okta, stream, rows = prepared(lake, "a", "b")
    report = reports.Report(integration="okta", stream=stream.name)
    assert derive.derive(lake, okta, stream, rows, report)
    found = tables.scan(lake, "events").sort("seq").collect()
    assert found.select("seq", "event_id", "kind", "stream").rows() == [
        (0, "a", "okta", "system_log"),
        (1, "b", "okta", "system_log"),
    ]
    assert report.seconds.keys() == {"map", "write events"}


def test_catching_up_stops_at_the_rows_it_is_to_reach(lake):
    okta, stream, _ = prepared(lake, "a", "b", "c")
    report = reports.Report(integration="okta", stream=stream.name)
    derive.catch_up(lake, okta, stream, report, rows=2)
    assert (report.events, events.derived(lake, LOG)) == (2, 2)
    for _ in range(2):
        derive.catch_up(lake, okta, stream, report)
    assert (report.events, events.derived(lake, LOG)) == (3, 3)
