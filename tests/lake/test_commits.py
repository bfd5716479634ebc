"""A commit is fenced: of writers that race, each decides on the state it writes to."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError

from pipelines import disk
from pipelines.errors import LakeError
from pipelines.lake import commits, handles, raw, tables
from pipelines.lake.commits import Decision, Table
from pipelines.lake.tables import Lake
from tests.lake.batches import LOG, batch, rows

COUNTED = Table(name="counted", schema={"n": pl.Int64()}, about="Numbers", partitions=())
PLAIN = Table(
    name="plain",
    about="A test",
    schema={"n": pl.Int64()},
    partitions=(),
    settings={"delta.appendOnly": "true"},
)


def values(*numbers):
    return pl.DataFrame({"n": numbers}, COUNTED.schema)


def add(lake, app, *numbers, first=lambda: None):
    """Commit the numbers after calling `first`, and return the fences each decision has seen."""
    seen = []

    def decide(_, done):
        seen.append(done)
        first()
        return Decision(values(*numbers), done + len(numbers))

    commits.write(lake, COUNTED, app, decide, {})
    return seen


def counted(lake):
    return sorted(tables.scan(lake, "counted").collect()["n"])


def fences(lake, *apps):
    handle = tables.open_table(lake, "counted")
    return [commits.fence(handle, app) for app in apps]


def once(action):
    """Return a function that acts on its first call only."""
    left = [action]
    return lambda: left.pop()() if left else None


def test_a_writer_that_lost_a_race_decides_again_on_the_new_state(lake):
    add(lake, "a", 1)
    seen = add(lake, "a", 4, first=once(lambda: add(lake, "a", 2, 3)))
    assert seen == [1, 3]
    assert (counted(lake), fences(lake, "a")) == ([1, 2, 3, 4], [4])


def test_a_commit_of_another_stream_is_not_a_lost_race(lake):
    add(lake, "a", 1)
    assert add(lake, "a", 3, first=once(lambda: add(lake, "b", 2))) == [1]
    assert (counted(lake), fences(lake, "a", "b")) == ([1, 2, 3], [2, 1])


def test_of_two_fences_in_one_commit_both_move_and_either_loses_the_race(lake):
    add(lake, "a", 1)
    seen = []

    def decide(handle, done):
        seen.append((done, commits.fence(handle, "b")))
        if len(seen) == 1:
            add(lake, "b", 2)
        return Decision(values(3, 4), done + 1, also_fences={"b": seen[-1][1] + 1})

    commits.write(lake, COUNTED, "a", decide, {})
    assert seen == [(1, 0), (1, 1)]
    assert (counted(lake), fences(lake, "a", "b")) == ([1, 2, 3, 4], [2, 2])


def test_a_writer_that_never_wins_gives_up_and_leaves_the_others_rows(lake, monkeypatch):
    monkeypatch.setattr(commits, "_RACES", 3)
    add(lake, "a", 0)
    with pytest.raises(LakeError, match="counted: lost 3 commit races in a row"):
        add(lake, "a", 9, first=lambda: add(lake, "a", 1))
    assert (counted(lake), fences(lake, "a")) == ([0, 1, 1, 1], [4])


def test_a_decision_that_fails_commits_nothing(lake):
    add(lake, "a", 1)

    def decide(_, done):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        commits.write(lake, COUNTED, "a", decide, {})
    assert (counted(lake), add(lake, "a", 2)) == ([1], [1])


def test_a_commit_that_fails_for_another_reason_is_an_error_and_no_success(lake, monkeypatch):
    add(lake, "a", 1)

    def fail(*_arguments, **_options):
        raise CommitFailedError("disk quota exceeded")

    monkeypatch.setattr(commits, "write_deltalake", fail)
    with pytest.raises(LakeError, match="disk quota exceeded: free some space"):
        add(lake, "a", 2)
    with pytest.raises(LakeError, match="disk quota exceeded"):
        commits.append(lake, PLAIN, numbers(2))
    assert (counted(lake), fences(lake, "a")) == ([1], [1])


def test_a_writer_goes_on_with_the_handle_and_the_fences_of_its_last_commit(lake, monkeypatch):
    add(lake, "a", 1)
    commits.append(lake, PLAIN, numbers(1))
    monkeypatch.setattr(commits.log, "fence", lambda *_: pytest.fail("read again"))
    monkeypatch.setattr(tables, "open_table", lambda *_: pytest.fail("opened again"))
    assert add(lake, "a", 2) == [1]
    commits.append(lake, PLAIN, numbers(2))
    with tables.borrowed(lake, "counted") as handle:
        assert commits.fence(handle, "a") == 2


def test_another_process_commits_nothing_but_rows_to_a_complete_table(lake):
    add(lake, "a", 1)
    commits._complete.clear()
    add(lake, "a", 2)
    assert tables.open_table(lake, "counted").version() == 2


def test_a_column_that_a_table_lacks_is_added_before_the_rows_that_have_it(lake):
    add(lake, "a", 1)
    wider = replace(COUNTED, schema={**COUNTED.schema, "m": pl.String()})
    commits.append(lake, wider, pl.DataFrame({"n": [2], "m": ["x"]}, wider.schema))
    assert tables.scan(lake, "counted").collect().sort("n")["m"].to_list() == [None, "x"]


def test_statistics_are_kept_of_the_columns_that_a_table_has():
    assert commits.STATISTICS not in COUNTED.properties
    timed = replace(COUNTED, schema={"time": pl.Int64(), "n": pl.Int64(), "seq": pl.Int64()})
    assert timed.properties[commits.STATISTICS] == "seq,time"


def test_a_new_lake_is_closed_to_other_users(tmp_path):
    commits.append(Lake(str(tmp_path / "new" / "lake")), PLAIN, numbers(1))
    assert stat.S_IMODE((tmp_path / "new" / "lake").stat().st_mode) == 0o700


def test_a_replacement_changes_the_rows_it_selects_and_no_others(lake):
    table = replace(COUNTED, settings=commits.DERIVED)
    for numbers in ((1, 2), (30, 40)):
        commits.write(lake, table, "a", lambda _, n, rows=numbers: Decision(values(*rows), n), {})
    commits.write(lake, table, "a", lambda _, done: Decision(values(35), done, "n >= 30"), {})
    assert counted(lake) == [1, 2, 35]


def test_a_reader_has_few_commits_to_read_after_a_checkpoint(lake):
    for number in range(12):
        add(lake, "a", number)
    log = lake.local / "counted" / "_delta_log"
    assert [int(path.name[:20]) for path in log.glob("*.checkpoint.parquet")] == [10]
    for path in log.glob("*.json"):
        if int(path.stem) < 10:
            path.unlink()
    assert (counted(lake), fences(lake, "a")) == (list(range(12)), [12])


def test_a_commit_is_flushed_with_its_data_and_their_folders(lake, monkeypatch):
    add(lake, "a", 1)
    before, flushed, above = set(lake.local.rglob("*")), [], []
    monkeypatch.setattr(commits.disk, "sync", flushed.append)
    monkeypatch.setattr(commits.disk, "sync_above", above.append)
    add(lake, "a", 2)
    (data, commit) = sorted(set(lake.local.rglob("*")) - before, key=lambda path: path.suffix)[::-1]
    assert {data, data.parent, commit, commit.parent} <= set(flushed)
    assert {data.parent, commit.parent} <= set(above)
    # A commit that survives a power loss must not name data that does not.
    assert flushed.index(data) < flushed.index(commit)


def test_a_checkpoint_is_flushed_before_the_folder_that_names_it(lake, monkeypatch):
    add(lake, "a", 1)
    flushed = []
    monkeypatch.setattr(commits.disk, "sync", lambda path: flushed.append(path.name))
    commits.checkpoint(lake, tables.open_table(lake, "counted"))
    assert flushed == [f"{1:020}.checkpoint.parquet", "_last_checkpoint", "_delta_log"]


@pytest.mark.parametrize(("flushed", "first"), [(17, 18), (20, 21), (2, 13), (None, 20)])
def test_the_newest_commits_of_other_writers_are_flushed_with_ones_own(
    lake, monkeypatch, flushed, first
):
    """A table whose log lacks a commit cannot be read."""
    add(lake, "a", 1)
    handle, seen = tables.open_table(lake, "counted"), []
    monkeypatch.setattr(commits, "_flushed", {lake.local / "counted": flushed} if flushed else {})
    monkeypatch.setattr(commits, "_sync_version", lambda _, version: seen.append(version))
    monkeypatch.setattr(type(handle), "version", lambda _: 21)
    commits.sync(lake, handle, 20)
    assert {*range(first, 22)} <= {*seen}


def test_of_two_writers_that_create_a_table_one_starts_again(lake, monkeypatch):
    """A repeated CREATE TABLE would replace the table and its id."""
    create, tries = DeltaTable.create, []

    def once(*arguments, commit_properties, **options):
        tries.append(commit_properties.max_commit_retries)
        return create(*arguments, commit_properties=commit_properties, **options)

    monkeypatch.setattr(DeltaTable, "create", once)
    add(lake, "a", 1)
    assert tries == [0]


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


def test_a_failure_after_another_commit_is_a_lost_race(lake, monkeypatch):
    """Files that were to be rewritten may be gone with it."""
    add(lake, "a", 1)
    write = write_deltalake

    def fails_once(*_args, **_options):
        monkeypatch.setattr(commits, "write_deltalake", write)
        add(lake, "b", 2)
        raise OSError("no such file")

    monkeypatch.setattr(commits, "write_deltalake", fails_once)
    assert add(lake, "a", 3) == [1, 1]
    assert counted(lake) == [1, 2, 3]


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


def test_every_file_of_a_table_and_its_folder_is_flushed_before_a_write_returns(
    tmp_path, monkeypatch
):
    flushed, real = set(), disk.sync

    def sync(path):
        flushed.add(path.resolve())
        real(path)

    monkeypatch.setattr(disk, "sync", sync)
    monkeypatch.setattr(handles, "CHECKPOINT_EVERY", 2)
    lake = Lake(str(tmp_path / "lake"))
    for number in range(5):
        add(lake, "a", number)
        root = tmp_path / "lake" / "counted"
        held = {path for path in (root, *root.rglob("*")) if not path.name.startswith("._")}
        assert held - flushed == set()
    assert sorted(path.name[:20] for path in held if "checkpoint.parquet" in path.name)
