"""Appends without a fence, and deletions."""

import json
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from pipelines.errors import LakeError
from pipelines.lake import commits, tables
from pipelines.lake.commits import Table
from pipelines.lake.tables import Lake

PLAIN = Table(
    name="plain",
    about="A test",
    schema={"n": pl.Int64()},
    partitions=(),
    settings={"delta.appendOnly": "true"},
)


def numbers(*values):
    return pl.DataFrame({"n": values}, schema=PLAIN.schema)


def stored(lake):
    return sorted(tables.scan(lake, "plain").collect()["n"])


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path))


def test_concurrent_appends_all_arrive_once(lake):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: commits.append(lake, PLAIN, numbers(n)), range(40)))
    assert stored(lake) == list(range(40))


def test_an_append_carries_no_fence(lake):
    commits.append(lake, PLAIN, numbers(1))
    newest = max((lake.local / "plain" / "_delta_log").glob("*.json"))
    actions = [json.loads(line) for line in newest.read_text().splitlines()]
    assert [name for action in actions for name in action if name in ("add", "txn")] == ["add"]


def test_an_append_that_fails_is_one_line_with_the_remedy(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LakeError, match=r"plain: .*set lake\.root to a folder"):
        commits.append(Lake(str(tmp_path / "file")), PLAIN, numbers(1))


def test_deleted_rows_are_gone_from_the_disk_and_the_table_stays_append_only(lake):
    commits.append(lake, PLAIN, numbers(1, 2))
    commits.append(lake, PLAIN, numbers(3))
    kept = set(lake.local.rglob("*.parquet"))
    commits.delete(lake, "plain", "n = 1", append_only=True)
    assert stored(lake) == [2, 3]
    assert len(kept & set(lake.local.rglob("*.parquet"))) == 1
    with pytest.raises(DeltaError, match="append"):
        DeltaTable(lake.uri("plain")).delete("n = 2")
    commits.append(lake, PLAIN, numbers(4))
    assert stored(lake) == [2, 3, 4]


def test_a_deletion_that_fails_leaves_the_table_append_only(lake):
    commits.append(lake, PLAIN, numbers(1))
    with pytest.raises(LakeError):
        commits.delete(lake, "plain", "no such column = 1", append_only=True)
    assert stored(lake) == [1]
    with pytest.raises(DeltaError, match="append"):
        DeltaTable(lake.uri("plain")).delete("n = 1")


def test_a_deletion_from_a_table_that_does_not_exist_creates_nothing(lake):
    commits.delete(lake, "plain", "n = 1", append_only=True)
    assert list(lake.local.iterdir()) == []
