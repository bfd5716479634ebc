"""Each raw row is derived once and in order, however many writers derive."""

import shutil
from pathlib import Path

from deltalake import DeltaTable

from pipelines.extraction import derive
from pipelines.extraction import report as reports
from pipelines.lake import events, tables
from pipelines.lake import raw as raw_rows
from pipelines.lake.tables import StreamKey
from tests.promises.ledgers import check


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
