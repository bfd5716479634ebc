"""Operator actions are recorded in a signed log of their own, in order and for good."""

import json
import os
import shutil
from datetime import timedelta

import pytest

from pipelines.errors import LakeError
from pipelines.integrity import keys, operator_acts, signer
from pipelines.integrity.signer import Alarm
from pipelines.integrity.verifier import operator_acts as verifier
from pipelines.integrity.verifier import proofs
from pipelines.lake.tables import Lake
from tests.integrity.worlds import NOON, Signed, once


@pytest.fixture
def world(tmp_path):
    return Signed(tmp_path)


def recorded(world):
    return verifier.read(world.place.shelf("acts"), world.vkeys())


def test_acts_are_kept_in_order_with_their_time(world):
    for number in range(3):
        act = {"act": "retention", "who": "Zo\u00eb", "n": number}
        operator_acts.record(world.lake, act, NOON + timedelta(days=number))
    assert [(act["n"], act["who"], act["at"][:10]) for act in recorded(world)] == [
        (0, "Zo\u00eb", "2026-03-01"),
        (1, "Zo\u00eb", "2026-03-02"),
        (2, "Zo\u00eb", "2026-03-03"),
    ]


def test_an_act_is_on_disk_once_it_is_recorded(world, monkeypatch):
    flushed, real = set(), os.fsync

    def fsync(descriptor):
        flushed.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    operator_acts.record(world.lake, {"n": 1}, NOON)
    acts = world.folder / "lake" / "integrity" / "acts"
    needed = [acts, acts / "checkpoint", *(acts / "tile").rglob("*")]
    assert len(needed) > 4
    assert {path.stat().st_ino for path in needed} <= flushed


def test_every_act_has_a_checkpoint_of_its_own(world):
    for number in range(3):
        operator_acts.record(world.lake, {"n": number}, NOON)
    (month,) = (world.folder / "lake/integrity/acts/history").iterdir()
    notes = [json.loads(line)["note"] for line in month.read_text().splitlines()]
    heads = [proofs.read_checkpoint(note, world.vkeys()) for note in notes]
    assert [head.size for head in heads] == [1, 2, 3]
    assert {head.origin for head in heads} == {heads[0].origin}


def test_nothing_is_recorded_where_signing_is_off(world):
    with pytest.raises(LakeError, match=r"set integrity\.sign = true"):
        operator_acts.record(Lake(world.lake.root), {"act": "retention"}, NOON)
    assert not (world.folder / "lake").exists()


def test_an_act_that_no_bundle_can_hold_is_refused_in_one_line(world):
    with pytest.raises(LakeError, match=r"has 7\d,\d{3} bytes, more than a log can hold"):
        operator_acts.record(world.lake, {"act": "retention", "why": "x" * 70_000}, NOON)
    operator_acts.record(world.lake, {"act": "retention", "why": "x"}, NOON)
    assert [act["why"] for act in recorded(world)] == ["x"]


def test_an_act_is_not_recorded_on_top_of_damaged_tiles(world):
    """These entries exist nowhere else, so the tree cannot be rebuilt."""
    operator_acts.record(world.lake, {"n": 0}, NOON)
    tile = world.folder / "lake/integrity/acts/tile/0/000.p/1"
    tile.write_bytes(tile.read_bytes()[::-1])
    with pytest.raises(Alarm, match="missing or damaged"):
        operator_acts.record(world.lake, {"n": 1}, NOON)
    tile.unlink()
    with pytest.raises(Alarm, match="missing or damaged"):
        operator_acts.record(world.lake, {"n": 1}, NOON)
    assert signer.published(signer.of(world.lake, signer.ACTS)).size == 1


def test_an_act_is_not_recorded_in_a_log_that_was_rolled_back(world):
    operator_acts.record(world.lake, {"n": 0}, NOON)
    acts, copy = world.folder / "lake/integrity/acts", world.folder / "copy"
    shutil.copytree(acts, copy)
    operator_acts.record(world.lake, {"n": 1}, NOON)
    shutil.rmtree(acts)
    copy.rename(acts)
    with pytest.raises(Alarm):
        operator_acts.record(world.lake, {"n": 2}, NOON)


def test_the_loser_of_a_race_decides_again_on_the_acts_of_the_winner(world, monkeypatch):
    def missing(acts):
        return [] if any(act["act"] == "switched" for act in acts) else [{"act": "switched"}]

    operator_acts.record(world.lake, {"act": "first"}, NOON)
    # Another machine has another lock, and another record of what was signed last.
    both = {"keys": [keys.signing(world.integrity)[0].secret], "trusted": world.vkeys()}
    other = Signed(world.folder, {"folder": world.folder / "other machine", **both})
    once(monkeypatch, signer, "_publish", lambda: operator_acts.add(other.lake, missing, NOON))
    operator_acts.add(world.lake, missing, NOON)
    assert [act["act"] for act in recorded(world)] == ["first", "switched"]
