"""Erased records are recognised by keyed hashes that only a signed act makes valid."""

import polars as pl
import pytest

from pipelines.integrity import erased_ids, operator_acts, signer
from pipelines.lake.tables import Lake
from tests.integrity.worlds import LOG, NOON, Signed


@pytest.fixture
def world(tmp_path):
    return Signed(tmp_path)


def store(world, *ids, act=True):
    folder = signer.of(world.lake, LOG.app).folder
    digest = erased_ids.store(folder, ids)
    if act:
        operator_acts.record(world.lake, {"table": LOG.table, "ids_sha256": digest}, NOON)
    return world.log / f"removed/{digest}.ids.json"


def left(world, *ids, record=None, log=LOG):
    batch = pl.DataFrame({"event_id": ids}, schema={"event_id": pl.String})
    return erased_ids.without(world.lake, log, batch, record)["event_id"].to_list()


def test_erased_ids_are_left_out_in_this_table_only(world):
    assert left(world, "a", "b") == ["a", "b"]
    store(world, "a")
    store(world, "c")
    assert left(world, "a", "b", "c", "d") == ["b", "d"]
    assert left(world, "a", log=LOG._replace(stream="other")) == ["a"]
    assert left(Signed(world.folder / "elsewhere"), "a") == ["a"]


def test_all_versions_of_a_record_are_left_out(world):
    store(world, "a")
    version = pl.col("event_id").str.replace("@[^@]*$", "")
    assert left(world, "a@1", "a@2", "b@1", record=version) == ["b@1"]
    assert left(world, "a@1", "b@1") == ["a@1", "b@1"]


def test_the_file_contains_no_id_and_differs_each_time(world):
    first, second = store(world, "ada-1"), store(world, "ada-1")
    assert b"ada-1" not in first.read_bytes()
    assert first.read_bytes() != second.read_bytes()


def test_hashes_that_no_act_names_or_that_were_altered_leave_nothing_out(world):
    store(world, "a", act=False)
    altered = store(world, "b")
    altered.write_bytes(altered.read_bytes() + b" ")
    assert left(world, "a", "b") == ["a", "b"]


def test_without_signing_nothing_is_left_out(tmp_path):
    batch = pl.DataFrame({"event_id": ["a"]})
    assert erased_ids.without(Lake(str(tmp_path)), LOG, batch, None).equals(batch)
