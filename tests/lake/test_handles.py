"""Open tables are pooled: each is up to date and has one user at a time."""

import shutil

from deltalake import DeltaTable

from pipelines.lake import handles, raw
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
