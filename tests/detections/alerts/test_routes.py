"""Times of day are those of the receiver's zone, also when its clocks are changed."""

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from pipelines.detections.alerts import routes
from pipelines.settings.alerts import QuietHours
from tests.detections.alerts.world import finding, hook, settings

BERLIN = ZoneInfo("Europe/Berlin")


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "due"),
    [
        ("2026-03-02T06:59", "2026-03-02T07:00"),
        ("2026-03-02T07:00", "2026-03-03T07:00"),
        ("2026-03-28T12:00", "2026-03-29T06:00"),  # summer time begins in the night
        ("2026-10-24T12:00", "2026-10-25T07:00"),  # and ends
    ],
)
def test_the_digest_comes_at_the_same_time_of_day(now, due):
    assert routes.next_digest(time(8), BERLIN, at(now)) == at(due)


@pytest.mark.parametrize(
    ("since", "until", "now", "resumed"),
    [
        ("22:00", "07:00", "2026-03-02T20:59", "2026-03-02T20:59"),
        ("22:00", "07:00", "2026-03-02T21:00", "2026-03-03T06:00"),
        ("22:00", "07:00", "2026-03-03T05:59", "2026-03-03T06:00"),
        ("22:00", "07:00", "2026-03-03T06:00", "2026-03-03T06:00"),
        ("12:00", "13:00", "2026-03-02T11:30", "2026-03-02T12:00"),
        ("12:00", "12:00", "2026-03-02T11:30", "2026-03-02T11:30"),
        ("22:00", "07:00", "2026-03-28T23:00", "2026-03-29T05:00"),
    ],
)
def test_quiet_hours_end_in_the_zone_of_the_receiver(since, until, now, resumed):
    quiet = QuietHours(since=since, until=until)
    assert routes.not_before(quiet, BERLIN, "high", at(now)) == at(resumed)
    assert routes.not_before(quiet, BERLIN, "critical", at(now)) == at(now)
    assert routes.not_before(None, BERLIN, "low", at(now)) == at(now)


def told(row, *given):
    receivers = {name: hook("http://127.0.0.1:9") for name in ("a", "b")}
    return routes.of_finding(settings(receivers, routes=given).alerts, finding(**row))


def test_a_receiver_of_two_routes_is_told_now_if_one_says_so():
    late, now = {"receivers": ["a"], "digest": True}, {"receivers": ["a"]}
    assert told({}, late) == {"a": "digest"}
    assert told({}, late, now) == told({}, now, late) == {"a": "now"}


def test_a_route_names_an_instance_or_its_kind():
    route = {"receivers": ["a"], "integrations": ["okta"]}
    assert told({"integration": "okta_eu", "kind": "okta"}, route) == {"a": "now"}
    assert told({"integration": "x", "kind": "y"}, route) == {}


def test_a_tag_is_whole_or_a_beginning():
    route = {"receivers": ["a"], "tags": ["attack.t1098", "attack.t11*"]}
    assert told({"tags": ["attack.t1098.003"]}, route) == {}
    assert told({"tags": ["attack.t1110.003"]}, route) == {"a": "now"}
    assert told({"tags": None}, route) == {}


def test_problems_have_routes_of_their_own():
    chosen = settings(
        {"a": hook("http://127.0.0.1:9"), "b": hook("http://127.0.0.1:9")},
        routes=[
            {"receivers": ["a"], "about": ["findings"]},
            {"receivers": ["b"], "about": ["health"], "level": "high", "integrations": ["okta"]},
        ],
    ).alerts
    assert routes.of_problem(chosen, "high", {"okta"}) == ["b"]
    assert routes.of_problem(chosen, "high", set()) == ["b"]
    assert routes.of_problem(chosen, "high", {"entra_id"}) == []
    assert routes.of_problem(chosen, "low", {"okta"}) == []
