"""What a power cut left incomplete is named, with the file to remove, before it is built on."""

import json
from pathlib import Path

import polars as pl
import pytest

from pipelines.errors import LakeError
from pipelines.lake import commits, handles, power_cuts, tables
from pipelines.lake.commits import Decision, Table

TABLE = Table(name="raw/invented/log", schema={"n": pl.Int64()}, about="", partitions=())


def append(lake, count=1):
    for _ in range(count):
        commits.write(
            lake, TABLE, "app", lambda _, n: Decision(pl.DataFrame({"n": [n, n + 1]}), n + 2), {}
        )


def restart():
    """Forget what this process knows, as a new one after a power cut does."""
    power_cuts._whole.clear()
    commits._flushed.clear()
    handles._pool.clear()


@pytest.fixture
def log(lake):
    append(lake, 2)
    restart()
    return lake.local / TABLE.name / "_delta_log"


def rows(lake):
    return sorted(tables.scan(lake, TABLE.name).collect()["n"])


def data_of(commit):
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    return commit.parent.parent / next(a["add"]["path"] for a in actions if "add" in a)


DAMAGES = {
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "half": lambda data: data[: len(data) // 2],
    "a hole": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
}
LINES = {
    "no fence": lambda data: data[: data.rindex(b"\n")],
    "no data": lambda data: data[: data.index(b"\n")],
}


def refused(lake):
    """Return the file to be removed by the error of reading, and of writing, the table."""
    named = set()
    for attempt in (rows, append):
        with pytest.raises(LakeError, match="as after a power cut") as error:
            attempt(lake)
        named.add(Path(str(error.value).partition("remove the file ")[2].partition(" and ")[0]))
    (path,) = named
    return path


@pytest.mark.parametrize("damage", DAMAGES | LINES)
def test_an_incomplete_newest_commit_is_refused_until_it_is_removed(lake, log, damage):
    commit = log / f"{2:020}.json"
    commit.write_bytes((DAMAGES | LINES)[damage](commit.read_bytes()))
    assert refused(lake) == commit
    commit.unlink()
    assert rows(lake) == [0, 1]
    append(lake)
    assert rows(lake) == [0, 1, 2, 3]


@pytest.mark.parametrize("damage", [*DAMAGES, "missing"])
def test_a_newest_commit_without_its_data_is_refused_until_it_is_removed(lake, log, damage):
    commit = log / f"{2:020}.json"
    data = data_of(commit)
    if damage == "missing":
        data.unlink()
    else:
        data.write_bytes(DAMAGES[damage](data.read_bytes()))
    assert refused(lake) == commit
    commit.unlink()
    append(lake)
    assert rows(lake) == [0, 1, 2, 3]


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_incomplete_checkpoint_is_named_and_nothing_is_lost_with_it(lake, log, damage):
    append(lake, handles.CHECKPOINT_EVERY)
    restart()
    expected = rows(lake)
    (checkpoint,) = log.glob("*.checkpoint.parquet")
    checkpoint.write_bytes(DAMAGES[damage](checkpoint.read_bytes()))
    restart()
    removed = []
    while len(removed) < 2:
        path = refused(lake)
        path.unlink()
        removed.append(path.name)
    assert removed == [checkpoint.name, "_last_checkpoint"]
    assert rows(lake) == expected
    append(lake)


def test_files_that_a_later_commit_has_replaced_are_not_missed(lake, log):
    """As for a handle that was opened before retention deleted them."""
    commit = log / f"{2:020}.json"
    data_of(commit).unlink()
    (log / f"{3:020}.json").write_text('{"commitInfo":{}}')
    power_cuts.check(TABLE.name, log.parent, 2)


def test_a_process_looks_at_the_data_of_a_table_once(lake, log):
    rows(lake)
    data_of(log / f"{2:020}.json").unlink()
    assert tables.open_table(lake, TABLE.name).version() == 2


def test_each_commit_is_on_disk_once_it_counts_and_so_is_the_first(lake, monkeypatch):
    flushed = set()
    monkeypatch.setattr(commits.disk, "sync", flushed.add)
    append(lake, 2)
    folder = lake.local / TABLE.name
    assert set(folder.rglob("*")) <= flushed
    assert {folder, *folder.parents} & set(flushed) >= {folder, folder.parent, lake.local}


def test_a_commit_that_another_process_has_not_flushed_yet_is_flushed_with_the_next(
    lake, monkeypatch
):
    append(lake)
    with monkeypatch.context() as slow:
        slow.setattr(commits, "_sync_version", lambda *_: None)
        append(lake)
    restart()
    flushed = set()
    monkeypatch.setattr(commits.disk, "sync", flushed.add)
    append(lake)
    log = lake.local / TABLE.name / "_delta_log"
    followed = log / f"{2:020}.json"
    assert {followed, data_of(followed), log / f"{3:020}.json"} <= flushed
    assert log / f"{1:020}.json" not in flushed


def test_commits_of_others_between_two_of_ours_are_flushed_too(lake, monkeypatch):
    append(lake)
    ours = dict(commits._flushed)
    with monkeypatch.context() as slow:
        slow.setattr(commits, "_sync_version", lambda *_: None)
        append(lake, 3)
    commits._flushed.update(ours)
    flushed = []
    monkeypatch.setattr(commits, "_sync_version", lambda _, version: flushed.append(version))
    append(lake, 2)
    assert flushed == [2, 3, 4, 5, 6]


def test_the_first_commit_is_on_disk_before_the_second_is_written(lake, monkeypatch):
    log = lake.local / TABLE.name / "_delta_log"
    flushed = []
    monkeypatch.setattr(commits.disk, "sync", lambda path: flushed.append((path, len(names(log)))))
    append(lake)
    assert (log / f"{0:020}.json", 1) in flushed


def names(log):
    return sorted(path.name for path in log.glob("*.json"))
