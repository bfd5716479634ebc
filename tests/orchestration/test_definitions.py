"""Dagster loads the definitions of all services at once, and of several instances of one."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from pipelines import definitions, registry
from pipelines.cli import config_file
from pipelines.integrity import retired_streams
from pipelines.integrity.retired_streams import Retirement
from pipelines.lake import coverage, streams
from pipelines.lake.coverage import Entry
from pipelines.lake.stream_state import Facts
from pipelines.lake.tables import Lake, StreamKey
from pipelines.orchestration.assets import no_longer_polled
from pipelines.orchestration.naming import key_of
from pipelines.settings import DagsterSettings, IntegritySettings
from sandbox import server

SETTINGS = server.settings("http://127.0.0.1:9")


@pytest.mark.parametrize("signed", [True, False])
def test_all_services_and_two_of_a_kind_load_together(tmp_path, signed):
    sources = [registry.source(kind, keys) for kind, keys in SETTINGS.items()]
    sources.append(registry.source("second-okta", {**SETTINGS["okta"], "kind": "okta"}))
    lake = Lake(str(tmp_path), integrity=IntegritySettings(sign=signed, folder=tmp_path / "keys"))
    made = definitions.definitions(lake, sources)
    dg.Definitions.validate_loadable(made)
    groups = {spec.group_name for spec in made.resolve_all_asset_specs()}
    assert {*SETTINGS, "second__okta"} <= groups


def test_a_stream_removed_from_the_configuration_stays_as_not_polled_since_its_last_poll(tmp_path):
    lake, then = Lake(str(tmp_path)), datetime(2026, 3, 1, 12, tzinfo=UTC)
    former = StreamKey("former-okta", "system_log")
    okta = registry.source("okta", SETTINGS["okta"])
    for log in (former, StreamKey("okta", "system_log")):
        streams.record(lake, log, Facts(kind="okta", title="Okta"), then)
        done = Entry(since=then - timedelta(hours=1), until=then, asked_at=then)
        coverage.record(lake, log, [done])
    made = definitions.definitions(lake, [okta])
    dg.Definitions.validate_loadable(made)
    specs = {spec.key: spec for spec in made.resolve_all_asset_specs()}
    gone = specs[dg.AssetKey(["raw", *former])]
    assert gone.description.startswith("Okta: system_log, not polled since 2026-03-01 12:00:00 UTC")
    assert gone.group_name == "former__okta"
    assert "not polled" not in specs[key_of(StreamKey("okta", "system_log"))].description
    retirement = Retirement(logs=(former,), who="ada", why="replaced")
    signed = Lake(lake.root, None, IntegritySettings(folder=tmp_path.parent / "keys"))
    retired_streams.retire(signed, retirement, then)
    (after,) = no_longer_polled(signed, [okta])
    assert after.description == "Okta: system_log, retired at 2026-03-01 12:00:00 UTC"
    (tmp_path / "streams/_delta_log/00000000000000000000.json").write_text("{")
    assert list(no_longer_polled(lake, [okta])) == []


def executors(made):
    return {job.executor_def.name for job in made.resolve_all_job_defs()}


def test_the_executor_is_that_of_the_deployment(tmp_path):
    source = registry.source("okta", SETTINGS["okta"])
    made = definitions.definitions(Lake(str(tmp_path)), [source])
    theirs = dg.Definitions(executor=dg.multiprocess_executor)
    assert executors(dg.Definitions.merge(made, theirs)) == {"multiprocess"}


def test_the_configuration_may_keep_a_run_in_one_process(tmp_path, monkeypatch):
    config = tmp_path / "auditlake.toml"
    config.write_text(config_file.document({"okta": SETTINGS["okta"]}, str(tmp_path / "lake")))
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(config))
    assert executors(definitions._configured()) == {"multi_or_in_process_executor"}
    monkeypatch.setenv("AUDITLAKE_DAGSTER__IN_PROCESS", "true")
    assert executors(definitions._configured()) == {"in_process"}


def test_history_is_deleted_only_in_a_dagster_of_our_own(tmp_path):
    """Otherwise the old runs of other code locations would go, too."""
    source = registry.source("okta", SETTINGS["okta"])

    def status(**chosen):
        made = definitions.definitions(
            Lake(str(tmp_path)), [source], dagster=DagsterSettings(**chosen)
        )
        (schedule,) = (each for each in made.schedules if each.job_name == "forget_old_runs")
        return schedule.default_status

    assert status() == dg.DefaultScheduleStatus.STOPPED
    assert status(dedicated=True) == dg.DefaultScheduleStatus.RUNNING
