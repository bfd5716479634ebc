"""Silence and blindness: what is not covered, and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from dashboard import coverage
from dashboard.coverage import Gap, Known
from pipelines.schemas import COVERAGE

T0 = datetime(2026, 11, 20, tzinfo=UTC)
OKTA = ("okta", "system_log")


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def claim(
    since: float, until: float, outcome: str = "complete", reason: str = "", asked: float = 99
) -> dict[str, object]:
    return {
        "integration": OKTA[0],
        "stream": OKTA[1],
        "since": at(since),
        "until": at(until),
        "asked_at": at(asked),
        "outcome": outcome,
        "reason": reason,
        "rows": 0,
        "cursor": None,
    }


def known(*claims: dict[str, object]) -> Known:
    return coverage.known(pl.DataFrame(claims, schema=COVERAGE).lazy())


def blind(since: float, until: float, reason: str) -> Gap:
    return Gap(since=at(since), until=at(until), log=OKTA, reason=reason)


def test_what_lies_between_two_answers_is_not_seen() -> None:
    found = known(claim(0, 4), claim(6, 8))
    assert found.blind(OKTA, at(0), at(8)) == [blind(4, 6, "not asked for yet")]
    assert found.share(OKTA, at(0), at(8)) == 0.75


def test_a_failure_says_why_until_it_is_made_good() -> None:
    failed = claim(4, 6, "failed", "503 from the vendor")
    assert known(claim(0, 4), failed).blind(OKTA, at(0), at(6)) == [
        blind(4, 6, "503 from the vendor")
    ]
    assert known(claim(0, 4), failed, claim(3, 7)).blind(OKTA, at(0), at(7)) == []


def test_what_is_younger_than_the_question_is_not_seen_yet() -> None:
    found = known(claim(0, 10, asked=5))
    assert found.blind(OKTA, at(0), at(6)) == [blind(5, 6, "not asked for yet")]


def test_what_is_older_than_all_that_was_asked_for_is_told_apart() -> None:
    found = known(claim(5, 6))
    assert found.blind(OKTA, at(0), at(6)) == [blind(0, 5, "before what was asked for")]


def test_a_stream_is_failing_late_or_up_to_date() -> None:
    rounds = [claim(n, n + 1, asked=n + 1) for n in range(5)]
    assert known(*rounds).state(OKTA, at(5.5)) == "up to date"
    assert known(*rounds).state(OKTA, at(40)) == "late"
    assert known(*rounds).due(OKTA) == at(6)
    failing = known(*rounds, claim(5, 6, "failed", "401", asked=6))
    assert failing.state(OKTA, at(6)) == "failing"
    assert known(*rounds).state(("okta", "other"), at(5)) == "never polled"


hours = st.integers(0, 30)
spans = st.tuples(hours, hours).map(sorted).filter(lambda span: span[0] < span[1])


@given(st.lists(spans, max_size=8))
def test_an_hour_is_seen_where_an_answer_holds_it(answered: list[list[int]]) -> None:
    found = known(*(claim(*span) for span in answered))
    unseen = found.blind(OKTA, at(0), at(30))
    for hour in range(30):
        covered = any(since <= hour < until for since, until in answered)
        missed = any(one.since <= at(hour) < one.until for one in unseen)
        assert covered != missed
