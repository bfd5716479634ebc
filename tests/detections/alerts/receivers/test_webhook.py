"""Webhooks are signed by Standard Webhooks, and a message sent again is the same."""

import base64
import hashlib
import hmac
import json

import pytest

from pipelines.detections.alerts.receivers import webhook
from pipelines.settings.alerts import WebhookReceiver
from tests.detections.alerts.receivers.hostile import TEXT, WAY, envelope
from tests.detections.alerts.world import NOW, SECRET, receiving, uid


def verified(got):
    """Verify a request as a receiver does, and return its document."""
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    headers = got.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + got.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    return json.loads(got.body)


def receiver(url, secret=SECRET):
    return WebhookReceiver(kind="webhook", url=url, secret=secret)


def test_the_signature_is_that_of_the_body_sent():
    with receiving() as server:
        assert webhook.send(receiver(server.url), envelope(), WAY).result == "sent"
        webhook.send(receiver(server.url), envelope(), WAY)
    first, again = server.got
    document = verified(first)
    assert first.headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    assert document["type"] == "finding.opened"
    assert document["data"]["dedup_key"] == uid("delivery")
    assert (first.body, first.headers["webhook-id"]) == (again.body, again.headers["webhook-id"])
    assert "." not in first.headers["webhook-id"]


def test_texts_are_those_of_the_table():
    with receiving() as server:
        webhook.send(receiver(server.url), envelope(), WAY)
    alert = verified(server.got[0])["data"]["alert"]
    assert alert["entity"] == TEXT


@pytest.mark.parametrize(
    ("values", "kind"),
    [({"revision": 1}, "finding.updated"), ({"resolved": True}, "finding.resolved")],
)
def test_the_type_tells_what_happened(values, kind):
    assert webhook.body(envelope(**values))["type"] == kind


def test_a_known_signature():
    # The example of the specification.
    found = webhook.signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "1614265330",
        b'{"test": 2432232314}',
    )
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_in_an_answer_is_not_in_the_receipt():
    key = SECRET.removeprefix("whsec_")

    def echo(_):
        return 401, {}, json.dumps({"message": f"wrong {SECRET}"}).encode()

    with receiving(echo) as server:
        outcome = webhook.send(receiver(server.url), envelope(), WAY)
    assert outcome.result == "later"
    assert key not in outcome.receipt
    assert "wrong" in outcome.receipt
