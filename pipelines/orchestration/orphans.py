"""Runs whose process is gone: they are failed here, since they would block their sensor for ever.

A launcher for containers notices such a run, if run monitoring is on. Dagster's default launcher
leaves that to the code server that started the run, which may be gone as well.
"""

import json

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

from pipelines.clock import unix_time
from pipelines.orchestration.naming import INTEGRATION

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_SILENT = 30.0
_TIMEOUT = 5


def unfinished_run(instance: dg.DagsterInstance, name: str, tag: str = INTEGRATION) -> str | None:
    """Return the id of a queued or running run of an integration; fail those without a process."""
    unfinished = dg.RunsFilter(tags={tag: name}, statuses=_UNFINISHED)
    for run in instance.get_runs(unfinished):
        if not _is_orphan(instance, run):
            return run.run_id
        # Read again: it may have ended while its server was queried.
        found = instance.get_run_by_id(run.run_id)
        if found and not found.is_finished:
            instance.report_run_failed(found, "The process of this run was killed.")
    return None


def _is_orphan(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return True if a run has been silent for a while, and its server is gone or does not know it.

    The silence spares runs that are being launched or have just ended. `dagster code-server`
    forgets its runs when it reloads; failing one that waits for its vendor costs a second run.
    """
    server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    if not server or not _is_silent(instance, run.run_id):
        return False
    try:
        answer = DagsterGrpcClient(**server).can_cancel_execution(
            CanCancelExecutionRequest(run_id=run.run_id), timeout=_TIMEOUT
        )
    except DagsterUserCodeUnreachableError:
        return True
    return not deserialize_value(answer, CanCancelExecutionResult).can_cancel


def _is_silent(instance: dg.DagsterInstance, run_id: str) -> bool:
    last = instance.get_records_for_run(run_id, limit=1, ascending=False).records
    # A time far ahead is by the wrong clock of another machine.
    return not last or abs(unix_time() - last[0].event_log_entry.timestamp) > _SILENT
