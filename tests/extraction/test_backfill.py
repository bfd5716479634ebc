"""Backfills of time ranges, and the coverage recorded for them."""

from datetime import UTC, datetime, timedelta

import pytest

from pipelines import definitions, registry
from pipelines.cli import status
from pipelines.extraction import client, rounds
from pipelines.extraction.backfill import fetch_span
from pipelines.lake import coverage, raw, stream_state
from pipelines.lake.coverage import Entry
from pipelines.lake.tables import StreamKey
from pipelines.sdk.pages import Gap, Span
from sandbox import server
from sandbox.faults import Fault
from tests.tiers import some

PLAYED = {kind: {s.name for s in found.streams} for kind, found in server.services().items()}
STREAMS = [
    (kind, stream.name)
    for kind, integration in registry.kinds().items()
    for stream in integration.streams(None)[:6]  # Google has 42 of one make
    if stream.between and stream.name in PLAYED[kind]
]
HASTY = client.RetryPolicy(attempts=2, first=0.001)


def connect(source):
    return client.connect(source, retry_policy=HASTY)


def backfill(world, kind, stream, span, **options):
    source = world.source(kind, streams=[stream])
    with connect(source) as client:
        return fetch_span(
            rounds.Round(
                lake=world.lake,
                source=source,
                stream=source.streams()[0],
                client=client,
                via="backfill",
            ),
            span,
            **options,
        )


def kept(world, now):
    ((_, known),) = status.covered(world.lake, [world.source("okta")], (), now)
    return known


def test_a_range_older_than_the_vendor_keeps_is_lost_and_an_error(still_world):
    world, now = still_world, datetime.now(UTC)
    old = Span(since=now - timedelta(days=400), until=now - timedelta(days=390))
    for _ in range(2):
        report = backfill(world, "okta", "system_log", old)
        assert "keeps system_log for 90 days" in report.error
        assert kept(world, now).lost == (Gap(span=old, reason=stream_state.NOT_KEPT),)
    assert coverage.entries(world.lake, StreamKey("okta", "system_log")).height == 1
    (state,) = status.states(world.lake, [world.source("okta")], now)
    assert (state.state, state.last_polled) == ("never polled", None)


def test_only_what_the_lake_lacks_is_lost(still_world):
    world, now, log = still_world, datetime.now(UTC), StreamKey("okta", "system_log")
    days = [now - timedelta(days=days) for days in (400, 300, 200)]
    done = Entry(since=days[1], until=days[2], asked_at=now)
    coverage.record(world.lake, log, [done])
    report = backfill(world, "okta", "system_log", Span(since=days[0], until=now))
    assert report.error is None
    assert report.rows > 0
    found = kept(world, now)
    assert found.lost[0].span == Span(since=days[0], until=days[1])
    assert found.complete[0] == Span(since=days[1], until=days[2])


def last_days(days):
    now = datetime.now(UTC)
    return Span(since=now - timedelta(days=days), until=now)


@pytest.mark.parametrize(("kind", "stream"), some(STREAMS, 9))
def test_a_backfill_fetches_missing_history_and_leaves_the_live_cursor(still_world, kind, stream):
    world, log = still_world, StreamKey(kind, stream)
    source = world.source(kind, streams=[stream], history="1d")
    (first,) = rounds.poll(world.lake, [source], connect=connect)
    assert first.error is None
    before = raw.position(world.lake, log)
    recent = world.stored(kind, stream)
    span = last_days(30)
    issued = world.issued(kind, stream)  # late records go on arriving
    report = backfill(world, kind, stream, span)
    assert report.error is None
    stored = world.stored(kind, stream)
    assert set(issued) <= set(stored["raw_sha256"])
    assert stored["event_id"].is_unique().all()
    assert set(stored["via"][recent.height :]) <= {"backfill"}
    assert raw.position(world.lake, log).cursor == before.cursor
    ((_, known),) = status.covered(world.lake, [source], (), datetime.now(UTC))
    # What the vendor keeps shrinks while the test runs.
    shrunk = timedelta(minutes=1) + (datetime.now(UTC) - span.until)
    lost, reported = (
        [gap for gap in gaps if gap.span.until - gap.span.since > shrunk]
        for gaps in (known.lost, report.gaps)
    )
    assert known.gaps == ()
    assert [(gap.span.since, gap.reason) for gap in lost] == [
        (span.since, stream_state.NOT_KEPT)
    ] * (source.streams()[0].keeps < timedelta(days=30))
    assert [gap.span for gap in lost] == [gap.span for gap in reported]
    assert (
        known.complete[0].since <= span.since + timedelta(seconds=1)
        or known.complete[0].since <= datetime.now(UTC) - source.streams()[0].keeps + shrunk
    )


