"""Tampering with a lake in an object store is found as it is on a disk."""

import shutil

import pytest

from tests.integrity.test_tampering import FOUND
from tests.integrity.worlds import Signed
from tests.places import on_stores
from tests.tiers import FULL

pytestmark = pytest.mark.skipif(not FULL, reason="`make test-full` runs it")


class Stored(Signed):
    """The same lake, as it was copied to a store, with the same state folder."""

    lake = None


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    return Signed(tmp_path_factory.mktemp("filled")).fill()


@pytest.fixture
def stored(filled, place, tmp_path):
    """A function that attacks a copy of the lake, and returns it as it is in the store."""

    def attacked(attack):
        shutil.copytree(filled.folder, tmp_path / "world")
        world = Stored(tmp_path / "world")
        attack(Signed(world.folder))
        world.lake = place.lake(integrity=world.integrity)
        place.copy(world.folder / "lake", world.lake)
        known = world.folder / "state" / "lakes"
        shutil.move(known / filled.place.memory.name, known / world.place.memory.name)
        return world

    return attacked


@on_stores()
def test_a_sound_lake_is_found_sound(stored):
    verdict = stored(lambda _: None).verify()
    assert verdict.ok, verdict.findings


@on_stores()
@pytest.mark.parametrize("attack", FOUND, ids=lambda attack: attack.__name__)
def test_an_attack_is_reported_with_its_kind_and_first_row(stored, attack):
    first = stored(attack).verify().first_bad
    assert (first.kind, first.seq) == FOUND[attack]
