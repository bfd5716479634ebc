"""A look reads each table at one version."""

import pytest

from pipelines.lake import look, pruning
from pipelines.lake.tables import StreamKey
from tests.detections.watched import LOGS, jumpcloud, land, okta

OKTA, JUMPCLOUD = LOGS["okta"], LOGS["jumpcloud"]


def test_tables_that_do_not_exist_are_empty(lake):
    with look.look(lake) as seen:
        assert seen.fence("events", OKTA.app) == 0
        assert seen.raw(OKTA, range(5)).is_empty()
        assert seen.events({}).collect().is_empty()


def test_rows_that_land_meanwhile_are_not_seen(lake):
    land(lake, "okta", okta(0), okta(1))
    with look.look(lake) as seen:
        assert seen.fence(OKTA.table, OKTA.app) == 2
        land(lake, "okta", okta(2))
        assert seen.fence(OKTA.table, OKTA.app) == 2
        assert seen.raw(OKTA, range(1, 3))["seq"].to_list() == [1]
        assert seen.fence("events", OKTA.app) == 3
    with look.look(lake) as seen:
        assert seen.raw(OKTA, range(1, 3))["seq"].to_list() == [1, 2]


@pytest.mark.parametrize("whole", [True, False])
def test_events_are_those_of_the_rows_of_each_stream(lake, monkeypatch, whole):
    monkeypatch.setattr(pruning, "is_worth_reading", lambda *_: whole)
    land(lake, "okta", *map(okta, range(4)))
    land(lake, "jumpcloud", *map(jumpcloud, range(4)))
    other = StreamKey("other", OKTA.stream)
    with look.look(lake) as seen:
        wanted = {OKTA: range(1, 3), JUMPCLOUD: range(3, 9), other: range(4)}
        raw = {key: (seqs, seen.raw(key, seqs)["date"]) for key, seqs in wanted.items()}
        found = seen.events(raw).collect().sort("integration", "seq")
    rows = [*found.select("integration", "seq").iter_rows()]
    assert rows == [("jumpcloud", 3), ("okta", 1), ("okta", 2)]


def test_events_of_rows_that_were_removed_are_left_out(lake):
    land(lake, "okta", okta(0), okta(1, minute=24 * 60))
    with look.look(lake) as seen:
        days = seen.raw(OKTA, range(1))["date"]
        assert seen.events({OKTA: (range(2), days)}).collect()["seq"].to_list() == [0]
