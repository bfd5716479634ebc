"""Limits of queries: spans that are too heavy are halved, and starts that are too old are moved.

Every vendor that takes a span of time is tried with the same limits.
"""

from datetime import UTC, datetime, timedelta

import pytest

from pipelines import registry
from pipelines.extraction import client as service_client
from pipelines.extraction import rounds
from pipelines.extraction.backfill import fetch_span
from pipelines.extraction.client import RetryPolicy
from pipelines.lake import coverage, spans
from pipelines.lake.tables import StreamKey
from pipelines.sdk.pages import Span
from sandbox import server
from sandbox.faults import Fault
from sandbox.server import Options, running
from tests.conftest import World

STREAMS = {kind: server.services()[kind].streams[0].name for kind in sorted(registry.kinds())}
STREAMS["opsgenie"] = "jira_service_management_operations"  # log files are not queried by time
STATUSES = dict(zip(STREAMS, [500, 502, 504, 524] * 2, strict=True))
QUARTER = timedelta(hours=6)
TOO_OLD = '{"error":{"code":400,"message":"The start time is older than the data that is kept."}}'


@pytest.fixture(scope="module")
def vendor():
    with running(Options(days=6, per_day=30, rate=0)) as served:
        yield served


def hasty(source):
    return service_client.connect(source, retry_policy=RetryPolicy(attempts=2, first=0.001))


def source_of(world, kind, history):
    keys = {"streams": [STREAMS[kind]], **({"history": history} if history else {})}
    return world.source(kind, **keys)


def polled(world, kind, history=None):
    (report,) = rounds.poll(world.lake, [source_of(world, kind, history)], connect=hasty)
    return report.error


def issued(world, kind):
    return set(world.issued(kind, STREAMS[kind]))


def stored(world, kind):
    return set(world.stored(kind, STREAMS[kind])["raw_sha256"])


def entries(world, kind, outcome):
    found = coverage.entries(world.lake, StreamKey(kind, STREAMS[kind]))
    rows = found.filter(found["outcome"] == outcome)
    return [Span(since=since, until=until) for since, until in rows.select("since", "until").rows()]


@pytest.mark.parametrize("kind", STREAMS)
def test_spans_that_are_too_heavy_are_halved_until_they_succeed(vendor, kind, lake):
    world = World(running=vendor, lake=lake)
    seconds = QUARTER.total_seconds() + 3700  # some vendors' queries end with the hour
    heavy = {"fault": "heavy", "status": STATUSES[kind], "seconds": seconds}
    world.disorder(Fault(kind=kind, every=True, **heavy))
    error = polled(world, kind, "6d")
    world.disorder()
    assert (error, issued(world, kind) - stored(world, kind)) == (None, set())
    wanted = entries(world, kind, "wanted")
    missing = spans.minus(wanted, entries(world, kind, "complete"))
    assert sum((m.until - m.since for m in missing), timedelta()) < timedelta(seconds=3)


@pytest.mark.parametrize("kind", STREAMS)
def test_a_backfill_of_a_span_that_is_too_heavy_is_halved(vendor, kind, lake):
    world = World(running=vendor, lake=lake)
    heavy = {"fault": "heavy", "status": STATUSES[kind], "seconds": 5 * 3600}
    now = datetime.now(UTC)
    world.disorder(Fault(kind=kind, every=True, **heavy))
    source = source_of(world, kind, None)
    with hasty(source) as client:
        (stream,) = source.streams()
        this = rounds.Round(lake=lake, source=source, stream=stream, client=client, via="backfill")
        report = fetch_span(this, Span(since=now - timedelta(days=2), until=now))
    world.disorder()
    assert report.error is None
    missing = spans.minus(entries(world, kind, "wanted"), entries(world, kind, "complete"))
    assert missing == ()


@pytest.mark.parametrize("kind", STREAMS)
def test_a_service_that_is_down_is_not_asked_for_ever_shorter_spans(vendor, kind, lake):
    world = World(running=vendor, lake=lake)
    world.disorder(Fault(kind=kind, fault="answer", status=502, every=True))
    before = vendor.sandbox.requests(kind)[0]
    error = polled(world, kind, "1h")
    asked = vendor.sandbox.requests(kind)[0] - before
    world.disorder()
    assert "502" in error
    assert asked <= 4


@pytest.mark.parametrize("kind", ["entra_id", "google_workspace", "office_365"])
def test_a_sign_in_that_fails_halves_no_span(vendor, kind, lake):
    world = World(running=vendor, lake=lake)
    world.disorder(Fault(kind=kind, fault="answer", status=502, path="/token", every=True))
    before = vendor.sandbox.requests(kind)[0]
    error = polled(world, kind, "6d")
    asked = vendor.sandbox.requests(kind)[0] - before
    world.disorder()
    assert "502" in error
    assert asked == 2


@pytest.mark.parametrize("kind", STREAMS)
def test_no_query_starts_before_the_vendors_retention(vendor, kind, lake):
    world, keeps = World(running=vendor, lake=lake), keeps_of(vendor, kind)
    keeps += timedelta(minutes=5) if kind == "office_365" else timedelta()  # its margin
    before = refusals(vendor, kind)
    old = {"fault": "old", "status": 400, "body": TOO_OLD, "seconds": keeps.total_seconds()}
    world.disorder(Fault(kind=kind, every=True, **old))
    error = polled(world, kind)
    refused = refusals(vendor, kind) - before
    world.disorder()
    assert (error, refused, entries(world, kind, "gone")) == (None, 0, [])
    assert issued(world, kind) <= stored(world, kind)


@pytest.mark.parametrize("kind", STREAMS)
def test_a_start_that_the_vendor_refuses_as_too_old_is_moved_and_the_rest_is_read(
    vendor, kind, lake
):
    world, keeps = World(running=vendor, lake=lake), keeps_of(vendor, kind)
    earlier = (keeps - timedelta(hours=3)).total_seconds()
    old = {"fault": "old", "status": 400, "body": TOO_OLD, "seconds": earlier}
    world.disorder(Fault(kind=kind, every=True, **old))
    error = polled(world, kind)
    world.disorder()
    assert error is None
    assert issued(world, kind) <= stored(world, kind)
    (gone,) = spans.union(entries(world, kind, "gone"))
    assert gone.since <= entries(world, kind, "wanted")[0].since
    assert gone.until - gone.since <= timedelta(hours=6)
    assert polled(world, kind) is None


def refusals(vendor, kind):
    """Return how many queries were refused because they started too early."""
    return sum(each.fault == "old" for each in vendor.sandbox.requests(kind)[1])


def keeps_of(vendor, kind):
    found = registry.source(kind, vendor.settings()[kind]).streams()
    return next(stream.keeps for stream in found if stream.name == STREAMS[kind])
