"""Findings become messages: each once, in one commit with the position."""

import json
from datetime import timedelta

import pytest

from pipelines.detections.alerts import message, queueing
from tests.detections.alerts.world import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    finding,
    hook,
    land,
    rows,
    settings,
    states,
    uid,
)

ONE = settings().alerts


def queued(lake, chosen=ONE, now=NOW):
    queueing.queue(lake, chosen, now)
    return states(lake)


def test_a_finding_is_queued_once_however_often_a_pass_runs(lake):
    land(lake, finding())
    assert queued(lake) == [("hook", "findings", 0, "queued")]
    assert queued(lake) == [("hook", "findings", 0, "queued")]
    (row,) = rows(lake)
    assert row["seq"] == 0
    assert row["subjects"] == [uid("one")]
    assert message.load(row["payload"]).shown[0].message == "Ada granted Bob a role"


def test_findings_of_a_rule_about_an_entity_are_one_alert(lake):
    land(lake, finding("a"), finding("b"), finding("c", entity="eve@example.com"))
    assert len(queued(lake)) == 2
    land(lake, finding("d"))
    assert ("hook", "findings", 1, "queued") in queued(lake, now=NOW + MINUTE)
    newest = rows(lake)[-1]
    assert set(newest["subjects"]) == {uid("a"), uid("b"), uid("d")}
    assert message.load(newest["payload"]).count == 3
    land(lake, finding("e"))
    assert len({row["delivery"] for row in rows(lake)}) == 2
    queued(lake, now=NOW + 2 * HOUR)
    assert len({row["delivery"] for row in rows(lake)}) == 3


def test_old_findings_are_in_one_digest_however_many_and_whenever_they_come(lake):
    for day in range(2, 5):
        land(lake, *(finding(f"{day} {n}", time=NOW - day * DAY) for n in range(50)))
        queued(lake)
    assert states(lake) == [("hook", "digest", 0, "held")]
    parts = [message.load(row["payload"]) for row in rows(lake)]
    whole = message.merged(parts)
    assert (whole.count, whole.lines[0].count) == (150, 150)
    assert rows(lake)[0]["next_at"].hour == 8


def test_more_findings_than_one_commit_takes_are_all_queued(lake, monkeypatch):
    monkeypatch.setattr(queueing, "_MOST", 10)
    land(lake, *(finding(str(n), time=NOW - 2 * DAY) for n in range(35)))
    queued(lake)
    assert sum(message.load(row["payload"]).count for row in rows(lake)) == 35


@pytest.mark.parametrize(
    "values",
    [
        {"exception": "1"},
        {"provisional": True, "level": "medium"},
        {"status": "withdrawn"},
        {"level": "low"},
    ],
)
def test_nobody_is_told_about_these(lake, values):
    land(lake, finding(**values))
    assert queued(lake) == []
    land(lake, finding("other", entity="x"))
    assert len(queued(lake)) == 1


def test_a_provisional_finding_of_level_high_is_told(lake):
    land(lake, finding(provisional=True))
    assert len(queued(lake)) == 1


def test_a_provisional_finding_is_told_once_it_is_settled(lake):
    land(lake, finding(level="medium", provisional=True))
    queued(lake)
    land(lake, finding(level="medium", revision=1))
    assert queued(lake) == [("hook", "findings", 0, "queued")]


def test_a_newer_revision_changes_the_same_delivery(lake):
    land(lake, finding(count=3))
    queued(lake)
    land(lake, finding(count=5, revision=1))
    assert [state[2] for state in queued(lake, now=NOW + MINUTE)] == [0, 1]
    first, second = rows(lake)
    assert first["delivery"] == second["delivery"]
    assert message.load(second["payload"]).shown[0].events == 5


def test_the_same_facts_again_change_nothing(lake):
    land(lake, finding())
    queued(lake)
    land(lake, finding(revision=1))
    queued(lake)
    assert len(rows(lake)) == 1


def test_one_withdrawn_before_it_was_sent_is_not_sent(lake):
    land(lake, finding())
    queued(lake)
    land(lake, finding(revision=1, status="withdrawn"))
    assert queued(lake)[-1] == ("hook", "findings", 1, "dropped")


def test_an_excepted_one_is_withdrawn_from_its_group(lake):
    land(lake, finding("a"), finding("b"))
    queued(lake)
    land(lake, finding("a", revision=1, exception="7"))
    queued(lake)
    newest = rows(lake)[-1]
    assert (newest["subjects"], newest["state"]) == ([uid("b")], "queued")
    assert message.load(newest["payload"]).count == 1


def test_what_a_receiver_does_not_take_in_an_hour_is_summed_up(lake):
    chosen = settings({"hook": hook("http://127.0.0.1:9", per_hour=3)}).alerts
    land(lake, *(finding(str(n), entity=str(n)) for n in range(10)))
    assert [state[1] for state in queued(lake, chosen)] == ["digest", *["findings"] * 3]
    (summed,) = (row for row in rows(lake) if row["about"] == "digest")
    assert message.load(summed["payload"]).count == 7
    assert summed["next_at"] == NOW + HOUR
    land(lake, finding("later", entity="later"))
    assert len(queued(lake, chosen, NOW + HOUR + MINUTE)) == 5


def test_quiet_hours_hold_what_is_not_urgent(lake):
    quiet = {"since": "22:00", "until": "07:00", "unless": "critical"}
    at = {"quiet_hours": quiet, "time_zone": "Europe/Berlin"}
    chosen = settings({"hook": hook("http://127.0.0.1:9", **at)}).alerts
    night = NOW.replace(hour=23)
    land(lake, finding("a", time=night), finding("b", time=night, level="critical", entity="x"))
    queued(lake, chosen, night)
    held, urgent = rows(lake)
    assert (held["state"], urgent["state"]) == ("held", "queued")
    assert held["next_at"] - night == timedelta(hours=7)


def test_routes_choose_by_level_vendor_and_tag_and_the_digest_comes_last(lake):
    receivers = {name: hook("http://127.0.0.1:9") for name in ("all", "okta", "tag", "calm")}
    routes = [
        {"receivers": ["all"], "level": "critical"},
        {"receivers": ["okta"], "integrations": ["okta"]},
        {"receivers": ["tag"], "tags": ["attack.t10*"], "level": "low"},
        {"receivers": ["calm", "okta"], "level": "informational", "digest": True},
    ]
    chosen = settings(receivers, routes=routes).alerts
    land(lake, finding())
    assert {(each[0], each[1]) for each in queued(lake, chosen)} == {
        ("okta", "findings"),
        ("tag", "findings"),
        ("calm", "digest"),
    }


def test_a_payload_keeps_texts_as_they_are_in_the_table(lake):
    hostile = "<!channel>\r\nBcc: x\u202e"
    land(lake, finding(message=hostile))
    queued(lake)
    assert json.loads(rows(lake)[0]["payload"])["shown"][0]["message"] == hostile
