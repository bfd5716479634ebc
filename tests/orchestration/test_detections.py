"""The asset `findings`, its checks, and the sensor that runs it only if rows are behind."""

import dagster as dg
import pytest

from pipelines import definitions, registry
from pipelines.detections import engine
from pipelines.detections.detector import Detector
from pipelines.orchestration import detections
from pipelines.orchestration.naming import EVENTS, FINDINGS
from pipelines.settings.detections import DetectionSettings
from tests.detections.ruled import written
from tests.detections.test_engine import OKTA, RESET
from tests.detections.watched import KEYS, findings, land, okta

SOURCE = registry.source("okta", {"kind": "okta", **KEYS["okta"]})


class Operator:
    """Ticks the sensor and runs what it requests."""

    def __init__(self, lake, folder, instance):
        chosen = DetectionSettings(rules=[written(folder, OKTA)])
        self.instance, self.lake = instance, lake
        self.made = definitions.definitions(lake, [SOURCE], rules=chosen)
        self.sensor = next(s for s in self.made.sensors if s.job_name == detections.JOB)
        self.cursor = None

    def tick(self):
        context = dg.build_sensor_context(
            self.instance, repository_def=self.made.get_repository_def(), cursor=self.cursor
        )
        ticked = self.sensor.evaluate_tick(context)
        self.cursor = ticked.cursor
        return ticked.run_requests or [], ticked.skip_message

    def run(self, *requests):
        job = self.made.resolve_job_def(detections.JOB)
        tags = requests[0].tags if requests else {}
        done = job.execute_in_process(instance=self.instance, tags=tags, raise_on_error=False)
        made = [each.materialization for each in done.get_asset_materialization_events()]
        figures = {k: v.value for each in made for k, v in each.metadata.items()}
        passed = {e.check_name: e for e in done.get_asset_check_evaluations()}
        return done.success, figures, passed


@pytest.fixture
def watch(lake, tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        yield Operator(lake, tmp_path, instance)


def test_a_run_is_requested_only_if_rows_are_behind(watch):
    assert watch.tick() == ([], "no row is behind")
    land(watch.lake, "okta", okta(1), okta(2, RESET))
    (asked,), _ = watch.tick()
    success, figures, passed = watch.run(asked)
    assert success
    assert (figures["rows evaluated"], figures["findings added"]) == (2, 1)
    assert figures["dagster/row_count"] == findings(watch.lake).height == 1
    assert all(each.passed for each in passed.values())
    assert set(passed) == {"every_row_evaluated", "no_rule_fails"}
    assert watch.tick() == ([], "no row is behind")
    land(watch.lake, "okta", okta(3))
    (later,), _ = watch.tick()
    assert later.run_key != asked.run_key


def test_rows_that_arrive_during_a_run_are_left_to_the_next(watch, monkeypatch):
    real = Detector.detect

    def detect(self, keys):
        yield from real(self, keys)
        land(watch.lake, "okta", okta(2))

    monkeypatch.setattr(Detector, "detect", detect)
    land(watch.lake, "okta", okta(1))
    _, figures, passed = watch.run()
    assert figures["rows evaluated"] == 1
    assert passed["every_row_evaluated"].passed
    assert len(watch.tick()[0]) == 1


def test_rows_whose_rule_fails_request_no_run_after_another(watch, monkeypatch):
    land(watch.lake, "okta", okta(1, RESET))
    monkeypatch.setattr(Detector, "behind", lambda *_: 7)
    (asked,), _ = watch.tick()
    watch.run(asked)
    assert watch.tick() == ([], "7 rows are behind since a run was made for them")
    monkeypatch.setattr(Detector, "behind", lambda *_: 8)
    assert len(watch.tick()[0]) == 1
    monkeypatch.setattr(
        detections, "unix_time", lambda: float(watch.cursor.split()[1]) + engine.RETRY.seconds
    )
    assert len(watch.tick()[0]) == 1


def test_a_failed_rule_and_rows_behind_fail_the_checks(watch, monkeypatch):
    land(watch.lake, "okta", okta(1, RESET))
    watch.run()
    monkeypatch.setattr(Detector, "behind", lambda *_: 3)
    monkeypatch.setattr(detections, "_failing", lambda *_: ["Rule 1: okta system_log: too slow"])
    success, _, passed = watch.run()
    assert success
    evaluated, sound = passed["every_row_evaluated"], passed["no_rule_fails"]
    assert (evaluated.passed, evaluated.description) == (False, "3 rows are behind")
    assert (sound.passed, sound.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert sound.description == "Rule 1: okta system_log: too slow"


def test_an_overlay_that_is_not_valid_fails_the_run_and_skips_the_tick(watch, lake, tmp_path):
    file = tmp_path / "rules.toml"
    file.write_text("[rules")
    chosen = DetectionSettings(rules=[written(tmp_path, OKTA)], overlay=file)
    watch.made = definitions.definitions(lake, [SOURCE], rules=chosen)
    watch.sensor = next(s for s in watch.made.sensors if s.job_name == detections.JOB)
    assert "not valid TOML" in watch.tick()[1]
    assert not watch.run()[0]


def test_findings_follow_from_events_and_their_checks_run_every_night(lake, tmp_path):
    made = definitions.definitions(lake, [SOURCE])
    dg.Definitions.validate_loadable(made)
    (spec,) = (each for each in made.resolve_all_asset_specs() if each.key == FINDINGS)
    assert [dep.asset_key for dep in spec.deps] == [EVENTS]
    nightly = made.resolve_job_def("full_table_checks")
    assert FINDINGS in nightly.asset_layer.executable_asset_keys
    without = definitions.definitions(lake, [SOURCE], rules=DetectionSettings(enabled=False))
    dg.Definitions.validate_loadable(without)
    assert FINDINGS not in {each.key for each in without.resolve_all_asset_specs()}
