"""Coverage is copied out of raw commits once, with the cursor of rounds without new rows."""

from pipelines.lake import coverage, raw, tables
from tests.lake.batches import LOG, batch, entry


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


def test_the_same_failure_is_recorded_once_per_hour(lake):
    for hour in (0, 0, 0.5, 1.5):
        coverage.record_failure(lake, LOG, entry(hour, outcome="failed", reason="vendor down"))
    assert coverage.entries(lake, LOG).height == 2
