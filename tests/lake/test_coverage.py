"""Coverage is copied out of raw commits once, with the cursor of rounds without new rows."""

from dataclasses import replace
from datetime import timedelta

from pipelines.lake import coverage, raw, tables
from tests.lake.batches import LOG, NOON, batch, entry


def test_coverage_in_raw_commits_is_copied_once_and_in_order(lake):
    raw.append(lake, LOG, batch("a"), "one", entries=[entry(0), entry(3, reason="x")])
    raw.append(lake, LOG, batch("b"), "two", entries=[entry(1)])
    for _ in range(3):
        coverage.record(lake, LOG)
    coverage.record(lake, LOG, [entry(2, outcome="failed")])
    recorded = coverage.entries(lake, LOG)
    assert recorded["since"].dt.hour().to_list() == [12, 13, 14, 15]
    assert recorded["rows"].to_list() == [1, 2, 2, 1]
    assert tables.open_table(lake, "coverage").version() == 2


def test_what_only_raw_commits_contain_so_far_is_pending(lake):
    raw.append(lake, LOG, batch("a"), "one", entries=[entry(0)])
    raw.append(lake, LOG, batch("b"), "two", entries=[entry(1), entry(2)])
    table = raw.logs(lake, [LOG])[LOG]
    for seen, hours in ((0, [12, 13, 14]), (1, [13, 14]), (2, [])):
        found = coverage.pending(lake, LOG, seen)
        assert found["since"].dt.hour().to_list() == hours
        assert coverage.pending_of(table, LOG, seen).equals(found)
    assert coverage.pending_of(None, LOG, 0).is_empty()


def test_the_same_failure_is_recorded_once_per_hour(lake):
    for hour in (0, 0, 0.5, 1.5):
        coverage.record_failure(lake, LOG, entry(hour, outcome="failed", reason="vendor down"))
    assert coverage.entries(lake, LOG).height == 2


def hour(number):
    return NOON + timedelta(hours=number)


def test_entries_of_a_wrong_clock_are_cancelled_and_keep_a_part(lake):
    right, wrong = entry(0), replace(entry(1), until=hour(80), asked_at=hour(80))
    failed = replace(entry(90, outcome="failed", reason="down"), until=hour(90))
    coverage.record(lake, LOG, [right, wrong, failed], "a cursor of the wrong clock")
    for _ in range(2):
        coverage.correct(lake, LOG, later_than=hour(3), since=hour(2), polled_at=hour(2.5))
        now = coverage.entries(lake, LOG)
        assert now.select("since", "until", "outcome").rows() == [
            (right.since, right.until, "complete"),
            (wrong.since, hour(2), "complete"),
            (hour(2.5), hour(2.5), "failed"),
        ]
        assert coverage.last_recorded(lake, LOG).at == hour(2.5)
        assert coverage.last_recorded(lake, LOG).cursor is None
    coverage.record(lake, LOG, [replace(wrong, asked_at=hour(81))])
    assert coverage.entries(lake, LOG)["until"].max() == hour(80), "that time has come"


def test_a_backfill_does_not_move_the_time_up_to_which_polls_are_recorded(lake):
    assert coverage.last_recorded(lake, LOG).at is None
    coverage.record(lake, LOG, [entry(4, outcome="expired")])
    assert coverage.last_recorded(lake, LOG).at is None
    coverage.record(lake, LOG, [entry(5)])
    polled = coverage.last_recorded(lake, LOG).at
    assert polled == entry(5).asked_at
    older = replace(entry(0), asked_at=entry(9).asked_at)
    coverage.record(lake, LOG, [older])
    assert coverage.last_recorded(lake, LOG).at == polled
