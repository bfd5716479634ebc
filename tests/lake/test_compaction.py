"""Days that are over are joined and packed, several in a commit, and no row changes."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from pipelines.errors import LakeError
from pipelines.lake import compaction, parquet, tables
from pipelines.lake import raw as raw_table
from pipelines.lake.compaction import Count
from pipelines.lake.tables import Lake
from tests.lake.batches import LOG, NOON, batch

FAR = date(2026, 6, 1)
NEVER, AT_ONCE = timedelta(days=9999), timedelta(0)


def rows(lake: Lake) -> pl.DataFrame:
    found = tables.scan(lake, LOG.table)
    assert found is not None
    return found.collect().sort("seq")


def files(lake: Lake) -> list[Path]:
    handle = tables.open_table(lake, LOG.table)
    assert handle
    return [Path(file) for file in handle.file_uris()]


def version(lake: Lake) -> int:
    handle = tables.open_table(lake, LOG.table)
    assert handle
    return int(handle.version())


def land(lake: Lake, *ids: int, day: int = 0) -> None:
    moved = pl.col("time") + timedelta(days=day)
    found = batch(*ids).with_columns(time=moved, date=moved.dt.date())
    raw_table.append(lake, LOG, found, "c")


def packed(lake: Lake) -> list[bool]:
    """Return for each file, by date, whether it is written as one that stays."""
    groups = [pq.ParquetFile(file).metadata.row_group(0) for file in sorted(files(lake))]
    return [
        any(
            group.column(at).path_in_schema == "seq"
            and "DELTA_BINARY_PACKED" in group.column(at).encodings
            for at in range(group.num_columns)
        )
        for group in groups
    ]


def days(lake: Lake, count: int) -> None:
    """Land that many days, each in two files."""
    for day in range(count):
        land(lake, 2 * day, day=day)
        land(lake, 2 * day + 1, day=day)


@pytest.mark.parametrize(("count", "left"), [(4, 4), (5, 1)])
def test_until_a_past_day_is_packed_it_keeps_few_files(lake: Lake, count: int, left: int) -> None:
    for number in range(count):
        land(lake, number)
    before = rows(lake)
    compaction.compact(lake, LOG.table, FAR, NEVER)
    assert packed(lake) == [False] * left
    assert rows(lake).equals(before)


def test_short_days_are_packed_in_one_commit_and_each_keeps_its_own_file(lake: Lake) -> None:
    days(lake, 3)
    before, at = rows(lake), version(lake)
    compaction.compact(lake, LOG.table, FAR, AT_ONCE)
    assert version(lake) == at + 2, "the other one states how far the table is packed"
    assert len({file.parent for file in files(lake)}) == 3
    assert packed(lake) == [True] * 3
    assert rows(lake).equals(before)
    compaction.compact(lake, LOG.table, FAR, AT_ONCE)
    assert version(lake) == at + 2


def test_a_day_that_has_one_file_is_packed_too(lake: Lake) -> None:
    land(lake, 1)
    compaction.compact(lake, LOG.table, FAR, AT_ONCE)
    assert packed(lake) == [True]


def test_what_arrives_late_is_joined_with_its_packed_day(lake: Lake) -> None:
    days(lake, 3)
    compaction.compact(lake, LOG.table, FAR, AT_ONCE)
    land(lake, 99, day=1)
    before = rows(lake)
    compaction.compact(lake, LOG.table, FAR, NEVER)
    assert len(files(lake)) == 4
    compaction.compact(lake, LOG.table, FAR, AT_ONCE)
    assert packed(lake) == [True] * 3
    assert rows(lake).equals(before)


def test_days_that_are_not_over_or_may_still_grow_are_left_alone(lake: Lake) -> None:
    days(lake, 3)
    compaction.compact(lake, LOG.table, NOON.date() + timedelta(days=1), AT_ONCE)
    assert packed(lake) == [True, False, False, False, False]
    compaction.compact(lake, LOG.table, FAR, NEVER)
    assert packed(lake) == [True, False, False, False, False]


def test_a_day_too_large_to_be_sorted_is_joined(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_DAY_AT_MOST", 1)
    days(lake, 2)
    before = rows(lake)
    compaction.compact(lake, LOG.table, FAR, AT_ONCE)
    assert packed(lake) == [True] * 2
    assert rows(lake).equals(before)


def test_a_run_continues_where_the_last_one_stopped(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_ROWS_OF_RUN", 2)
    days(lake, 3)
    before = rows(lake)
    for done in (1, 2, 3):
        compaction.compact(lake, LOG.table, FAR, AT_ONCE)
        assert packed(lake) == [True] * done + [False] * 2 * (3 - done)
        assert rows(lake).equals(before)


def test_a_run_that_is_killed_leaves_whole_days_and_the_next_one_completes_them(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_ROWS_AT_ONCE", 2)
    days(lake, 3)
    before, steps, original = rows(lake), iter(range(3)), compaction._join

    def killed(*given: Any, again: bool = False) -> None:
        if next(steps) == 2:
            raise KeyboardInterrupt
        original(*given, again=again)

    monkeypatch.setattr(compaction, "_join", killed)
    with pytest.raises(KeyboardInterrupt):
        compaction.compact(lake, LOG.table, FAR, AT_ONCE)
    assert packed(lake) == [True, True, False, False]
    assert rows(lake).equals(before)
    monkeypatch.setattr(compaction, "_join", original)
    compaction.compact(lake, LOG.table, FAR, AT_ONCE)
    assert packed(lake) == [True] * 3
    assert rows(lake).equals(before)


def test_tables_that_are_packed_as_they_are_joined_are_written_again_if_an_older_lake_has_them(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "is_packed_later", lambda _: False)
    monkeypatch.setattr(parquet, "properties", lambda _: {})
    days(lake, 2)
    before = rows(lake)
    compaction.compact(lake, LOG.table, FAR, NEVER)
    assert packed(lake) == [True] * 2
    assert rows(lake).equals(before)
    at = version(lake)
    compaction.compact(lake, LOG.table, FAR, NEVER)
    assert version(lake) == at


@pytest.mark.parametrize(
    "after",
    [
        Count(rows=24, distinct=12, seq_sum=66),
        Count(rows=11, distinct=11, seq_sum=66),
        Count(rows=13, distinct=13, seq_sum=66),
        Count(rows=12, distinct=12, seq_sum=67),
        Count(rows=12, distinct=12, seq_sum=66, content=1),
    ],
)
def test_an_optimize_that_changes_rows_would_be_noticed(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, after: Count
) -> None:
    for number in range(12):
        land(lake, number)
    counts = iter([Count(rows=12, distinct=12, seq_sum=66), after])
    monkeypatch.setattr(compaction, "_count", lambda *_: next(counts))
    with pytest.raises(LakeError, match="12 rows before a compaction"):
        compaction.compact(lake, LOG.table, FAR, NEVER)


def test_the_hash_of_the_content_depends_on_values_and_not_on_their_order(lake: Lake) -> None:
    for number in range(4):
        land(lake, number)
    handle = tables.open_table(lake, LOG.table)
    assert handle
    before = compaction._count(handle, ())
    handle.optimize.z_order(["event_id"])
    assert compaction._count(handle, ()) == before
    land(lake, 4)
    handle.update_incremental()
    assert compaction._count(handle, ()).content != before.content
