"""The fault matrix: every fault, at every request of a round, for every service.

`make test` takes every third request; `make test-full` takes all, and every ninth on object stores.

Each trial has its own lake: a round in which one request fails and is not retried, then a round
without faults. The records issued and stored have to agree.
"""

from datetime import timedelta

import pytest

from pipelines import registry
from pipelines.cli import status
from sandbox import server
from sandbox.faults import Fault
from sandbox.server import Options, running
from sandbox.service import micros
from tests.conftest import World
from tests.places import everywhere
from tests.promises.ledgers import HASTY, Clock, arrive, difference, poll, spread
from tests.tiers import FULL, crossed

KINDS = sorted(registry.kinds())
FIRST = {kind: server.services()[kind].streams[0].name for kind in KINDS}
SIZES = {"atlassian": 560, "office_365": 100, "opsgenie": 30}  # pages of 500, blobs, files
PER_PAGE = {"atlassian": 500, "jumpcloud": 10_000, "office_365": 100}  # records, else 1,000
HOUR = timedelta(hours=1)
FAULTS = {
    "503": {"fault": "status", "status": 503},
    "429": {"fault": "status", "status": 429, "retry_after": 0},
    "401": {"fault": "status", "status": 401},
    "reset": {"fault": "reset"},
    "cut-short": {"fault": "truncate"},
    "truncated-JSON": {"fault": "garbage"},
    "slow": {"fault": "slow", "seconds": 0.4},
    "slow-body": {"fault": "trickle", "seconds": 0.6},
    "expired-token": {"fault": "expire_token"},
}


@pytest.fixture(scope="module")
def clock():
    return Clock()


@pytest.fixture(scope="module")
def vendor(clock):
    """Some pages of records of every kind, in three portions within a day, and no new ones."""
    with running(Options(days=0, per_day=0, rate=0), clock) as server_:
        for hours in (9, 6, 2):
            clock.pass_by(hours=-hours)
            for kind, stream in FIRST.items():
                until = clock() - timedelta(seconds=1)
                count = SIZES.get(kind, 1050) // 3
                arrive(server_, kind, stream, spread(until - timedelta(hours=1), until, count))
            clock.pass_by(hours=hours)
        yield server_


def source_of(world, kind):
    history = "30h" if kind == "jumpcloud" else "12h"  # of two windows
    return world.source(kind, streams=[FIRST[kind]], history=history)


@everywhere(sampled=False)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_any_request_loses_and_duplicates_nothing(vendor, clock, kind, place):
    world = World(running=vendor, lake=place.lake("whole"))
    world.disorder()
    before = vendor.sandbox.requests(kind)[0]
    (report,) = poll(world.lake, source_of(world, kind), clock)
    assert (report.error, difference(world, kind, FIRST[kind])) == (None, "")
    total = vendor.sandbox.requests(kind)[0] - before
    wrong = {}
    step = 9 if world.lake.local is None else 1 if FULL else 7
    for number, (name, keys) in enumerate(FAULTS.items()):
        for index in range(number % step, total, step):
            world = World(running=vendor, lake=place.lake(f"{name}-{index}"))
            world.disorder(Fault(kind=kind, at=[index], count=1, **keys))
            poll(world.lake, source_of(world, kind), clock, HASTY, timeout=0.3)
            world.disorder()
            (report,) = poll(world.lake, source_of(world, kind), clock)
            said = report.error or difference(world, kind, FIRST[kind])
            if said:
                wrong[name, index] = said
    assert wrong == {}


@pytest.fixture
def own(lake):
    """A vendor with an empty log, its clock, and a lake."""
    clock = Clock()
    with running(Options(days=0, per_day=0, rate=0), clock) as server_:
        yield World(running=server_, lake=lake), clock


def rounds(world, kind, clock, **options):
    """Run a round of the kind's first stream; return its report."""
    source = world.source(kind, streams=[FIRST[kind]], history="3d")
    (report,) = poll(world.lake, source, clock, **options)
    return report


@everywhere()
@pytest.mark.parametrize("kind", KINDS)
def test_a_record_repeated_on_several_pages_is_stored_once(own, kind):
    world, clock = own
    now, size = clock(), SIZES.get(kind, 1050)
    for hours in (20, 10):
        times = spread(now - timedelta(hours=hours), now - timedelta(hours=hours - 5), size)
        records = arrive(world.running, kind, FIRST[kind], times)
    log = world.running.sandbox.log(kind, FIRST[kind])
    for record in records[::7]:
        log.append(record, micros(now - timedelta(hours=19)))
    for record in records[::11]:
        log.append(record, micros(now - timedelta(minutes=1)))
    assert rounds(world, kind, clock).error is None
    assert difference(world, kind, FIRST[kind]) == ""
    clock.pass_by(minutes=10)
    for record in records[::13]:
        log.append(record, micros(clock()))
    assert (rounds(world, kind, clock).rows, difference(world, kind, FIRST[kind])) == (0, "")


