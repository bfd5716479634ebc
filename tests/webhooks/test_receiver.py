"""Acknowledged deliveries reach the lake once despite kills; pushed and polled are one row."""

import json
import multiprocessing
import os
import random
import signal
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import httpx
import polars as pl
import pytest

from pipelines.extraction import report, rounds
from pipelines.extraction.pending import PendingCoverage
from pipelines.lake import raw, reconciliation, tables
from pipelines.lake.tables import StreamKey
from pipelines.sdk.pages import Page
from pipelines.webhooks.spool import Spool
from pipelines.webhooks.worker import Worker
from tests.cli.test_up import free_ports, until
from tests.conftest import raw_table
from tests.webhooks.conftest import SECRET, source
from tests.webhooks.receiving import configured, receive

KILLS = int(os.environ.get("AUDITLAKE_KILLS", "2"))
NOW = datetime.now(UTC).replace(microsecond=0)


def hook(*numbers):
    """Return the body of an Okta event hook; the events' times are spread over a day."""
    events = [
        {
            "uuid": f"id-{number}",
            "published": (NOW - timedelta(seconds=number % 86400)).isoformat(),
            "eventType": "user.session.start",
            "client": {"ipChain": [{"ip": "192.0.2.1"}]},
        }
        for number in numbers
    ]
    return json.dumps({"eventType": "com.okta.event_hook", "data": {"events": events}}).encode()


def ids(lake, integration="okta", stream="system_log"):
    return raw_table(lake, integration, stream)["event_id"].to_list()


def run_worker(lake, spool, kind="okta", **more):
    worker = Worker(lake=lake, source=source(kind), spool=spool, push=source(kind).integration.push)
    worker.run_once()
    return worker


@pytest.fixture
def spool(tmp_path):
    made = Spool(tmp_path / "spool", limit=2**24)
    with made.open():
        yield made


def put(spool, body, name="okta"):
    spool.put(name, {"content-type": "application/json"}, body, datetime.now(UTC))


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


def polled(lake, *numbers):
    """Store these events as a round of polling does."""
    this = rounds.Round(lake=lake, source=source("okta"), stream=source("okta").streams()[0],
                         client=None)  # fmt: skip
    bodies = [json.dumps({"uuid": f"id-{n}",
                          "published": (NOW - timedelta(seconds=n % 86400)).isoformat()}).encode()
              for n in numbers]  # fmt: skip
    pending = PendingCoverage(now=NOW, recorded_at=NOW)
    page = Page(records=bodies, cursor="next")
    return rounds._land(this, [page], pending, report.Report(integration="okta", stream="x"))


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


def test_a_push_that_polling_never_finds_is_reported(lake, spool):
    put(spool, hook(1, 2))
    run_worker(lake, spool)
    polled(lake, 2, 3)
    stream, later = source("okta").streams()[0], datetime.now(UTC) + timedelta(hours=3)
    (_, *found), = reconciliation.reconcile(lake, source("okta"), stream, later).group_by(
        "integration").agg(pl.col("polled", "pushed", "both", "pushed_first", "unconfirmed").sum()
    ).rows()  # fmt: skip
    assert found == [2, 2, 1, 1, 1]
    soon = reconciliation.reconcile(lake, source("okta"), stream, datetime.now(UTC))
    assert soon["unconfirmed"].sum() == 0
    table = tables.open_table(lake, "reconciliation")
    reconciliation.reconcile(lake, source("okta"), stream, datetime.now(UTC))
    assert tables.open_table(lake, "reconciliation").version() == table.version()


def test_an_invalid_record_is_kept_in_rejected(lake, spool):
    put(spool, b'{"data":{"events":[{"published":"2026-01-01T00:00:00Z"}]}}')
    assert run_worker(lake, spool).is_idle
    rejected = tables.scan(lake, "rejected").collect()
    assert rejected["reason"].to_list() == ["no id"]


class Sender(threading.Thread):
    """Pushes as fast as the receiver accepts; remembers the acknowledged events."""

    def __init__(self, port, seed):
        super().__init__(daemon=True)
        self.url, self.random = f"http://127.0.0.1:{port}/okta", random.Random(seed)
        self.acknowledged, self.next, self.ended = set(), seed * 10**6, threading.Event()

    def run(self):
        headers = {"Authorization": SECRET, "Content-Type": "application/json"}
        with httpx.Client(headers=headers, timeout=5) as client:
            while not self.ended.is_set():
                count = self.random.randint(1, 5)
                numbers = range(self.next, self.next + count)
                self.next += count
                with suppress(httpx.TransportError):
                    if client.post(self.url, content=hook(*numbers)).status_code == 200:
                        self.acknowledged |= {f"id-{number}" for number in numbers}
                        continue
                time.sleep(0.05)


@contextmanager
def receiving(folder, port, largest=None):
    """Run a receiver, forked from a process that has loaded all imports, to start quickly."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.webhooks.receiving"])
    process = context.Process(target=receive, args=(folder, port, largest))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def is_up(port):
    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/-/health").status_code == 200
    return False


def test_a_receiver_killed_at_random_under_load_loses_nothing_it_acknowledged(tmp_path):
    (port,) = free_ports(1)
    senders = [Sender(port, seed) for seed in (1, 2)]
    luck = random.Random(7)
    for sender in senders:
        sender.start()
    for _ in range(KILLS):
        with receiving(tmp_path, port) as process:
            until(lambda: is_up(port), "the receiver is up")
            time.sleep(luck.uniform(0.0, 1.5))  # the moment of the kill is random on purpose
            os.kill(process.pid, signal.SIGKILL)
    chosen = configured(tmp_path, port)
    lake, waiting = tables.configured(chosen), tmp_path / "lake" / "spool" / "okta"
    with receiving(tmp_path, port) as process:
        until(lambda: all(sender.acknowledged for sender in senders), "something is acknowledged")
        for sender in senders:
            sender.ended.set()
            sender.join()
        until(lambda: not list(waiting.glob("*.push")), "the spool is empty")
        os.kill(process.pid, signal.SIGTERM)
        process.join(60)
        assert process.exitcode == 0
    acknowledged = senders[0].acknowledged | senders[1].acknowledged
    rows = raw_table(lake, "okta", "system_log")
    assert acknowledged
    assert acknowledged <= set(rows["event_id"])
    assert rows["event_id"].is_unique().all()
    assert rows["seq"].to_list() == list(range(rows.height))
    events = tables.scan(lake, "events").select(pl.col("seq")).collect()["seq"]
    assert sorted(events) == rows["seq"].to_list()
    print(f"{KILLS} kills, {len(acknowledged):,} events acknowledged, {rows.height:,} in the lake")
