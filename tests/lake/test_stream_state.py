"""Coverage and state of a stream: one answer for every surface, checked minute by minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dashboard import coverage as shown
from dashboard import lake as dashboard_lake
from pipelines.cli import status
from pipelines.lake import coverage, spans, stream_state, streams
from pipelines.lake.coverage import Entry
from pipelines.lake.stream_state import Coverage, Facts, History, Intended, State
from pipelines.lake.tables import Lake, StreamKey
from pipelines.schemas import COVERAGE
from pipelines.sdk.pages import Gap, Span

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOG = StreamKey("okta", "system_log")
MINUTES = range(60)

Row = tuple[str, float, float, float, str | None]
"""outcome, since, until, asked_at in minutes, reason"""


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


def span(since: float, until: float) -> Span:
    return Span(since=at(since), until=at(until))


def table(*rows: Row) -> pl.DataFrame:
    return pl.DataFrame(
        [(*LOG, at(s), at(u), at(a), outcome, why, 0, None) for outcome, s, u, a, why in rows],
        COVERAGE,
        orient="row",
    )


def history(*rows: Row, lag: float = 0, keeps: float | None = None) -> History:
    kept = None if keeps is None else timedelta(minutes=keeps)
    facts = Facts(lag=timedelta(minutes=lag), keeps=kept)
    return stream_state.histories(table(*rows).lazy(), {LOG: facts})[LOG]


def known(*rows: Row, lag: float = 0, keeps: float | None = 600, now: float = 59) -> Coverage:
    return stream_state.coverage(history(*rows, lag=lag, keeps=keeps), at(now))


def state(*rows: Row, now: float = 59, behind: bool = False) -> State:
    return stream_state.state(history(*rows), at(now), behind=behind)


def minutes(found: tuple[Span, ...] | tuple[Gap, ...]) -> set[int]:
    ranges = [each.span if isinstance(each, Gap) else each for each in found]
    return {m for m in MINUTES for one in ranges if one.since <= at(m) < one.until}


asks = st.lists(
    st.tuples(st.integers(0, 59), st.integers(0, 59), st.integers(0, 59)).map(
        lambda t: (min(t[:2]), max(t[:2]), max(t))
    ),
    max_size=6,
)


@given(asks, st.integers(0, 20), st.integers(5, 60))
def test_every_time_is_complete_settling_missing_or_lost_and_only_one(asked, lag, keeps):
    wanted = ("wanted", -1, 59, 59, None)
    rows = [("complete", s, u, a, None) for s, u, a in asked]
    found = known(wanted, *rows, lag=lag, keeps=keeps)
    parts = [
        minutes(found.complete),
        minutes(found.settling),
        minutes(found.gaps),
        minutes(found.lost),
    ]
    assert set.union(*parts) == set(range(59))
    assert sum(map(len, parts)) == 59
    assert parts[0] == {m for s, u, a in asked for m in range(s, u) if m < a - lag}
    assert parts[0] | parts[1] == {m for s, u, _ in asked for m in range(s, u)}
    assert all(m < 59 - keeps for m in parts[3])
    assert all(m >= 59 - keeps for m in parts[2])


def test_a_gap_has_the_reason_of_its_failure_and_closes_when_it_is_filled():
    rows = [
        ("wanted", 0, 20, 20, None),
        ("complete", 0, 20, 20, None),
        ("failed", 30, 30, 30, "503 for hours"),
    ]
    assert known(*rows).gaps == (Gap(span=span(20, 30), reason="503 for hours"),)
    found = known(*rows, ("complete", 18, 40, 40, None))
    assert (found.gaps, found.complete) == ((), (span(0, 40),))


def test_a_failure_after_a_gap_explains_it_only_while_the_stream_still_fails():
    gap = [("complete", 0, 10, 10, None), ("complete", 20, 30, 30, None)]
    failed = ("failed", 40, 40, 40, "401")
    assert known(*gap, failed).gaps[0].reason == "401"
    recovered = known(*gap, failed, ("complete", 30, 50, 50, None))
    assert [one.reason for one in recovered.gaps] == [stream_state.NOT_POLLED]


def test_gone_content_is_lost_for_ever_and_does_not_make_a_stream_failing():
    rows = [("complete", 0, 30, 30, None), ("gone", 10, 12, 30, "the file was deleted")]
    rows += [("complete", 0, 59, 59, None)]
    found, past = known(*rows), history(*rows)
    assert found.complete == (span(0, 10), span(12, 59))
    assert found.lost == (Gap(span=span(10, 12), reason="the file was deleted"),)
    assert stream_state.gaps(found, span(11, 40)) == (
        Gap(span=span(11, 12), reason="the file was deleted"),
    )
    assert stream_state.share(past, found, span(9, 29)) == 0.9
    assert state(*rows).name == "up to date"
    assert state(("gone", 10, 12, 30, "404"), now=31).name == "up to date"


def test_content_reported_gone_twice_is_lost_once_and_not_a_gap_too():
    rows = [("wanted", 0, 30, 30, None), ("complete", 0, 10, 30, None)]
    rows += [("complete", 12, 30, 30, None)]
    rows += [("gone", 10, 12, asked, "the file was deleted") for asked in (30, 31, 32)]
    found = known(*rows)
    assert (found.gaps, len(found.lost)) == ((), 1)


def test_what_had_expired_when_it_was_wanted_is_lost_and_no_poll():
    expired = ("expired", 0, 5, 50, "too old")
    assert known(expired, keeps=None).lost == (Gap(span=span(0, 5), reason="too old"),)
    assert state(expired).name == "never polled"
    rows = [expired, ("wanted", 20, 40, 40, None), ("failed", 40, 40, 40, "401")]
    found = known(*rows, keeps=None)
    assert (minutes(found.lost), minutes(found.gaps)) == (set(range(5)), set(range(20, 40)))
    assert state(*rows).name == "failing"


@pytest.mark.parametrize("seconds", [0.001, 0.4, 1, 2])
def test_no_gap_inside_the_range_is_too_short_to_report(seconds):
    rest = 10 + seconds / 60
    rows = [("complete", 0, 10, 10, None), ("complete", rest, 20, 20, None)]
    (gap,) = known(*rows).gaps
    assert gap.span == span(10, rest)
    assert stream_state.uncovered(history(*rows), known(*rows), span(0, 20)) == (gap,)


def test_only_the_ends_of_the_range_are_rounded_to_whole_seconds():
    wanted = ("wanted", -0.01, 30.01, 30.01, None)
    assert known(wanted, ("complete", 0, 30, 30.01, None)).gaps == ()
    assert [one.span for one in known(wanted, ("complete", 1, 29, 30.01, None)).gaps] == [
        span(0, 1),
        span(29, 30),
    ]


def test_a_condensed_row_covers_time_after_its_poll():
    # As older versions wrote it: the first `asked_at` with the last `until`.
    rows = [("complete", 0, 45, 30, None), ("complete", 30, 46, 46, None)]
    assert known(*rows, lag=60).gaps == ()
    past = history(*rows, lag=60)
    assert stream_state.uncovered(past, known(*rows, lag=60), span(0, 46)) == ()
    assert past.polled_at == at(46)


def test_a_lake_without_facts_has_no_lag_and_loses_nothing_by_age():
    rows = table(("complete", 0, 10, 10, None), ("complete", 20, 30, 30, None))
    past = stream_state.histories(rows.lazy(), {})[LOG]
    found = stream_state.coverage(past, at(60 * 24 * 3650))
    assert (found.complete, minutes(found.gaps), found.lost) == (
        (span(0, 10), span(20, 30)),
        set(range(10, 20)),
        (),
    )


def test_nothing_is_known_of_a_stream_that_was_never_polled():
    never = stream_state.histories(table().lazy(), {LOG: Facts(kind="okta")})[LOG]
    assert never == History(facts=Facts(kind="okta"))
    assert stream_state.coverage(never, NOON) == Coverage()
    assert stream_state.state(never, NOON) == State(name="never polled")
    assert stream_state.share(never, Coverage(), span(0, 9)) is None


def test_a_stream_is_never_polled_until_the_vendor_has_answered_or_failed():
    wanted = ("wanted", -90, 0, 0, None)
    assert state(wanted).name == "never polled"
    failed = ("failed", 1, 1, 1, "401 Unauthorized")
    assert state(wanted, failed) == State(name="failing", since=at(1), reason="401 Unauthorized")
    assert state(wanted, ("complete", -90, 0, 0, None)).name == "up to date"


def test_a_plan_that_lacks_a_log_is_no_failure():
    refused = "GET https://graph.example/v1.0/x answered 403: not licensed: buy it"
    assert state(("failed", 1, 1, 1, refused)).name == "not licensed"
    # Words of the service do not count.
    quoted = 'GET https://graph.example/v1.0/x answered 403 Forbidden: "answered 1: not licensed: "'
    assert state(("failed", 1, 1, 1, quoted)).name == "failing"


def test_a_stream_fails_since_the_first_failure_after_its_last_answer():
    rounds = [("complete", n, n + 1, n + 1, None) for n in range(5)]
    failures = [("failed", n, n, n, f"error {n}") for n in (7, 6, 9)]
    assert state(("failed", 2, 2, 2, "older"), *rounds).name == "up to date"
    assert state(*rounds, *failures) == State(name="failing", since=at(6), reason="error 9")
    assert state(*rounds, *failures, ("complete", 5, 10, 10, None)).name == "up to date"


def test_a_stream_is_late_after_an_hour_or_four_usual_intervals():
    rounds = [("complete", n, n + 1, n + 1, None) for n in range(5)]
    assert state(*rounds, now=65).name == "up to date"
    assert state(*rounds, now=65.1).name == "late"
    assert history(*rounds).next_due == at(6)
    seldom = [("complete", n, n + 40, n + 40, None) for n in range(0, 200, 40)]
    assert state(*seldom, now=200 + 160).name == "up to date"
    assert state(*rounds, now=6, behind=True).name == "events behind raw"
    backfill = ("complete", -90, -80, 190, None)
    assert state(*rounds, backfill, now=191).name == "late"


def intended(*rows: Row, configured: bool = False, retired: float | None = None) -> History:
    acts = {} if retired is None else {LOG: at(retired)}
    known = Intended(configured=lambda key: configured or key != LOG, retired=acts)
    return stream_state.histories(table(*rows).lazy(), {LOG: known.of(LOG, Facts())})[LOG]


@pytest.mark.parametrize("outcome", ["complete", "failed"])
def test_a_stream_that_is_no_longer_configured_is_not_polled_since_its_last_poll(outcome):
    row = (outcome, 0, 5, 5, "401")
    gone = intended(row)
    assert stream_state.state(gone, at(60)).name in ("up to date", "failing")
    assert stream_state.state(gone, at(66)).name == "not polled"
    assert stream_state.ended(gone, at(60), log="okta/log") is None
    assert stream_state.ended(gone, at(66), log="okta/log") == (
        "not polled since 2026-03-01 12:05:00 UTC, because it is no longer configured: configure "
        "it again, or run `auditlake retire okta/log`"
    )
    late = intended(row, configured=True)
    assert stream_state.state(late, at(66)).name in ("late", "failing")
    assert stream_state.ended(late, at(66), log="okta/log") is None


def test_a_retired_stream_lacks_nothing_until_it_is_polled_again():
    row = ("complete", 0, 5, 5, None)
    retired = intended(row, retired=30)
    assert stream_state.state(retired, at(99)).name == "retired"
    assert stream_state.ended(retired, at(99), log="") == "retired at 2026-03-01 12:30:00 UTC"
    assert stream_state.due(retired, span(0, 99), at(99)) == span(0, 5)
    again = intended(row, ("complete", 5, 40, 40, None), retired=30)
    assert stream_state.state(again, at(41)).name == "up to date"
    assert stream_state.state(again, at(999)).name == "not polled"


def test_nothing_is_known_of_the_configuration_where_a_lake_is_only_read():
    facts = Intended().of(LOG, Facts())
    assert facts == Facts()


def test_time_before_and_after_the_polls_is_uncovered_but_no_gap():
    rows = [("wanted", 10, 20, 20, None), ("complete", 10, 20, 20, None)]
    past, found = history(*rows), known(*rows)
    assert stream_state.uncovered(past, found, span(5, 25)) == (
        Gap(span=span(5, 10), reason=stream_state.EARLIER),
        Gap(span=span(20, 25), reason=stream_state.SINCE_LAST_POLL),
    )
    assert stream_state.gaps(found, span(5, 25)) == ()
    assert stream_state.share(past, found, span(0, 40)) == 0.5


entries = st.lists(
    st.tuples(
        st.sampled_from(
            ["complete", "complete", "complete", "failed", "gone", "expired", "wanted"]
        ),
        *[st.integers(0, 58)] * 2,
        st.integers(0, 59),
    ),
    max_size=9,
)


def rows_of(made: list[tuple[str, int, int, int]]) -> list[Row]:
    """Return rows with since <= until; unlike those of real clocks, they are not in order."""
    return [(o, min(s, u), max(s, u), a, None if o == "complete" else o) for o, s, u, a in made]


@given(entries, st.integers(0, 20), st.booleans(), st.integers(0, 100), st.integers(1, 80))
@example([("complete", 0, 1, 0), ("complete", 1, 1, 1), ("wanted", 0, 0, 2)], 0, False, 0, 1)
@example([("complete", 0, 1, 0), ("complete", 1, 1, 1), ("failed", 0, 0, 2)], 0, False, 0, 1)
@settings(max_examples=200)
def test_condensing_changes_no_coverage_at_any_later_time(made, lag, ordered, later, keeps):
    made = sorted(made, key=lambda row: row[3]) if ordered else made
    rows = table(*rows_of(made))
    short = pl.DataFrame(spans.condensed(rows.to_dicts(), timedelta(minutes=lag)), COVERAGE)
    facts = {LOG: Facts(lag=timedelta(minutes=lag), keeps=timedelta(minutes=keeps))}
    whole, condensed = (
        stream_state.histories(each.lazy(), facts).get(LOG, History()) for each in (rows, short)
    )
    now = at(59 + later)
    assert short.height <= rows.height
    assert stream_state.coverage(condensed, now) == stream_state.coverage(whole, now)
    assert condensed.polled_at == whole.polled_at
    assert condensed.failing == whole.failing
    assert condensed.reached == whole.reached


times = st.tuples(st.integers(0, 20), st.integers(30, 90), st.integers(0, 200))


@given(entries, times, st.booleans())
@settings(max_examples=25)
def test_command_line_and_dashboard_show_the_same(tmp_path_factory, made, times, condensing):
    lag, keeps, later = times
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    lags = {"lag": timedelta(minutes=lag), "keeps": timedelta(minutes=keeps)}
    streams.record(lake, LOG, Facts(kind="okta", title="Okta", **lags), NOON)
    rows = rows_of(sorted(made, key=lambda row: row[3]))
    record(lake, rows, lag=lags["lag"] if condensing else None)
    now = at(59 + later)
    since = now - timedelta(days=14)
    (line,) = status.states(lake, [], now)
    ((log, printed),) = status.covered(lake, [], (), now)
    drawn = shown.of(dashboard_lake.Lake(lake.root, {}), now)
    gaps = drawn.gaps(LOG, since, now)
    assert (log, (line.integration, line.stream), set(drawn.streams)) == (LOG, LOG, {LOG})
    assert {(one.since, one.until, one.reason) for one in gaps} == {
        (one.span.since, one.span.until, one.reason) for one in (*printed.gaps, *printed.lost)
    }
    assert (line.gaps, line.coverage) == (len(gaps), drawn.share(LOG, since, now))
    state = drawn.summary(LOG).state
    assert (line.state, line.failing_since, line.failure) == (state.name, state.since, state.reason)
    assert line.last_polled == drawn.polled_at(LOG)
    # Both agree with the rows as they were before condensing.
    gone, fetched = (
        {m for o, s, u, _, _ in rows for m in range(s, u) if o in outcome}
        for outcome in (("gone", "expired"), ("complete",))
    )
    hidden = {
        m for m in range(59) for one in drawn.uncovered(LOG, at(0), at(59))
        if one.since <= at(m) < one.until
    }  # fmt: skip
    overdue = state.name in ("never polled", "failing", "late")
    reached = max((u for o, _, u, _, _ in rows if o != "expired"), default=0)
    assert hidden == set(range(59 if overdue else reached)) - (fetched - gone)
    assert minutes(printed.complete) | minutes(printed.settling) == fetched - gone
    assert gone <= minutes(printed.lost)


def record(lake: Lake, rows: list[Row], lag: timedelta | None) -> None:
    claims = [
        Entry(since=at(s), until=at(u), asked_at=at(a), outcome=outcome, reason=why)
        for outcome, s, u, a, why in rows
    ]
    for half in (claims[: len(claims) // 2], claims[len(claims) // 2 :]):
        coverage.record(lake, LOG, half, lag=lag)
