"""PagerDuty joins events by their key, and an alert that was withdrawn is resolved."""

import json

from pipelines.detections.alerts.receivers import pagerduty
from pipelines.settings.alerts import PagerDutyReceiver
from tests.detections.alerts.receivers.hostile import WAY, envelope, is_plain
from tests.detections.alerts.world import finding, receiving, uid


def accepted(_):
    return 202, {}, b'{"status": "success", "dedup_key": "x"}'


def test_an_alert_is_triggered_updated_and_resolved_under_one_key():
    with receiving(accepted) as server:
        receiver = PagerDutyReceiver(kind="pagerduty", routing_key="R1", url=server.url)
        for one in (
            envelope(finding()),
            envelope(finding(), revision=1),
            envelope(finding(), revision=2, resolved=True),
        ):
            assert pagerduty.send(receiver, one, WAY).receipt == "202"
    bodies = [json.loads(each.body) for each in server.got]
    assert [each["event_action"] for each in bodies] == ["trigger", "trigger", "resolve"]
    assert {each["dedup_key"] for each in bodies} == {uid("delivery")}
    payload = bodies[0]["payload"]
    assert (payload["severity"], payload["source"]) == ("error", "ada@example.com")
    assert payload["timestamp"] == "2026-03-02T11:59:00+00:00"


def test_hostile_text_is_plain_and_short():
    body = pagerduty.body("R1", envelope())
    payload = body["payload"]
    assert len(payload["summary"]) <= 1024
    for text in (payload["summary"], payload["source"], *payload["custom_details"]["details"]):
        assert is_plain(text)
    json.dumps(body).encode()


def test_an_echoed_key_is_not_in_the_receipt():
    with receiving(lambda _: (400, {}, b'{"message": "no key R1SECRETKEY"}')) as server:
        receiver = PagerDutyReceiver(kind="pagerduty", routing_key="R1SECRETKEY", url=server.url)
        outcome = pagerduty.send(receiver, envelope(), WAY)
    assert (outcome.result, outcome.receipt) == ("never", '400 (it answered "no key ***")')
