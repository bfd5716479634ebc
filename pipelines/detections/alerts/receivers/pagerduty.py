"""PagerDuty's Events API v2: https://developer.pagerduty.com/docs/events-api-v2-overview.

Events with the same `dedup_key` belong to one alert, so sending one again changes nothing.
"""

from __future__ import annotations

from typing import Any

from pipelines.detections.alerts import wording
from pipelines.detections.alerts.receivers import exchange
from pipelines.detections.alerts.receivers.exchange import Envelope, Outcome
from pipelines.settings.alerts import PagerDutyReceiver
from pipelines.settings.network import Way

_SUMMARY, _SOURCE = 1024, 100
_SEVERITIES = {"critical": "critical", "high": "error", "medium": "warning"}


def send(receiver: PagerDutyReceiver, envelope: Envelope, way: Way) -> Outcome:
    key = receiver.routing_key.get_secret_value()
    return exchange.judged(exchange.send(way, "POST", receiver.url, body(key, envelope)), [key])


def body(routing_key: str, envelope: Envelope) -> dict[str, Any]:
    alert, event = envelope.alert, {"routing_key": routing_key, "dedup_key": envelope.delivery}
    if alert.resolved:
        return {**event, "event_action": "resolve"}
    link = wording.link_of(alert, envelope.dashboard)
    when = alert.until or alert.since or envelope.sent_at
    return {
        **event,
        "event_action": "trigger",
        "client": "auditlake",
        "links": [{"href": link, "text": "Open in auditlake"}] if link else [],
        "payload": {
            "summary": wording.headline(alert, _SUMMARY),
            "source": wording.plain(alert.entity or "auditlake", _SOURCE),
            "severity": _SEVERITIES.get(alert.level, "info"),
            "timestamp": when.isoformat(),
            "class": wording.plain(alert.title, 200),
            "custom_details": {"details": [*wording.lines(alert, envelope.dashboard)]},
        },
    }
