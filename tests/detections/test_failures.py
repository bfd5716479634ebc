"""A rule that fails or takes too long is stopped, reported, and tried again; the others go on."""

from dataclasses import replace
from datetime import timedelta

import polars as pl

from pipelines.detections import engine, evaluate
from tests.detections.ruled import read
from tests.detections.watched import (
    LATER,
    correlation,
    detect,
    findings,
    jumpcloud,
    land,
    okta,
    rows_of,
    rule,
    table,
)

GOOD, BAD = rule(1, {"eventType": "a"}), rule(2, {"eventType|startswith": "a"})


def broken(rules, id_, build=None):
    """Return the ruleset with a rule that cannot be evaluated."""
    bad = rules.rules[id_]
    build = build or (lambda columns: pl.col("eventType:value").str.to_integer(strict=True) > 1)
    return replace(rules, rules={**rules.rules, id_: replace(bad, build=build)})


def test_a_rule_that_fails_holds_up_nobody_and_is_tried_again_later(lake, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "ROWS", 2)
    rules = read(tmp_path, GOOD, BAD)
    failing = broken(rules, BAD["id"])
    land(lake, "okta", *(okta(n, "a") for n in range(3)))
    detect(lake, failing)
    assert findings(lake)["rule_id"].to_list() == [GOOD["id"]] * 3
    seen = table(lake, "evaluations").sort("since_seq", "rule_id", nulls_last=True)
    assert seen.select("since_seq", "until_seq", "rule_id").rows() == [
        (0, 2, BAD["id"]),
        (0, 2, None),
        (2, 3, None),
    ]
    assert seen["error"][0].startswith("not evaluated: ")

    land(lake, "okta", okta(3, "a"))
    assert detect(lake, rules)["rule_id"].to_list() == [GOOD["id"]]
    then = LATER + engine.RETRY + timedelta(seconds=1)
    found = detect(lake, rules, clock=lambda: then)
    assert found["rule_id"].to_list() == [BAD["id"]] * 4
    assert engine.behind(lake, rules) == 0
    again = table(lake, "evaluations").filter(
        pl.col("rule_id") == BAD["id"], pl.col("error").is_null()
    )
    assert again.select("since_seq", "until_seq", "hits").sort("since_seq").rows() == [
        (0, 2, 2),
        (2, 4, 2),
    ]


def test_a_correlation_fails_with_its_rule(lake, tmp_path):
    rules = broken(read(tmp_path, GOOD, BAD, correlation(9, [2], gte=2)), BAD["id"])
    land(lake, "okta", okta(0, "a"))
    detect(lake, rules)
    (error,) = table(lake, "evaluations").drop_nulls("error").iter_rows(named=True)
    assert error["rule_id"].startswith("00000009")
    assert error["error"].startswith("Rule 2: not evaluated: ")
    assert findings(lake)["rule_id"].to_list() == [GOOD["id"]]


def test_if_every_rule_fails_detection_ends(lake, tmp_path):
    rules = broken(read(tmp_path, BAD), BAD["id"])
    land(lake, "okta", okta(0, "a"))
    assert detect(lake, rules).is_empty()
    assert engine.behind(lake, rules) == 1
    assert table(lake, "evaluations")["rule_id"].to_list() == [BAD["id"]]


def test_a_rule_that_takes_too_long_has_failed(lake, tmp_path):
    seconds = [0.0]
    rules = read(tmp_path, GOOD, BAD)
    fast = rules.rules[BAD["id"]].build

    def slow(columns):
        return fast(columns).map_batches(waited, return_dtype=pl.Boolean)

    def waited(matched):
        seconds[0] += 30
        return matched

    land(lake, "okta", okta(0, "a"))
    found = evaluate.evaluate(
        *(broken(rules, BAD["id"], slow), [*rules.rules], rows_of(lake, range(1))),
        now=LATER,
        ruleset="",
        limit=20,
        timer=lambda: seconds[0],
    )
    assert found.failed == {BAD["id"]: "took longer than 20 s for 1 rows"}
    assert found.findings["rule_id"].to_list() == [GOOD["id"]]


def test_rows_that_no_rule_can_be_evaluated_on_hold_up_one_stream(lake, tmp_path, monkeypatch):
    rules = read(tmp_path, rule(1, {"actor_email": "ada@example.com"}, product="auditlake"))
    land(lake, "okta", okta(0))
    land(lake, "jumpcloud", jumpcloud(0))
    real = evaluate.evaluate

    def fails(rules, chosen, rows, **options):
        if rows.log.kind == "okta":
            raise ZeroDivisionError("a secret")
        return real(rules, chosen, rows, **options)

    with monkeypatch.context() as patched:
        patched.setattr(evaluate, "together", lambda *_, **__: 1 / 0)
        patched.setattr(evaluate, "evaluate", fails)
        detect(lake, rules)
    assert findings(lake)["kind"].to_list() == ["jumpcloud"]
    (error,) = table(lake, "evaluations").drop_nulls("error")["error"]
    assert error.startswith("unexpected error (ZeroDivisionError in fails")
    then = LATER + engine.RETRY + timedelta(seconds=1)
    assert detect(lake, rules, clock=lambda: then)["kind"].to_list() == ["okta"]


def test_a_rule_that_fails_on_one_stream_leaves_the_others_their_findings(lake, tmp_path):
    ours = rule(3, {"action|startswith": "user"}, product="auditlake")
    rules = broken(read(tmp_path, BAD, ours), BAD["id"])
    land(lake, "okta", okta(0, "a"), okta(1))
    land(lake, "jumpcloud", jumpcloud(0))
    assert sorted(detect(lake, rules)["kind"]) == ["jumpcloud", "okta"]
    land(lake, "okta", okta(2))
    land(lake, "jumpcloud", jumpcloud(1))
    assert sorted(detect(lake, rules)["kind"]) == ["jumpcloud", "okta"]
    seen = table(lake, "evaluations").filter(pl.col("rule_id").is_null())
    ranges = seen.select("integration", "since_seq", "until_seq").sort(pl.all()).rows()
    assert ranges == [("jumpcloud", 0, 1), ("jumpcloud", 1, 2), ("okta", 0, 2), ("okta", 2, 3)]
