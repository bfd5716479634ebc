"""Detections in Dagster: the asset `findings`, its checks, its job, and the sensor that runs it.

The sensor looks only at positions, so that a run, which costs seconds, starts where rows are
behind. Where the receiver has been there first, nothing is.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from pipelines import schemas
from pipelines.clock import unix_time
from pipelines.detections.detector import Detector
from pipelines.detections.engine import RETRY
from pipelines.errors import AuditlakeError
from pipelines.lake import findings
from pipelines.lake.tables import StreamKey
from pipelines.orchestration import orphans
from pipelines.orchestration.naming import EVENTS, FINDINGS, INTEGRATION, shape, table_figures
from pipelines.sdk.contract import Source

EVALUATED_CHECK, SOUND_CHECK = "every_row_evaluated", "no_rule_fails"
JOB = "detect_findings"
_RUNS = findings.LOG.app
"""Stands for an integration in the tags of runs; none may have this name."""
_TAGS = {INTEGRATION: _RUNS}
_NAMED = 3


def keys_of(sources: Sequence[Source]) -> list[StreamKey]:
    return [StreamKey(source.name, each.name) for source in sources for each in source.streams()]


def asset(detector: Detector, sources: Sequence[Source]) -> dg.AssetsDefinition:
    """Return the asset `findings` with its checks."""
    spec = dg.AssetSpec(
        FINDINGS,
        deps=[EVENTS],
        description="Findings of detection rules in the events.",
        group_name="events",
        kinds={"deltalake"},
        metadata=shape(detector.lake, findings.FINDINGS.name, schemas.FINDINGS),
    )
    checks = [
        dg.AssetCheckSpec(
            EVALUATED_CHECK, asset=FINDINGS, description="Each rule has seen every row."
        ),
        dg.AssetCheckSpec(SOUND_CHECK, asset=FINDINGS, description="No rule fails."),
    ]

    @dg.multi_asset(name="findings", specs=[spec], check_specs=checks)
    def found(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        keys = keys_of(sources)
        added = rows = 0
        try:
            # Rows that arrive meanwhile are left to the next run.
            stored = detector.stored(keys)
            for step in detector.detect(keys):
                added, rows = added + step.findings.height, rows + step.rows
                context.log.info(f"{rows:,} rows, {added:,} findings")
            behind = detector.behind(keys, stored)
            failing = _failing(detector)
        except AuditlakeError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        figures = {"rows evaluated": rows, "findings added": added}
        yield dg.MaterializeResult(
            asset_key=FINDINGS,
            metadata=figures | table_figures(detector.lake, findings.FINDINGS.name),
        )
        yield dg.AssetCheckResult(
            asset_key=FINDINGS,
            check_name=EVALUATED_CHECK,
            passed=behind == 0,
            description=f"{behind:,} rows are behind" if behind else "all rows",
            metadata={"rows behind": behind},
        )
        yield dg.AssetCheckResult(
            asset_key=FINDINGS,
            check_name=SOUND_CHECK,
            passed=not failing,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(failing[:_NAMED]) or "none",
            metadata={"rules failing": len(failing)},
        )

    return found


def _failing(detector: Detector) -> list[str]:
    """Return in words which rules that run could not be evaluated lately, and why."""
    rules = detector.rulebook().ruleset.all()
    # A rule that fails is tried again after `RETRY`.
    since = detector.clock() - 6 * RETRY
    rows = findings.failures(detector.lake, since).iter_rows(named=True)
    return [
        f"{rules[row['rule_id']].rule.title}: {row['integration']} {row['stream']}: {row['error']}"
        for row in rows
        if row["rule_id"] in rules
    ]


def job() -> Any:
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(FINDINGS),
        description="Evaluates the detection rules on new rows.",
        tags=_TAGS,
    )


def sensor(detector: Detector, sources: Sequence[Source]) -> dg.SensorDefinition:
    """Return a sensor that requests a run if rows are behind the positions of the rules."""

    @dg.sensor(
        name=JOB,
        job_name=JOB,
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks for rows that no detection rule has seen yet.",
    )
    def detect(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        if run := orphans.unfinished_run(context.instance, _RUNS):
            return _skipped(context, f"run {run} is still in progress")
        try:
            behind = detector.behind(keys_of(sources))
        except AuditlakeError as error:
            return _skipped(context, str(error))
        if not behind:
            return dg.SensorResult(skip_reason="no row is behind", cursor="")
        now = unix_time()
        if _is_waiting(context.cursor, behind, now):
            return _skipped(context, f"{behind:,} rows are behind since a run was made for them")
        runs = context.instance.get_runs(dg.RunsFilter(tags=_TAGS), limit=1)
        after = runs[0].run_id if runs else "none"
        return dg.SensorResult(
            run_requests=[dg.RunRequest(run_key=f"{JOB} after {after}", tags=_TAGS)],
            cursor=f"{behind} {int(now)}",
        )

    return detect


def _skipped(context: dg.SensorEvaluationContext, reason: str) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=reason, cursor=context.cursor)


def _is_waiting(cursor: str | None, behind: int, now: float) -> bool:
    """Return whether a run was requested for these rows a short time ago: a rule fails on them."""
    rows, _, at = (cursor or "").partition(" ")
    made = float(at) if at.isdecimal() else 0.0
    return rows == str(behind) and 0 <= now - made < RETRY.total_seconds()
