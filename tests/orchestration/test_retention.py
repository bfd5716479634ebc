"""The bounds of Dagster's home directory: runs, events, verdicts and ticks."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    TickData,
    TickStatus,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from pipelines.orchestration import retention
from pipelines.orchestration.retention import Kept

ASSET = dg.AssetKey("one")
CHECK = dg.AssetCheckKey(ASSET, "sound")
NOW = datetime.now(UTC)


@dg.asset(name="one")
def asset():
    return dg.MaterializeResult()


@dg.asset_check(asset=ASSET)
def sound():
    return dg.AssetCheckResult(passed=False, description="tampered")


@dg.op
def failing():
    raise dg.Failure("down", allow_retries=False)


@dg.job
def fails():
    failing()
    failing.alias("again")()


MADE = dg.Definitions(
    assets=[asset],
    asset_checks=[sound],
    jobs=[
        dg.define_asset_job("make", dg.AssetSelection.assets(asset).without_checks()),
        dg.define_asset_job("judge", dg.AssetSelection.all_asset_checks()),
        fails,
    ],
)


@pytest.fixture
def home(tmp_path):
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return tmp_path


@pytest.fixture
def instance(home):
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def run(instance, job):
    return (
        MADE.resolve_job_def(job)
        .execute_in_process(instance=instance, raise_on_error=False)
        .dagster_run.run_id
    )


def files(home):
    """The names of the runs that have a file or a folder."""
    shards = {p.stem for p in (home / "history" / "runs").glob("*.db")} - {"index", ".db", ""}
    return shards | {path.name for path in (home / "storage").iterdir()}


def test_runs_beyond_the_newest_are_deleted_with_their_files(instance, home):
    succeeded = [run(instance, "make") for _ in range(5)]
    failed = [run(instance, "fails") for _ in range(3)]
    gone = retention.forget(instance, NOW, Kept(runs=2, failed_runs=1))
    left = {*succeeded[-2:], failed[-1]}
    assert gone.runs == 5
    assert set(instance.get_run_ids()) == left == files(home)
    retention.forget(instance, NOW + timedelta(days=8), Kept())
    assert set(instance.get_run_ids()) == {failed[-1]} == files(home)
    retention.forget(instance, NOW + timedelta(days=31), Kept())
    assert set(instance.get_run_ids()) == set() == files(home)


def test_snapshots_of_jobs_are_deleted_with_their_last_run(instance):
    made = [instance.get_run_by_id(run(instance, job)) for job in ("make", "fails")]
    subset = MADE.resolve_job_def("fails").get_subset(op_selection=["failing"])
    made.append(instance.create_run_for_job(subset, status=dg.DagsterRunStatus.FAILURE))
    retention.forget(instance, NOW + timedelta(days=8), Kept())
    kept = [instance.has_snapshot(run.job_snapshot_id) for run in made]
    assert kept == [False, True, True]
    assert instance.has_snapshot(made[1].execution_plan_snapshot_id)
    assert not instance.has_snapshot(made[0].execution_plan_snapshot_id)
    assert instance.get_historical_job(made[2].job_snapshot_id).parent_job_snapshot
    retention.forget(instance, NOW + timedelta(days=31), Kept())
    assert not any(instance.has_snapshot(run.job_snapshot_id) for run in made)


def test_the_state_of_an_asset_and_a_failed_check_outlive_their_runs(instance):
    run(instance, "make")
    run(instance, "judge")
    for _ in range(3):
        instance.report_runless_asset_event(dg.AssetObservation(ASSET))
    retention.forget(instance, NOW + timedelta(days=99), Kept(verdicts=1))
    assert instance.get_latest_materialization_event(ASSET) is not None
    newest = instance.event_log_storage.get_latest_asset_check_execution_by_key([CHECK])[CHECK]
    assert newest.status == AssetCheckExecutionRecordStatus.FAILED
    assert newest.evaluation.description == "tampered"


def test_events_without_a_run_are_bounded_by_number_and_by_age(instance):
    def observed():
        return len(instance.fetch_observations(ASSET, limit=99).records)

    for _ in range(9):
        instance.report_runless_asset_event(dg.AssetObservation(ASSET, tags={"some": "tag"}))
    assert retention.forget(instance, NOW, Kept(events=4)).events == 5
    assert observed() == 4
    assert retention.forget(instance, NOW, Kept(events=4)).events == 0
    retention.forget(instance, NOW + timedelta(days=8), Kept())
    assert observed() == 0


def test_the_newest_verdicts_of_each_check_are_kept_and_always_the_last(instance):
    for passed in (False, True, False):
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(asset_key=ASSET, check_name="sound", passed=passed)
        )
    job = MADE.resolve_job_def("judge")
    for _ in range(4):
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    gone = retention.forget(instance, NOW, Kept(verdicts=2))
    assert gone.verdicts == 4
    history = instance.event_log_storage.get_asset_check_execution_history(CHECK, limit=99)
    assert [record.status.value for record in history] == ["PLANNED", "PLANNED", "FAILED"]


def test_ticks_without_a_run_are_kept_for_hours(instance):
    location = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name="auditlake")
    origin = RemoteRepositoryOrigin(location, "__repository__").get_instigator_origin("poll_okta")
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING)
    instance.add_instigator_state(state)

    def statuses():
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id)
        return sorted(tick.status.value for tick in ticks)

    for status in (TickStatus.SKIPPED, TickStatus.SUCCESS, TickStatus.SKIPPED):
        instance.create_tick(
            TickData(
                state.instigator_origin_id,
                state.instigator_name,
                state.instigator_type,
                status,
                NOW.timestamp(),
                run_ids=[],
                selector_id=state.selector_id,
            )
        )
    retention.forget(instance, NOW + timedelta(hours=5), Kept())
    assert statuses() == ["SKIPPED", "SKIPPED", "SUCCESS"]
    retention.forget(instance, NOW + timedelta(hours=7), Kept())
    assert statuses() == ["SUCCESS"]
