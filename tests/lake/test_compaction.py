"""Compaction joins files and packs old days again, a few per commit, and changes no row."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from deltalake import WriterProperties

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


@pytest.mark.parametrize(
    ("count", "quiet", "left"), [(4, NEVER, 4), (5, NEVER, 1), (2, AT_ONCE, 1)]
)
def test_a_past_day_keeps_few_files_and_one_when_nothing_arrives_any_more(
    lake: Lake, count: int, quiet: timedelta, left: int
) -> None:
    for number in range(count):
        land(lake, number)
    before = rows(lake)
    compaction.compact(lake, LOG.table, FAR, quiet)
    assert len(files(lake)) == left
    assert rows(lake).equals(before)


def test_short_days_are_joined_in_one_commit_and_each_keeps_its_own_file(lake: Lake) -> None:
    for day in range(3):
        land(lake, 2 * day, day=day)
        land(lake, 2 * day + 1, day=day)
    before, at = rows(lake), version(lake)
    compaction.compact(lake, LOG.table, FAR, AT_ONCE)
    assert version(lake) == at + 1
    assert len({file.parent for file in files(lake)}) == len(files(lake)) == 3
    assert rows(lake).equals(before)
    compaction.compact(lake, LOG.table, FAR, AT_ONCE)
    assert version(lake) == at + 1


def test_no_more_rows_at_once_than_one_commit_should_hold(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_ROWS_AT_ONCE", 2)
    for day in range(3):
        land(lake, 2 * day, day=day)
        land(lake, 2 * day + 1, day=day)
    at = version(lake)
    compaction.compact(lake, LOG.table, FAR, AT_ONCE)
    assert version(lake) == at + 3


@pytest.fixture
def older(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake whose days an older auditlake has written, one file each."""
    plain = WriterProperties(compression="ZSTD", compression_level=3)
    monkeypatch.setattr(parquet, "fresh", lambda _: plain)
    monkeypatch.setattr(parquet, "ALL_DAYS", "")  # as if its tables did not have the property
    for day in range(3):
        land(lake, *range(20 * day, 20 * day + 20), day=day)
    monkeypatch.undo()
    return lake


def packed(lake: Lake) -> list[bool]:
    """Return for each file, by date, whether it is written as maintenance writes them."""
    columns = [pq.ParquetFile(file).metadata.row_group(0) for file in sorted(files(lake))]
    return [
        any(
            group.column(at).path_in_schema == "seq"
            and "DELTA_BINARY_PACKED" in group.column(at).encodings
            for at in range(group.num_columns)
        )
        for group in columns
    ]


def test_the_days_of_an_older_lake_are_written_again_once(older: Lake) -> None:
    before = rows(older)
    assert packed(older) == [False] * 3
    compaction.repack(older, LOG.table, FAR)
    at = version(older)
    assert packed(older) == [True] * 3
    assert rows(older).equals(before)
    compaction.repack(older, LOG.table, FAR)
    assert version(older) == at


def test_days_that_are_not_over_are_left_alone(older: Lake) -> None:
    compaction.repack(older, LOG.table, NOON.date() + timedelta(days=1))
    assert packed(older) == [True, False, False]


def test_a_run_continues_where_the_last_one_stopped(
    older: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_ROWS_AT_ONCE", 20)
    monkeypatch.setattr(compaction, "_ROWS_OF_RUN", 20)
    before = rows(older)
    for done in (1, 2, 3):
        compaction.repack(older, LOG.table, FAR)
        assert packed(older) == [True] * done + [False] * (3 - done)
        assert rows(older).equals(before)


def test_a_run_that_is_killed_leaves_whole_days_and_the_next_one_completes_them(
    older: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_ROWS_AT_ONCE", 20)
    before, steps = rows(older), iter(range(3))
    original = compaction._step

    def killed(*given: object, again: bool) -> None:
        if next(steps) == 2:
            raise KeyboardInterrupt
        original(*given, again=again)  # type: ignore[arg-type]

    monkeypatch.setattr(compaction, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        compaction.repack(older, LOG.table, FAR)
    assert packed(older) == [True, True, False]
    assert rows(older).equals(before)
    monkeypatch.setattr(compaction, "_step", original)
    compaction.repack(older, LOG.table, FAR)
    assert packed(older) == [True] * 3
    assert rows(older).equals(before)


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
