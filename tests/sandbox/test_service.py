"""Logs: when records arrive, and who follows them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sandbox import server, service
from sandbox.server import Options
from sandbox.service import Chunk, Follower, Log, Record
from tests.sandbox.setups import ANCHOR, SMALL, Clock


def test_late_records_arrive_after_newer_ones_and_none_before_its_event() -> None:
    clock = Clock()
    box = server.Sandbox(Options(seed=3, days=30, per_day=400, rate=0, anchor=ANCHOR), clock)
    log = box.log("okta", "system_log")
    waits = [record.arrival - record.time for record in log.visible()]
    late = [wait for wait in waits if wait > 60_000_000]
    assert min(waits) > 0
    assert 0 < len(late) < len(waits) / 50
    assert max(waits) < 3_600_000_000
    times = [record.time for record in log.visible()]
    assert times != sorted(times)
    assert [r.arrival for r in log.visible()] == sorted(r.arrival for r in log.visible())


def test_a_record_is_not_visible_before_it_arrives() -> None:
    clock = Clock(ANCHOR - timedelta(days=1))
    log = server.Sandbox(SMALL, clock).log("okta", "system_log")
    before = len(log.visible())
    clock.pass_by(days=1)
    after = log.visible()
    assert before < len(after)
    assert all(r.arrival <= service.micros(ANCHOR - timedelta(days=1)) for r in after[:before])
    assert all(r.arrival > service.micros(ANCHOR - timedelta(days=1)) for r in after[before:])


@pytest.fixture
def log(clock: Clock) -> Log:
    return Log(iter(()), clock)


def add(log: Log, clock: Clock, *names: str, ago: float = 0) -> None:
    for name in names:
        log.append(name.encode(), service.micros(clock.now - timedelta(seconds=ago)))


def names(records: list[Record]) -> list[str]:
    return [record.raw.decode() for record in records]


def test_a_follower_returns_each_record_once(log: Log, clock: Clock) -> None:
    add(log, clock, "old")
    clock.pass_by(seconds=1)
    follower = Follower(log=log, since=service.micros(clock.now))
    add(log, clock, "a", "b")
    assert names(follower.news()) == ["a", "b"]
    assert follower.news() == []
    add(log, clock, "c", ago=3600)
    assert names(follower.news()) == ["c"]


def test_an_early_follower_returns_events_before_the_log_shows_them(clock: Clock) -> None:
    start = service.micros(clock.now)
    late = Record(start + 1_000_000, start + 60_000_000, b"late")
    log = Log(iter([Chunk(start=start, make=lambda: [late])]), clock)
    early, usual = (Follower(log=log, since=start, early=flag) for flag in (True, False))
    assert early.news() == usual.news() == []
    clock.pass_by(seconds=2)
    assert (names(early.news()), usual.news()) == (["late"], [])
    clock.pass_by(seconds=60)
    assert (early.news(), names(usual.news())) == ([], ["late"])


def test_windows_are_half_open_and_continue_after_a_key(log: Log, clock: Clock) -> None:
    for seconds in (3, 1, 2, 0):
        add(log, clock, f"{seconds}s", ago=seconds)
    since, until = (service.micros(clock.now - timedelta(seconds=s)) for s in (3, 0))
    first = log.window(since, until, 2)
    assert (names(first.records), first.more) == (["3s", "2s"], True)
    rest = log.window(since, until, 2, after=first.keys[-1])
    assert (names(rest.records), rest.more) == (["1s"], False)
    newest = log.window(since, until, 1, newest_first=True)
    older = log.window(since, until, 9, after=newest.keys[-1], newest_first=True)
    assert names(newest.records + older.records) == ["1s", "2s", "3s"]


def test_a_filtered_page_is_full_while_matches_follow(log: Log, clock: Clock) -> None:
    add(log, clock, *"abababa")
    found, position = log.follow(0, 2, lambda raw: raw == b"b")
    assert (names(found), position) == (["b", "b"], 4)
    found, position = log.follow(position, 2, lambda raw: raw == b"b")
    assert (names(found), position) == (["b"], 7)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"null", b"[" * 5000, b'"text"', b'{"a": 1}'])
def test_a_record_without_an_id_has_an_empty_one(raw: bytes) -> None:
    assert service.identity(lambda record: record["id"], raw) == ""


@pytest.mark.parametrize("value", [None, [], "text", {"a": None}, {"a": "b"}, {"a": []}])
def test_a_path_that_is_not_there_is_none(value: object) -> None:
    assert service.at("a.b")(value) is None


def test_a_page_keeps_the_exact_bytes_of_its_records() -> None:
    raws = [b'{"b" : 1.0}', b"[ ]"]
    assert service.page(Record(0, 0, raw) for raw in raws) == b'[{"b" : 1.0},[ ]]'
    assert service.page([]) == b"[]"


def test_every_service_has_its_own_webhook_secret() -> None:
    found = {service.webhook_secret(kind) for kind in server.services()}
    assert len(found) == len(server.services())
