"""Alerts of Opsgenie and Jira Service Management: https://docs.opsgenie.com/docs/alert-api.

An alert with the `alias` of one that is open only increases the count of that one.
"""

from __future__ import annotations

import html
from typing import Any

import httpx

from pipelines.detections.alerts import wording
from pipelines.detections.alerts.receivers import exchange
from pipelines.detections.alerts.receivers.exchange import Envelope, Outcome
from pipelines.settings.alerts import OpsgenieReceiver
from pipelines.settings.network import Way

_MESSAGE, _TEXT, _ENTITY, _TAG, _TAGS = 130, 14_000, 500, 50, 20
_PRIORITIES = {"critical": "P1", "high": "P2", "medium": "P3", "low": "P4"}


def send(receiver: OpsgenieReceiver, envelope: Envelope, way: Way) -> Outcome:
    key = receiver.api_key.get_secret_value()
    headers = {"Authorization": f"GenieKey {key}"}
    if not envelope.alert.resolved:
        answer = exchange.send(way, "POST", receiver.url, body(envelope), headers)
        return exchange.judged(answer, [key])
    url = f"{receiver.url}/{envelope.delivery}/close?identifierType=alias"
    answer = exchange.send(way, "POST", url, {"source": "auditlake"}, headers)
    if answer.status_code == httpx.codes.NOT_FOUND:  # somebody has closed and deleted it
        return Outcome(result="sent", receipt="404, no such alert is open")
    return exchange.judged(answer, [key])


def body(envelope: Envelope) -> dict[str, Any]:
    alert = envelope.alert
    # Descriptions and notes are shown as HTML.
    text = html.escape("\n".join(wording.lines(alert, envelope.dashboard)), quote=False)
    tags = [wording.plain(tag, _TAG) for tag in (alert.rule.tags if alert.rule else ())]
    made = {
        "message": wording.headline(alert, _MESSAGE),
        "alias": envelope.delivery,
        "description": wording.cut(text, _TEXT),
        "tags": tags[:_TAGS],
        "priority": _PRIORITIES.get(alert.level, "P5"),
        "source": "auditlake",
        "entity": wording.plain(alert.entity or "", _ENTITY),
    }
    return {**made, "note": made["description"]} if envelope.revision else made
