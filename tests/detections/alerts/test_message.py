"""Alerts keep the facts of findings, and survive the way through the table."""

from pipelines.detections.alerts import message
from tests.detections.alerts.world import HOUR, NOW, finding, uid


def test_an_alert_is_the_same_after_the_way_through_the_table():
    alert = message.opened(finding())
    assert message.load(message.dump(alert)) == alert
    assert (alert.rule.author, alert.rule.license) == ("A. Writer", "DRL-1.1")


def test_a_finding_without_texts_has_an_alert_too():
    empty = dict.fromkeys(("title", "message", "entity", "tags", "matched", "source_ip", "author"))
    alert = message.opened(finding(**empty))
    assert (alert.title, alert.entity) == ("11111111-2222-4333-8444-555555555555", None)


def test_long_texts_are_cut_so_that_no_receiver_refuses_the_message():
    huge = "x" * 1_000_000
    row = finding(message=huge, entity=huge, title=huge, tags=[huge] * 1000, author=huge)
    row = {**row, "matched": [{"field": huge, "value": huge}] * 1000}
    assert len(message.dump(message.opened(row))) < 500_000


def test_of_many_findings_the_newest_are_shown_and_the_level_is_the_highest():
    alert = message.opened(finding("0", level="low"))
    for n in range(1, 30):
        row = finding(str(n), time=NOW + n * HOUR, level="critical" if n == 5 else "low")
        alert = message.joined(alert, row, n + 1)
    assert (alert.count, len(alert.shown), alert.level) == (30, message.MOST_SHOWN, "critical")
    assert alert.shown[0].uid == uid("29")
    assert (alert.since, alert.until) == (finding()["time"], NOW + 29 * HOUR)


def test_a_newer_revision_takes_the_place_of_the_older_one():
    alert = message.joined(message.opened(finding()), finding(message="other"), 1)
    assert [each.message for each in alert.shown] == ["other"]


def test_an_alert_is_resolved_by_the_last_withdrawal():
    alert = message.joined(message.opened(finding("a")), finding("b"), 2)
    alert = message.withdrawn(alert, uid("a"), 1)
    assert (alert.resolved, [each.uid for each in alert.shown]) == (False, [uid("b")])
    alert = message.withdrawn(alert, uid("b"), 0)
    assert alert.resolved
    assert not message.joined(alert, finding("c"), 1).resolved


def test_the_parts_of_a_digest_add_up_and_the_worst_comes_first():
    parts = [
        message.digest([finding(str(n), level=level) for n in range(count)], "title")
        for level, count in (("low", 5), ("high", 1), ("low", 2))
    ]
    whole = message.merged(parts)
    assert (whole.count, whole.level) == (8, "high")
    assert [(line.level, line.count) for line in whole.lines] == [("high", 1), ("low", 7)]


def test_an_unknown_level_is_not_overlooked():
    assert message.severity("urgent") > message.severity("critical")
