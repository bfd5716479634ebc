"""Deliveries in the spool become rows and events once; pushed and polled are one row."""

import json
from dataclasses import replace
from datetime import timedelta

from pipelines.extraction import report, rounds, tally
from pipelines.extraction.pending import PendingCoverage
from pipelines.lake import events, raw, reconciliation, tables
from pipelines.lake.lease import Lease
from pipelines.lake.tables import StreamKey
from pipelines.sdk.pages import Page
from pipelines.sdk.record_versions import MARK
from pipelines.webhooks import worker as worker_module
from pipelines.webhooks.worker import Worker, running
from tests.conftest import raw_table
from tests.waiting import until
from tests.webhooks.conftest import source
from tests.webhooks.pushing import NOW, hook, ids, land, polled, put, run_worker


def test_a_delivery_becomes_rows_and_events_once(lake, spool):
    for numbers in ((1, 2), (2, 3), (1, 2)):
        put(spool, hook(*numbers))
    assert run_worker(lake, spool).is_idle
    rows = raw_table(lake, "okta", "system_log")
    assert rows["event_id"].to_list() == ["id-1", "id-2", "id-3"]
    assert set(rows["via"]) == {"webhook"}
    events = tables.scan(lake, "events").collect()
    assert sorted(events["seq"]) == [0, 1, 2]
    assert set(events["source_ip"]) == {"192.0.2.1"}
    counted = tally.load(lake, StreamKey("okta", "system_log"))
    assert counted.pushes == 3
    assert counted.push_seconds >= 0


def test_a_kill_between_commit_and_removal_stores_nothing_twice(lake, spool):
    put(spool, hook(1, 2))
    (path,) = spool.waiting("okta")
    kept = path.read_bytes()
    run_worker(lake, spool)
    path.write_bytes(kept)
    version = raw.position(lake, StreamKey("okta", "system_log")).version
    assert run_worker(lake, spool).is_idle
    assert ids(lake) == ["id-1", "id-2"]
    assert raw.position(lake, StreamKey("okta", "system_log")).version == version


def test_a_damaged_file_is_set_aside_and_delays_nothing(lake, spool):
    put(spool, hook(1))
    (path,) = spool.waiting("okta")
    path.write_bytes(path.read_bytes()[:-3])
    put(spool, hook(2))
    assert run_worker(lake, spool).is_idle
    assert (ids(lake), spool.unreadable("okta")) == (["id-2"], 1)


def test_deliveries_stay_in_the_spool_while_the_lake_cannot_be_written(lake, spool, tmp_path):
    put(spool, hook(1))
    (tmp_path / "lake").write_text("a file, not a folder")
    assert not run_worker(lake, spool).is_idle
    (tmp_path / "lake").unlink()
    assert run_worker(lake, spool).is_idle
    assert ids(lake) == ["id-1"]


def test_the_first_arrival_is_kept_and_the_second_is_recorded_once(lake, spool):
    polled(lake, 1, 2)
    put(spool, hook(2, 3))
    run_worker(lake, spool)
    polled(lake, 3, 4)
    polled(lake, 3, 4)  # as a window that is fetched again
    put(spool, hook(2, 3))
    run_worker(lake, spool)
    rows = raw_table(lake, "okta", "system_log")
    assert dict(zip(rows["event_id"], rows["via"], strict=True)) == {
        "id-1": "poll", "id-2": "poll", "id-3": "webhook", "id-4": "poll"
    }  # fmt: skip
    seconds = reconciliation.second_arrivals(
        lake, StreamKey("okta", "system_log"), NOW.date() - timedelta(days=2)
    )
    assert sorted(zip(seconds["event_id"], seconds["way"], strict=True)) == [
        ("id-2", "webhook"), ("id-3", "poll")
    ]  # fmt: skip


def test_a_pushed_time_of_less_precision_is_the_same_event(lake, spool):
    """Cloudflare's API has microseconds; Logpush has seconds or nanoseconds since 1970."""
    at = int(NOW.timestamp())
    lines = [b'{"ID":"1","When":%d}' % at, b'{"ID":"2","When":%d}' % (at * 10**9)]
    put(spool, b"\n".join(lines), "cloudflare")
    run_worker(lake, spool, "cloudflare")
    this = rounds.Round(lake=lake, source=source("cloudflare"),
                         stream=source("cloudflare").streams()[0], client=None)  # fmt: skip
    exact = f"{NOW:%Y-%m-%dT%H:%M:%S}.999999Z"
    bodies = [json.dumps({"id": id_, "when": exact}).encode() for id_ in "12"]
    pending = PendingCoverage(now=NOW, recorded_at=NOW)
    pages = [Page(records=bodies, cursor="x")]
    rounds._land(this, pages, pending, report.Report(integration="cloudflare", stream="x"))
    assert ids(lake, "cloudflare", "audit_logs") == ["1", "2"]


def test_a_push_does_not_move_the_position(lake, spool):
    polled(lake, 1)
    put(spool, hook(2))
    run_worker(lake, spool)
    assert raw.position(lake, StreamKey("okta", "system_log")).cursor == "next"


