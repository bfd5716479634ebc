"""A sensor that starts a pass of alerts when one has something to do."""

import dagster as dg

from pipelines.clock import utc_now
from pipelines.detections.alerts import passes
from pipelines.errors import AuditlakeError
from pipelines.lake.tables import Lake
from pipelines.orchestration import orphans
from pipelines.settings import Settings

_JOB = "send_alerts"
_TAG = "auditlake/alerts"


def job(lake: Lake, chosen: Settings) -> dg.JobDefinition:
    @dg.op
    def one_pass(context: dg.OpExecutionContext) -> None:
        done = passes.pass_once(chosen, lake, utc_now())
        context.log.info(
            f"{done.queued:,} queued about findings, {done.problems:,} about auditlake itself"
        )
        for one in done.sent:
            receipt = one.row["receipt"]
            context.log.info(f"{one.message.receiver}: {one.state} ({receipt})")
        if done.heartbeat:
            context.log.info(f"heartbeat: {done.heartbeat}")
        if done.errors:
            raise dg.Failure("; ".join(done.errors), allow_retries=False)

    @dg.job(
        name=_JOB,
        tags={_TAG: _JOB},
        description="Queues alerts about findings and about auditlake itself, and delivers them.",
    )
    def send_alerts() -> None:
        one_pass()

    return send_alerts


def sensor(lake: Lake, chosen: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name=_JOB,
        job_name=_JOB,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a pass when there are new findings, messages due or checks due.",
    )
    def due(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if run := orphans.unfinished_run(context.instance, _JOB, _TAG):
            return dg.SkipReason(f"run {run} is still in progress")
        now = utc_now()
        try:
            if not passes.is_due(chosen, lake, now):
                return dg.SkipReason("nothing is due")
        except AuditlakeError as error:
            return dg.SkipReason(str(error))
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=now.isoformat())])

    return due