@pytest.mark.parametrize(("kind", "stream"), some(reversed(STREAMS), 9))
def test_an_interrupted_backfill_resumes_where_it_stopped(still_world, kind, stream):
    world, span = still_world, last_days(60)
    world.disorder(Fault(kind=kind, fault="status", at=list(range(3, 500))))
    cut = backfill(world, kind, stream, span)
    world.disorder()
    issued = world.issued(kind, stream)  # late records go on arriving
    rest = backfill(world, kind, stream, span)
    assert rest.error is None
    stored = world.stored(kind, stream)
    assert set(issued) <= set(stored["raw_sha256"])
    assert stored["event_id"].is_unique().all()
    assert rest.rows + cut.rows == stored.height
    idle = backfill(world, kind, stream, span)
    assert idle.error is None
    assert idle.requests <= rest.requests + cut.requests


def test_a_failed_round_leaves_a_gap_with_its_reason_until_the_next(still_world):
    world = still_world
    source = world.source("okta")
    later = datetime.now(UTC) + timedelta(hours=3)

    def one(at, error):
        with connect(source) as client:
            (stream,) = source.streams()
            report = rounds.extract(
                rounds.Round(
                    lake=world.lake, source=source, stream=stream, client=client, clock=lambda: at
                )
            )
        assert bool(report.error) is error
        ((_, known),) = status.covered(world.lake, [source], (), at)
        return known

    known = one(datetime.now(UTC), error=False)
    assert (known.gaps, known.lost, len(known.complete)) == ((), (), 1)
    world.disorder(Fault(kind="okta", fault="status", every=True))
    known = one(later, error=True)
    (gap,) = known.gaps
    assert gap.span.until == later.replace(microsecond=0)
    assert "503" in gap.reason
    world.disorder()
    known = one(later + timedelta(minutes=20), error=False)
    assert known.gaps == ()


def test_a_stream_recovers_with_the_first_quiet_round_after_a_failure(still_world):
    world = still_world
    source = world.source("okta")
    begun = datetime.now(UTC)

    def state(after):
        at = begun + timedelta(minutes=after)
        with connect(source) as client:
            (stream,) = source.streams()
            rounds.extract(
                rounds.Round(
                    lake=world.lake, source=source, stream=stream, client=client, clock=lambda: at
                )
            )
        (found,) = status.states(world.lake, [source], at)
        return found.state, found.failing_since, found.failure

    assert state(after=0) == ("up to date", None, None)
    world.disorder(Fault(kind="okta", fault="status", status=401, every=True))
    first, second = state(after=1), state(after=2)
    assert first == second
    assert (first[0], first[1]) == ("failing", begun + timedelta(minutes=1))
    assert "401" in first[2]
    world.disorder()
    assert state(after=3) == ("up to date", None, None)


def test_dagster_backfills_the_range_given_in_its_form(still_world):
    world, span = still_world, last_days(3)
    made = definitions.definitions(world.lake, [world.source("okta")])
    job = made.resolve_job_def("backfill")
    bounds = {"since": span.since.isoformat(), "until": f"{span.until:%Y-%m-%dT%H:%M:%S}"}

    def run(integration):
        form = {"ops": {"fetch_range": {"config": {"integration": integration, **bounds}}}}
        return job.execute_in_process(run_config=form, raise_on_error=False)

    assert not run("octa").success
    issued = world.issued("okta", "system_log")
    assert run("okta").success
    stored = world.stored("okta", "system_log")
    assert set(stored["via"]) == {"backfill"}
    assert stored.height > 100
    assert set(stored["raw_sha256"]) <= set(issued)
    progress = run("okta")
    assert progress.success
    assert world.stored("okta", "system_log").height == stored.height
