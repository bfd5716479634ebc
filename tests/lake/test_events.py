"""The events of a range of raw rows are committed once, alone or in a group."""

import polars as pl

from pipelines.lake import events, tables
from pipelines.schemas import EVENTS
from tests.lake.batches import LOG, LOGS, part


def test_the_events_of_a_range_are_committed_once(lake):
    def derive():
        return pl.DataFrame(schema=EVENTS).clear(2).with_columns(pl.lit("x").alias("event_uid"))

    assert events.append(lake, LOG, 0, 2, derive).frame.height == 2
    assert events.append(lake, LOG, 0, 2, derive).frame.height == 0
    assert events.append(lake, LOG, 5, 6, derive).frame.height == 0
    assert events.derived(lake, LOG) == 2


def test_a_group_commit_writes_the_parts_that_fit_and_returns_their_streams(lake):
    assert events.append_batches(lake, [part(LOGS[0], 3, 6), part(LOGS[1], 0, 2)]) == {LOGS[1]}
    assert events.append_batches(lake, [part(LOGS[0], 0, 3), part(LOGS[1], 2, 3)]) == set(LOGS[:2])
    assert tables.open_table(lake, "events").version() == 2
    assert [events.derived(lake, log) for log in LOGS[:3]] == [3, 3, 0]
    assert events.append_batches(lake, [part(LOGS[0], 0, 3)]) == set()
    assert tables.open_table(lake, "events").version() == 2


def test_a_writer_decides_again_after_a_group_commit_to_its_stream(lake):
    """The fences of all streams in a commit hold, not only that of the first."""
    events.append_batches(lake, [part(LOGS[0], 0, 1)])
    again = []

    def derive():
        if not again:
            again.append(events.append_batches(lake, [part(LOGS[2], 0, 1), part(LOGS[1], 0, 1)]))
        return part(LOGS[1], 0, 1).events

    assert events.append(lake, LOGS[1], 0, 1, derive).frame.height == 0
    assert again == [{LOGS[1], LOGS[2]}]
    assert tables.scan(lake, "events").collect().height == 3
