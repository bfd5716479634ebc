"""The verifier believes acts only as they were signed, and counts removed rows once."""

import json
from hashlib import sha256

import pytest

from pipelines.integrity import operator_acts as writer
from pipelines.integrity import signer
from pipelines.integrity.verifier import operator_acts
from pipelines.integrity.verifier.proofs import Invalid
from tests.integrity.test_removals import remove
from tests.integrity.worlds import LOG, NOON, Signed


@pytest.fixture
def world(tmp_path):
    return Signed(tmp_path)


def shelves(world):
    return world.place.shelf("acts"), world.place.shelf(LOG.app)


def removed(world, keys=None, table=LOG.table):
    return operator_acts.removed(*shelves(world), table, keys or world.vkeys())


def test_a_lake_without_acts_has_none(world):
    assert operator_acts.read(shelves(world)[0], []) == []
    assert removed(world, ["none"]) == []


def test_acts_are_read_as_they_were_recorded(world):
    for number in (0, 299):
        writer.record(world.lake, {"act": "retention", "n": number}, NOON)
    first, last = operator_acts.read(shelves(world)[0], world.vkeys())
    assert (first["n"], last["n"], last["at"]) == (0, 299, NOON.isoformat())


def test_overlapping_and_adjoining_spans_are_merged(world):
    remove(world, (300, 400), (0, 100))
    remove(world, (100, 150), (120, 130), (390, 500))
    assert removed(world) == [(0, 150), (300, 500)]
    assert removed(world, table="raw/okta/other_log") == []


@pytest.mark.parametrize("damage", [b"", b"x", b"\0\0"])
def test_acts_that_are_not_as_signed_are_invalid_and_excuse_nothing(world, damage):
    remove(world, (0, 100))
    bundle = world.folder / "lake/integrity/acts/tile/entries/000.p/1"
    bundle.write_bytes(damage)
    with pytest.raises(Invalid, match="not as it was signed"):
        operator_acts.read(shelves(world)[0], world.vkeys())
    assert removed(world) == []


def test_an_act_added_without_a_signature_is_invalid(world):
    remove(world, (0, 100))
    acts = world.folder / "lake/integrity/acts/tile/entries/000.p/1"
    forged = json.dumps({"table": LOG.table, "rows_sha256": sha256(b"[]").hexdigest()}).encode()
    acts.write_bytes(acts.read_bytes() + len(forged).to_bytes(2) + forged)
    assert removed(world) == []


def test_acts_signed_with_another_key_excuse_nothing(world, tmp_path):
    remove(world, (0, 100))
    other = Signed(tmp_path / "other")
    writer.record(other.lake, {"act": "retention"}, NOON)
    assert removed(world, other.vkeys()) == []


def test_a_list_that_does_not_match_its_signed_hash_is_ignored(world):
    digest = remove(world, (0, 100))
    remove(world, (200, 300))
    signer.of(world.lake, LOG.app).folder.put(f"removed/{digest}.json", b"[[0, 1000]]")
    assert removed(world) == [(200, 300)]
