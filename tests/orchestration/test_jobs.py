"""Jobs: a backfill fetches its range, renormalising and housekeeping change no row, old runs go."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from pipelines.cli import status
from pipelines.lake.lease import Lease
from pipelines.orchestration import jobs
from pipelines.settings import IntegritySettings
from pipelines.settings.retention import RetentionSettings
from sandbox.faults import Fault
from tests.orchestration.conftest import Operator
from tests.orchestration.test_assets import observed

LOG = ("okta", "system_log")


@pytest.fixture
def run(operator):
    """A function that runs a job with a configuration of its only op."""

    def execute(name, **config):
        job = operator.made.resolve_job_def(name)
        (op,) = [node.name for node in job.nodes]
        chosen = {"ops": {op: {"config": config}}} if config else {}
        return job.execute_in_process(
            run_config=chosen, instance=operator.instance, raise_on_error=False
        )

    return execute


def reason(done):
    """Return the description of the failure, with the error that caused it."""
    (failed,) = [event for event in done.all_events if event.is_step_failure]
    return str(failed.step_failure_data)


def days_ago(days):
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


def test_a_backfill_stores_the_records_of_its_range_once(still_world, run):
    span = {"since": days_ago(3), "until": days_ago(1)}
    assert run("backfill", integration="okta", **span).success
    rows = still_world.stored(*LOG)
    assert set(rows["via"]) == {"backfill"}
    assert span["since"] <= rows["time"].min().isoformat()
    assert rows["time"].max().isoformat() < span["until"]
    assert run("backfill", integration="okta", again=True, **span).success
    assert still_world.stored(*LOG).height == rows.height > 0


def test_times_without_an_offset_are_in_utc(still_world, run):
    since, until = (days_ago(days).removesuffix("+00:00") for days in (2, 1))
    assert run("backfill", integration="okta", since=since, until=until).success
    assert still_world.stored(*LOG)["time"].min() >= datetime.fromisoformat(f"{since}+00:00")


def test_a_stream_that_was_not_chosen_is_left_alone(still_world, run):
    span = {"since": days_ago(2), "until": days_ago(1)}
    assert run("backfill", integration="okta", streams=["other"], **span).success
    assert still_world.stored(*LOG).is_empty()


def test_a_backfill_of_an_unknown_integration_lists_the_configured_ones(run):
    done = run("backfill", integration="octa", since=days_ago(2), until=days_ago(1))
    assert not done.success
    assert "'octa' is not configured; configured are: okta" in reason(done)


def test_a_backfill_fails_if_the_vendor_does(still_world, run):
    still_world.disorder(Fault(kind="okta", fault="status", status=403, every=True))
    done = run("backfill", integration="okta", since=days_ago(2), until=days_ago(1))
    assert not done.success
    assert "403" in reason(done)


def test_a_backfill_sends_no_request_while_another_machine_polls(still_world, run, monkeypatch):
    monkeypatch.setattr(Lease, "claim", lambda _: False)
    done = run("backfill", integration="okta", since=days_ago(2), until=days_ago(1))
    assert "another machine polls with this credential" in reason(done)
    assert still_world.running.sandbox.requests("okta")[0] == 0


@pytest.mark.parametrize("config", [{}, {"everything": True}, {"integrations": ["other"]}])
def test_events_derived_again_from_raw_are_the_same(still_world, run, config):
    still_world.poll("okta")
    before = still_world.events(*LOG)
    assert run("renormalise_events", **config).success
    assert still_world.events(*LOG).equals(before)


def test_maintenance_changes_no_row(still_world, run):
    still_world.poll("okta")
    raw, events = still_world.stored(*LOG), still_world.events(*LOG)
    assert run("lake_maintenance").success
    assert still_world.stored(*LOG).equals(raw)
    assert still_world.events(*LOG).equals(events)


def test_maintenance_deletes_the_days_that_are_over(still_world, operator, tmp_path):
    integrity = IntegritySettings(folder=tmp_path / "state")
    lake = replace(still_world.lake, integrity=integrity)
    world = replace(still_world, lake=lake)
    world.poll("okta")
    before = world.stored(*LOG)["date"].n_unique()
    kept = RetentionSettings(days={"okta": 1})

    def maintained(lake):
        job = jobs.housekeeping(lake, [world.source("okta")], kept).job
        return job.execute_in_process(instance=operator.instance, raise_on_error=False)

    unsigned = maintained(still_world.lake)
    assert "a deletion must be recorded and signed" in reason(unsigned)
    assert world.stored(*LOG)["date"].n_unique() == before > 3
    assert maintained(lake).success
    assert world.stored(*LOG)["date"].n_unique() <= 2
    assert world.events(*LOG)["date"].n_unique() <= 2


def test_maintenance_reports_the_state_of_streams_that_have_no_runs(still_world, operator, run):
    def states():
        assert run("lake_maintenance").success
        return observed(operator.instance)

    assert states()["state"] == "never polled"
    still_world.poll("okta")
    found = states()
    assert (found["state"], found["lost ranges"], found["recent gaps"]) == ("up to date", 0, 0)
    long_ago = {"since": days_ago(300), "until": days_ago(200)}
    done = run("backfill", integration="okta", **long_ago)
    assert "keeps system_log for 90 days" in reason(done)
    assert observed(operator.instance)["lost ranges"] == 1
    (shown,) = status.states(still_world.lake, [still_world.source("okta")], datetime.now(UTC))
    assert (states()["recent coverage"], shown.lost) == (pytest.approx(shown.coverage), 1)


def test_maintenance_of_a_lake_without_tables_succeeds(run):
    assert run("lake_maintenance").success


def test_only_old_runs_that_succeeded_or_were_canceled_are_deleted(operator, run, monkeypatch):
    job = operator.made.resolve_job_def("okta")
    runs = {
        status: operator.instance.create_run_for_job(job, status=status)
        for status in (
            dg.DagsterRunStatus.SUCCESS,
            dg.DagsterRunStatus.CANCELED,
            dg.DagsterRunStatus.FAILURE,
            dg.DagsterRunStatus.STARTED,
        )
    }

    def left():
        found = {run.run_id for run in operator.instance.get_runs()}
        return {status.value for status, made in runs.items() if made.run_id in found}

    assert run("forget_old_runs").success
    assert left() == {"SUCCESS", "CANCELED", "FAILURE", "STARTED"}
    later = datetime.now(UTC) + timedelta(days=7, minutes=1)
    monkeypatch.setattr(jobs, "utc_now", lambda: later)
    assert run("forget_old_runs").success
    assert left() == {"FAILURE", "STARTED"}


def test_every_schedule_runs_by_default_and_no_two_start_in_the_same_minute(still_world):
    with dg.DagsterInstance.ephemeral() as instance:
        schedules = Operator(still_world, instance).made.schedules
    stopped = {s.job_name for s in schedules if s.default_status.name != "RUNNING"}
    assert stopped == {"forget_old_runs"}, "it concerns the whole Dagster"
    minutes = [schedule.cron_schedule.split()[0] for schedule in schedules]
    assert len(set(minutes)) == len(minutes)
