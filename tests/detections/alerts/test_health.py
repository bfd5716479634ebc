"""Alerts about auditlake itself begin once, and end when the problem does."""

import json

import polars as pl
import pytest

from pipelines.detections.alerts import health, message, outbox
from pipelines.detections.alerts.health import Problem
from pipelines.integrity import files
from pipelines.lake import commits, coverage, deliveries, streams
from pipelines.lake.coverage import Entry
from pipelines.lake.findings import EVALUATIONS
from pipelines.lake.stream_state import Facts
from pipelines.lake.tables import StreamKey
from pipelines.schemas import EVALUATIONS as COLUMNS
from pipelines.settings import Settings, validated
from tests.detections.alerts.world import DAY, HOUR, MINUTE, NOW, hook, rows, settings, states

LOG = StreamKey("okta", "system_log")
CONFIGURED = validated(Settings, {"integrations": {"okta": {"kind": "okta"}}}, "x")


@pytest.fixture
def polled(lake):
    """A lake whose stream has been polled every ten minutes."""
    streams.record(lake, LOG, Facts(kind="okta", title="Okta", keeps=30 * DAY), NOW)
    for n in range(12, 0, -1):
        at = NOW - n * 10 * MINUTE
        record(lake, Entry(since=at - 10 * MINUTE, until=at, asked_at=at))
    return lake


def record(lake, *entries):
    coverage.record(lake, LOG, entries)


def found(lake, now=NOW):
    return health.problems(CONFIGURED, lake, now)


def names(lake, now=NOW):
    return [each.name for each in found(lake, now)]


def failure(at):
    return Entry(since=at - MINUTE, until=at, asked_at=at, outcome="failed", reason="401: no")


def test_a_lake_that_is_well_has_no_problem(polled):
    assert found(polled) == []


def test_a_stream_that_fails_for_some_time_is_a_problem(polled):
    record(polled, failure(NOW - 5 * MINUTE))
    assert names(polled) == []
    record(polled, failure(NOW + 10 * MINUTE))
    (one,) = found(polled, NOW + 15 * MINUTE)
    assert (one.name, one.level, one.of) == ("stream okta/system_log", "high", {"okta"})
    assert "401: no" in one.text


def test_a_stream_that_is_late_is_a_problem_unless_it_is_not_configured(polled):
    assert names(polled, NOW + 3 * HOUR) == ["stream okta/system_log"]
    assert health.problems(Settings(), polled, NOW + 3 * HOUR) == []


def test_a_gap_is_a_problem_of_a_stream_that_answers(polled):
    later = NOW + 2 * HOUR
    record(polled, Entry(since=NOW + HOUR, until=later, asked_at=later))
    (one,) = found(polled, later)
    assert (one.name, one.level) == ("gap okta/system_log", "medium")
    assert "from 2026-03-02 11:50 to 2026-03-02 13:00" in one.text
    record(polled, Entry(since=NOW - HOUR, until=later, asked_at=later))
    assert found(polled, later) == []


def test_a_loss_is_told_and_never_ends(polled):
    lost = Entry(since=NOW - 3 * DAY, until=NOW - 2 * DAY, asked_at=NOW, outcome="gone")
    record(polled, lost, Entry(since=NOW - 2 * DAY, until=NOW, asked_at=NOW))
    (one,) = found(polled)
    assert one.name.startswith("loss okta/system_log 2026-02-28")
    chosen = settings().alerts
    assert health.queue(polled, chosen, [one], NOW) == 1
    assert health.queue(polled, chosen, [], NOW + DAY) == 0


def test_a_failed_verification_is_critical(lake):
    reports = [
        {"table": "raw/okta/system_log", "ok": False, "findings": [{"detail": "row 7 differs"}]},
        {"table": "raw/okta/other", "ok": False, "findings": [], "uncompared": 3},
        {"table": "events", "ok": True, "findings": []},
        "nonsense",
    ]
    files.of(lake, "integrity").put("verification.json", json.dumps(reports).encode())
    (one,) = found(lake)
    assert (one.name, one.level) == ("verification raw/okta/system_log", "critical")
    assert "row 7 differs" in one.text
    files.of(lake, "integrity").put("verification.json", b"[" * 5000)
    assert found(lake) == []


def evaluated(lake, minutes, error, rule="r1"):
    row = {
        **dict.fromkeys(COLUMNS),
        "integration": "okta",
        "stream": "system_log",
        "since_seq": 0,
        "until_seq": 10,
        "rule_id": rule,
        "error": error,
        "evaluated_at": NOW + minutes * MINUTE,
    }
    commits.append(lake, EVALUATIONS, pl.DataFrame([row], COLUMNS))


def test_a_rule_that_fails_is_a_problem_until_it_is_evaluated_again(lake):
    evaluated(lake, 0, None, rule=None)
    evaluated(lake, 0, "no such field")
    evaluated(lake, 0, "too slow", rule="r2")
    assert names(lake) == ["rule r1", "rule r2"]
    evaluated(lake, 1, None)
    assert names(lake) == ["rule r2"]


PROBLEM = Problem(name="stream x", level="high", title="x cannot be fetched", text="401")


def test_a_problem_is_told_once_and_its_end_too(lake):
    chosen = settings().alerts
    assert health.queue(lake, chosen, [PROBLEM], NOW) == 1
    assert health.queue(lake, chosen, [PROBLEM], NOW + HOUR) == 0
    claimed(lake, NOW)
    assert health.queue(lake, chosen, [], NOW + HOUR) == 1
    assert health.queue(lake, chosen, [], NOW + 2 * HOUR) == 0
    opened, _, ended = rows(lake)
    assert opened["delivery"] == ended["delivery"]
    assert message.load(ended["payload"]).resolved
    health.queue(lake, chosen, [PROBLEM], NOW + DAY)
    assert rows(lake)[-1]["delivery"] != opened["delivery"]


def claimed(lake, now):
    def decide(state):
        known = outbox.fold(state.rows)
        return deliveries.Change(rows=[each.row("claimed", now) for each in known.messages()])

    deliveries.change(lake, NOW - DAY, decide)


def test_one_that_comes_and_goes_is_the_same_alert_and_told_seldom(lake):
    chosen = settings(update_every="30m").alerts
    for n in range(10):
        health.queue(lake, chosen, [PROBLEM] if n % 2 == 0 else [], NOW + n * MINUTE)
        if n == 0:
            claimed(lake, NOW)
    assert len({row["delivery"] for row in rows(lake)}) == 1
    assert {row["next_at"] for row in rows(lake)[2:]} == {NOW + 30 * MINUTE}


def test_an_undelivered_alert_is_told_to_the_other_receivers(lake):
    chosen = settings({name: hook("http://127.0.0.1:9") for name in ("a", "b")}).alerts
    health.queue(lake, chosen, [PROBLEM], NOW)

    def decide(state):
        known = outbox.fold(state.rows)
        ours = [each for each in known.messages() if each.receiver == "a"]
        return deliveries.Change(rows=[each.row("dead", NOW, receipt="410") for each in ours])

    deliveries.change(lake, NOW - DAY, decide)
    assert health.queue(lake, chosen, [PROBLEM], NOW + MINUTE) == 1
    newest = rows(lake)[-1]
    assert (newest["receiver"], newest["subjects"]) == ("b", ["receiver a"])
    assert "410" in newest["payload"]
    assert ("a", "health", 0, "dead") in states(lake)
