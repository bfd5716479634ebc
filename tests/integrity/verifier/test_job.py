"""Values of a verification: the worst finding comes first, and small jobs start no process."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.integrity.verifier.data_files import Kept
from pipelines.integrity.verifier.job import Job, LakeView, TableReport, WorkerPool

VIEW = LakeView(root="s3://bucket/lake/", memory=Path("state"), keys=[])


def report(*findings):
    found = TableReport(table="raw/okta/system_log", at=datetime(2026, 3, 1, tzinfo=UTC))
    for finding in findings:
        found.found(*finding, "detail")
    return found


@pytest.mark.parametrize(
    ("findings", "first"),
    [
        ([("changed", 7), ("deleted", 3)], ("deleted", 3)),
        ([("checkpoint", None), ("changed", 7)], ("changed", 7)),
        ([("events", 3), ("changed", 3)], ("changed", 3)),
        ([("events", 2), ("changed", 3)], ("events", 2)),
        ([("changed", 0), ("inserted", -1)], ("inserted", -1)),
        ([("tiles", None), ("checkpoint", None)], ("tiles", None)),
    ],
)
def test_the_first_bad_row_is_the_lowest_and_raw_comes_before_events(findings, first):
    found = report(*findings)
    assert not found.ok
    assert (found.first_bad.kind, found.first_bad.seq) == first


def test_a_report_without_findings_is_sound():
    assert report().ok
    assert report().first_bad is None


def test_a_new_report_counts_nothing():
    new = report()
    assert (new.size, new.first, new.read, new.events, new.derived, new.uncompared) == (0,) * 6
    assert (new.removed, new.erased, new.lost, new.seconds) == (0,) * 4


def test_tables_and_logs_are_found_below_the_root_of_the_lake():
    assert VIEW.uri("raw/okta/system_log") == "s3://bucket/lake/raw/okta/system_log"
    job = Job(place=VIEW, table="raw/okta/system_log")
    assert job.name == "okta/system_log"
    assert job.shelf.root == "s3://bucket/lake/integrity/okta/system_log"
    assert job.options is None


def test_credentials_of_the_lake_are_passed_on_and_not_shown():
    options = {"aws_secret_access_key": "s3cret"}
    view = LakeView(root="s3://b", options=options, memory=Path("state"), keys=[])
    job = Job(place=view, table="raw/a/b")
    assert job.options == options
    assert job.shelf.options == options
    assert "s3cret" not in repr(job)


def test_the_files_that_a_run_has_read_are_not_shown():
    kept = Kept(acts={b"note": [b"an act"]})
    assert "an act" not in repr(LakeView(root="s3://b", memory=Path("s"), keys=[], kept=kept))


def where(task):
    return task, os.getpid()


def test_few_rows_are_read_in_this_process_and_in_order():
    with WorkerPool(4) as pool:
        assert list(pool.map(where, [3, 1, 2], 199_999)) == [(n, os.getpid()) for n in (3, 1, 2)]
    with WorkerPool(1) as pool:
        assert list(pool.map(where, [1], 10**9)) == [(1, os.getpid())]


def test_many_rows_are_read_by_other_processes_in_order():
    with WorkerPool(2) as pool:
        found = list(pool.map(abs, [-3, 1, -2], 200_000))
        workers = {pid for _, pid in pool.map(where, range(4), 200_000)}
    assert found == [3, 1, 2]
    assert os.getpid() not in workers
    assert 1 <= len(workers) <= 2
