"""Data files are left out only if their statistics exclude the rows."""

from datetime import timedelta

import polars as pl

from pipelines.lake import pruning, tables
from pipelines.schemas import RAW
from tests.detections.watched import START, land, okta


def landed(lake):
    """Store two records in one file, and one of another day in another."""
    key = land(lake, "okta", okta(0), okta(1))
    land(lake, "okta", okta(2, minute=24 * 60))
    with tables.borrowed(lake, key.table) as handle:
        return key, pruning.files(handle)


def seqs(lake, key, files):
    return pruning.scan(lake, key.table, RAW, files).collect()["seq"].sort().to_list()


def test_files_are_chosen_by_numbers_and_by_times(lake):
    key, files = landed(lake)
    assert seqs(lake, key, pruning.overlapping(files, "seq", 1, 1)) == [0, 1]
    assert seqs(lake, key, pruning.overlapping(files, "seq", 1, 2)) == [0, 1, 2]
    later = START + timedelta(days=1)
    assert seqs(lake, key, pruning.overlapping(files, "time", later, later)) == [2]
    before = START - timedelta(seconds=1)
    assert seqs(lake, key, pruning.overlapping(files, "time", before, before)) == []


def test_a_time_counts_although_statistics_truncate_it(lake):
    key = land(lake, "okta", {**okta(0), "published": "2026-03-01T08:00:00.123456Z"})
    with tables.borrowed(lake, key.table) as handle:
        files = pruning.files(handle)
    exact = START + timedelta(microseconds=123_456)
    assert pruning.overlapping(files, "time", exact, exact).height == 1


def test_files_without_statistics_are_read(lake):
    key, files = landed(lake)
    assert pruning.overlapping(files, "raw", "a", "a").height == 2
    assert pruning.with_values(files, "raw").height == 2
    unknown = files.with_columns(pl.lit(None, pl.Int64).alias("max.seq"))
    assert seqs(lake, key, pruning.overlapping(unknown, "seq", 5, 6)) == [0, 1, 2]


def test_files_are_chosen_by_values_one_of_which_they_may_have(lake):
    key, files = landed(lake)
    chosen = {
        (0, 5): [0, 1],
        (1, 2): [0, 1, 2],
        (2,): [2],
        (5,): [],
        (): [],
    }
    for values, found in chosen.items():
        wanted = pl.Series(values, dtype=pl.Int64)
        assert seqs(lake, key, pruning.containing(files, "seq", wanted)) == found
    assert pruning.containing(files, "raw", pl.Series(["a"])).height == 2
    unknown = files.with_columns(pl.lit(None, pl.Int64).alias("max.seq"))
    assert pruning.containing(unknown, "seq", pl.Series([5])).height == 2
    assert seqs(lake, key, pruning.overlapping(files, "seq", 2, None)) == [2]


def test_files_without_any_value_are_left_out(lake):
    _, files = landed(lake)
    empty = files.with_columns(pl.col("num_records").alias("null_count.seq"))
    assert pruning.with_values(files, "seq").height == 2
    assert pruning.with_values(empty, "seq").is_empty()


def test_rows_have_their_day_from_the_name_of_the_folder(lake):
    key, files = landed(lake)
    found = pruning.scan(lake, key.table, RAW, files).collect().sort("seq")
    assert found.equals(tables.scan(lake, key.table).collect().sort("seq").select(found.columns))
    assert found["date"].equals(found["time"].dt.date().alias("date"))


def test_whole_files_are_read_if_they_have_few_rows_per_condition():
    def worth(conditions, *rows):
        files = pl.DataFrame({"num_records": rows}, schema={"num_records": pl.Int64})
        return pruning.is_worth_reading(files, conditions)

    assert worth(1, 1, 2, 3)
    assert worth(30, 50, 60)
    assert not worth(1, 5000)
    assert not worth(30, 50, 60_000)
    assert not worth(50_000, 200_000)
    assert not worth(30, 1, None)
    assert worth(1)
