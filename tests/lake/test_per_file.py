"""Rows about data files of `events` are numbered, committed once and forgotten with their files."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.lake import commits, deletions, per_file, tables
from pipelines.lake.commits import DERIVED, Table
from tests.dashboard import small_lakes

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
TABLE = Table(
    name="sizes",
    schema={"file": pl.Int64(), "path": pl.String(), "rows": pl.Int64()},
    about="Rows per data file",
    partitions=(),
    settings=DERIVED,
)
NOTHING = pl.DataFrame(schema={"path": pl.String()})


@pytest.fixture
def files(lake):
    small_lakes.append(Path(lake.root), small_lakes.events(60, end=NOON, days=3.0))
    return per_file.event_files(lake)


def listed(lake):
    return tables.scan(lake, "sizes").collect()


def add(lake, batch, **more):
    numbers = range(batch["file"][0], batch["file"][-1] + 1)
    rows = batch.select("file", "path", "rows")
    return per_file.append(lake, TABLE, numbers, rows, paths=batch["path"], **more)


def test_files_are_read_with_their_number_and_path(lake, files):
    numbered = files.with_columns(file=pl.int_range(7, 7 + files.height))
    read = per_file.rows_of_files(lake, numbered).group_by("path", "file").len().collect()
    expected = numbered.select("path", "file", len=pl.col("rows").cast(pl.UInt32))
    assert read.sort("file").equals(expected.sort("file"))


def test_files_come_in_batches_by_date_without_those_that_are_current(files):
    found = per_file.batches(files, NOTHING, 5, 1)
    assert [batch["file"].to_list() for batch in found] == [[5], [6], [7], [8]]
    dates = [batch["date"].item() for batch in found]
    assert dates == sorted(dates) == [date(2026, 3, day) for day in (2, 3, 4, 5)]
    (rest,) = per_file.batches(files, found[0], 0, 500)
    assert rest["date"].to_list() == dates[1:]
    assert per_file.batches(files, files, 0, 500) == []


def test_of_two_that_add_the_same_files_one_does(lake, files):
    first, second, *_ = per_file.batches(files, NOTHING, 0, 1)
    assert add(lake, first).frame.height == 1
    assert add(lake, first).frame.height == 0
    add(lake, second, gone=[0])
    assert listed(lake)["file"].to_list() == [1]
    assert commits.fence(tables.open_table(lake, "sizes"), "sizes") == 2


def test_a_file_that_is_lost_meanwhile_is_not_added(lake, files):
    (every,) = per_file.batches(files, NOTHING, 0, 500)
    deletions.delete(lake, "events", "date = DATE '2026-03-03'")
    with pytest.raises(FileNotFoundError, match="date=2026-03-03"):
        add(lake, every)
    assert listed(lake).is_empty()


def test_rows_about_lost_files_are_forgotten(lake, files):
    (every,) = per_file.batches(files, NOTHING, 0, 500)
    per_file.forget(lake, TABLE, listed)
    assert tables.open_table(lake, "sizes") is None
    add(lake, every)
    deletions.delete(lake, "events", "date = DATE '2026-03-03'")
    per_file.forget(lake, TABLE, listed)
    assert listed(lake)["path"].to_list() == [path for path in every["path"] if "03-03" not in path]
    held = [pl.read_parquet(file)["path"] for file in Path(lake.root, "sizes").glob("*.parquet")]
    assert pl.concat(held).sort().equals(listed(lake)["path"].sort())
