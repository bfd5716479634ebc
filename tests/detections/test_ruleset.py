"""All rules of a folder together."""

from tests.detections.drawn_rules import document
from tests.detections.ruled import read


def test_rules_run_or_are_refused_and_are_found_by_stream(tmp_path):
    okta = document({"s": {"eventType": "x"}, "condition": "s"}, product="okta", service="okta")
    windows = document({"s": {"a": "x"}, "condition": "s"}, product="windows", service="security")
    windows["id"] = "22222222-2222-4333-8444-555555555555"
    made = read(tmp_path, okta, windows)
    assert [*made.rules] == [okta["id"]]
    assert [*made.refused] == [windows["id"]]
    assert made.streams(okta["id"]) == ("okta/system_log",)
    assert [one.rule.id for one in made.of_stream("okta/system_log")] == [okta["id"]]
    assert made.of_stream("jumpcloud/directory_insights") == []
