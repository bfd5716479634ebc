"""A rule that finds more a day than is expected of it is reported, and disturbs nobody."""

from datetime import timedelta

import pytest

from pipelines.detections.alerts import floods, health, message, queueing
from pipelines.errors import ConfigurationError
from pipelines.settings import Settings, validated
from tests.detections.alerts.world import NOW, finding, hook, land, rows, states
from tests.detections.ruled import written
from tests.detections.watched import rule

RULE = "00000001-0000-4000-8000-000000000000"


@pytest.fixture
def chosen(tmp_path):
    """Settings with a rule of which two findings a day are expected."""
    overlay = tmp_path / "rules.toml"
    overlay.write_text(f"[rules.{RULE}]\nmax_per_day = 2\n")
    detections = {"rules": [written(tmp_path, rule(1, {"eventType": "x"}))], "overlay": overlay}
    alerts = {"receivers": {"hook": hook("http://127.0.0.1:9/")}}
    return validated(Settings, {"alerts": alerts, "detections": detections}, "auditlake.toml")


def several(count, **values):
    return [finding(f"{n} {values}", rule_id=RULE, **values) for n in range(count)]


def test_a_rule_floods_with_more_findings_of_a_day_than_expected(lake, chosen):
    assert floods.of(lake, chosen.detections, NOW) == []
    land(lake, *several(2), *several(5, time=NOW - timedelta(days=2)))
    land(lake, *several(3, exception="some"), *several(3, revision=1))
    assert floods.of(lake, chosen.detections, NOW) == []
    land(lake, *several(1, entity="eve@example.com"))
    (flood,) = floods.of(lake, chosen.detections, NOW)
    assert (flood.rule_id, flood.found, flood.expected) == (RULE, 3, 2)


def test_its_findings_wait_for_the_digest_and_those_of_others_do_not(lake, chosen):
    land(lake, *several(1), finding("other"))
    queueing.queue(lake, chosen.alerts, NOW, {RULE})
    assert [each[1:] for each in states(lake)] == [
        ("digest", 0, "held"),
        ("findings", 0, "queued"),
    ]
    assert any("noisy" in message.load(row["payload"]).title for row in rows(lake))


def test_a_flood_is_a_problem_of_auditlake_itself(lake, chosen):
    land(lake, *several(3))
    (one,) = (each for each in health.problems(chosen, lake, NOW) if each.name[:5] == "flood")
    assert (one.name, one.level) == (f"flood {RULE}", "medium")
    assert one.text.startswith("3 findings in 24 hours, 2 are expected")


def test_without_budgets_no_rule_is_read(lake, chosen, tmp_path, monkeypatch):
    monkeypatch.setattr(floods.overlay.rules, "load", lambda _: 1 / 0)
    (tmp_path / "rules.toml").write_text(f"[rules.{RULE}]\nlevel = 'low'\n")
    assert floods.of(lake, chosen.detections, NOW) == []


def test_an_overlay_that_is_not_valid_is_an_error(lake, chosen, tmp_path):
    (tmp_path / "rules.toml").write_text("[rules")
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        floods.of(lake, chosen.detections, NOW)
