"""`rollups` has the aggregates of exactly the files that `events` has, up to yesterday."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake

from pipelines.errors import LakeError
from pipelines.lake import deletions, per_file, rollup, rollup_table, tables
from pipelines.schemas import ROLLUPS
from tests.dashboard import small_lakes

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
TODAY = NOON.date()


def land(lake, count=60, first=0, days=3.0):
    rows = small_lakes.events(count, end=NOON, days=days, first=first, seed=first)
    small_lakes.append(Path(lake.root), rows)


def summed(lake):
    """Return file path -> events, as `rollups` counts them in any part."""
    rolled = tables.scan(lake, "rollups").collect()
    paths = dict(rolled.filter(part=rollup.FILES).select("file", "path").iter_rows())
    sums = [
        {paths[file]: n for file, n in rolled.filter(part=part).group_by("file").agg(
            pl.col("n").sum()).iter_rows()}
        for part in (rollup.FILES, *rollup.PARTS)
    ]  # fmt: skip
    assert all(each == sums[0] for each in sums)
    return sums[0]


def stored(lake):
    """Return file path -> events, as the data files of past days have them."""
    files = per_file.event_files(lake).filter(pl.col("date") < TODAY)
    rows = per_file.rows_of_files(lake, files.with_columns(file=pl.lit(0)))
    return dict(rows.group_by("path").len().collect().iter_rows())


def version(lake):
    return tables.open_table(lake, "rollups").version()


@pytest.mark.parametrize("at_once", [1, 500_000])
def test_the_sums_of_past_days_equal_the_rows(lake, monkeypatch, at_once):
    monkeypatch.setattr(rollup_table, "_ROLLED_AT_ONCE", at_once)
    for first in (0, 100):
        land(lake, first=first)
        rollup_table.roll_up(lake, TODAY)
        assert summed(lake) == stored(lake)
    assert sum(summed(lake).values()) < tables.scan(lake, "events").collect().height
    files, following = rollup_table.rolled_up(lake)
    assert sorted(files["file"]) == list(range(following))


def test_nothing_is_written_while_no_file_is_new_or_gone(lake):
    land(lake)
    rollup_table.roll_up(lake, TODAY)
    before = version(lake)
    rollup_table.roll_up(lake, TODAY)
    land(lake, 1, first=100, days=0.1)  # today
    rollup_table.roll_up(lake, TODAY)
    assert version(lake) == before


@pytest.mark.parametrize("left", [5, 0])
def test_files_that_are_gone_are_forgotten(lake, left):
    land(lake)
    rollup_table.roll_up(lake, TODAY)
    before = summed(lake)
    day = TODAY - timedelta(days=2)
    kept = tables.scan(lake, "events").filter(date=day).head(left).collect()
    write_deltalake(lake.uri("events"), kept, mode="overwrite", predicate=f"date = DATE '{day}'")
    rollup_table.roll_up(lake, TODAY)
    assert summed(lake) == stored(lake) != before
    assert tables.scan(lake, "rollups").filter(date=day).collect().is_empty() == (left == 0)


def test_of_two_that_aggregate_the_same_files_one_writes(lake):
    row = pl.DataFrame([dict.fromkeys(ROLLUPS) | {"part": rollup.FILES, "file": 0}], schema=ROLLUPS)
    assert rollup_table.append(lake, 0, 1, row).frame.height == 1
    assert rollup_table.append(lake, 0, 1, row).frame.height == 0
    assert rollup_table.rolled_up(lake)[1] == 1


def test_a_file_with_other_rows_than_the_log_states_is_not_counted(lake):
    land(lake)
    oldest = per_file.event_files(lake).sort("date")["path"][0]
    file = lake.local / "events" / oldest
    pl.read_parquet(file, hive_partitioning=False).head(1).write_parquet(file)
    with pytest.raises(LakeError, match="run `auditlake verify`"):
        rollup_table.roll_up(lake, TODAY)
    assert rollup_table.rolled_up(lake)[0].is_empty()


def test_a_lake_without_events_has_nothing_to_aggregate(lake):
    rollup_table.roll_up(lake, TODAY)
    assert per_file.event_files(lake).is_empty()
    assert tables.open_table(lake, "rollups") is None


def test_files_that_retention_deletes_meanwhile_are_left_out(lake, monkeypatch):
    land(lake)
    rows_of_files, removed = per_file.rows_of_files, []

    def removing(*arguments, **more):
        if not removed:
            removed.append(True)
            deletions.delete(lake, "events", "seq >= 0")
        return rows_of_files(*arguments, **more)

    monkeypatch.setattr(per_file, "rows_of_files", removing)
    rollup_table.roll_up(lake, TODAY)
    assert removed
    assert rollup_table.rolled_up(lake)[0].is_empty()


def test_what_is_forgotten_is_gone_from_the_disk(lake):
    land(lake)
    rollup_table.roll_up(lake, TODAY)
    before = rollup_table.rolled_up(lake)[0]
    lost = per_file.event_files(lake).sort("date")["path"][0]
    day = lost.partition("/")[0].removeprefix("date=")
    deletions.delete_rows(lake, "events", f"date = DATE '{day}'")
    rollup_table.forget(lake)
    after = rollup_table.rolled_up(lake)[0]
    assert lost in before["path"]
    assert set(after["path"]) < set(before["path"])
    files = list((lake.local / "rollups").rglob("*.parquet"))
    assert files
    assert not any(lost in pl.read_parquet(file)["path"] for file in files)


def test_a_file_that_is_forgotten_while_it_is_counted_is_not_added_afterwards(lake, monkeypatch):
    land(lake)
    append, forgotten = rollup_table.append, []

    def late(*arguments):
        if not forgotten:
            forgotten.append(True)
            deletions.delete_rows(lake, "events", "seq >= 0")
            rollup_table.forget(lake)
        return append(*arguments)

    monkeypatch.setattr(rollup_table, "append", late)
    rollup_table.roll_up(lake, TODAY)
    assert rollup_table.rolled_up(lake)[0].is_empty()


def test_a_lake_without_rollups_has_nothing_to_forget(lake):
    rollup_table.forget(lake)
    assert tables.open_table(lake, "rollups") is None
