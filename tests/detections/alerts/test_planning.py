"""Plans are pure: the same findings and outbox give the same rows."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.detections.alerts import planning
from pipelines.detections.alerts.outbox import Outbox
from pipelines.detections.alerts.planning import Plan
from tests.detections.alerts.world import HOUR, MINUTE, NOW, finding, settings, uid

ONE = settings(group_within="1h").alerts


def planned(known, payloads, found, now=NOW):
    """Plan, apply the rows, and return them."""
    plan = Plan(chosen=ONE, known=known, payload=payloads.__getitem__, now=now)
    rows = planning.rows(plan, found)
    for row in rows:
        known.add(row)
        payloads[row["delivery"]] = row["payload"]
    return rows


def test_the_same_findings_give_the_same_keys():
    found = [finding("a"), finding("b", entity="x")]
    first, second = (planned(Outbox(), {}, found) for _ in range(2))
    assert first == second
    assert len({row["delivery"] for row in first}) == 2


def test_an_update_waits_after_a_message_that_may_have_been_sent():
    known, payloads = Outbox(), {}
    (row,) = planned(known, payloads, [finding("a")])
    known.add({**row, "state": "claimed", "attempt": 1})
    (update,) = planned(known, payloads, [finding("b")], NOW + MINUTE)
    assert (update["state"], update["next_at"]) == ("held", NOW + ONE.update_every)


def test_a_full_group_is_followed_by_another(monkeypatch):
    monkeypatch.setattr(planning, "_MOST_SUBJECTS", 3)
    known = Outbox()
    planned(known, {}, [finding(str(n)) for n in range(7)])
    sizes = sorted(len(each.newest.subjects) for each in known.deliveries.values())
    assert sizes == [1, 3, 3]


steps = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["found", "withdrawn"]), st.booleans()),
    max_size=25,
)


@given(steps, st.integers(1, 5))
def test_however_findings_come_each_is_in_one_alert_at_most(steps, size):
    known, payloads, last = Outbox(), {}, {}
    rows = [
        finding(str(n), status=status, exception="1" if excepted else None, revision=at)
        for at, (n, status, excepted) in enumerate(steps)
    ]
    for at in range(0, len(rows), size):
        planned(known, payloads, rows[at : at + size], NOW + at * MINUTE)
        last.update({row["finding_uid"]: row for row in rows[at : at + size]})
    told = [uid for each in known.deliveries.values() for uid in each.newest.subjects]
    alerted = {name for name, row in last.items() if planning.is_alerted(row)}
    assert sorted(told) == sorted(alerted)


def test_what_a_plan_may_need_is_the_alerts_of_its_findings_and_of_their_groups():
    known, payloads = Outbox(), {}
    planned(known, payloads, [finding("a"), finding("b", entity="x")])
    same, other = (each.id for each in known.deliveries.values())
    assert planning.affected(known, [finding("c")]) == {same}
    assert planning.affected(known, [finding("b", entity="y")]) == {other}
    assert known.by_subject[uid("a")] == [same]
    assert planned(known, payloads, [finding("a", entity="z")], NOW + 2 * HOUR) == []
