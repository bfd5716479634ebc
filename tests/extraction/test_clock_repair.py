"""Wrong clocks, ours or a vendor's, lose nothing and claim nothing that was not fetched."""

from __future__ import annotations

import email.utils
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import httpx
import pytest

from pipelines.extraction import client as service_client
from pipelines.extraction import rounds
from pipelines.extraction.report import Report
from pipelines.lake import coverage, streams
from pipelines.lake.tables import Lake, StreamKey
from sandbox.server import Options, running
from tests.conftest import World
from tests.promises import ledgers
from tests.promises.ledgers import STUBBORN, Clock
from tests.tiers import some

STREAMS = [
    ("okta", "system_log"),
    ("google_workspace", "login"),
    ("entra_id", "sign_ins"),
    ("office_365", "exchange"),
    ("cloudflare", "audit_logs"),
    ("atlassian", "events"),
    ("jumpcloud", "directory_insights"),
    ("opsgenie", "logs"),
]
DAY = timedelta(days=1)
"""(our clock's error, the vendor's `Date`'s error) per round."""
RIGHT = (0, 0)
WORLDS = {
    "three days ahead": [(3, 0), (3, 0), RIGHT],
    "three days behind": [RIGHT, (-3, 0), (-3, 0), RIGHT],
    "four hundred days ahead": [(400, 0), (400, 0), RIGHT],
    "back and forth": [(2, 0), (-2, 0), (0.1, 0), (-0.1, 0), RIGHT],
    "the vendor's two days ahead": [(0, 2), (0, 2), RIGHT],
    "the vendor's two days behind": [RIGHT, (0, -2), (0, -2), RIGHT],
    "ahead, without a Date": [(3, None), (3, None), (0, None)],
    "damaged before": [(3, None), RIGHT],
    "damaged before, and still wrong": [(3, None), (3, 0), RIGHT],
    "a cache without Age": [(0, "cached"), (3, "cached"), (0, "cached")],
}
CHOSEN = dict(some(WORLDS.items(), 3))


class Dated(httpx.BaseTransport):
    """The vendor's responses, with the `Date` that its clock, or a cache, gives them."""

    def __init__(self, error: float | str | None, clock: Clock) -> None:
        self.inner, self.error, self.clock = httpx.HTTPTransport(), error, clock
        self.responses = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.inner.handle_request(request)
        if "token" in request.url.path:  # signing in has tests of its own
            return response
        self.responses += 1
        if self.error is None:
            del response.headers["Date"]
        elif self.error == "cached":
            old = self.clock() - timedelta(hours=5 * (self.responses % 2))
            response.headers["Date"] = email.utils.format_datetime(old, usegmt=True)
        else:
            wrong = self.clock() + float(self.error) * DAY
            response.headers["Date"] = email.utils.format_datetime(wrong, usegmt=True)
        return response


@contextmanager
def vendors(tmp_path) -> Iterator[tuple[World, Clock]]:
    clock = Clock()
    with running(Options(days=0, per_day=0, rate=0), clock) as server:
        yield World(running=server, lake=Lake(str(tmp_path / "lake"))), clock


def poll(world: World, clock: Clock, ours: float, vendors: float | str | None) -> list[Report]:
    def connect(source):
        return service_client.connect(
            source,
            retry_policy=STUBBORN,
            transport=Dated(vendors, clock),
            clock=lambda: clock() + ours * DAY,
        )

    sources = [world.source(kind, streams=[stream], history="30d") for kind, stream in STREAMS]
    return rounds.poll(world.lake, sources, connect=connect, clock=lambda: clock() + ours * DAY)


def claimed(lake: Lake, key: StreamKey) -> datetime | None:
    """The end of everything that counts as fetched."""
    history = coverage.history(lake, key, streams.facts(lake)[key])
    return history.asked[-1].until if history.asked else None


@pytest.mark.parametrize("rounds", CHOSEN.values(), ids=CHOSEN)
def test_wrong_clocks_lose_nothing(tmp_path, rounds):
    with vendors(tmp_path) as (world, clock):
        for ours, theirs in rounds:
            clock.pass_by(hours=3)
            for kind, stream in STREAMS:
                since = clock() - timedelta(hours=2)
                ledgers.arrive(world.running, kind, stream, ledgers.spread(since, clock(), 5))
            clock.pass_by(seconds=30)
            for _ in range(2):
                reports = poll(world, clock, ours, theirs)
                if theirs == 0:
                    assert [report.error for report in reports] == [None] * len(reports)
            if theirs is not None:
                ends = [claimed(world.lake, StreamKey(*key)) for key in STREAMS]
                assert all(end is None or end <= clock() for end in ends), ends
        clock.pass_by(hours=1)
        poll(world, clock, 0, 0)
        for kind, stream in STREAMS:
            assert ledgers.difference(world, kind, stream) == "", (kind, stream)
            end = claimed(world.lake, StreamKey(kind, stream))
            assert end and end > clock() - timedelta(minutes=5)