@everywhere()
@pytest.mark.parametrize("kind", KINDS)
def test_500_events_with_one_timestamp_across_a_page_boundary_are_stored_once(own, kind):
    world, clock = own
    now, most = clock(), max(50, PER_PAGE.get(kind, 1000) - 250)
    arrive(world.running, kind, FIRST[kind], spread(now - 9 * HOUR, now - 8 * HOUR, most))
    arrive(world.running, kind, FIRST[kind], [now - 5 * HOUR] * 500)
    arrive(world.running, kind, FIRST[kind], spread(now - 4 * HOUR, now - 3 * HOUR, most))
    for index in (2, 3):
        world.disorder(Fault(kind=kind, fault="garbage", at=[index], count=1))
        rounds(world, kind, clock, retry_policy=HASTY)
        world.disorder()
    assert rounds(world, kind, clock).error is None
    assert difference(world, kind, FIRST[kind]) == ""


def lateness(lag):
    """Return delays of events from 0 to the published lag."""
    seconds = lag.total_seconds()
    return [timedelta(seconds=seconds * part) for part in (0, 0.001, 0.02, 0.1, 0.3, 0.6, 0.9, 1)]


@everywhere(sampled=False)
@pytest.mark.parametrize(("kind", "hours_ahead"), crossed(KINDS, [-1, 0, 1], count=8))
def test_events_late_by_up_to_the_published_lag_are_found_even_if_our_clock_is_wrong(
    own, kind, hours_ahead
):
    world, clock = own
    ours = Skewed(clock, timedelta(hours=hours_ahead))
    played = {stream.name for stream in server.services()[kind].streams}
    found = [s for s in world.source(kind).streams() if s.name in played]
    streams = list({stream.lag: stream for stream in found}.values())
    source = world.source(kind, history="1d", streams=[stream.name for stream in streams])
    due = sorted(
        (
            (clock() + timedelta(minutes=n) + late, clock() + timedelta(minutes=n), s.name)
            for s in streams
            for n, late in enumerate(lateness(s.lag or timedelta(hours=1)), 1)
        ),
    )
    end = max(at for at, _, _ in due)
    step = max(timedelta(minutes=20), (end - clock()) / 12)
    reports = []
    while clock() < end + 2 * step:
        reports += poll(world.lake, source, ours)
        clock.now += step
        while due and due[0][0] <= clock():
            _, time, stream = due.pop(0)
            arrive(world.running, kind, stream, [time])
    clock.now += timedelta(hours=2)
    reports += poll(world.lake, source, ours)
    clock.now += timedelta(hours=8)
    reports += poll(world.lake, source, ours)
    assert {report.error for report in reports} == {None}
    assert {s.name: difference(world, kind, s.name) for s in streams} == {
        s.name: "" for s in streams
    }


class Skewed:
    """A clock that is wrong by a fixed time."""

    def __init__(self, clock, by):
        self.clock, self.by = clock, by

    def __call__(self):
        return self.clock() + self.by


@everywhere()
@pytest.mark.parametrize(("kind", "path"), [("office_365", "/audit/"), ("opsgenie", "/download/")])
def test_a_deleted_blob_is_a_permanent_gap_and_nothing_else_is_missing(own, kind, path):
    world, clock = own
    clock.pass_by(hours=-5)
    for _ in range(3):
        clock.pass_by(hours=1)
        until = clock() - timedelta(seconds=1)
        records = arrive(
            world.running, kind, FIRST[kind], spread(until - timedelta(seconds=40), until, 30)
        )
    clock.pass_by(hours=2)
    world.disorder(Fault(kind=kind, fault="status", status=404, path=path, count=1))
    assert rounds(world, kind, clock).error is None
    world.disorder()
    for _ in range(2):
        clock.pass_by(minutes=20)
        assert rounds(world, kind, clock).error is None
    stored = set(world.stored(kind, FIRST[kind])["raw_sha256"])
    issued = set(world.issued(kind, FIRST[kind]))
    assert stored < issued
    assert len(issued - stored) == len(records)
    source = world.source(kind, streams=[FIRST[kind]])
    ((_, known),) = status.covered(world.lake, [source], (), clock())
    assert ["gone" in gap.reason for gap in known.lost] == [True]
