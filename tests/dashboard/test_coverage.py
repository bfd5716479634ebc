"""The coverage and state of streams, as the dashboard shows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from dashboard import coverage
from dashboard import lake as reading
from dashboard.coverage import Gap, Known
from pipelines.lake import coverage as lake_coverage
from pipelines.lake import stream_state, streams
from pipelines.lake.coverage import Entry
from pipelines.lake.stream_state import Facts, State
from pipelines.lake.tables import Lake, StreamKey
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


def known(*claims: dict[str, object], now: float = 99) -> Known:
    rows = pl.DataFrame(claims, schema=COVERAGE).lazy()
    return coverage.at(stream_state.histories(rows, {}), at(now))


def gap(since: float, until: float, reason: str) -> Gap:
    return Gap(since=at(since), until=at(until), log=OKTA, reason=reason)


def test_time_between_two_fetched_ranges_is_a_gap() -> None:
    found = known(claim(0, 4), claim(6, 8))
    assert found.gaps(OKTA, at(0), at(8)) == [gap(4, 6, "not fetched yet")]
    assert found.uncovered(OKTA, at(0), at(8)) == [gap(4, 6, "not fetched yet")]
    assert found.share(OKTA, at(0), at(8)) == 0.75
    assert found.uncovered(OKTA, at(0), at(4)) == []


def test_a_failure_is_the_reason_until_its_time_is_fetched() -> None:
    failed = claim(6, 6, "failed", "503 from the vendor", asked=6)
    assert known(claim(0, 4), failed).gaps(OKTA, at(0), at(6)) == [gap(4, 6, "503 from the vendor")]
    assert known(claim(0, 4), failed, claim(3, 7)).gaps(OKTA, at(0), at(7)) == []


def test_content_that_is_gone_lowers_the_share_and_does_not_fail_the_stream() -> None:
    gone = claim(2, 4, "gone", "404: the blob expired", asked=8)
    found = known(claim(0, 8, asked=8), gone, now=8.5)
    assert found.gaps(OKTA, at(0), at(8)) == [gap(2, 4, "404: the blob expired")]
    assert found.share(OKTA, at(0), at(8)) == 0.75
    assert found.summary(OKTA).state.name == "up to date"


def test_time_after_the_last_poll_is_uncovered_but_lowers_no_share() -> None:
    found = known(claim(0, 5, asked=5))
    assert found.uncovered(OKTA, at(0), at(6)) == [gap(5, 6, "not polled since")]
    assert found.gaps(OKTA, at(0), at(6)) == []
    assert found.share(OKTA, at(0), at(6)) == 1
    soon = known(claim(0, 5, asked=5), now=5.5)
    assert soon.uncovered(OKTA, at(0), at(6)) == []


def test_time_before_the_first_range_has_a_reason_of_its_own() -> None:
    found = known(claim(5, 6))
    assert found.uncovered(OKTA, at(0), at(6)) == [gap(0, 5, "before the first fetched time")]


def test_a_stream_is_failing_late_or_up_to_date() -> None:
    rounds = [claim(n, n + 1, asked=n + 1) for n in range(5)]
    assert known(*rounds, now=5.5).summary(OKTA).state.name == "up to date"
    assert known(*rounds, now=40).summary(OKTA).state.name == "late"
    assert known(*rounds).next_due(OKTA) == at(6)
    failing = known(*rounds, claim(6, 6, "failed", "401", asked=6), now=6)
    assert failing.summary(OKTA).state == State(name="failing", since=at(6), reason="401")
    assert known(*rounds).summary(("okta", "other")).state.name == "never polled"


hours = st.integers(0, 30)
spans = st.tuples(hours, hours).map(sorted).filter(lambda span: span[0] < span[1])


@given(st.lists(spans, max_size=8))
def test_an_hour_is_covered_where_a_fetched_range_contains_it(answered: list[list[int]]) -> None:
    found = known(*(claim(*span) for span in answered), now=999)
    uncovered = found.uncovered(OKTA, at(0), at(30))
    for hour in range(30):
        covered = any(since <= hour < until for since, until in answered)
        missed = any(one.since <= at(hour) < one.until for one in uncovered)
        assert covered != missed


def test_a_lake_with_only_facts_shows_its_streams_as_never_polled(lake: Lake) -> None:
    log = StreamKey(*OKTA)
    assert coverage.of(reading.Lake(lake.root, {}), T0).streams == {}
    streams.record(lake, log, Facts(kind="okta", title="Okta", lag=timedelta(hours=1)), T0)
    found = coverage.of(reading.Lake(lake.root, {}), T0)
    assert found.summary(OKTA).state.name == "never polled"
    assert found.share(OKTA, at(-9), T0) is None
    assert found.uncovered(OKTA, at(-9), T0) == [gap(-9, 0, "never polled")]
    assert found.names.rows() == [(*OKTA, "okta")]


def test_a_lake_without_facts_counts_no_lag(lake: Lake) -> None:
    entry = Entry(since=at(0), until=at(4), asked_at=at(4))
    lake_coverage.record(lake, StreamKey(*OKTA), [entry])
    (history, covered) = coverage.of(reading.Lake(lake.root, {}), at(5)).streams[OKTA]
    assert (history.facts, covered.settling) == (Facts(), ())
    assert covered.complete == history.asked
