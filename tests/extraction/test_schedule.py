"""The poll times of streams are shared by all processes of a machine, and may be lost."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from pipelines import definitions
from pipelines.extraction import schedule
from pipelines.extraction.schedule import NextPoll
from pipelines.lake.tables import StreamKey

LOG = StreamKey("okta", "system_log")


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