def test_an_invalid_record_is_kept_in_rejected(lake, spool):
    put(spool, b'{"data":{"events":[{"published":"2026-01-01T00:00:00Z"}]}}')
    assert run_worker(lake, spool).is_idle
    rejected = tables.scan(lake, "rejected").collect()
    assert rejected["reason"].to_list() == ["no id"]


def test_an_id_that_looks_like_that_of_a_later_version_is_rejected(lake, spool):
    polled(lake, 1)
    put(spool, hook(1).replace(b"id-1", f"id-1{MARK}{'0' * 32}".encode()))
    assert run_worker(lake, spool).is_idle
    assert ids(lake) == ["id-1"]
    rejected = tables.scan(lake, "rejected").collect()
    assert rejected["reason"].to_list() == ["the id contains the mark of a later version"]


def made(lake, spool, **push):
    okta = source("okta")
    changed = replace(okta.integration.push, **push)
    return Worker(lake=lake, source=okta, spool=spool, push=changed)


def test_an_unforeseen_error_is_logged_without_its_text_and_loses_nothing(lake, spool, caplog):
    def read(_settings, _delivery):
        raise RuntimeError("a record with s3cret text")

    put(spool, hook(1))
    made(lake, spool, read=read).run_once()
    (line,) = [entry.getMessage() for entry in caplog.records]
    assert line.startswith("okta: RuntimeError in read, line ")
    assert "s3cret" not in caplog.text
    assert run_worker(lake, spool).is_idle
    assert ids(lake) == ["id-1"]


def polled_elsewhere(lake, spool, kind, body, monkeypatch):
    """Return a worker that must not connect to the vendor, after its first look at a delivery."""
    monkeypatch.setattr(Lease, "claim", lambda _: False)
    monkeypatch.setattr(worker_module, "_POLL_AFTER", (0.0,) * 4)
    monkeypatch.setattr(worker_module, "_MIN_INTERVAL", 0.0)
    put(spool, json.dumps(body).encode(), kind)
    ours = source(kind)
    push, connected = ours.integration.push, []
    worker = Worker(lake=lake, source=ours, spool=spool, push=push, connect=connected.append)
    worker.run_once()
    assert connected == []
    return worker


def test_a_hint_waits_for_the_machine_that_polls(lake, spool, monkeypatch):
    record = {"id": "id-1", "timestamp": f"{NOW:%Y-%m-%dT%H:%M:%SZ}", "event_type": "user_login"}
    worker = polled_elsewhere(lake, spool, "jumpcloud", record, monkeypatch)
    assert not worker.is_idle
    land(lake, json.dumps(record).encode(), kind="jumpcloud")
    worker.run_once()
    assert worker.is_idle


def test_a_hint_that_stays_unanswered_is_given_up_after_the_usual_tries(lake, spool, monkeypatch):
    record = {"id": "id-1", "timestamp": f"{NOW:%Y-%m-%dT%H:%M:%SZ}", "event_type": "user_login"}
    worker = polled_elsewhere(lake, spool, "jumpcloud", record, monkeypatch)
    for _ in range(3):
        worker.run_once()
    assert worker.is_idle


def test_a_reference_is_left_to_the_machine_that_polls(lake, spool, monkeypatch):
    content = {"tenantId": "tenant", "contentType": "Audit.Exchange", "contentUri": "https://x"}
    assert polled_elsewhere(lake, spool, "office_365", [content], monkeypatch).is_idle


def test_a_delivery_without_records_of_ours_is_removed(lake, spool):
    put(spool, hook(1))
    worker = made(lake, spool, read=lambda _settings, _delivery: [])
    worker.run_once()
    assert worker.is_idle
    assert ids(lake) == []


def test_a_running_worker_catches_up_and_stores_new_deliveries_when_it_is_woken(lake, spool):
    polled(lake, 1)  # into raw only, as before a kill
    worker = made(lake, spool)

    def derived():
        return events.derived(lake, StreamKey("okta", "system_log"))

    with running([worker]):
        until(lambda: derived() == 1, "events are derived")
        put(spool, hook(2, 3))
        worker.wake()
        until(lambda: worker.is_idle, "the delivery is stored")
    assert (ids(lake), derived()) == (["id-1", "id-2", "id-3"], 3)


def test_a_stopped_worker_leaves_the_rest_in_the_spool(lake, spool):
    worker = made(lake, spool)
    worker.stop()
    put(spool, hook(1))
    worker.run()
    assert len(spool.waiting("okta")) == 1


def test_more_deliveries_than_one_batch_are_stored_in_turns(lake, spool, monkeypatch):
    monkeypatch.setattr(worker_module, "_BATCH_DELIVERIES", 2)
    for number in range(5):
        put(spool, hook(number))
    worker, waiting = made(lake, spool), []
    for _ in range(3):
        worker.run_once()
        waiting.append(len(spool.waiting("okta")))
    assert waiting == [3, 1, 0]
    assert ids(lake) == [f"id-{number}" for number in range(5)]
