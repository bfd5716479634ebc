"""Open tables are pooled and events are committed in groups, without weakening the fences."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import polars as pl
import pytest
from deltalake import DeltaTable

from pipelines.errors import LakeError
from pipelines.lake import events as events_table
from pipelines.lake import group_commit, handles, raw, tables
from pipelines.lake.events import Batch
from pipelines.lake.tables import Lake, StreamKey
from pipelines.schemas import EVENTS
from tests.lake.test_raw import LOG, batch

LOGS = [StreamKey("okta", f"log_{number}") for number in range(5)]
BATCHES, ROWS = 4, 3


def part(log, first, until):
    made = pl.DataFrame({"seq": range(first, until)}, {"seq": pl.Int64}).with_columns(
        pl.lit(None).cast(dtype).alias(name) for name, dtype in EVENTS.items() if name != "seq"
    )
    ours = {"integration": pl.lit(log.integration), "stream": pl.lit(log.stream)}
    return Batch(log, first, until, made.with_columns(**ours).select(*EVENTS))


def write(root):
    """Write all batches of all streams, one thread per stream."""
    lake = Lake(root)

    def work(log):
        for first in range(0, BATCHES * ROWS, ROWS):
            group_commit.append(lake, part(log, first, first + ROWS))

    with ThreadPoolExecutor(len(LOGS)) as pool:
        list(pool.map(work, LOGS))


def test_processes_that_write_the_same_events_commit_each_once(lake):
    context = get_context("spawn")
    writers = [context.Process(target=write, args=(lake.root,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    events = tables.scan(lake, "events").select("stream", "seq").collect()
    expected = [(log.stream, seq) for log in LOGS for seq in range(BATCHES * ROWS)]
    assert sorted(events.iter_rows()) == expected
    assert [events_table.derived(lake, log) for log in LOGS] == [BATCHES * ROWS] * len(LOGS)


def test_a_group_commit_writes_the_parts_that_fit_and_returns_their_streams(lake):
    assert events_table.append_batches(lake, [part(LOGS[0], 3, 6), part(LOGS[1], 0, 2)]) == {
        LOGS[1]
    }
    assert events_table.append_batches(lake, [part(LOGS[0], 0, 3), part(LOGS[1], 2, 3)]) == set(
        LOGS[:2]
    )
    assert tables.open_table(lake, "events").version() == 2
    assert [events_table.derived(lake, log) for log in LOGS[:3]] == [3, 3, 0]
    assert events_table.append_batches(lake, [part(LOGS[0], 0, 3)]) == set()
    assert tables.open_table(lake, "events").version() == 2


def test_a_writer_decides_again_after_a_group_commit_to_its_stream(lake):
    """The fences of all streams in a commit hold, not only that of the first."""
    events_table.append_batches(lake, [part(LOGS[0], 0, 1)])
    again = []

    def derive():
        if not again:
            again.append(
                events_table.append_batches(lake, [part(LOGS[2], 0, 1), part(LOGS[1], 0, 1)])
            )
        return part(LOGS[1], 0, 1).events

    assert events_table.append(lake, LOGS[1], 0, 1, derive).frame.height == 0
    assert again == [{LOGS[1], LOGS[2]}]
    assert tables.scan(lake, "events").collect().height == 3


def test_a_broken_batch_does_not_fail_the_others(lake):
    broken = part(LOGS[1], 0, 1)._replace(events=pl.DataFrame({"x": [1]}))
    some = [group_commit._Pending(lake=lake, batch=each) for each in (part(LOGS[0], 0, 1), broken)]
    group_commit._write(some)
    assert (some[0].landed, some[0].error) == (True, None)
    assert some[1].error is not None
    with pytest.raises((LakeError, pl.exceptions.PolarsError)):
        group_commit.append(lake, broken)
    assert group_commit.append(lake, part(LOGS[1], 0, 1))


def test_a_pooled_table_is_up_to_date_and_belongs_to_one_caller(lake):
    raw.append(lake, LOG, batch("a"), "1")
    table = lake.local / LOG.table
    mine, other = handles.acquire(table), DeltaTable(str(table))
    assert mine is not None
    assert handles.acquire(table) is not mine
    handles.release(table, mine)
    raw.append(lake, LOG, batch("b"), "2")
    assert other.version() == 1
    again = handles.acquire(table)
    assert (again.version(), again.transaction_version(LOG.app)) == (2, 2)


def test_a_deleted_and_recreated_lake_is_not_taken_for_the_old_one(lake):
    for number in range(3):
        raw.append(lake, LOG, batch(f"a{number}"), "old")
    shutil.rmtree(lake.root)
    assert raw.position(lake, LOG) == raw.Position()
    assert raw.append(lake, LOG, batch("b"), "new").frame["seq"].to_list() == [0]
    assert raw.position(lake, LOG).rows == 1
