"""Dagster starts a pass of alerts when one has something to do."""

import dagster as dg

from pipelines import definitions
from pipelines.clock import utc_now
from pipelines.settings import Settings
from tests.detections.alerts.world import finding, hook, land, receiving, settings, states


def made(lake, chosen):
    return definitions.definitions(lake, [], alerting=chosen)


def sensors(found):
    return [each for each in found.sensors if each.name == "send_alerts"]


def tick(found):
    (sensor,) = sensors(found)
    with dg.DagsterInstance.ephemeral() as instance:
        return sensor.evaluate_tick(
            dg.build_sensor_context(instance, repository_def=found.get_repository_def())
        )


def test_a_pass_runs_when_something_is_due_and_not_otherwise(lake):
    with receiving() as server:
        found = made(lake, settings({"hook": hook(server.url)}))
        land(lake, finding(time=utc_now()))
        assert len(tick(found).run_requests) == 1
        assert found.resolve_job_def("send_alerts").execute_in_process().success
        assert tick(found).skip_message == "nothing is due"
    assert states(lake) == [("hook", "findings", 0, "sent")]


def test_without_receivers_there_is_no_sensor(lake):
    assert not sensors(made(lake, Settings()))
    assert not sensors(definitions.definitions(lake, []))


def test_a_step_that_fails_fails_the_run(lake, monkeypatch):
    from pipelines.detections.alerts import passes

    monkeypatch.setattr(passes.health, "problems", lambda *_: 1 / 0)
    job = made(lake, settings()).resolve_job_def("send_alerts")
    assert not job.execute_in_process(raise_on_error=False).success
