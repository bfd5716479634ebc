"""Answers have limits: a page above the limit is not skipped, a record above it is rejected."""

import tracemalloc

import pytest

from pipelines import registry
from pipelines.extraction import client as service_client
from pipelines.extraction import replay, rounds
from pipelines.extraction.client import RetryPolicy
from pipelines.lake import coverage, raw, tables
from pipelines.lake.tables import Lake, StreamKey
from pipelines.orchestration import sensors
from sandbox import server
from sandbox.faults import Fault
from sandbox.server import Options, running
from tests.conftest import World
from tests.tiers import some

KINDS = sorted(registry.kinds())
FIRST = {kind: server.services()[kind].streams[0].name for kind in KINDS}
PATHS = {"entra_id": "auditLogs", "google_workspace": "/activity/", "office_365": "/content"}
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def vendor():
    with running(Options(days=3, per_day=60, rate=0)) as served:  # not a weekend alone
        yield served


def hasty(source):
    return service_client.connect(source, retry_policy=RetryPolicy(attempts=2, first=0.001))


@pytest.mark.parametrize("kind", some(KINDS, 3))
def test_a_page_that_unpacks_to_more_than_the_limit_is_reported_and_read_once_allowed(
    vendor, kind, tmp_path
):
    world = World(running=vendor, lake=Lake(str(tmp_path / "lake")))
    source = world.source(kind, streams=[FIRST[kind]], history="1h")
    large = {"fault": "inflate", "megabytes": 300, "path": PATHS.get(kind, "")}
    world.disorder(Fault(kind=kind, every=True, **large))
    tracemalloc.start()
    (report,) = rounds.poll(world.lake, [source], connect=hasty)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    world.disorder()
    assert "more than 64 MB" in report.error
    assert "page_megabytes" in report.error
    assert most < 150 * MEGABYTE
    entries = coverage.entries(world.lake, StreamKey(kind, FIRST[kind]))
    assert set(entries["outcome"]) == {"wanted", "failed"}
    (report,) = rounds.poll(world.lake, [source], connect=hasty)
    assert report.error is None


def test_a_record_above_the_limit_is_rejected_with_its_bytes_and_the_rest_lands(lake):
    with running(Options(days=1, per_day=20, rate=0)) as served:
        world = World(running=served, lake=lake)
        record = b'{"uuid":"large","published":"2026-11-22T08:00:00.000Z","x":"%s"}'
        record %= b"x" * MEGABYTE
        served.sandbox.append(
            "okta",
            "system_log",
            [record],
        )
        source = world.source("okta", record_megabytes=1)
        (report,) = rounds.poll(lake, [source])
        assert (report.error, report.rejected) == (None, 1)
        rejected = tables.scan(lake, "rejected").collect()
        assert rejected["raw"].to_list() == [record]
        assert rejected["reason"].to_list() == ["larger than record_megabytes = 1"]
        stream = source.streams()[0]
        with service_client.connect(source) as client:
            this = rounds.Round(lake=lake, source=source, stream=stream, client=client)
            assert not sensors.peek(this).new_records
        assert replay.retry_rejected(lake, source, stream, this.clock()).rejected == 1
        allowed = world.source("okta", record_megabytes=2)
        assert replay.retry_rejected(lake, allowed, stream, this.clock()).rows == 1
        assert raw.still_rejected(lake, StreamKey("okta", "system_log")).is_empty()
