"""A version of a table stays as it is, and its newest version is found without reopening it."""

import shutil
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from pipelines.errors import LakeError
from pipelines.lake import commits, versions
from pipelines.lake.commits import Decision, Table
from pipelines.lake.tables import STORE_ERRORS, Lake
from pipelines.lake.versions import Head

TABLE = Table(
    name="days", about="A test", schema={"date": pl.Date(), "n": pl.Int64()}, partitions=("date",)
)
FIRST = date(2026, 3, 1)


def add(lake, *days):
    rows = pl.DataFrame(
        [(FIRST + timedelta(days=day), day) for day in days], schema=TABLE.schema, orient="row"
    )
    commits.write(lake, TABLE, "okta/log", lambda _, done: Decision(rows, done + rows.height), {})


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path))


def test_a_version_does_not_change_when_rows_are_added(lake):
    add(lake, 2, 0)
    before = versions.newest(lake, "days")
    add(lake, 5)
    after, again = versions.newest(lake, "days"), versions.pinned(lake, "days", before.number)
    assert [table.count() for table in (before, after, again)] == [2, 3, 2]
    assert sorted(before.scan().collect()["n"]) == sorted(again.scan().collect()["n"]) == [0, 2]
    assert before.dates() == [FIRST, FIRST + timedelta(days=2)]
    assert after.files()["num_records"].sum() == 3
    assert (before.fence("okta/log"), after.fence("okta/log"), after.fence("x")) == (2, 3, 0)


def test_a_version_has_the_time_of_its_commit(lake):
    before = datetime.now(UTC) - timedelta(seconds=1)
    add(lake, 0)
    assert before <= versions.newest(lake, "days").committed_at <= datetime.now(UTC)


def test_a_table_that_does_not_exist_has_no_version(lake):
    assert versions.newest(lake, "days") is None
    assert versions.pinned(lake, "days") is None
    assert versions.pinned(lake, "days", 7) is None
    assert Head(lake, "days").newest() is None


def test_a_damaged_log_is_an_error_of_the_store(lake):
    add(lake, 0)
    for commit in (lake.local / "days" / "_delta_log").glob("*.json"):
        commit.write_bytes(b"not a log")
    with pytest.raises(STORE_ERRORS):
        versions.pinned(lake, "days")
    with pytest.raises(LakeError, match="days: "):
        versions.newest(lake, "days")


def test_the_head_follows_a_table_from_its_first_commit_on(lake):
    head = Head(lake, "days")
    assert head.newest() is None
    seen = []
    for day in range(3):
        add(lake, day)
        seen.append((head.newest(), head.newest()))
    (table, first), _ = seen[0]
    assert seen == [((table, n), (table, n)) for n in range(first, first + 3)]
    head.forget()
    assert head.newest() == seen[-1][0]


def test_the_head_notices_that_a_table_was_removed_or_replaced(lake):
    head = Head(lake, "days")
    add(lake, 0)
    add(lake, 1)
    first = head.newest()
    shutil.rmtree(lake.local / "days")
    assert head.newest() is None
    assert head.newest() is None
    add(lake, 2)
    add(lake, 3)
    second = head.newest()
    assert (second[1], second[0] != first[0]) == (first[1], True)
    shutil.rmtree(lake.local / "days")
    add(lake, 4)
    assert head.newest()[0] not in (first[0], second[0])
