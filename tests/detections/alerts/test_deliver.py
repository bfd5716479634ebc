"""Messages are sent once, retried with growing pauses, and given up visibly."""

import threading
from concurrent.futures import Future
from datetime import timedelta

import pytest

from pipelines.detections.alerts import deliver, passes, queueing
from pipelines.detections.alerts.deliver import Sent
from pipelines.detections.alerts.receivers import exchange
from pipelines.errors import LakeError
from pipelines.lake import tables
from tests.detections.alerts.world import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    finding,
    hook,
    land,
    receiving,
    rows,
    settings,
    states,
)


def answering(*answers):
    """Return a reply that gives these answers one after the other, then accepts."""
    left = list(answers)
    return lambda _: left.pop(0) if left else (200, {}, b"{}")


def queued(lake, chosen, *found, now=NOW):
    land(lake, *found)
    queueing.queue(lake, chosen.alerts, now)


def test_a_message_is_sent_and_its_receipt_recorded(lake):
    with receiving() as server:
        chosen = settings({"hook": hook(server.url)})
        queued(lake, chosen, finding())
        (sent,) = deliver.deliver(lake, chosen, NOW)
        assert (sent.state, sent.row["receipt"], sent.headline) == (
            "sent",
            "200",
            "Administrator role granted",
        )
        assert deliver.deliver(lake, chosen, NOW + HOUR) == []
    assert len(server.got) == 1
    assert [row["state"] for row in rows(lake)] == ["queued", "claimed", "sent"]


def test_retry_after_is_honoured_and_the_message_keeps_its_id(lake):
    with receiving(answering((429, {"Retry-After": "900"}, b""))) as server:
        chosen = settings({"hook": hook(server.url)})
        queued(lake, chosen, finding())
        (first,) = deliver.deliver(lake, chosen, NOW)
        assert (first.state, first.row["receipt"]) == ("failed", "429")
        assert first.row["next_at"] == NOW + 15 * MINUTE
        assert deliver.deliver(lake, chosen, NOW + 14 * MINUTE) == []
        (second,) = deliver.deliver(lake, chosen, NOW + 15 * MINUTE)
        assert second.state == "sent"
    assert len(set(server.ids)) == 1


@pytest.mark.parametrize(
    ("answer", "receipt"),
    [
        ((500, {}, b'{"message": "down\\u202e"}'), '500 (it answered "down\\u202e")'),
        ((302, {"Location": "http://169.254.169.254/"}, b""), "302: redirects are not followed"),
        (None, "no answer: RemoteProtocolError"),
        ((401, {}, b""), "401"),
    ],
)
def test_these_are_retried(lake, answer, receipt):
    with receiving(answering(answer)) as server:
        chosen = settings({"hook": hook(server.url)})
        queued(lake, chosen, finding())
        (first,) = deliver.deliver(lake, chosen, NOW)
        assert first.state == "failed"
        assert first.row["receipt"].startswith(receipt)
        assert deliver.deliver(lake, chosen, NOW + 2 * MINUTE)[0].state == "sent"
    assert len(server.got) == 2


def test_an_answer_that_does_not_come_is_not_waited_for(lake, monkeypatch):
    stuck = threading.Event()
    monkeypatch.setattr(exchange, "LONGEST", 0.2)
    with receiving(lambda _: stuck.wait(20) and None) as server:
        chosen = settings({"hook": hook(server.url)})
        queued(lake, chosen, finding())
        (first,) = deliver.deliver(lake, chosen, NOW)
        stuck.set()
        assert first.row["receipt"] == "no answer: ReadTimeout"


def test_an_unreachable_receiver_is_retried_with_growing_pauses_and_then_given_up(lake):
    chosen = settings({"hook": hook("http://127.0.0.1:9")}, give_up_after="2h")
    queued(lake, chosen, finding())
    now, waits = NOW, []
    while True:
        (tried,) = deliver.deliver(lake, chosen, now) or [None]
        if tried is None:
            break
        assert tried.row["receipt"] == "ConnectError"
        waits.append(tried.row["next_at"] - now)
        now = tried.row["next_at"]
    assert waits[-1] > 10 * waits[0]
    assert states(lake) == [("hook", "findings", 0, "dead")]
    (dead,) = passes.unsent(lake, now)
    assert "given up after" in dead.receipt


