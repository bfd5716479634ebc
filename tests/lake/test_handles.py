"""Open tables are pooled: each is up to date and has one user at a time."""

import shutil

import pytest
from deltalake import DeltaTable

from pipelines.errors import LakeError
from pipelines.lake import handles, raw, tables
from tests.lake.batches import LOG, batch


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


def test_a_handle_is_not_returned_to_the_pool_after_an_error(lake):
    raw.append(lake, LOG, batch("a"), "1")
    with pytest.raises(ZeroDivisionError), tables.borrowed(lake, LOG.table):
        raise ZeroDivisionError
    assert handles.acquire(lake.local / LOG.table) is None
    with tables.borrowed(lake, LOG.table) as borrowed:
        pass
    assert handles.acquire(lake.local / LOG.table) is borrowed


def test_a_table_is_opened_again_after_each_checkpoint(lake):
    raw.append(lake, LOG, batch("a"), "1")
    table = lake.local / LOG.table
    kept = handles.acquire(table)
    for number in range(handles.CHECKPOINT_EVERY):
        raw.append(lake, LOG, batch(number), "2")
    handles.release(table, kept)
    found = [handles.acquire(table), handles.acquire(table)]
    assert [handle.version() for handle in found if handle] == [handles.CHECKPOINT_EVERY + 1]


def test_a_table_that_has_become_unreadable_is_not_served_from_the_pool(lake):
    raw.append(lake, LOG, batch("a"), "1")
    table = lake.local / LOG.table
    (table / "_delta_log" / f"{2:020}.json").write_text('{"add": {"path"')
    assert handles.acquire(table) is None
    with pytest.raises(LakeError):
        tables.acquire(lake, LOG.table)


def test_a_handle_that_has_waited_for_long_is_dropped(lake, monkeypatch):
    raw.append(lake, LOG, batch("a"), "1")
    table = lake.local / LOG.table
    kept = handles.acquire(table)
    handles.release(table, kept)
    monkeypatch.setattr(handles, "_MAX_AGE", 0.0)
    handles.release(table, DeltaTable(str(table)))
    assert handles.acquire(table) is not kept
    assert handles.acquire(table) is None
