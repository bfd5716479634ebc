"""`text_index` has the filters of exactly the files that `events` has, up to yesterday."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.errors import LakeError
from pipelines.lake import deletions, per_file, tables, text_index, text_index_table
from tests.dashboard import small_lakes

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
TODAY = NOON.date()


def land(lake, count=60, first=0):
    rows = small_lakes.events(count, end=NOON, days=3.0, first=first, seed=first)
    small_lakes.append(Path(lake.root), rows)


def stored(lake):
    rows = tables.scan(lake, "text_index")
    return {} if rows is None else rows.collect().rows_by_key("path", named=True, unique=True)


def expected(lake):
    """Return path -> filters of the data files of past days."""
    files = per_file.event_files(lake).filter(pl.col("date") < TODAY)
    rows = per_file.rows_of_files(lake, files.with_columns(file=pl.lit(0))).collect()
    return {path: text_index.filters(rows.filter(path=path)) for path in files["path"]}


def right(lake):
    found, wanted = stored(lake), expected(lake)
    return found.keys() == wanted.keys() and all(
        wanted[path].items() <= found[path].items() for path in wanted
    )


@pytest.mark.parametrize("at_once", [1, 500_000])
def test_past_days_are_indexed_in_batches(lake, monkeypatch, at_once):
    monkeypatch.setattr(text_index_table, "_AT_ONCE", at_once)
    for first in (0, 100):
        land(lake, first=first)
        text_index_table.index(lake, TODAY)
        assert right(lake)
    files, following = text_index_table.indexed(lake)
    assert sorted(files["file"]) == list(range(following))
    before = tables.open_table(lake, "text_index").version()
    text_index_table.index(lake, TODAY)
    assert tables.open_table(lake, "text_index").version() == before


def test_a_killed_run_is_continued_where_it_was(lake, monkeypatch):
    monkeypatch.setattr(text_index_table, "_AT_ONCE", 1)
    land(lake)
    filters, made = text_index.filters, []

    def failing(events):
        made.append(events)
        if len(made) == 3:
            raise KeyboardInterrupt
        return filters(events)

    monkeypatch.setattr(text_index, "filters", failing)
    with pytest.raises(KeyboardInterrupt):
        text_index_table.index(lake, TODAY)
    assert len(stored(lake)) == 2
    text_index_table.index(lake, TODAY)
    assert len(made) == len(stored(lake)) + 1
    assert right(lake)


def test_filters_of_another_layout_are_computed_again(lake, monkeypatch):
    land(lake)
    with monkeypatch.context() as older:
        older.setattr(text_index, "LAYOUT", 0)
        text_index_table.index(lake, TODAY)
    text_index_table.index(lake, TODAY)
    assert {row["layout"] for row in stored(lake).values()} == {text_index.LAYOUT}
    assert right(lake)


def test_files_that_are_gone_are_forgotten(lake):
    land(lake)
    text_index_table.index(lake, TODAY)
    before = set(stored(lake))
    deletions.delete(lake, "events", "event_id = '00000003'")
    text_index_table.forget(lake)
    assert len(before - set(stored(lake))) == 1
    held = [pl.read_parquet(path) for path in Path(lake.root, "text_index").glob("*.parquet")]
    assert {*pl.concat(held)["path"]} == set(stored(lake))
    text_index_table.index(lake, TODAY)
    assert right(lake)


def test_a_file_with_other_rows_than_the_log_states_is_not_indexed(lake):
    land(lake)
    oldest = per_file.event_files(lake).sort("date")["path"][0]
    file = lake.local / "events" / oldest
    pl.read_parquet(file, hive_partitioning=False).head(1).write_parquet(file)
    with pytest.raises(LakeError, match="run `auditlake verify`"):
        text_index_table.index(lake, TODAY)
    assert stored(lake) == {}


def test_files_that_retention_deletes_meanwhile_are_left_out(lake, monkeypatch):
    land(lake)
    filters, removed = text_index.filters, []

    def removing(events):
        if not removed:
            removed.append(True)
            deletions.delete(lake, "events", "seq >= 0")
            text_index_table.forget(lake)
        return filters(events)

    monkeypatch.setattr(text_index, "filters", removing)
    text_index_table.index(lake, TODAY)
    assert removed
    assert stored(lake) == {}


def test_a_lake_without_events_has_nothing_to_index(lake):
    text_index_table.index(lake, TODAY)
    text_index_table.forget(lake)
    assert tables.open_table(lake, "text_index") is None
