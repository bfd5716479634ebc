"""The configured rules over a signed lake."""

import os

import polars as pl
import pytest

from pipelines.detections.detector import Detector
from pipelines.errors import LakeError
from pipelines.integrity import reports, signer
from pipelines.integrity.verifier.job import WorkerPool
from pipelines.lake import commits
from pipelines.lake import findings as table
from pipelines.lake.tables import Lake
from pipelines.settings import IntegritySettings
from pipelines.settings.detections import DetectionSettings
from tests.detections.ruled import written
from tests.detections.test_engine import OKTA, RESET
from tests.detections.watched import LATER, clock, findings, land, okta


@pytest.fixture
def signed(tmp_path):
    integrity = IntegritySettings(folder=tmp_path / "state")
    return Lake(str(tmp_path / "lake"), integrity=integrity)


def detector(lake, folder, *, overlay="", **settings):
    rules = written(folder, OKTA)
    file = folder / "rules.toml"
    file.write_text(overlay)
    chosen = DetectionSettings(rules=[rules], overlay=file, **settings)
    return Detector(lake=lake, settings=chosen, clock=clock)


def verified(lake):
    where = reports.place(lake, lake.integrity)
    (verdict,) = reports.verdicts(where, ["findings"], {}, WorkerPool(1), full=True)
    return verdict


def found(steps):
    return sum(step.findings.height for step in steps)


def test_findings_are_signed_once_they_are_committed(signed, tmp_path):
    made = detector(signed, tmp_path)
    land(signed, "okta", okta(0), okta(1, RESET))
    assert made.behind() == 2
    for step in made.detect():
        assert step.findings.height == 1
        assert (verified(signed).findings, verified(signed).size) == ([], 1)
    assert made.behind() == 0
    assert found(made.detect()) == 0
    land(signed, "okta", okta(2, RESET), okta(3, RESET))
    assert found(made.detect()) == 2
    assert (verified(signed).findings, verified(signed).size) == ([], 3)


def test_findings_that_a_kill_left_unsigned_are_signed_by_the_next_call(
    signed, tmp_path, monkeypatch
):
    made = detector(signed, tmp_path)
    land(signed, "okta", okta(1, RESET))
    with monkeypatch.context() as patch:
        patch.setattr(signer, "announce", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            list(made.detect())
    assert findings(signed).height == 1
    assert found(made.detect()) == 0
    assert (verified(signed).findings, verified(signed).size) == ([], 1)


def test_findings_that_are_not_as_signed_stop_the_detection(signed, tmp_path):
    made = detector(signed, tmp_path)
    land(signed, "okta", okta(1, RESET), okta(2, RESET))
    assert found(made.detect()) == 2
    (log,) = (tmp_path / "lake/integrity/findings").glob("checkpoint")
    log.write_text("forged")
    land(signed, "okta", okta(3, RESET))
    with pytest.raises(LakeError, match="findings: has a checkpoint that is not signed"):
        list(made.detect())


EXCEPTED = """
[[rules.rule_1.exceptions]]
fields = { actor_email = "ada@example.com" }
owner = "ben@example.com"
reason = "tests every night"
expires = 2026-03-01T08:02:00Z
"""


def test_exceptions_of_the_file_and_of_the_lake_are_filled_in(signed, tmp_path):
    made = detector(signed, tmp_path, overlay=EXCEPTED)
    row = {
        "time": LATER,
        "who": "cy@example.com",
        "exception": "from the dashboard",
        "rule_id": OKTA["id"],
        "fields": [{"field": "entity", "value": "BOB@example.com"}],
        "owner": "cy@example.com",
        "reason": "known",
        "expires": LATER,
    }
    commits.append(signed, table.EXCEPTIONS, pl.DataFrame([row], table.EXCEPTIONS.schema))
    land(signed, "okta", okta(1, RESET), okta(2, RESET), okta(3, RESET, who="bob@example.com"))
    assert found(made.detect()) == 3
    first, second, third = findings(signed)["exception"]
    assert first == made.rulebook().exceptions[0].id
    assert (second, third) == (None, "from the dashboard")


def test_rules_are_read_again_when_a_file_or_the_day_changes(signed, tmp_path):
    made = detector(signed, tmp_path)
    book = made.rulebook()
    assert made.rulebook() is book
    for name in ("rule.yml", "rules.toml"):
        os.utime(tmp_path / name, (1, 1))
        again = made.rulebook()
        assert again is not book
        book = again
    (tmp_path / "rules.toml").unlink()
    written(tmp_path, {**OKTA, "title": "Another title"})
    made.settings = DetectionSettings(rules=[tmp_path / "rule.yml"])
    assert made.rulebook().loaded.rules[0].title == "Another title"


def test_detections_may_be_disabled_and_a_lake_without_rules_does_nothing(signed, tmp_path):
    land(signed, "okta", okta(1, RESET))
    made = detector(signed, tmp_path, enabled=False)
    assert (found(made.detect()), made.behind()) == (0, 0)
    made = detector(signed, tmp_path, overlay="[rules.rule_1]\nenabled = false")
    assert (found(made.detect()), made.behind()) == (0, 0)
    assert not (tmp_path / "lake/findings").exists()
