"""The verdict of a check counts until the check runs again."""

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from pipelines.orchestration import verdicts
from tests.orchestration.test_checks import failing

SAMPLE = dg.AssetCheckKey(dg.AssetKey("events"), "follows_from_raw")


def judge(operator, passed):
    operator.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=SAMPLE.asset_key, check_name=SAMPLE.name, passed=passed, description="judged"
        )
    )


def begin(operator):
    """Start a run of the check, which has no verdict yet."""
    job = operator.made.resolve_job_def("full_table_checks")
    return operator.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)


@pytest.mark.parametrize(
    ("status", "before", "passed"),
    [
        (dg.DagsterRunStatus.CANCELED, True, True),
        (dg.DagsterRunStatus.CANCELED, False, False),
        (dg.DagsterRunStatus.FAILURE, True, False),
        (dg.DagsterRunStatus.FAILURE, False, False),
    ],
)
def test_a_run_without_a_verdict_never_turns_a_failed_check_green(operator, status, before, passed):
    judge(operator, before)
    run = begin(operator)
    if status == dg.DagsterRunStatus.FAILURE:
        operator.instance.report_run_failed(run)
    else:
        operator.instance.report_run_canceled(run)
    assert failing(operator, "okta") == set()
    found = verdicts.last_verdict(operator.instance, SAMPLE)
    assert found.passed is passed
    assert found.description == (
        f"not evaluated: run {run.run_id} failed" if before and not passed else "judged"
    )


def test_a_check_that_is_being_evaluated_is_left_to_its_run(operator):
    judge(operator, passed=False)
    begin(operator)
    assert failing(operator, "okta") == set()
    newest, judged = operator.instance.event_log_storage.get_asset_check_execution_history(
        SAMPLE, limit=9
    )
    assert newest.status == AssetCheckExecutionRecordStatus.PLANNED
    assert not judged.evaluation.passed