def test_a_refused_message_is_dead_at_once(lake):
    with receiving(answering((400, {}, b'{"message": "invalid"}'))) as server:
        chosen = settings({"hook": hook(server.url)})
        queued(lake, chosen, finding())
        (tried,) = deliver.deliver(lake, chosen, NOW)
        assert (tried.state, tried.row["receipt"]) == ("dead", '400 (it answered "invalid")')


def test_pauses_double_up_to_an_hour_with_jitter():
    assert deliver.pause(1, None, 0.5) == timedelta(seconds=30)
    assert deliver.pause(2, None, 0.0) == timedelta(seconds=30)
    assert deliver.pause(30, None, 0.5) == HOUR
    assert deliver.pause(1, 7200, 0.5) == 2 * HOUR
    assert deliver.pause(1, 1e12, 0.5) == 6 * HOUR


def test_of_two_workers_one_claims_and_a_claim_expires(lake):
    chosen = settings()
    queued(lake, chosen, finding())
    assert len(deliver.claim(lake, chosen.alerts, NOW, "one")) == 1
    assert deliver.claim(lake, chosen.alerts, NOW + MINUTE, "two") == []
    ((again, _),) = deliver.claim(lake, chosen.alerts, NOW + 5 * MINUTE, "two")
    assert (again.attempt, again.unanswered) == (2, 2)


def test_a_late_answer_counts_only_if_it_was_sent(lake):
    chosen = settings()
    queued(lake, chosen, finding())
    ((first, _),) = deliver.claim(lake, chosen.alerts, NOW, "one")
    ((second, _),) = deliver.claim(lake, chosen.alerts, NOW + 5 * MINUTE, "two")
    deliver.record(lake, [first.row("failed", NOW)], NOW + 6 * MINUTE)
    assert states(lake)[0][3] == "claimed"
    deliver.record(lake, [first.row("sent", NOW, receipt="200")], NOW + 6 * MINUTE)
    deliver.record(lake, [second.row("failed", NOW)], NOW + 6 * MINUTE)
    assert states(lake)[0][3] == "sent"


