"""Missing rows are excused only by a recorded act that lists exactly them."""

import json
from hashlib import sha256

import polars as pl
import pytest

from pipelines.integrity import operator_acts, removals, signer
from tests.integrity.worlds import LOG, NOON, Signed


@pytest.fixture
def world(tmp_path):
    return Signed(tmp_path)


def remove(world, *spans, table=LOG.table):
    """Record the removal of these spans; return the digest of their list."""
    listed = json.dumps(spans).encode()
    digest = sha256(listed).hexdigest()
    signer.of(world.lake, LOG.app).folder.put(f"removed/{digest}.json", listed)
    operator_acts.record(world.lake, {"table": table, "rows_sha256": digest}, NOON)
    return digest


def logs(world):
    acts = signer.of(world.lake, signer.ACTS)
    return acts.folder, signer.published(acts), signer.of(world.lake, LOG.app).folder


def spans(world):
    return removals.spans(*logs(world), LOG.table)


def covered(world, first, until):
    return removals.cover(*logs(world), LOG.table, range(first, until))


def test_the_spans_of_all_acts_are_collected_once_and_sorted(world):
    remove(world, (300, 400), (0, 100))
    remove(world, (0, 100), (50, 200))
    assert spans(world) == [(0, 100), (50, 200), (300, 400)]


def test_rows_are_covered_by_adjoining_spans_but_not_across_a_gap(world):
    remove(world, (0, 100), (100, 150))
    remove(world, (140, 200), (201, 300))
    assert covered(world, 0, 200)
    assert covered(world, 120, 199)
    assert not covered(world, 0, 201)
    assert not covered(world, 199, 202)
    assert covered(world, 201, 300)
    assert not covered(world, 299, 301)


def test_the_rows_of_another_table_are_not_excused(world):
    remove(world, (0, 100), table="raw/okta/other_log")
    assert spans(world) == []
    assert not covered(world, 0, 1)


def test_a_list_that_was_changed_or_lost_excuses_nothing(world):
    digest = remove(world, (0, 10))
    remove(world, (20, 30))
    _, _, folder = logs(world)
    folder.put(f"removed/{digest}.json", b"[[0, 500]]")
    assert spans(world) == [(20, 30)]
    folder.delete([f"removed/{digest}.json"])
    assert spans(world) == [(20, 30)]


def test_acts_that_were_changed_or_cut_excuse_nothing(world):
    remove(world, (0, 10))
    bundle = world.folder / "lake/integrity/acts/tile/entries/000.p/1"
    whole = bundle.read_bytes()
    for damaged in (whole.replace(b"okta", b"oktb"), whole[:-1], b"", whole + whole):
        bundle.write_bytes(damaged)
        assert spans(world) == []
    bundle.write_bytes(whole)
    assert spans(world) == [(0, 10)]


def test_removals_are_unfinished_until_an_act_counts_them():
    first, second, third = ({"rows_sha256": digest, "table": LOG.table} for digest in "abc")
    other, finished = {"act": "mapping"}, {"act": removals.FINISHED, "acts": 3}
    assert removals.unfinished([first, other, second]) == [first, second]
    assert removals.unfinished([first, other, second, finished]) == []
    assert removals.unfinished([first, other, second, third, finished]) == [third]
    assert removals.unfinished([first, other, second, third, finished, first]) == [third, first]


def test_spans_that_overlap_or_touch_are_merged():
    assert removals.merged([(5, 9), (0, 3), (3, 4), (6, 7)]) == [(0, 4), (5, 9)]
    frame = pl.DataFrame({"seq": range(10)})
    inside = removals.within(pl.col("seq"), [(5, 9), (0, 3)])
    assert frame.filter(inside)["seq"].to_list() == [0, 1, 2, 5, 6, 7, 8]
    assert frame.filter(removals.within(pl.col("seq"), [])).is_empty()
