"""The commands for detection rules."""

import yaml

from tests.cli.command import run
from tests.detections.drawn_rules import document
from tests.detections.ruled import written
from tests.detections.test_examples import COUNT, OKTA, SIGN_IN, SUCCESS, example


def texts(result):
    return result.exit_code, " ".join(result.output.split())


def test_check_prints_for_each_rule_whether_it_runs_and_why_not(tmp_path):
    other = {**document({"s": {"a": "x"}, "condition": "s"}, product="windows"), "title": "Other"}
    other["id"] = "22222222-2222-4333-8444-555555555555"
    file = written(tmp_path, OKTA, other, COUNT)
    code, output = texts(run(tmp_path, "rules", "check", str(file)))
    assert code == 0
    assert "runs Drawn okta/system_log" in output
    assert "refused Other no stream carries the log source windows/*" in output
    assert "runs Three okta/system_log" in output
    assert "2 rules run, 1 are refused, 0 are not valid" in output


def test_check_reads_the_folders_of_the_configuration_and_reports_errors(tmp_path):
    written(tmp_path, OKTA, name="mine/a.yml")
    written(tmp_path, OKTA, name="mine/b.yml")
    (tmp_path / "mine/c.yml").write_text("title: [a: \u202e")
    bad = {**document({"s": {"a": "x"}, "condition": "s and"}), "title": "Bad"}
    written(tmp_path, {**bad, "id": "33333333-2222-4333-8444-555555555555"}, name="mine/d.yml")
    config = tmp_path / "auditlake.toml"
    config.write_text(f'[detections]\nrules = ["{tmp_path}/mine"]\n[integrations]\n')
    code, output = texts(run(tmp_path, "rules", "check"))
    assert code == 1
    assert "error Bad its condition is not valid" in output
    assert f"mine/b.yml: Drawn: the id {OKTA['id']} is already used" in output
    assert "mine/c.yml: not valid YAML" in output
    assert "\u202e" not in output
    assert "1 rules run, 0 are refused, 3 are not valid" in output


OVERLAY = """
[rules."{id}"]
level = "critical"
[[rules."{id}".exceptions]]
fields = {{ entity = "robot@example.com" }}
owner = "ada@example.com"
reason = "known"
expires = {expires}
"""


def test_check_and_list_honour_the_overlay(tmp_path):
    other = {**OKTA, "id": "22222222-2222-4333-8444-555555555555", "title": "Other"}
    written(tmp_path, OKTA, other, name="mine/a.yml")
    overlay, listed = tmp_path / "rules.toml", tmp_path / "listed.txt"
    (tmp_path / "auditlake.toml").write_text(
        f'[detections]\nrules = ["{tmp_path}/mine"]\noverlay = "{overlay}"\n'
        f'watch_lists = {{ people = "{listed}" }}\n[integrations]\n'
    )
    overlay.write_text(OVERLAY.format(id=OKTA["id"], expires="2020-01-01"))
    with overlay.open("a") as file:
        file.write(f'[rules."{other["id"]}"]\nenabled = false\n')
    listed.write_text("ben@example.com 2026-11-01\ncy@example.com 2020-01-01 2020-02-01\n")
    code, output = texts(run(tmp_path, "rules", "check"))
    assert code == 0
    assert "disabled Other disabled in rules.toml" in output
    assert "%people%: 1 values, the newest of 2026-11-01, 1 expired" in output
    assert (
        "warning: expired on 2020-01-01: exception of ada@example.com from Drawn: "
        "entity=robot@example.com" in output
    )
    assert "1 rules run, 1 are disabled, 0 are refused, 0 are not valid" in output
    code, output = texts(run(tmp_path, "rules", "list"))
    assert (code, output) == (
        0,
        f"id level title streams {OKTA['id']} critical Drawn okta/system_log",
    )
    overlay.write_text(OVERLAY.format(id="nobody", expires="2999-01-01"))
    code, output = texts(run(tmp_path, "rules", "check"))
    assert (code, "expired on" in output) == (1, False)
    assert "rules.toml: rules.nobody: no rule has this id or name" in output
    overlay.write_text("[rules")
    assert run(tmp_path, "rules", "check").exit_code == 2


def test_a_place_without_rules_is_an_error(tmp_path):
    assert run(tmp_path, "rules", "check", str(tmp_path)).exit_code == 2
    assert run(tmp_path, "rules", "list", str(tmp_path / "missing")).exit_code == 1


def test_list_prints_id_level_title_and_streams(tmp_path):
    code, output = texts(run(tmp_path, "rules", "list", str(written(tmp_path, OKTA))))
    assert (code, output) == (
        0,
        f"id level title streams {OKTA['id']} low Drawn okta/system_log",
    )


def test_test_evaluates_the_examples_beside_the_rules(tmp_path):
    written(tmp_path, OKTA)
    beside = tmp_path / "rule.tests.yml"
    good, bad = example(SIGN_IN, matches=True), example(SUCCESS, matches=True)
    beside.write_text(yaml.safe_dump([good]))
    assert texts(run(tmp_path, "rules", "test", str(tmp_path))) == (
        0,
        "1 rules with examples, 0 refused, 0 errors",
    )
    beside.write_text(yaml.safe_dump([good, bad]))
    code, output = texts(run(tmp_path, "rules", "test", str(tmp_path)))
    assert code == 1
    assert "rule.yml: Drawn: example 2 does not match" in output
    beside.write_text("nonsense: [")
    code, output = texts(run(tmp_path, "rules", "test", str(tmp_path)))
    assert (code, "rule.tests.yml: not valid YAML" in output) == (1, True)


def test_examples_of_a_rule_that_no_stream_serves_are_counted_as_refused(tmp_path):
    rule = document({"s": {"riskEventType": "x"}, "condition": "s"}, product="azure")
    rule["logsource"]["service"] = "pim"
    written(tmp_path, rule)
    (tmp_path / "rule.tests.yml").write_text(yaml.safe_dump([example(SIGN_IN, matches=True)]))
    code, output = texts(run(tmp_path, "rules", "test", str(tmp_path)))
    assert (code, output) == (0, "0 rules with examples, 1 refused, 0 errors")


def test_coverage_counts_the_rules_that_run_by_technique_and_vendor(tmp_path):
    refused = {**document({"s": {"a": "x"}, "condition": "s"}, product="windows")}
    refused |= {"id": "22222222-2222-4333-8444-555555555555", "tags": ["attack.t1114.003"]}
    written(tmp_path, {**OKTA, "tags": ["attack.t1556.006"]}, refused)
    code, output = texts(run(tmp_path, "rules", "coverage", str(tmp_path)))
    assert code == 0
    assert "[T1556.006](https://attack.mitre.org/techniques/T1556/006/)" in output
    assert "T1114.003" not in output
