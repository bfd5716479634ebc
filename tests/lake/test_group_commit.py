"""Events are committed in groups, without weakening the fences."""

from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import polars as pl
import pytest

from pipelines.errors import LakeError
from pipelines.lake import events as events_table
from pipelines.lake import group_commit, tables
from pipelines.lake.tables import Lake
from tests.lake.batches import LOGS, part

BATCHES, ROWS = 4, 3


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


def test_a_broken_batch_does_not_fail_the_others(lake):
    broken = part(LOGS[1], 0, 1)._replace(events=pl.DataFrame({"x": [1]}))
    some = [group_commit._Pending(lake=lake, batch=each) for each in (part(LOGS[0], 0, 1), broken)]
    group_commit._write(some)
    assert (some[0].landed, some[0].error) == (True, None)
    assert some[1].error is not None
    with pytest.raises((LakeError, pl.exceptions.PolarsError)):
        group_commit.append(lake, broken)
    assert group_commit.append(lake, part(LOGS[1], 0, 1))
