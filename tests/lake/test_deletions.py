"""Deleted rows are gone from the disk, and an append-only table is append-only at any moment."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from pipelines.errors import LakeError
from pipelines.lake import commits, deletions, tables
from pipelines.lake.commits import Table
from pipelines.lake.tables import Lake

PLAIN = Table(
    name="plain",
    about="A test",
    schema={"n": pl.Int64(), "at": pl.Datetime("us", "UTC"), "part": pl.String()},
    partitions=("part",),
    settings={"delta.appendOnly": "true", "delta.dataSkippingStatsColumns": "n,at"},
)
NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, UTC)


def append(lake, *numbers, part="a"):
    rows = pl.DataFrame({"n": numbers, "at": NOON, "part": part}, PLAIN.schema)
    commits.append(lake, PLAIN, rows)


def stored(lake):
    return tables.scan(lake, "plain").collect()["n"].sort().to_list()


def is_append_only(lake):
    return commits.is_append_only(DeltaTable(lake.uri("plain")))


def test_deleted_rows_are_gone_from_the_disk_and_the_table_stays_append_only(lake):
    append(lake, 1, 2)
    append(lake, 3)
    kept = set(lake.local.rglob("*.parquet"))
    deletions.delete(lake, "plain", "n = 1")
    assert stored(lake) == [2, 3]
    files = set(lake.local.rglob("*.parquet"))
    assert len(kept & files) == 1
    assert all(1 not in pl.read_parquet(file)["n"] for file in files)
    with pytest.raises(DeltaError, match="append"):
        DeltaTable(lake.uri("plain")).delete("n = 2")
    append(lake, 4)
    assert stored(lake) == [2, 3, 4]


def test_no_version_of_the_table_is_open_to_changes(lake):
    append(lake, 1, 2)
    deletions.delete(lake, "plain", "n = 1")
    log = (lake.local / "plain" / "_delta_log").glob("*.json")
    actions = [json.loads(line) for path in log for line in path.read_text().splitlines()]
    given = [each["metaData"]["configuration"] for each in actions if "metaData" in each]
    assert [each["delta.appendOnly"] for each in given] == ["true"]


def test_files_without_such_rows_stay_and_whole_files_are_not_replaced(lake):
    append(lake, 1, part="a")
    append(lake, 2, part="b")
    append(lake, 3, 4, part="b")
    deletions.delete_rows(lake, "plain", "part = 'b' AND n < 4")
    files = DeltaTable(lake.uri("plain")).get_add_actions(flatten=True)
    found = pl.DataFrame(files).sort("partition.part")
    assert found.select("partition.part", "num_records", "min.n", "max.n").rows() == [
        ("a", 1, 1, 1),
        ("b", 1, 4, 4),
    ]
    assert found["min.at"].to_list() == found["max.at"].to_list() == [NOON, NOON]
    older = DeltaTable(lake.uri("plain"), version=3)
    assert pl.scan_delta(older).collect()["n"].sort().to_list() == [1, 2, 3, 4]


def test_a_row_for_which_the_condition_is_null_is_kept(lake):
    commits.append(
        lake, PLAIN, pl.DataFrame({"n": [1, None], "at": NOON, "part": "a"}, PLAIN.schema)
    )
    deletions.delete(lake, "plain", "n = 1")
    assert stored(lake) == [None]


def test_a_deletion_that_fails_changes_nothing(lake):
    append(lake, 1)
    before = DeltaTable(lake.uri("plain")).version()
    with pytest.raises(LakeError):
        deletions.delete(lake, "plain", "no_such_column = 1")
    assert (stored(lake), DeltaTable(lake.uri("plain")).version()) == ([1], before)


def test_another_writer_in_between_makes_it_decide_again(lake, monkeypatch):
    def late(*arguments):
        if not landed:
            landed.append(True)
            append(lake, 1, 5)
        return commit(*arguments)

    append(lake, 1, 2)
    commit, landed = deletions._commit, []
    monkeypatch.setattr(deletions, "_commit", late)
    deletions.delete(lake, "plain", "n = 1")
    assert stored(lake) == [2, 5]


def test_in_an_object_store_the_property_is_back_afterwards(lake):
    append(lake, 1, 2)
    deletions.delete(Lake(f"file://{lake.root}"), "plain", "n = 1")
    assert stored(lake) == [2]
    assert is_append_only(lake)
    with pytest.raises(LakeError):
        deletions.delete(Lake(f"file://{lake.root}"), "plain", "no_such_column = 1")
    assert is_append_only(lake)


def test_maintenance_that_sets_the_property_meanwhile_does_not_stop_a_deletion(lake, monkeypatch):
    append(lake, 1, 2)
    real, calls = commits.set_append_only, []

    def and_back(*arguments, wanted):
        handle = real(*arguments, wanted=wanted)
        if not calls:
            calls.append(real(*arguments, wanted=True))
        return handle

    monkeypatch.setattr(commits, "set_append_only", and_back)
    deletions.delete(Lake(f"file://{lake.root}"), "plain", "n = 1")
    assert (stored(lake), is_append_only(lake)) == ([2], True)


def test_a_deletion_from_a_table_that_does_not_exist_creates_nothing(lake):
    deletions.delete(lake, "plain", "n = 1")
    assert not lake.local.exists()


def test_a_forgotten_history_leaves_the_newest_version_alone(lake):
    append(lake, 1, 2)
    append(lake, 3)
    deletions.delete(lake, "plain", "n = 1")
    deletions.forget_history(lake, "plain")
    assert stored(lake) == [2, 3]
    log = lake.local / "plain" / "_delta_log"
    newest = DeltaTable(lake.uri("plain")).version()
    assert {path.name[:20] for path in log.glob("0*")} == {f"{newest:020}"}
    append(lake, 4)
    assert stored(lake) == [2, 3, 4]
