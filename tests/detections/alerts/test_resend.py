"""Alerts that could not be delivered are sent again on request, with the same key."""

import pytest

from pipelines.detections.alerts import deliver, health, outbox, passes, queueing, resend
from pipelines.errors import ConfigurationError
from pipelines.lake import deliveries
from tests.detections.alerts.world import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    finding,
    hook,
    land,
    receiving,
    rows,
    settings,
)

LATER = NOW + 3 * DAY


def given_up(lake, server, *names):
    """Let alerts about these findings die, and return the settings."""
    chosen = settings({"hook": hook(server.url)})
    server.reply = lambda _: (410, {}, b"gone")
    land(lake, *(finding(name, entity=name) for name in names))
    queueing.queue(lake, chosen.alerts, NOW)
    deliver.deliver(lake, chosen, NOW)
    return chosen


def undelivered(lake, chosen, now):
    known = outbox.fold(deliveries.recorded(lake, now - outbox.KEPT))
    return [each.title for each in health.undelivered(chosen.alerts, known, now)]


def test_a_dead_alert_is_sent_again_once_with_its_key(lake):
    with receiving() as server:
        chosen = given_up(lake, server, "one")
        (dead,) = resend.dead(lake, LATER)
        assert "410" in dead.receipt
        assert resend.resend(lake, chosen.alerts, [dead], LATER)[0].delivery == dead.delivery
        # Whoever asked at the same time queues nothing.
        assert resend.resend(lake, chosen.alerts, [dead], LATER) == []
        assert (resend.dead(lake, LATER), passes.is_due(chosen, lake, LATER)) == ([], True)
        assert undelivered(lake, chosen, LATER) == ["1 alerts to hook could not be delivered"]
        server.reply = lambda _: (200, {}, b"{}")
        assert [each.state for each in deliver.deliver(lake, chosen, LATER)] == ["sent"]
        assert deliver.deliver(lake, chosen, LATER + HOUR) == []
    assert server.ids[0] == server.ids[1]
    assert len(server.got) == 2
    assert undelivered(lake, chosen, LATER) == []
    states = [row["state"] for row in rows(lake)]
    assert states == ["queued", "claimed", "dead", "queued", "claimed", "sent"]
    assert rows(lake)[3]["receipt"].startswith("sent again on request, after: 410")


def test_it_is_retried_as_if_it_were_new(lake):
    with receiving() as server:
        chosen = given_up(lake, server, "one")
        resend.resend(lake, chosen.alerts, resend.dead(lake, LATER), LATER)
        server.reply = lambda _: (503, {}, b"")
        assert [each.state for each in deliver.deliver(lake, chosen, LATER)] == ["failed"]
        again = LATER + 2 * MINUTE
        assert [each.state for each in deliver.deliver(lake, chosen, again)] == ["failed"]
        end = LATER + 3 * DAY
        deliver.deliver(lake, chosen, end)
    (dead,) = resend.dead(lake, end)
    assert "given up after 2 tries" in dead.receipt


def test_a_receiver_without_keys_gets_it_again_too(lake):
    with receiving(lambda _: None) as server:
        chosen = settings({"chat": {"kind": "slack", "url": server.url}})
        land(lake, finding())
        queueing.queue(lake, chosen.alerts, NOW)
        for minutes in (0, 5):
            deliver.deliver(lake, chosen, NOW + minutes * MINUTE)
        resend.resend(lake, chosen.alerts, resend.dead(lake, LATER), LATER)
        server.reply = lambda _: (200, {}, b"ok")
        assert [each.state for each in deliver.deliver(lake, chosen, LATER)] == ["sent"]


def test_the_beginning_of_an_id_is_enough_if_it_is_one(lake):
    with receiving() as server:
        chosen = given_up(lake, server, "one", "two")
    found = resend.dead(lake, NOW)
    assert len(found) == 2
    assert resend.chosen(found, [found[0].delivery[:8]] * 2) == found[:1]
    for wrong in ("", found[0].delivery[:5], "0" * 64):
        with pytest.raises(ConfigurationError):
            resend.chosen(found, [wrong])
    with pytest.raises(ConfigurationError, match="several"):
        resend.chosen([found[0], found[0]], [found[0].delivery])
    assert len(rows(lake)) == 6
    none = settings({"other": hook("http://127.0.0.1:9/")})
    assert resend.resend(lake, none.alerts, found, LATER) == []
    assert resend.resend(lake, chosen.alerts, [], LATER) == []


def test_without_an_outbox_nothing_is_dead(lake):
    assert resend.dead(lake, NOW) == []
