"""Rules over rows that land: nothing missed, nothing twice, and the proof of it."""

import polars as pl

from pipelines.detections import engine
from pipelines.lake import findings as table
from tests.detections.ruled import read
from tests.detections.watched import (
    LOGS,
    START,
    catch_up,
    detect,
    findings,
    jumpcloud,
    land,
    okta,
    rule,
)
from tests.detections.watched import table as rows_of

RESET = "user.mfa.factor.reset_all"
OKTA = rule(1, {"eventType": RESET})
ANY = rule(2, {"action|startswith": "user"}, product="auditlake")


def test_a_rule_finds_each_event_once_however_often_it_runs(lake, tmp_path):
    rules = read(tmp_path, OKTA)
    land(lake, "okta", okta(0), okta(1, RESET), okta(2, RESET, who="bob@example.com"))
    first = detect(lake, rules)
    assert detect(lake, rules).is_empty()
    land(lake, "okta", okta(3, RESET), okta(1, RESET))
    detect(lake, rules)
    found = findings(lake)
    assert found["seq"].to_list() == [0, 1, 2]
    assert found["entity"].to_list() == ["ada@example.com", "bob@example.com", "ada@example.com"]
    assert first.equals(found[:2].select(first.columns))
    assert engine.behind(lake, rules) == 0


def test_a_finding_says_by_which_rule_where_and_why(lake, tmp_path):
    rules = read(tmp_path, {**OKTA, "tags": ["attack.t1098"], "license": "MIT"})
    land(lake, "okta", okta(7, RESET))
    detect(lake, rules)
    (found,) = findings(lake).iter_rows(named=True)
    expected = {
        "status": "found",
        "revision": 0,
        "provisional": False,
        "class_uid": 2004,
        "rule_id": OKTA["id"],
        "title": "Rule 1",
        "level": "high",
        "author": "somebody",
        "url": "https://example.com/rule",
        "license": "MIT",
        "tags": ["attack.t1098"],
        "integration": "okta",
        "kind": "okta",
        "stream": "system_log",
        "source_ip": "203.0.113.7",
        "count": 1,
        "event_uids": ["okta:system_log:okta-00007"],
        "matched": [{"field": "eventType", "value": RESET}],
        "exception": None,
        "date": START.date(),
    }
    assert {name: found[name] for name in expected} == expected
    assert found["time"] == found["since"]
    assert found["message"]
    (recorded,) = rows_of(lake, "rulesets").iter_rows(named=True)
    assert recorded["ruleset"] == found["ruleset"]
    assert OKTA["id"] in recorded["rules"]


def test_rules_over_events_see_all_vendors(lake, tmp_path):
    rules = read(tmp_path, ANY)
    land(lake, "okta", okta(0), okta(1, "policy.rule.update"))
    land(lake, "jumpcloud", jumpcloud(0), jumpcloud(1, "user_delete"))
    detect(lake, rules)
    assert sorted(findings(lake)["kind"]) == ["jumpcloud", "jumpcloud", "okta"]


def test_every_range_of_rows_is_recorded_as_evaluated(lake, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "ROWS", 2)
    rules = read(tmp_path, OKTA)
    land(lake, "okta", *(okta(n, RESET) for n in range(5)))
    detect(lake, rules)
    seen = rows_of(lake, "evaluations").sort("since_seq")
    columns = ("since_seq", "until_seq", "rows", "hits", "rule_id", "error")
    assert seen.select(columns).rows() == [
        (0, 2, 2, 2, None, None),
        (2, 4, 2, 2, None, None),
        (4, 5, 1, 1, None, None),
    ]
    assert seen["ruleset"].unique().to_list() == rows_of(lake, "rulesets")["ruleset"].to_list()


def test_the_rows_of_several_streams_together_are_limited(lake, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "ROWS", 4)
    rules = read(tmp_path, ANY)
    land(lake, "okta", *(okta(n) for n in range(3)))
    land(lake, "jumpcloud", *(jumpcloud(n, "user_delete") for n in range(5)))
    steps = list(engine.detect(lake, rules))
    assert [step.rows for step in steps] == [4, 4]
    assert findings(lake).height == 8


