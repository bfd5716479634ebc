"""Logs: when records arrive, and who follows them."""

from __future__ import annotations

from datetime import timedelta

from sandbox import server, service
from sandbox.server import Options
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
