"""Generated records depend on the options alone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from sandbox import replay, server, service
from sandbox.company import Company, Habit
from sandbox.generation import Span, generated
from sandbox.server import Options, Running
from sandbox.service import Chunk, Record, Stream, at
from tests.sandbox.okta_reader import (
    ledger,
)
from tests.sandbox.rendered import rendered, stream_of
from tests.sandbox.setups import ANCHOR, SMALL, Clock


def test_the_same_options_give_the_same_bytes_and_another_seed_does_not(box: Running) -> None:
    assert ledger(box) == server.Sandbox(SMALL, Clock()).ledger("okta", "system_log")
    other = server.Sandbox(Options(seed=8, days=20, per_day=60, anchor=ANCHOR), Clock())
    mine = {entry.sha256 for entry in ledger(box)}
    assert not mine & {entry.sha256 for entry in other.ledger("okta", "system_log")}


def test_live_records_do_not_depend_on_when_they_are_read() -> None:
    options = Options(seed=7, days=1, per_day=10, rate=2, anchor=ANCHOR)
    often, once = Clock(), Clock()
    watched, unwatched = server.Sandbox(options, often), server.Sandbox(options, once)
    for _ in range(40):
        often.pass_by(seconds=15)
        watched.log("okta", "system_log").visible()
    once.pass_by(seconds=600)
    found = unwatched.ledger("okta", "system_log")
    assert watched.ledger("okta", "system_log") == found
    live = [entry for entry in found if entry.time >= ANCHOR.isoformat()]
    # The stream gets its share of the rate, and records of the last seconds have yet to arrive.
    assert 0 < len(live) <= 1250


STREAMS = [(kind, each.name) for kind, found in server.services().items() for each in found.streams]


@pytest.mark.parametrize(("kind", "name"), STREAMS)
def test_records_of_every_stream_have_ids_of_their_own_and_the_time_of_their_event(
    kind: str, name: str
) -> None:
    stream, found = stream_of(kind, name), rendered(kind, name, 100)
    ids = [str(stream.identify(record)) for _, record in found]
    assert len(set(ids)) == len(ids) >= 100
    for happening, record in found:
        # Opsgenie has its time under another name in lines about added details.
        time = replay.time_of(at(stream.time)(record) or record.get("createdAt"))
        assert time is not None
        assert abs(time - service.micros(happening.time)) < 1_000_000


def small_stream() -> Stream:
    habits = [Habit(what="opened", weight=1.0), Habit(what="closed", weight=3.0)]
    return Stream(
        name="doors",
        habits=habits,
        render=lambda happening, rng: {"what": happening.what, "id": rng.getrandbits(64)},
        identify=at("id"),
        time="time",
        delay=lambda _rng: 30.0,
    )


def span(**changes: Any) -> Span:
    usual = {"anchor": ANCHOR, "days": 2, "per_day": 50.0, "per_second": 0.0}
    return Span(**{**usual, **changes})


def made(chunks: Iterable[Chunk]) -> list[Record]:
    return [record for chunk in chunks for record in chunk.make()]


def test_without_new_records_everything_has_arrived_by_the_anchor() -> None:
    found = made(generated(small_stream(), "doors", Company(7), span()))
    assert 50 < len(found) < 150
    assert all(record.time < record.arrival <= service.micros(ANCHOR) for record in found)


def test_new_records_come_minute_by_minute_until_the_end() -> None:
    last = ANCHOR + timedelta(minutes=3)
    chunks = list(generated(small_stream(), "doors", Company(7), span(per_second=1.0, until=last)))
    starts = [chunk.start for chunk in chunks[1:]]
    assert starts == [service.micros(ANCHOR + timedelta(minutes=n)) for n in range(3)]
    for chunk in chunks[1:]:
        minute = list(chunk.make())
        assert 59 <= len(minute) <= 61
        assert all(0 <= record.time - chunk.start < 60_000_000 for record in minute)
        assert all(record.arrival - record.time == 30_000_000 for record in minute)


def test_a_name_is_part_of_the_seed() -> None:
    first, same, other = (
        [record.raw for record in made(generated(small_stream(), name, Company(7), span()))]
        for name in ("doors", "doors", "windows")
    )
    assert first == same
    assert not set(first) & set(other)
