"""Size of Dagster's home directory over simulated days, with and without forgetting old history.

A day has --runs rounds of Okta, in process, and for each as many pushes and sensor ticks as an hour
of `auditlake up` has per run. Limits are scaled down by --scale, the days by the clock that
`forget` is given; the size of a real home directory is that of the plateau times the scale.

    .venv/bin/python benchmarks/dagster_home.py --days 30 --runs 4 --scale 100
"""

from __future__ import annotations

import argparse
import logging
import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    TickData,
    TickStatus,
)

from pipelines import definitions, registry
from pipelines.lake.tables import Lake, StreamKey
from pipelines.orchestration import retention
from pipelines.orchestration.naming import key_of
from pipelines.orchestration.retention import Kept
from sandbox.server import Options, running

PROJECT = Path(__file__).parents[1]
PUSHES, TICKS = 2, 4
"""Reports of pushes, and ticks without a run, per run."""
RAW = key_of(StreamKey("okta", "system_log"))


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def scaled(scale: int) -> Kept:
    whole = Kept()
    return Kept(
        runs=whole.runs // scale,
        failed_runs=whole.failed_runs // scale,
        events=whole.events // scale,
        verdicts=max(1, whole.verdicts // scale),
    )


def sensor_state(instance: dg.DagsterInstance) -> InstigatorState:
    location = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name="auditlake")
    origin = RemoteRepositoryOrigin(location, "__repository__").get_instigator_origin("poll_okta")
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING)
    return instance.add_instigator_state(state)


def skip(instance: dg.DagsterInstance, state: InstigatorState) -> None:
    instance.create_tick(
        TickData(
            state.instigator_origin_id,
            state.instigator_name,
            state.instigator_type,
            TickStatus.SKIPPED,
            datetime.now(UTC).timestamp(),
            run_ids=[],
            skip_reason="no stream is due; next is system_log in 7 s (no new records)",
            selector_id=state.selector_id,
        )
    )


def simulate(home: Path, job: dg.JobDefinition, days: int, runs: int, kept: Kept | None) -> None:
    shutil.copy(PROJECT / "pipelines" / "orchestration" / "dagster.yaml", home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        state = sensor_state(instance)
        for day in range(1, days + 1):
            for _ in range(runs):
                job.execute_in_process(instance=instance)
                for _ in range(PUSHES):
                    figures = {"via": "webhook", "rows added": 3, "table version": day}
                    instance.report_runless_asset_event(dg.AssetObservation(RAW, metadata=figures))
                for _ in range(TICKS):
                    skip(instance, state)
            begun, gone = time.perf_counter(), 0
            if kept:
                tomorrow = datetime.now(UTC) + timedelta(days=1)
                gone = retention.forget(instance, tomorrow, kept).runs
            seconds = time.perf_counter() - begun
            figures = f"{megabytes(home):>8.1f} {gone:>8,} {seconds:>8.2f}"
            print(f"{day:>4} {day * runs:>6,} {figures}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--runs", type=int, default=4, help="per day")
    parser.add_argument("--scale", type=int, default=100)
    parser.add_argument("--keep-all", action="store_true", help="forget nothing")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Options(days=1, per_day=50, rate=0)) as sandbox,
    ):
        source = registry.source("okta", sandbox.settings()["okta"])
        made = definitions.definitions(Lake(f"{folder}/lake"), [source])
        home = Path(folder, "home")
        home.mkdir()
        print(" day   runs       MB  deleted  seconds")
        kept = None if chosen.keep_all else scaled(chosen.scale)
        simulate(home, made.resolve_job_def("okta"), chosen.days, chosen.runs, kept)


if __name__ == "__main__":
    main()
