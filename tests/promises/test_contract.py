"""The contract of every stream of every integration, against the sandbox over real sockets."""

import json
import threading
from datetime import UTC, datetime

import polars as pl
import pytest

from dashboard import lake as dashboard_lake
from pipelines import registry
from pipelines.extraction import client as service_client
from pipelines.extraction import rounds
from pipelines.extraction.client import RetryPolicy
from pipelines.lake import events, raw, tables
from pipelines.lake.tables import StreamKey
from pipelines.mapping import normalise
from pipelines.schemas import EVENTS
from sandbox import server
from sandbox.faults import Fault
from tests import places
from tests.places import everywhere
from tests.tiers import crossed

KINDS = sorted(registry.kinds())
STREAMS = [(kind, stream.name) for kind in KINDS for stream in server.services()[kind].streams]


def impatient(source):
    """Return a client with short pauses, since the sandbox recovers at once."""
    return service_client.connect(source, retry_policy=RetryPolicy(first=0.001, ceiling=0.01))


def check(world, kind, stream):
    """Assert that every record issued is stored once, byte for byte, and derived once."""
    stored, events = world.stored(kind, stream), world.events(kind, stream)
    assert sorted(stored["raw_sha256"]) == sorted(world.issued(kind, stream))
    assert stored["seq"].to_list() == list(range(stored.height))
    assert [normalise.digest(raw.encode()) for raw in stored["raw"]] == stored[
        "raw_sha256"
    ].to_list()
    assert stored["event_id"].is_unique().all()
    assert (stored["time"].dt.date() == stored["date"]).all()
    assert events["event_uid"].is_unique().all()
    assert set(events["seq"]) == set(shown(kind, stream, stored)["seq"])
    assert not events["action"].is_null().any()


def shown(kind, stream, stored):
    """Return the seq of raw rows that have events: of a re-published record only the newest."""
    found = next(s for s in registry.kind(kind).streams(None) if s.name == stream)
    record = normalise.version_of(found)
    return stored if record is None else stored.filter(events.newest_version(record))


def streams(world, kind):
    return [stream.name for stream in world.source(kind).streams()]


@everywhere()
@pytest.mark.parametrize("kind", KINDS)
def test_a_first_round_fetches_everything_and_a_second_nothing(still_world, kind):
    first = still_world.poll(kind)
    assert [report.error for report in first] == [None] * len(first)
    for stream in streams(still_world, kind):
        check(still_world, kind, stream)
    versions = [
        raw.position(still_world.lake, StreamKey(kind, s)).version
        for s in streams(still_world, kind)
    ]
    for report in still_world.poll(kind):
        assert (report.error, report.rows, report.events) == (None, 0, 0)
        assert report.requests <= 3  # two, and a sign-in
    again = [
        raw.position(still_world.lake, StreamKey(kind, s)).version
        for s in streams(still_world, kind)
    ]
    assert again == versions
    shown = dashboard_lake.Lake(still_world.lake.root, still_world.lake.storage_options or {})
    assert shown.look().rows == sum(report.events for report in first)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_resumes_after_any_page_without_loss(still_world, kind):
    source, now = still_world.source(kind), datetime.now(UTC)
    for stream in source.streams():
        with service_client.connect(source) as client:
            cursor, seen = stream.begin(now - stream.keeps, now), []
            for _ in range(200):  # a page at a time, from its cursor alone
                moved = False
                for page in stream.pages(client, cursor, now):
                    seen += [normalise.digest(record) for record in page.records]
                    moved = page.cursor != cursor
                    cursor = page.cursor
                    if moved:
                        break
                if not moved:
                    break
        assert set(seen) == set(still_world.issued(kind, stream.name))


@everywhere()
@pytest.mark.parametrize("kind", KINDS)
def test_two_racing_rounds_lose_and_duplicate_nothing(still_world, kind):
    racers = [threading.Thread(target=still_world.poll, args=(kind,)) for _ in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    for stream in streams(still_world, kind):
        check(still_world, kind, stream)


@everywhere()
@pytest.mark.parametrize(
    ("kind", "trouble"),
    crossed(KINDS, ["status", "reset", "truncate", "garbage", "throttled"], count=16),
)
def test_a_fault_at_every_other_request_loses_nothing(still_world, kind, trouble):
    fault = (
        Fault(kind=kind, fault="status", status=429, retry_after=0, at=list(range(0, 400, 2)))
        if trouble == "throttled"
        else Fault(kind=kind, fault=trouble, at=list(range(0, 400, 2)))
    )
    still_world.disorder(fault)
    sources = [still_world.source(kind, history="8d")]
    reports = rounds.poll(still_world.lake, sources, connect=impatient)
    assert [report.error for report in reports] == [None] * len(reports)
    for stream in streams(still_world, kind):
        check(still_world, kind, stream)


@everywhere()
@pytest.mark.parametrize("kind", KINDS)
def test_a_vendor_that_stays_down_is_an_error_and_the_next_round_recovers(still_world, kind):
    still_world.disorder(Fault(kind=kind, fault="status", status=503, every=True))
    reports = still_world.poll(kind, connect=impatient)
    assert all("503" in report.error for report in reports)
    still_world.disorder()
    still_world.poll(kind)
    for stream in streams(still_world, kind):
        check(still_world, kind, stream)


@everywhere()
@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_is_in_reports_tables_or_reprs(still_world, kind):
    source = still_world.source(kind)
    secrets = list(texts(still_world.running.settings()[kind]))
    still_world.disorder(Fault(kind=kind, fault="status", status=401, every=True))
    reports = still_world.poll(kind)
    still_world.disorder()
    reports += still_world.poll(kind)
    said = json.dumps([repr(r) for r in reports]) + repr(source) + str(source.settings)
    for stream in source.streams():
        position = raw.position(still_world.lake, StreamKey(kind, stream.name))
        said += repr(position)
        if handle := tables.open_table(still_world.lake, f"raw/{kind}/{stream.name}"):
            said += repr(handle.history())
    for name, content in places.files(still_world.lake, "raw").items():
        said += content.decode() if name.endswith(".json") else ""
    assert [secret for secret in secrets if secret in said] == []


def texts(keys):
    """Yield the values of settings that must stay secret."""
    secret = ("token", "key", "secret", "credentials", "certificate")
    for name, value in keys.items():
        if any(word in name for word in secret) and name not in ("key_id",):
            yield from (
                line for line in str(value).splitlines() if len(line) > 15 and "-----" not in line
            )


@pytest.mark.parametrize(("kind", "stream"), STREAMS)
def test_events_have_the_schema(still_world, kind, stream):
    raw = [record.raw for record in still_world.running.sandbox.log(kind, stream).visible()]
    integration = registry.kind(kind)
    found = next(s for s in integration.streams(None) if s.name == stream)
    rows = normalise.read(found, raw, datetime.now(UTC), "poll")
    assert rows["fault"].is_null().all()
    rows = rows.with_columns(seq=pl.int_range(pl.len(), dtype=pl.Int64))
    normalised = normalise.normalise(kind, integration, found, rows)
    assert dict(normalised.events.schema) == EVENTS
    assert normalised.faults == {}
