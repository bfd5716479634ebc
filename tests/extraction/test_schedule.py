"""The poll times of streams are shared by all processes of a machine, and may be lost."""

import os
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from pipelines import definitions
from pipelines.extraction import schedule
from pipelines.extraction.schedule import NextPoll
from pipelines.lake.tables import Lake, StreamKey

LOG = StreamKey("okta", "system_log")
OTHER = StreamKey("okta", "users")
HOUR = timedelta(hours=1)


def set_mark(lake, key, time):
    """Move the last poll of a stream to another time, as if it had been then."""
    os.utime(schedule._mark(lake, key), (time.timestamp(),) * 2)


def test_a_stream_is_not_polled_again_before_its_floor(lake):
    assert schedule.last_polled(lake, LOG) is None
    assert [schedule.claim_turn(lake, LOG, HOUR) for _ in range(3)] == [True, False, False]
    assert schedule.claim_turn(lake, OTHER, HOUR)
    set_mark(lake, LOG, datetime.now(UTC) - HOUR)
    assert [schedule.claim_turn(lake, LOG, HOUR) for _ in range(2)] == [True, False]


def test_without_a_floor_every_poll_is_allowed_and_recorded(lake):
    before = datetime.now(UTC) - timedelta(seconds=1)  # file systems round their times
    assert [schedule.claim_turn(lake, LOG, None) for _ in range(2)] == [True, True]
    assert before <= schedule.last_polled(lake, LOG) <= datetime.now(UTC)


def test_a_poll_that_was_refused_is_not_recorded(lake):
    schedule.claim_turn(lake, LOG, HOUR)
    earlier = datetime.now(UTC).replace(microsecond=0) - HOUR / 2
    set_mark(lake, LOG, earlier)
    assert not schedule.claim_turn(lake, LOG, HOUR)
    assert schedule.last_polled(lake, LOG) == earlier


def test_a_mark_in_the_future_is_void(lake):
    """A clock that is set back would otherwise stop all polling until it has caught up."""
    schedule.claim_turn(lake, LOG, HOUR)
    set_mark(lake, LOG, datetime.now(UTC) + timedelta(days=365))
    assert [schedule.claim_turn(lake, LOG, HOUR) for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"next":1}', b'{"next":"x","interval":1,"why":""}']
)
def test_a_damaged_plan_is_no_plan(lake, content):
    plan = NextPoll(next=datetime(2026, 3, 1, tzinfo=UTC), interval=20.0, why="nothing new")
    schedule.save(lake, LOG, plan)
    schedule._plan(lake, LOG).write_bytes(content)
    assert schedule.load(lake, LOG) is None
    schedule.save(lake, LOG, plan)
    assert schedule.load(lake, LOG) == plan


def test_lakes_share_nothing_but_one_lake_may_be_named_in_two_ways(lake, tmp_path, monkeypatch):
    assert schedule.claim_turn(lake, LOG, HOUR)
    assert schedule.claim_turn(Lake(f"{lake.root}-2"), LOG, HOUR)
    monkeypatch.chdir(tmp_path)
    assert not schedule.claim_turn(Lake("lake"), LOG, HOUR)


def test_the_next_poll_of_a_stream_is_shared(lake):
    assert schedule.load(lake, LOG) is None
    plan = NextPoll(next=datetime(2026, 3, 1, tzinfo=UTC), interval=20.0, why="nothing new")
    schedule.save(lake, LOG, plan)
    assert schedule.load(lake, LOG) == plan


def test_the_sensor_reports_when_it_polls_next_and_why(still_world):
    world = still_world
    world.poll("okta")
    made = definitions.definitions(world.lake, [world.source("okta")])
    sensor = next(s for s in made.sensors if s.name == "poll_okta")
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(
            instance, cursor=None, repository_def=made.get_repository_def()
        )
        result = sensor.evaluate_tick(context)
        plan = schedule.load(world.lake, LOG)
        assert plan.interval == 10
        assert "no new records" in plan.why
        assert plan.next > datetime.now(UTC) + timedelta(seconds=1)
        context = dg.build_sensor_context(
            instance, cursor=result.cursor, repository_def=made.get_repository_def()
        )
        again = sensor.evaluate_tick(context)
    assert "next is system_log in" in again.skip_message
    assert plan.why in again.skip_message


def test_a_plan_without_a_time_zone_is_none(lake):
    schedule.save(lake, LOG, NextPoll(next=datetime.now(UTC), interval=1.0, why="new records"))
    assert schedule.load(lake, LOG)
    path = schedule._plan(lake, LOG)
    path.write_bytes(b'{"next": "2026-03-01T09:00:00", "interval": 20.0, "why": "by hand"}')
    assert schedule.load(lake, LOG) is None


def test_a_mark_that_is_a_link_touches_no_other_file(lake, tmp_path):
    victim = tmp_path / "victim"
    victim.touch()
    os.utime(victim, (0, 0))
    schedule.claim_turn(lake, LOG, HOUR)
    schedule._mark(lake, LOG).unlink()
    schedule._mark(lake, LOG).symlink_to(victim)
    schedule.claim_turn(lake, LOG, None)
    assert victim.stat().st_mtime == 0
