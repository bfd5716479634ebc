"""Signed webhooks: https://github.com/standard-webhooks/standard-webhooks.

The receiver verifies the signature, and ignores a message whose `webhook-id` it has seen.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import msgspec

from pipelines.detections.alerts import wording
from pipelines.detections.alerts.receivers import exchange
from pipelines.detections.alerts.receivers.exchange import Envelope, Outcome
from pipelines.settings.alerts import WebhookReceiver
from pipelines.settings.network import Way


def send(receiver: WebhookReceiver, envelope: Envelope, way: Way) -> Outcome:
    content = msgspec.json.encode(body(envelope))
    url, secret = receiver.url.get_secret_value(), receiver.secret.get_secret_value()
    stamp = str(int(envelope.sent_at.timestamp()))
    signed = {
        "webhook-id": envelope.id,
        "webhook-timestamp": stamp,
        "webhook-signature": signature(secret, envelope.id, stamp, content),
    }
    return exchange.judged(exchange.send(way, "POST", url, content, signed), [secret, url])


def signature(secret: str, message: str, stamp: str, content: bytes) -> str:
    key = base64.b64decode(_padded(secret.removeprefix("whsec_")))
    made = hmac.new(key, f"{message}.{stamp}.".encode() + content, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(made).decode()}"


def body(envelope: Envelope) -> dict[str, Any]:
    """Return the message. Its texts are exact: whoever shows them has to escape them."""
    alert = envelope.alert
    return {
        "type": _type(envelope),
        "timestamp": alert.until or alert.since or envelope.sent_at,
        "data": {
            "dedup_key": envelope.delivery,
            "revision": envelope.revision,
            "headline": wording.headline(alert),
            "link": wording.link_of(alert, envelope.dashboard),
            "alert": alert,
        },
    }


def _type(envelope: Envelope) -> str:
    alert = envelope.alert
    if alert.about in ("digest", "test"):
        return alert.about
    about = "finding" if alert.about == "findings" else "health"
    if alert.resolved:
        return f"{about}.resolved"
    return f"{about}.updated" if envelope.revision else f"{about}.opened"


def _padded(text: str) -> str:
    return text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)
