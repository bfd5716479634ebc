"""The counts of a round add up over its commits."""

from datetime import timedelta

import pytest

from pipelines.extraction import report as reports
from pipelines.extraction.report import Report
from pipelines.lake import raw
from tests.lake.batches import LOG, NOON, batch


def landed(lake, report, *ids, day=0):
    offered = batch(*ids, day=day)
    reports.count(report, raw.append(lake, LOG, offered, "c"), offered.height)


def test_new_rows_and_duplicates_add_up_to_the_records_offered(lake):
    report = Report(integration="okta", stream="system_log")
    landed(lake, report, "a", "b")
    landed(lake, report, "b", "c", "c", "d")
    assert (report.rows, report.duplicates, report.total, report.version) == (4, 2, 4, 2)
    assert report.bytes == sum(raw.rows(lake, LOG, 0, 4)["raw"].str.len_bytes())


def test_the_oldest_and_newest_events_are_those_of_all_commits(lake):
    report = Report(integration="okta", stream="system_log")
    for day in (0, 2, -3):
        landed(lake, report, "a", day=day)
    seconds = timedelta(seconds=ord("a"))
    assert report.newest == NOON + timedelta(days=2) + seconds
    assert report.oldest == NOON - timedelta(days=3) + seconds


def test_a_commit_without_new_rows_changes_neither_total_nor_times(lake):
    report = Report(integration="okta", stream="system_log")
    landed(lake, report, "a")
    before = (report.rows, report.total, report.newest, report.oldest, report.bytes)
    landed(lake, report, "a")
    assert (report.rows, report.total, report.newest, report.oldest, report.bytes) == before
    assert report.duplicates == 1


def test_the_time_of_a_step_is_added_up_even_if_it_fails():
    report = Report(integration="okta", stream="system_log", seconds={"map": 100.0})
    with pytest.raises(ZeroDivisionError), report.timed("map"):
        raise ZeroDivisionError
    assert report.seconds["map"] > 100
    with report.timed("write events"):
        pass
    assert report.seconds.keys() == {"map", "write events"}
