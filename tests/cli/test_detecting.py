"""The rules after a round: what is printed, and what a failure means."""

from pipelines import registry
from pipelines.cli import detecting
from pipelines.settings import Settings
from tests.detections.ruled import written
from tests.detections.test_engine import OKTA, RESET
from tests.detections.watched import KEYS, land, okta


def detect(lake, **settings):
    said = []
    source = registry.source("okta", {"kind": "okta", **KEYS["okta"]})
    sound = detecting.detect(Settings(detections=settings), lake, [source], said.append)
    return sound, said


def test_findings_and_rows_are_counted(lake, tmp_path):
    rules = [written(tmp_path, OKTA)]
    assert detect(lake, rules=rules) == (True, [])
    land(lake, "okta", okta(1), okta(2, RESET))
    assert detect(lake, rules=rules) == (True, ["detections: 1 finding in 2 rows"])
    assert detect(lake, rules=rules) == (True, [])
    land(lake, "okta", okta(3))
    assert detect(lake, rules=rules, enabled=False) == (True, [])


def test_a_failure_is_reported_in_a_line_and_shows_no_record(lake, tmp_path, monkeypatch):
    rules = [written(tmp_path, OKTA)]
    land(lake, "okta", okta(1, RESET))
    (tmp_path / "lake" / "findings").mkdir(parents=True)
    (tmp_path / "lake" / "findings" / "_delta_log").write_text("a file, not a folder")
    sound, (line,) = detect(lake, rules=rules)
    assert not sound
    assert line.startswith("detections: FAILED: ")
