"""A rehearsal counts the messages that passes would have sent."""

import random

import pytest

from pipelines.detections.alerts import passes, rehearsal
from pipelines.detections.alerts.rehearsal import Messages
from tests.detections.alerts.world import DAY, MINUTE, NOW, finding, hook, land, receiving, settings
from tests.tiers import FULL

URL = "http://127.0.0.1:9/"
RULE = finding()["rule_id"]


def rehearsed(chosen, *rows, budget=None):
    return rehearsal.rehearse(chosen.alerts, rows, {RULE: budget} if budget else {})


def found(n, minutes, **values):
    return finding(f"finding {n}", time=NOW + minutes * MINUTE, **values)


def test_findings_about_one_entity_are_one_alert_with_updates():
    rows = [found(n, n) for n in range(5)]
    made = rehearsed(settings(), *rows, found(9, 3 * 60))
    # The four that follow the first are one update, ten minutes after it.
    assert made.messages == {"hook": Messages(alerts=2, updates=1)}
    assert made.told == 6


def test_nobody_is_told_what_is_excepted_provisional_or_on_no_route():
    rows = [
        found(1, 0, exception="e1"),
        found(2, 1, provisional=True, level="medium"),
        found(3, 2, level="low"),
        found(4, 3, integration="entra_id", kind="entra_id"),
    ]
    routes = [{"receivers": ["hook"], "integrations": ["okta"]}]
    made = rehearsed(settings(routes=routes), *rows)
    assert (made.excepted, made.provisional, made.unrouted, made.told) == (1, 1, 2, 0)
    assert made.messages == {"hook": Messages()}


def test_without_receivers_there_are_no_messages():
    made = rehearsed(settings({}), found(1, 0))
    assert (made.messages, made.unrouted) == ({"hook": Messages(alerts=1)}, 0)


def test_digests_and_throttled_alerts_are_sums():
    both = {"slow": hook(URL, per_hour=2), "daily": hook(URL)}
    routes = [{"receivers": ["slow"]}, {"receivers": ["daily"], "digest": True}]
    rows = [found(n, n, entity=f"user{n}@example.com") for n in range(10)]
    rows += [found(11, 24 * 60, entity="late@example.com")]
    made = rehearsed(settings(both, routes=routes), *rows)
    assert made.messages["slow"] == Messages(alerts=3, digests=1)
    assert made.messages["daily"] == Messages(digests=2)


def test_a_rule_that_floods_waits_for_the_digest():
    rows = [found(n, n, entity=f"user{n}@example.com") for n in range(9)]
    made = rehearsed(settings(), *rows, found(10, 26 * 60), budget=4)
    assert made.messages == {"hook": Messages(alerts=5, digests=1)}
    assert made.flooding == 5


def test_in_quiet_hours_only_urgent_alerts_are_sent():
    quiet = {"since": "12:00", "until": "14:00", "unless": "critical"}
    rows = [found(n, 10 * n, entity="ada@example.com") for n in range(6)]
    urgent = found(9, 30, level="critical", rule_id="another")
    made = rehearsed(settings({"hook": hook(URL, quiet_hours=quiet)}), *rows, urgent)
    # At their end, one alert has all six.
    assert made.messages == {"hook": Messages(alerts=2)}


@pytest.mark.parametrize("seed", range(10 if FULL else 1))
def test_a_rehearsal_equals_passes_whenever_one_is_due(lake, seed, monkeypatch):
    chance = random.Random(seed)
    monkeypatch.setattr(rehearsal, "_MANY", 3)
    monkeypatch.setattr(passes.health, "problems", lambda *_: [])
    rows = [
        found(
            n,
            chance.randrange(0, 90),
            entity=f"user{chance.randrange(3)}@example.com",
            level=chance.choice(("low", "medium", "high", "critical")),
            exception=chance.choice((None, None, None, "e1")),
        )
        for n in range(12)
    ]
    with receiving() as server:
        receivers = {
            "hook": hook(f"{server.url}/hook", per_hour=2),
            "quiet": hook(
                f"{server.url}/quiet",
                quiet_hours={"since": "12:10", "until": "13:00", "unless": "critical"},
            ),
        }
        routes = [{"receivers": ["hook"]}, {"receivers": ["quiet"], "level": "high"}]
        chosen = settings(receivers, routes=routes, digest_at="20:00")
        made = rehearsed(chosen, *rows)
        for minute in range(120):
            now = NOW + minute * MINUTE
            if new := [row for row in rows if row["time"] == now]:
                land(lake, *new)
            if new or any(each.next_at <= now for each in passes.unsent(lake, now)):
                passes.pass_once(chosen, lake, now)
        passes.pass_once(chosen, lake, NOW + 3 * DAY)
    sent = {name: [g for g in server.got if g.path == f"/{name}"] for name in receivers}
    for name, messages in made.messages.items():
        counted = messages.alerts + messages.updates + messages.digests
        assert counted == len(sent[name]), name
    assert made.messages["hook"].alerts > 0
