"""Streams are retired by signed acts of their own."""

from datetime import timedelta

import pytest

from pipelines.errors import LakeError
from pipelines.integrity import operator_acts, retired_streams
from pipelines.integrity.retired_streams import Retirement
from pipelines.integrity.verifier import operator_acts as verifier
from pipelines.lake.tables import Lake, StreamKey
from tests.integrity.worlds import NOON, Signed

ONE, OTHER = StreamKey("okta", "system_log"), StreamKey("entra_id", "sign_ins")


def test_the_newest_act_about_a_stream_counts(tmp_path):
    world = Signed(tmp_path)
    assert retired_streams.retired(world.lake) == {}
    both = Retirement(logs=(ONE, OTHER), who="ada", why="replaced")
    retired_streams.retire(world.lake, both, NOON)
    operator_acts.record(world.lake, {"act": "retention", "table": ONE.table}, NOON)
    later = NOON + timedelta(days=3)
    retired_streams.retire(world.lake, Retirement(logs=(ONE,), who="bob", why="again"), later)
    assert retired_streams.retired(world.lake) == {ONE: later, OTHER: NOON}


def test_the_act_names_its_author_and_excuses_no_row(tmp_path):
    world = Signed(tmp_path)
    retired_streams.retire(world.lake, Retirement(logs=(ONE,), who="ada", why="replaced"), NOON)
    shelf = world.place.shelf("acts")
    (act,) = verifier.read(shelf, world.vkeys())
    assert (act["act"], act["log"], act["who"]) == ("retired", "okta/system_log", "ada")
    assert act["why"] == "replaced"
    assert not verifier.removed(shelf, shelf, ONE.table, world.vkeys()).rows
    assert verifier.mappings(shelf, ONE.app, world.vkeys()) == verifier.Mappings()


def test_a_lake_that_is_not_signed_retires_nothing(tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    with pytest.raises(LakeError, match=r"integrity\.sign = true"):
        retired_streams.retire(lake, Retirement(logs=(ONE,), who="ada", why="replaced"), NOON)
