"""A run whose process was killed does not block its sensor."""

import json
import shutil
from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.storage.tags import GRPC_INFO_TAG

from pipelines.clock import utc_now
from pipelines.orchestration import orphans, retention
from pipelines.orchestration.retention import Kept
from sandbox.faults import Fault
from tests.orchestration import postgres
from tests.orchestration.deployment import PROJECT, deployed, kill
from tests.waiting import free_ports, until

HANGS = Fault(kind="okta", fault="status", status=503, retry_after=600, every=True)
"""A peek gives up at once, but a run waits."""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """DAGSTER_HOME, with a database in PostgreSQL where that is installed."""
    folder = tmp_path / "home"
    folder.mkdir()
    if postgres.INITDB is None:
        shutil.copy(PROJECT / "pipelines" / "orchestration" / "dagster.yaml", folder)
        yield folder
        return
    shutil.copy(PROJECT / "deploy" / "dagster" / "postgres.yaml", folder / "dagster.yaml")
    with postgres.running() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield folder


def runs(instance, status):
    return instance.get_runs(dg.RunsFilter(statuses=[status]))


def test_a_run_killed_with_its_code_server_is_followed_by_another(still_world, home, tmp_path):
    still_world.disorder(HANGS)
    with (
        deployed(tmp_path, still_world, DAGSTER_HOME=str(home)) as dagster,
        dg.DagsterInstance.from_config(str(home)) as instance,
    ):
        server = dagster.start_code_server()
        dagster.start_daemon()
        (hanging,) = until(lambda: runs(instance, dg.DagsterRunStatus.STARTED), "a run")
        assert "port" in json.loads(hanging.tags[GRPC_INFO_TAG])
        kill(server)
        still_world.disorder()
        dagster.start_code_server()
        until(lambda: runs(instance, dg.DagsterRunStatus.SUCCESS), "another run")
        failed = runs(instance, dg.DagsterRunStatus.FAILURE)
        for _ in range(3):
            instance.report_runless_asset_event(dg.AssetObservation("raw"))
        forgotten = retention.forget(instance, utc_now() + timedelta(days=90), Kept(events=1))
        assert forgotten.runs >= 2
        assert forgotten.events >= 2
    assert [run.run_id for run in failed] == [hanging.run_id]
    assert still_world.stored("okta", "system_log").height > 0


def test_a_run_that_has_just_reported_is_not_failed(operator):
    (asked,), _ = operator.tick()
    (port,) = free_ports(1)
    gone = {GRPC_INFO_TAG: json.dumps({"host": "127.0.0.1", "port": port})}
    run = operator.instance.create_run_for_job(
        operator.made.resolve_job_def("okta"),
        status=dg.DagsterRunStatus.STARTED,
        tags={**asked.tags, **gone},
    )
    operator.instance.report_engine_event("launched", run)
    assert orphans.unfinished_run(operator.instance, "okta") == run.run_id
