"""A follower returns every event that is committed, once, whatever rewrites the table meanwhile."""

from datetime import UTC, datetime

import polars as pl
import pytest

from pipelines.extraction import renormalise
from pipelines.lake import follow, maintenance
from pipelines.lake.follow import Follower
from tests.extraction.test_renormalise import land, made, record

TODAY = datetime(2026, 3, 5, tzinfo=UTC).date()


def seen(follower):
    rows = follower.fresh(lambda rows: rows.sort("stream", "seq"))
    return rows.select("stream", "seq").rows()


def tidy(lake):
    list(maintenance.maintain(lake, [], TODAY))


def test_rows_are_new_once_and_those_from_before_are_held(lake):
    history = made()(lake)
    land(history, record(1), record(2))
    follower = Follower(lake)
    assert follower.held().collect().height == 2
    assert seen(follower) == []
    land(history, record(3))
    assert seen(follower) == [("log", 2)]
    assert seen(follower) == []


def test_a_table_that_does_not_exist_yet_is_awaited(lake):
    follower = Follower(lake)
    assert follower.held().collect().is_empty()
    assert seen(follower) == []
    land(made()(lake), record(1))
    assert seen(follower) == [("log", 0)]


def test_compaction_and_renormalising_bring_nothing_back_and_hide_nothing(lake):
    first, other = made()(lake), made(name="other")(lake)
    land(first, record(1))
    follower, found = Follower(lake), []
    for number in range(2, 8):
        land(first, record(number))
        if number % 2:
            land(other, record(number), record(number + 50))
        tidy(lake)
        if number % 3 == 0:
            found += seen(follower)
        again = made(PLAIN_AGAIN, version=number)(lake)
        assert sum(done.part.rows for done in renormalise.renormalise(again)) > 0
    found += seen(follower)
    assert sorted(found) == [("log", seq) for seq in range(1, 7)] + [
        ("other", seq) for seq in range(6)
    ]


PLAIN_AGAIN = {"action": "id", "actor_id": "who"}


def test_rows_whose_reading_fails_are_returned_by_the_next_look(lake):
    history = made()(lake)
    land(history, record(1))
    follower = Follower(lake)
    land(history, record(2))

    def fail(rows):
        return rows.select(pl.col("seq").cast(pl.String).str.to_date("never"))

    with pytest.raises(pl.exceptions.PolarsError):
        follower.fresh(fail)
    assert seen(follower) == [("log", 1)]


def test_only_new_files_are_read(lake):
    history = made()(lake)
    land(history, record(1), record(2))
    follower = Follower(lake)
    land(history, record(3))
    files = follow._paths(follower._at(follower._head.newest()))
    rows, fences = follower._rows(follower._at(follower._head.newest()), files - follower._paths)
    assert rows.collect().height == 1
    assert list(fences.values()) == [3]