def test_workers_that_race_send_each_message_once(lake):
    with receiving() as server:
        chosen = settings({"hook": hook(server.url)})
        queued(lake, chosen, *(finding(str(n), entity=str(n)) for n in range(8)))
        workers = [
            threading.Thread(target=deliver.deliver, args=(lake, chosen, NOW)) for _ in range(3)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert len(server.ids) == len(set(server.ids)) == 8


def tried(message, state):
    """A try to send a message that has ended."""
    found = Future()
    found.set_result(Sent(message=message, headline="", row=message.row(state, NOW)))
    return found


def test_results_that_are_known_together_are_one_commit(lake):
    chosen = settings()
    queued(lake, chosen, *(finding(str(n), entity=str(n)) for n in range(3)))
    claimed = deliver.claim(lake, chosen.alerts, NOW, "one")
    before = tables.open_table(lake, "deliveries").version()
    deliver._record_each(lake, [tried(each, "sent") for each, _ in claimed], NOW)
    assert tables.open_table(lake, "deliveries").version() == before + 1
    assert {state for *_, state in states(lake)} == {"sent"}


def test_a_result_that_cannot_be_recorded_loses_no_other(lake, monkeypatch):
    chosen = settings()
    queued(lake, chosen, *(finding(str(n), entity=str(n)) for n in range(2)))
    (first, _), (second, _) = deliver.claim(lake, chosen.alerts, NOW, "one")
    slow, record = Future(), deliver.record

    def fails_once(*arguments):
        monkeypatch.setattr(deliver, "record", record)
        slow.set_result(tried(second, "sent").result())
        raise LakeError("the store is away")

    monkeypatch.setattr(deliver, "record", fails_once)
    with pytest.raises(LakeError, match="away"):
        deliver._record_each(lake, [tried(first, "sent"), slow], NOW)
    assert sorted(state for *_, state in states(lake)) == ["claimed", "sent"]


def test_a_slow_update_waits_for_the_message_before_it(lake):
    chosen = settings()
    queued(lake, chosen, finding("a"))
    ((first, _),) = deliver.claim(lake, chosen.alerts, NOW, "one")
    queued(lake, chosen, finding("b"), now=NOW + MINUTE)
    assert rows(lake)[-1]["state"] == "held"
    assert deliver.claim(lake, chosen.alerts, NOW + MINUTE, "two") == []
    deliver.record(lake, [first.row("sent", NOW + MINUTE, receipt="200")], NOW + MINUTE)
    ((update, alert),) = deliver.claim(lake, chosen.alerts, NOW + 10 * MINUTE, "two")
    assert (update.revision, alert.count) == (1, 2)


def test_a_newer_revision_replaces_one_that_was_not_sent(lake):
    with receiving(answering((503, {}, b""))) as server:
        chosen = settings({"hook": hook(server.url)})
        queued(lake, chosen, finding("a"))
        deliver.deliver(lake, chosen, NOW)
        queued(lake, chosen, finding("b"), now=NOW + MINUTE)
        deliver.deliver(lake, chosen, NOW + DAY)
    assert [each.rpartition("_")[2] for each in server.ids] == ["0", "1"]


def test_a_receiver_without_a_key_gets_at_most_one_more_try_after_no_answer(lake):
    slack = {"kind": "slack"}
    with receiving(answering((503, {}, b""), None, (503, {}, b""), None, None)) as server:
        chosen = settings({"chat": {**slack, "url": server.url}})
        queued(lake, chosen, finding())
        for day in range(5):
            deliver.deliver(lake, chosen, NOW + day * HOUR)
        assert len(server.got) == 4
    assert states(lake) == [("chat", "findings", 0, "dead")]


def test_nor_is_it_sent_more_than_twice_by_workers_that_are_killed(lake):
    chosen = settings({"chat": {"kind": "slack", "url": "http://127.0.0.1:9"}})
    queued(lake, chosen, finding())
    counts = [
        len(deliver.claim(lake, chosen.alerts, NOW + n * 10 * MINUTE, str(n))) for n in range(4)
    ]
    assert counts == [1, 1, 0, 0]
    assert "may have arrived" in rows(lake)[-1]["receipt"]


def test_the_messages_of_a_receiver_that_was_removed_are_dead(lake):
    queued(lake, settings({"old": hook("http://127.0.0.1:9")}), finding())
    assert deliver.deliver(lake, settings(), NOW) == []
    assert rows(lake)[-1]["receipt"] == "the receiver is no longer configured"


def test_a_digest_is_sent_whole_and_once(lake):
    with receiving() as server:
        chosen = settings({"hook": hook(server.url)})
        for part in ("a", "b"):
            queued(lake, chosen, finding(part, time=NOW - 3 * DAY))
        assert deliver.deliver(lake, chosen, NOW + HOUR) == []
        due = NOW + 20 * HOUR
        assert deliver.deliver(lake, chosen, due)[0].state == "sent"
        assert deliver.deliver(lake, chosen, due + DAY) == []
        queued(lake, chosen, finding("c", time=NOW - 3 * DAY), now=due)
    (got,) = server.got
    assert b'"count":2' in got.body
    assert rows(lake)[-1]["next_at"] == due + DAY


def test_one_slow_or_broken_receiver_holds_up_no_other(lake):
    with receiving() as server:
        receivers = {"good": hook(server.url), "bad": {"kind": "pagerduty", "routing_key": "k"}}
        receivers["bad"]["url"] = "http://127.0.0.1:9"
        chosen = settings(receivers)
        queued(lake, chosen, finding())
        found = {one.message.receiver: one.state for one in deliver.deliver(lake, chosen, NOW)}
    assert found == {"good": "sent", "bad": "failed"}
