"""A list of leaves begins early enough, ends at the checkpoint, and gives the signed root."""

import json
from datetime import timedelta

import pytest

from pipelines.integrity import leaves, retention
from pipelines.integrity.verifier import audit, proofs
from tests.integrity.worlds import LOG, NOON, Signed


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Rows 0 to 299 happened in March, and arrived then; the others a month later."""
    world = Signed(tmp_path_factory.mktemp("filled")).fill(300)
    for first in (300, 500):
        world.land(*range(first, first + 200), day=30, now=NOON + timedelta(days=30))
    return world


def statement(world, since, until=None, listed=None):
    note = (world.log / "checkpoint").read_bytes()
    listed = listed or leaves.listed(world.lake, LOG.app, note, since)
    head = proofs.read_checkpoint(note.decode(), world.vkeys())
    span = tuple(proofs.since_epoch(each) for each in (since, until or NOON.replace(year=2030)))
    return json.loads(listed.splitlines()[0])["first"], audit._check_leaves(
        listed, head, span, set()
    )


@pytest.mark.parametrize(("days", "first", "count"), [(-1, 0, 700), (20, 256, 400), (40, 512, 0)])
def test_the_list_begins_before_the_first_record_of_the_range(filled, days, first, count):
    begun, found = statement(filled, NOON + timedelta(days=days))
    assert begun == first
    assert f"{count:,} in the time range, of which {count:,} are withheld" in found
    assert "NOT LISTED" not in found


def test_a_list_that_begins_too_late_does_not_hide_that(filled):
    note = (filled.log / "checkpoint").read_bytes()
    late = leaves.listed(filled.lake, LOG.app, note, NOON + timedelta(days=20))
    _, found = statement(filled, NOON - timedelta(days=1), listed=late)
    assert "NOT LISTED: 256 earlier rows" in found


def test_records_that_retention_removed_are_no_records_outside_the_range(signed):
    before = NOON.date() + timedelta(days=1)
    retention.remove(
        signed.lake, retention.Removal(log=LOG, before=before, who="ada", why="a rule"), NOON
    )
    _, found = statement(signed, NOON - timedelta(days=1))
    assert "NOT LISTED: 256 earlier rows" in found


@pytest.mark.parametrize("size", [0, 1, 2, 3, 255, 256, 257, 700])
@pytest.mark.parametrize("first", [0, 1, 3, 256, 300])
def test_any_split_of_a_tree_gives_its_root(size, first):
    hashes = [proofs.leaf_hash(b"%d" % number) for number in range(size)]
    first, peaks, at = min(first, size), [], 0
    for bit in reversed(range(first.bit_length())):
        if first >> bit & 1:
            peaks.append(proofs.root_of(hashes[at : at + (1 << bit)]))
            at += 1 << bit
    assert proofs.extended(first, peaks, hashes[first:]) == proofs.root_of(hashes)
