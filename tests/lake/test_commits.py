"""A commit is fenced: of writers that race, each decides on the state it writes to."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError

from pipelines.errors import LakeError
from pipelines.lake import commits, raw, tables
from pipelines.lake.commits import Table
from pipelines.lake.tables import Lake
from tests.lake.batches import LOG, batch, rows

PLAIN = Table(
    name="plain",
    about="A test",
    schema={"n": pl.Int64()},
    partitions=(),
    settings={"delta.appendOnly": "true"},
)


def test_the_first_writers_of_a_table_may_come_at_once(tmp_path):
    for turn in range(10):
        lake, at_once = Lake(str(tmp_path / f"{turn}")), Barrier(6)

        def land(number, lake=lake, at_once=at_once):
            at_once.wait()
            raw.append(lake, LOG, batch(number), "c")

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(land, range(6)))
        assert rows(lake)["seq"].to_list() == list(range(6))


def test_a_failure_after_the_commit_is_not_a_failure_of_the_commit(lake, monkeypatch):
    raw.append(lake, LOG, batch("a"), "one")
    write = write_deltalake

    def fails_afterwards(handle, *args, **options):
        write(handle, *args, **options)
        raise OSError("checkpoint could not be written")

    monkeypatch.setattr(commits, "write_deltalake", fails_afterwards)
    assert raw.append(lake, LOG, batch("b"), "two").frame.height == 1
    assert rows(lake)["event_id"].to_list() == ["a", "b"]


def test_canary_a_fresh_handle_accepts_a_repeated_transaction_version(tmp_path):
    """This is why every decision and its write use the same handle."""
    path = str(tmp_path / "t")
    fence = CommitProperties(app_transactions=[Transaction("a", 1)])
    for _ in range(2):
        write_deltalake(path, pl.DataFrame({"n": [1]}), mode="append", commit_properties=fence)
    assert pl.read_delta(path).height == 2


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
