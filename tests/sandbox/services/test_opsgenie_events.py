"""The contents of Opsgenie's log lines, and the webhooks about their alerts."""

from __future__ import annotations

import json

import pytest

from sandbox.services.opsgenie_events import alert, alert_action
from tests.sandbox.rendered import records, rendered

LINES = records("opsgenie", "logs")


def test_alerts_are_created_and_then_worked_on() -> None:
    actions = {alert_action(line) for line in LINES}
    assert {"Create", "Acknowledge", "Close", "AddNote", None} <= actions
    for line in LINES:
        if line.get("category") not in ("Alert Actions", None):
            assert alert_action(line) is None


@pytest.mark.parametrize(
    "odd", [None, [], "text", {}, {"details": None}, {"details": {"action": 1}}, {"action": None}]
)
def test_a_line_of_another_shape_is_no_alert(odd: object) -> None:
    assert alert_action(odd) is None


def test_a_webhook_has_the_action_and_both_precisions_of_its_lines_time() -> None:
    lines = [line for line in LINES if alert_action(line)]
    for line in lines:
        body = json.loads(alert(line))
        assert body["action"] == alert_action(line)
        assert body["alert"]["updatedAt"] == body["alert"]["createdAt"] * 1_000_000
        assert body["alert"]["alertId"]
    created = [json.loads(alert(line)) for line in lines if alert_action(line) == "Create"]
    assert {body["source"]["type"] for body in created} == {"API"}
    assert all(body["alert"]["message"] for body in created)


def test_the_details_of_an_operations_log_are_a_string_of_json() -> None:
    for record in records("opsgenie", "compass_operations"):
        assert isinstance(record["details"], str)
        assert isinstance(json.loads(record["details"]), dict)


def test_an_alert_about_an_attack_is_an_error() -> None:
    raised = [pair for pair in rendered("opsgenie", "logs") if pair[0].suspicious]
    assert raised
    alerts = [line for _, line in raised if alert_action(line) == "Create"]
    assert alerts
    assert {line["level"] for line in alerts} == {"Error"}
    assert all("Suspicious" in line["details"]["_result"]["alertMessage"] for line in alerts)
