"""Records that arrived with several contents: verify expects the event of the one that counts."""

import json
from datetime import date

import pytest
from deltalake import DeltaTable

from pipelines import registry
from pipelines.extraction import derive, renormalise
from pipelines.extraction.renormalise import History
from pipelines.extraction.report import Report
from pipelines.integrity import retention, signer
from pipelines.integrity.retention import Removal
from pipelines.integrity.verifier import table_reader
from pipelines.lake import maintenance, raw, tables
from pipelines.mapping import normalise
from tests.integrity.matrix import AGAIN, attack
from tests.integrity.worlds import LOG, NOON, STREAM, Signed, record

SOURCE = registry.source("okta", {"base_url": "https://acme.okta.com", "api_token": "x" * 20})


def land(signed, *numbers, via="poll", **more):
    """Store, sign and derive these records, with some members replaced, as a round does."""
    found = [json.dumps({**json.loads(record(n)), **more}).encode() for n in numbers]
    rows = normalise.read(STREAM, found, NOON, via).drop("fault", "bytes")
    landed = raw.append(signed.lake, LOG, rows, "c", rules=STREAM.versions).frame
    if landed.height:
        signer.sign(signed.lake, LOG, landed["seq"][-1] + 1, NOON, landed)
    derive.catch_up(signed.lake, SOURCE, STREAM, Report(integration="okta", stream="system_log"))
    return landed.height


def shown(signed):
    found = tables.scan(signed.lake, "events").collect().sort("time")
    return dict(zip(found["event_id"].str.split("~").list.first(), found["action"], strict=True))


def found(signed, **options):
    report = signed.verify(**options)
    return [each.detail for each in report.findings], report.notes


FORGED = {"eventType": "user.session.end"}


@pytest.fixture
def signed(tmp_path):
    """Seven polled records; forged ones of two of them were pushed, one before and one after."""
    world = Signed(tmp_path)
    land(world, 3, via="webhook", **FORGED)
    land(world, *range(7))
    land(world, 5, via="webhook", **FORGED)
    return world


@pytest.mark.parametrize("rows_at_once", [1, 65_536])
def test_the_polled_version_is_the_expected_event_and_the_forged_one_is_named(
    signed, monkeypatch, rows_at_once
):
    monkeypatch.setattr(table_reader, "_TASK_ROWS", rows_at_once)
    assert set(shown(signed).values()) == {"user.session.start"}
    assert signed.rows().height == 9
    findings, (note,) = found(signed, full=True)
    assert findings == []
    assert "id-000003: row 0 pushed, row 7 polled; events shows row 7" in note
    assert list(signed.verify().differing) == ["id-000003", "id-000005"]


def test_the_note_names_the_newest_five_of_many_records(signed):
    assert "more" not in found(signed, full=True)[1][0]
    land(signed, 0, 1, 2, 4, via="webhook", **FORGED)
    _, (note,) = found(signed, full=True)
    assert note.count("events shows") == 5
    assert note.endswith("; and 1 more")
    assert "id-000004" in note


def test_an_incremental_run_knows_the_versions_of_earlier_rows(signed):
    land(signed, *range(10, 700))
    assert found(signed)[0] == []
    land(signed, 6, via="webhook", **FORGED)
    land(signed, 5, eventType="user.session.access_admin_app")
    report = signed.verify()
    assert (report.first, report.findings) == (512, [])
    (note,) = report.notes
    assert "id-000005: row 5 polled, row 8 pushed, row 700 polled; events shows row 700" in note
    assert ("id-000006" in note, "id-000003" in note) == (True, False)
    assert shown(signed)["id-000005"] == "user.session.access_admin_app"
    assert found(signed, full=True)[0] == []


@attack("show the forged record instead of the polled one", "EVENTS", AGAIN)
def test_an_event_of_the_superseded_record_is_reported(signed):
    forged = raw.rows(signed.lake, LOG, 0, 1)
    made = normalise.normalise("okta", SOURCE.integration, STREAM, forged).events
    handle = DeltaTable(signed.lake.uri("events"))
    handle.delete("seq = 7")
    made.write_delta(signed.lake.uri("events"), mode="append")
    (first, *_), _ = found(signed, full=True)
    assert first.startswith("events: okta:system_log:id-000003")


def test_the_event_of_the_version_that_counts_must_be_there(signed):
    DeltaTable(signed.lake.uri("events")).delete("seq = 7")
    (first, *_), _ = found(signed, full=True)
    assert first.startswith("events: okta:system_log:id-000003~version:")
    assert first.endswith("is missing")


def test_a_push_that_polling_only_completes_is_no_difference(signed):
    land(signed, 9, via="webhook", actor=None)
    assert land(signed, 9) == 1
    findings, (note,) = found(signed, full=True)
    assert (findings, "id-000009" in note) == ([], False)
    stored = tables.scan(signed.lake, "events").collect()
    assert stored.filter(stored["seq"] == signed.rows().height - 1)["actor_id"].to_list() == ["u2"]


def test_a_lake_with_versions_stays_sound_under_maintenance_renormalise_and_retention(signed):
    list(maintenance.maintain(signed.lake, [LOG], date(2026, 4, 1)))
    history = History(lake=signed.lake, source=SOURCE, stream=STREAM)
    before = shown(signed)
    assert len(list(renormalise.renormalise(history, everything=True))) == 1
    assert shown(signed) == before
    assert renormalise.check(history, rows=99, seed=1).sound
    assert found(signed, full=True)[0] == []
    days = date(2026, 3, 2)
    assert retention.remove(signed.lake, Removal(log=LOG, before=days, who="a", why="b"), NOON) == 9
    assert found(signed, full=True) == ([], [])
    assert shown(signed) == {}