def test_rows_without_events_wait(lake, tmp_path):
    rules = read(tmp_path, OKTA, ANY)
    land(lake, "okta", okta(0, RESET), derived=False)
    assert detect(lake, rules).is_empty()
    catch_up(lake, "okta")
    assert detect(lake, rules).height == 2


def test_a_new_rule_begins_with_the_first_row_and_others_go_on(lake, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "ROWS", 2)
    land(lake, "okta", *(okta(n, RESET) for n in range(4)))
    detect(lake, read(tmp_path, OKTA))
    land(lake, "okta", okta(4, RESET))
    both = read(tmp_path, OKTA, ANY)
    assert engine.behind(lake, both) == 5
    found = detect(lake, both)
    assert found["rule_id"].to_list() == [OKTA["id"], *[ANY["id"]] * 5]
    land(lake, "okta", okta(5, RESET))
    assert detect(lake, both).height == 2
    # The last row is evaluated by both at once.
    assert rows_of(lake, "evaluations").filter(pl.col("until_seq") == 6).height == 1


def test_changed_logic_begins_again_and_changed_text_does_not(lake, tmp_path):
    land(lake, "okta", okta(0, RESET), okta(1, RESET, who="bob@example.com"))
    detect(lake, read(tmp_path, OKTA))
    reworded = {**OKTA, "title": "Other", "level": "low"}
    assert detect(lake, read(tmp_path, reworded)).is_empty()
    changed = {**OKTA, "detection": {"s": {"eventType|startswith": "user.mfa"}, "condition": "s"}}
    assert detect(lake, read(tmp_path, changed)).height == 2
    assert detect(lake, read(tmp_path, OKTA)).is_empty()


def test_a_rule_that_was_away_sees_what_it_has_missed(lake, tmp_path):
    land(lake, "okta", okta(0, RESET))
    both, one = read(tmp_path, OKTA, ANY), read(tmp_path, ANY)
    detect(lake, both)
    land(lake, "okta", okta(1, RESET))
    detect(lake, one)
    found = detect(lake, both)
    assert found["rule_id"].to_list() == [OKTA["id"]]
    assert findings(lake).height == 4


def test_another_version_of_a_record_is_the_same_finding(lake, tmp_path):
    rules = read(tmp_path, OKTA, ANY)
    land(lake, "okta", okta(0, RESET))
    detect(lake, rules)
    land(lake, "okta", okta(0, RESET, displayMessage="another text"))
    assert rows_of(lake, "raw/okta/system_log").height == 2
    assert detect(lake, rules).is_empty()


def test_two_instances_of_a_service_have_findings_of_their_own(lake, tmp_path):
    rules = read(tmp_path, OKTA)
    land(lake, "okta", okta(0, RESET))
    land(lake, "okta", okta(0, RESET), name="second")
    assert sorted(detect(lake, rules)["integration"]) == ["okta", "second"]
    land(lake, "okta", okta(1, RESET), name="second")
    land(lake, "okta", okta(1, RESET))
    assert detect(lake, rules, LOGS["okta"])["integration"].to_list() == ["okta"]


def test_exceptions_see_the_event_and_mark_the_finding(lake, tmp_path):
    def excepted(found):
        ours = pl.col("event.actor_email") == "bob@example.com"
        return found.with_columns(exception=pl.when(ours).then(pl.lit("bob")))

    rules = read(tmp_path, OKTA)
    land(lake, "okta", okta(0, RESET), okta(1, RESET, who="bob@example.com"))
    detect(lake, rules, exceptions=excepted)
    assert findings(lake)["exception"].to_list() == [None, "bob"]


def test_evaluations_are_copied_from_commits_once(lake, tmp_path, monkeypatch):
    rules = read(tmp_path, OKTA)
    land(lake, "okta", okta(0, RESET))
    with monkeypatch.context() as patched:
        patched.setattr(table, "flush_at", lambda *_: None)
        detect(lake, rules)
    assert rows_of(lake, "evaluations").is_empty()
    table.flush(lake)
    table.flush(lake)
    assert rows_of(lake, "evaluations")["until_seq"].to_list() == [1]
