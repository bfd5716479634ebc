"""The rows of the outbox add up to what is due, to whom, and how often it was tried."""

from pipelines.detections.alerts import outbox
from pipelines.detections.alerts.outbox import Outbox
from tests.detections.alerts.world import HOUR, MINUTE, NOW


def row(state="queued", revision=0, **values):
    return {
        "time": NOW,
        "delivery": "d",
        "receiver": "hook",
        "about": "findings",
        "revision": revision,
        "subjects": ["x"],
        "topic": "t",
        "state": state,
        "attempt": 0,
        "next_at": NOW,
        "receipt": None,
        "claimant": None,
        **values,
    }


def after(*rows):
    found = Outbox()
    for each in rows:
        found.add(each)
    return found


def due(*rows, now=NOW):
    return [(each.delivery, each.revision) for each in after(*rows).due(now)]


def test_what_waits_is_due_at_its_time():
    assert due(row(next_at=NOW + MINUTE)) == []
    for state in ("queued", "held", "failed"):
        assert due(row(state)) == [("d", 0)]
    for state in ("sent", "dead", "dropped"):
        assert due(row(), row(state)) == []


def test_a_claim_holds_until_it_expires():
    claimed = row("claimed", next_at=NOW + MINUTE)
    assert due(row(), claimed) == []
    assert due(row(), claimed, now=NOW + MINUTE) == [("d", 0)]


def test_of_the_revisions_only_the_newest_is_due_and_not_while_another_is_sent():
    assert due(row(), row(revision=1)) == [("d", 1)]
    claimed = row("claimed", next_at=NOW + MINUTE)
    assert due(row(), claimed, row(revision=1)) == []
    assert due(row(), claimed, row(revision=1), now=NOW + HOUR) == [("d", 1)]
    assert due(row(), row("dead"), row(revision=1)) == [("d", 1)]


def test_receivers_take_turns():
    rows = [row(delivery=f"a{n}", next_at=NOW - n * MINUTE) for n in range(3)]
    rows += [row(delivery=f"b{n}", receiver="other") for n in range(2)]
    assert [name for name, _ in due(*rows)] == ["a2", "b0", "a1", "b1", "a0"]


def test_a_try_without_an_answer_is_remembered():
    def unanswered(*rows):
        return after(row(), *rows).deliveries["d"].newest.unanswered

    claimed = row("claimed")
    assert unanswered(claimed, row("failed", receipt="503")) == 0
    assert unanswered(claimed, row("failed", receipt="no answer: ReadTimeout")) == 1
    assert unanswered(claimed, claimed) == 2
    assert unanswered(claimed, claimed, row("failed", receipt="503"), claimed) == 2


def test_a_finding_leads_to_its_deliveries_and_a_topic_to_the_newest():
    found = after(row(), row(delivery="e"), row("sent", subjects=[]))
    assert found.by_subject == {"x": ["d", "e"]}
    assert found.by_topic["hook", "t"].id == "e"
    assert found.deliveries["d"].newest.withdrawn


def test_digests_do_not_count_as_alerts():
    found = after(row(), row(delivery="e", about="digest"), row(delivery="f", time=NOW - HOUR))
    assert found.opened_since("hook", NOW - MINUTE) == 1
    assert found.opened_since("other", NOW - MINUTE) == 0


def test_a_key_differs_by_each_of_its_parts():
    keys = [outbox.key("a", "b"), outbox.key("a", "c"), outbox.key("b", "b"), outbox.key("a")]
    assert len(set(keys)) == 4
