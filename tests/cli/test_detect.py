"""The commands that run rules and show their findings."""

import json

import pytest

from pipelines.lake.tables import Lake
from tests.cli.command import run
from tests.detections.ruled import written
from tests.detections.watched import correlation, jumpcloud, land, okta, rule

HOSTILE = "\u202e<b>[red]ada\n@example.com"
SINCE = ("--since", "2026-03-01")


@pytest.fixture
def folder(tmp_path):
    """A configuration with a rule, a correlation, and rows of two logs."""
    written(
        tmp_path,
        rule(1, {"eventType": "reset"}, title="Reset \u202e<script>"),
        rule(2, {"outcome": "failure"}, product="auditlake", level="low"),
        {**correlation(3, [2], gte=2), "name": "many"},
        name="mine/rules.yml",
    )
    (tmp_path / "auditlake.toml").write_text(
        f'[lake]\nroot = "{tmp_path}/data"\n[detections]\nrules = ["{tmp_path}/mine"]\n'
        '[integrations.okta]\nbase_url = "https://acme.okta.example"\napi_token = "t"\n'
    )
    lake = Lake(str(tmp_path / "data"))
    failed = {"outcome": {"result": "FAILURE"}}
    land(lake, "okta", okta(0, "reset", who=HOSTILE), okta(1, **failed), okta(2, **failed))
    land(lake, "jumpcloud", jumpcloud(0))
    return tmp_path


def test_detect_prints_what_is_new_once(folder):
    first = run(folder, "detect")
    assert first.exit_code == 0
    assert "4 rows evaluated, 2 findings" in first.output
    lines = [line.split("  ") for line in first.stdout.splitlines()]
    assert lines[0][0] == "time (UTC)"
    assert "critical" in first.output
    assert "\u202e" not in first.output
    assert "0 rows evaluated, 0 findings" in run(folder, "detect").output


def test_findings_of_low_levels_are_only_counted(folder):
    rules = folder / "mine" / "rules.yml"
    rules.write_text(rules.read_text().replace("level: high", "level: low"))
    found = run(folder, "detect")
    assert "Reset" not in found.stdout
    counts = "2 findings: 1 critical, 1 below medium not shown (--level informational shows all)"
    assert counts in " ".join(found.stderr.split())
    rows = json_rows(run(folder, "findings", *SINCE, "--json"))
    assert sorted(row["level"] for row in rows) == ["critical", "low"]


def test_another_lowest_level_is_shown(folder):
    found = run(folder, "detect", "--level", "critical")
    assert "Reset" not in found.stdout
    assert "2 findings: 1 critical, 1 below critical not shown" in found.stderr


def json_rows(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_detect_is_limited_to_integrations_and_prints_json(folder):
    assert run(folder, "detect", "jumpcloud", "--json").exit_code == 2
    found = run(folder, "detect", "okta", "--json")
    rows = json_rows(found)
    assert sorted(row["level"] for row in rows) == ["critical", "high"]
    assert "3 rows evaluated" in found.stderr


def test_findings_are_listed_by_level(folder):
    run(folder, "detect")
    assert "2 findings since 2026-03-01" in run(folder, "findings", *SINCE).output
    one = run(folder, "findings", *SINCE, "--level", "critical", "--json")
    (row,) = json_rows(one)
    assert (row["rule_id"][:8], row["count"]) == ("00000003", 2)
    assert "0 findings" in run(folder, "findings").output


EXCEPTED = """
[rules.rule_2]
level = "medium"
[[rules.rule_1.exceptions]]
fields = { source_ip = "203.0.113.0/24" }
owner = "ben@example.com"
reason = "tests"
expires = 2027-01-01
"""


def test_detect_and_backtest_honour_the_overlay_and_agree(folder):
    overlay = folder / "rules.toml"
    overlay.write_text(EXCEPTED)
    config = folder / "auditlake.toml"
    config.write_text(
        config.read_text().replace("[detections]", f'[detections]\noverlay = "{overlay}"')
    )
    live = json_rows(run(folder, "detect", "--json"))
    (reset,) = (row for row in live if row["rule_id"].startswith("00000001"))
    tested = run(folder, "rules", "backtest", "rule_1", *SINCE, "--json").stdout
    (again,) = json.loads(tested)["samples"]
    assert reset["exception"] == again["exception"]
    assert len(reset["exception"]) == 16
    assert reset["finding_uid"] == again["finding_uid"]


def test_detect_works_where_it_is_not_done_after_each_poll(folder):
    config = folder / "auditlake.toml"
    config.write_text(config.read_text().replace("[detections]", "[detections]\nenabled = false"))
    assert "2 findings" in run(folder, "detect").output
