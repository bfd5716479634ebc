"""The list of findings: newest revisions, decisions, order, marks and noise."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from dashboard import findings
from dashboard.findings import Wish
from dashboard.queries import Filter
from pipelines.schemas import FINDINGS, TRIAGE
from tests.dashboard import found, small_lakes

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LOW, HIGH, CRITICAL = 3, 1, 0


def event(number: int, hours: float = 0) -> dict[str, Any]:
    row = small_lakes.event(number, NOW - timedelta(hours=hours), random.Random(number))
    return row | {"event_uid": f"{row['integration']}:{row['stream']}:{number}"}


def rows(made: Sequence[dict[str, Any]]) -> pl.LazyFrame:
    numbered = [{**row, "seq": place, "date": row["time"].date()} for place, row in enumerate(made)]
    return pl.LazyFrame(numbered, schema=FINDINGS)


def triage(*decisions: list[dict[str, Any]]) -> pl.DataFrame:
    made = [
        {**row, "time": NOW + timedelta(minutes=place)}
        for place, listed in enumerate(decisions)
        for row in listed
    ]
    return pl.DataFrame(made, schema=TRIAGE)


def cases(*made: dict[str, Any], decisions: Sequence[list[dict[str, Any]]] = ()) -> pl.DataFrame:
    return findings.decided(findings.newest(rows(made)), triage(*decisions))


def uids(queue: findings.Queue) -> list[str]:
    return queue.rows["finding_uid"].to_list()


def test_the_newest_revision_counts() -> None:
    first = found.finding([event(1)], HIGH)
    later = first | {"revision": 1, "count": 5}
    assert cases(later, first)["count"].to_list() == [5]
    assert cases(first, later, later)["count"].to_list() == [5]


def test_the_most_serious_come_first_and_among_them_the_newest() -> None:
    made = [found.finding([event(n, n)], n % 5) for n in range(10)]
    unknown = found.finding([event(99)], LOW, level="apocalyptic", finding_uid="x")
    listed = findings.queue(cases(*made, unknown), Wish(), "ada").rows
    levels = listed["level"].to_list()
    assert levels == [*(level for level in findings.LEVELS for _ in range(2)), "apocalyptic"]
    assert listed["time"][0] > listed["time"][1]


def test_what_was_withdrawn_or_excepted_is_hidden_but_counted() -> None:
    made = [found.finding([event(n)], HIGH) for n in range(4)]
    known = cases(
        *made,
        made[0] | {"revision": 1, "status": "withdrawn"},
        made[1] | {"revision": 1, "exception": "e1"},
    )
    listed = findings.queue(known, Wish(), "ada")
    assert (listed.rows.height, listed.hidden, listed.counts["open"]) == (2, 2, 2)
    assert findings.queue(known, Wish(hidden=True), "ada").rows.height == 4
    assert findings.urgent(known) == 2


def test_low_levels_are_left_out_unless_wanted_and_unknown_ones_never() -> None:
    made = [found.finding([event(n, n)], n) for n in range(5)]
    odd = [
        found.finding([event(90)], LOW, level="apocalyptic", finding_uid="x"),
        found.finding([event(91)], LOW, level=None, finding_uid="y"),
        found.finding([event(92)], LOW, exception="e1", finding_uid="z"),
    ]
    known = cases(*made, *odd)
    listed = findings.queue(known, Wish(lesser=False), "ada")
    assert set(listed.rows["level"]) == {"critical", "high", "medium", None, "apocalyptic"}
    assert (listed.lesser, listed.counts["open"]) == (2, 5)
    assert findings.queue(known, Wish(lesser=False, hidden=True), "ada").lesser == 3
    assert findings.queue(known, Wish(), "ada").lesser == 2
    chosen = findings.queue(known, Wish(levels=("low",), lesser=False), "ada")
    assert (chosen.rows.height, chosen.lesser) == (1, 0)


def test_the_newest_decision_says_in_which_list_a_finding_is() -> None:
    made = [found.finding([event(n)], HIGH) for n in range(4)]
    one, two, three, four = (row["finding_uid"] for row in made)
    known = cases(
        *made,
        decisions=[
            findings.decision([one, two, three], "ada", "assigned"),
            findings.decision([two], "eve", "closed", reason="benign", note=" known "),
            findings.decision([three], "eve", "assigned"),
            findings.decision([four], "eve", "closed", reason="duplicate"),
            findings.decision([four], "ada", "open"),
        ],
    )
    shown = {show: set(uids(findings.queue(known, Wish(show=show), "ada"))) for show in
             findings.SHOWN}  # fmt: skip
    assert shown == {
        "open": {one, three, four},
        "mine": {one},
        "closed": {two},
        "all": {one, two, three, four},
    }
    assert findings.urgent(known) == 3


def test_a_decision_holds_what_belongs_to_its_state() -> None:
    closed = findings.decision(["a", "b"], "ada", "closed", reason="benign", note=" x ")
    assert [row["finding_uid"] for row in closed] == ["a", "b"]
    assert (closed[0]["reason"], closed[0]["note"], closed[0]["assignee"]) == ("benign", "x", None)
    taken = findings.decision(["a"], "ada", "assigned", reason="benign")[0]
    assert (taken["assignee"], taken["reason"], taken["note"]) == ("ada", None, None)


@pytest.mark.parametrize(
    ("wish", "n"),
    [
        (Wish(levels=("high", "critical")), 2),
        (Wish(rules=(found.rule_id(LOW),)), 1),
        (Wish(integrations=("vault",)), 1),
        (Wish(entity="ADA@"), 1),
        (Wish(entity="198.51.100."), 1),
        (Wish(entity=".*"), 0),
        (Wish(since=NOW - timedelta(hours=1)), 1),
        (Wish(until=NOW - timedelta(hours=1)), 2),
    ],
)
def test_filters(wish: Wish, n: int) -> None:
    known = cases(
        found.finding([event(1)], CRITICAL, entity="ada@acme.example"),
        found.finding([event(2, 3)], HIGH, integration="vault", entity="eve"),
        found.finding([event(3, 3)], LOW, source_ip="198.51.100.7", entity=None),
    )
    assert findings.queue(known, wish, "ada").rows.height == n


def test_an_event_of_a_correlation_is_found_by_its_own_time() -> None:
    events = [event(n, 10 - n) for n in range(9)]
    joined = found.finding(events, HIGH)
    single = found.finding(events[3:4], LOW)
    gone = found.finding(events[3:4], CRITICAL, status="withdrawn")
    made = rows([joined, single, gone])
    named = findings.of_event(made, events[3]["time"], events[3]["event_uid"])
    expected = {joined["finding_uid"], single["finding_uid"]}
    assert set(named["finding_uid"]) == expected
    wanted = tuple(one["event_uid"] for one in events[3:5])
    found_in = findings.of_events(made, events[3]["time"], events[4]["time"], wanted)
    assert found_in.height == 3
    assert findings.of_event(made, events[8]["time"], "okta:none:1").is_empty()


def test_marks_count_findings_per_bucket_with_the_highest_level() -> None:
    edges = tuple(NOW - timedelta(hours=n) for n in (4, 3, 2, 1, 0))
    made = [
        found.finding([event(1, 3.5)], LOW),
        found.finding([event(2, 3.2)], CRITICAL),
        found.finding([event(3, 0.5)], HIGH, entity="eve"),
        found.finding([event(4, 9)], HIGH),
        found.finding([event(5, 0.5)], HIGH, exception="e", finding_uid="y"),
    ]
    found_in = findings.marks(cases(*made), edges, ())
    assert found_in.select("start", "n", "rank").rows() == [(edges[0], 1, 0), (edges[3], 1, 1)]
    only = Filter(field="actor", value="eve")
    ignored = Filter(field="action", value="any")
    assert findings.marks(cases(*made), edges, [only, ignored])["n"].to_list() == [1]
    no = Filter(field="actor", value="eve", negated=True)
    assert findings.marks(cases(*made), edges, [no])["n"].to_list() == [1]


def test_noise_is_counted_per_rule_and_week() -> None:
    made = [found.finding([event(n, 24 * 7 * (n // 2) + 1)], HIGH) for n in range(6)]
    made += [found.finding([event(50)], LOW), found.finding([event(60, 24 * 90)], LOW)]
    made += [found.finding([event(70)], LOW, status="withdrawn", finding_uid="w")]
    reasons = ["false positive", "benign", "false positive"]
    decisions = [
        findings.decision([row["finding_uid"]], "ada", "closed", reason=reason)
        for row, reason in zip(made, reasons, strict=False)
    ]
    rules = findings.noise(cases(*made, decisions=decisions), NOW, 4)
    high, low = rules.to_dicts()
    assert (high["weeks"], high["n"], high["closed"]) == ([0, 2, 2, 2], 6, 3)
    assert high["false"] == pytest.approx(2 / 3)
    assert (low["weeks"], low["n"], low["closed"], low["false"]) == ([0, 0, 0, 1], 1, 0, None)
