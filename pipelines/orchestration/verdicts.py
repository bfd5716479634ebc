"""Verdicts of checks that outlive a round.

Dagster counts a verdict only until its asset is materialised again, and then shows the check as not
evaluated. A round materialises its assets and runs only the quick checks, so the verdicts of the
others are made to count for the new materialisation too.
"""

from collections.abc import Iterable

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as Target,
)
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster_shared.record import replace
from dagster_shared.serdes import serialize_value

_PLANNED = AssetCheckExecutionRecordStatus.PLANNED
_ALL_ROWS = "all rows read"


def hold(instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey]) -> None:
    """Let the last verdict of each check count for the newest materialisation of its asset.

    A check that is being evaluated is left alone, since its verdict will count anyway.
    """
    newest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks))
    for record in newest.values():
        if record.status != _PLANNED:
            _move(instance, record)
        elif _ended(instance, record.run_id):
            instance.report_runless_asset_event(_after_no_verdict(instance, record))


def _move(instance: dg.DagsterInstance, record: AssetCheckExecutionRecord) -> None:
    """Change the materialisation that a stored verdict refers to, and nothing else of it."""
    storage, evaluation, target = instance.event_log_storage, record.evaluation, None
    for asset in instance.get_asset_records([record.key.asset_key]):
        if made := asset.asset_entry.last_materialization_record:
            target = Target(
                storage_id=made.storage_id, run_id=made.run_id, timestamp=made.timestamp
            )
    if not (target and evaluation and record.event and isinstance(storage, SqlEventLogStorage)):
        return
    moved = replace(evaluation, target_materialization_data=target)
    event = record.event.get_dagster_event()._replace(event_specific_data=moved)
    table = AssetCheckExecutionsTable
    # In place: a copy would hide a verdict that another run stores meanwhile.
    with storage.index_connection() as connection:
        connection.execute(
            table.update()
            .where(table.c.id == record.id, table.c.execution_status == record.status.value)
            .values(
                evaluation_event=serialize_value(record.event._replace(dagster_event=event)),
                materialization_event_storage_id=target.storage_id,
            )
        )


def _ended(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is None or run.is_finished


def _after_no_verdict(
    instance: dg.DagsterInstance, planned: AssetCheckExecutionRecord
) -> dg.AssetCheckEvaluation:
    """Return the verdict of a check whose last run ended without one.

    That is the last verdict, unless it passed and the run failed: then nothing is known.
    """
    run, last = instance.get_run_by_id(planned.run_id), last_verdict(instance, planned.key)
    failed = run is not None and run.status == dg.DagsterRunStatus.FAILURE
    if last and not (last.passed and failed):
        return last
    return dg.AssetCheckEvaluation(
        asset_key=planned.key.asset_key,
        check_name=planned.key.name,
        passed=False,
        description=f"not evaluated: run {planned.run_id} failed",
    )


def last_verdict(
    instance: dg.DagsterInstance, check: dg.AssetCheckKey
) -> dg.AssetCheckEvaluation | None:
    history = instance.event_log_storage.get_asset_check_execution_history(
        check, limit=1, status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
    )
    return next((record.evaluation for record in history), None)


def settled(
    instance: dg.DagsterInstance,
    check: dg.AssetCheckKey,
    result: dg.AssetCheckResult,
    *,
    whole: bool,
) -> dg.AssetCheckResult:
    """Return the result, or the last failure if only a check of all rows could have seen it."""
    if whole:
        marked = {**result.metadata, _ALL_ROWS: dg.MetadataValue.bool(True)}
        return result._replace(metadata=marked)
    last = last_verdict(instance, check)
    if not result.passed or last is None or last.passed or _ALL_ROWS not in last.metadata:
        return result
    return result._replace(
        passed=False,
        severity=last.severity,
        description=last.description,
        metadata=last.metadata,
    )
