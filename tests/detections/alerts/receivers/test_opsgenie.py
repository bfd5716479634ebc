"""Opsgenie joins alerts by their alias, which also closes them."""

import json

from pipelines.detections.alerts.receivers import opsgenie
from pipelines.settings.alerts import OpsgenieReceiver
from tests.detections.alerts.receivers.hostile import WAY, envelope, is_plain
from tests.detections.alerts.world import finding, receiving, uid


def accepted(_):
    return 202, {}, b'{"result": "Request will be processed", "requestId": "1"}'


def receiver(url):
    return OpsgenieReceiver(kind="opsgenie", api_key="g3n1e-key", url=f"{url}/v2/alerts")


def test_an_alert_is_created_with_its_alias_and_closed_by_it():
    with receiving(accepted) as server:
        opsgenie.send(receiver(server.url), envelope(finding()), WAY)
        opsgenie.send(receiver(server.url), envelope(finding(), revision=1, resolved=True), WAY)
    made, closed = server.got
    assert made.headers["authorization"] == "GenieKey g3n1e-key"
    body = json.loads(made.body)
    assert (body["alias"], body["priority"]) == (uid("delivery"), "P2")
    assert closed.path == f"/v2/alerts/{uid('delivery')}/close?identifierType=alias"


def test_to_close_what_is_gone_is_no_error():
    with receiving(lambda _: (404, {}, b"{}")) as server:
        closing = envelope(finding(), resolved=True)
        assert opsgenie.send(receiver(server.url), closing, WAY).result == "sent"
        assert opsgenie.send(receiver(server.url), envelope(finding()), WAY).result == "later"


def test_hostile_text_is_escaped_and_short():
    body = opsgenie.body(envelope(revision=1))
    assert len(body["message"]) <= 130
    assert len(body["description"]) <= 15_000
    for text in (body["description"], body["note"]):
        assert "<" not in text
        assert "http://" not in text
        assert is_plain(text)
    assert all(len(tag) <= 50 and is_plain(tag) for tag in body["tags"])
    assert len(body["entity"]) <= 512
