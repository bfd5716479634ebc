"""Findings and hits of some rows: the same rows and rules give the same ones."""

import itertools
from functools import partial

import pytest

from pipelines.detections import evaluate
from tests.detections.ruled import read
from tests.detections.watched import (
    LATER,
    LOGS,
    correlation,
    jumpcloud,
    land,
    okta,
    rows_of,
    rule,
)

RESET, LOCK = "user.mfa.factor.deactivate", "user.account.lock"


@pytest.fixture
def rows(lake):
    """Three records of Okta, two of which are about Ada."""
    land(lake, "okta", okta(1, RESET), okta(2, LOCK), okta(3, RESET, who="bob@example.com"))
    return rows_of(lake, range(3))


def found(rules, rows, **options):
    chosen = [id_ for id_ in rules.all() if id_ not in rules.silent]
    return evaluate.evaluate(rules, chosen, rows, now=LATER, ruleset="digest", **options)


def test_a_finding_has_the_rule_the_event_and_the_values_that_were_read(tmp_path, rows):
    result = found(read(tmp_path, rule(1, {"eventType": LOCK})), rows)
    (finding,) = result.findings.to_dicts()
    assert (finding["title"], finding["level"], finding["author"]) == ("Rule 1", "high", "somebody")
    assert finding["event_uids"] == ["okta:system_log:okta-00002"]
    assert finding["matched"] == [{"field": "eventType", "value": LOCK}]
    assert (finding["entity"], finding["ruleset"]) == ("ada@example.com", "digest")
    assert finding["event.action"] == LOCK
    assert (result.failed, result.hits.height) == ({}, 0)


def test_rules_over_records_and_over_events_name_the_same_event(tmp_path, rows):
    over_events = rule(2, {"action": LOCK}, product="auditlake")
    result = found(read(tmp_path, rule(1, {"eventType": LOCK}), over_events), rows)
    assert result.findings["event_uids"].to_list() == [["okta:system_log:okta-00002"]] * 2
    assert result.findings["finding_uid"].n_unique() == 2


def test_the_uid_follows_from_id_logic_and_event_not_from_texts(tmp_path, rows):
    texts = {"title": "Other words", "description": "Other words", "level": "low"}
    given = [
        rule(1, {"eventType": LOCK}),
        rule(1, {"eventType": LOCK}, **texts),
        rule(1, {"eventType|contains": LOCK}),
    ]
    first, reworded, other = (
        found(read(tmp_path, each), rows).findings["finding_uid"].to_list() for each in given
    )
    assert first == reworded != other


def test_hits_of_a_correlation_have_the_values_it_groups_by(tmp_path, rows):
    documents = rule(1, {"eventType": RESET}), correlation(2, [1], gte=2)
    result = found(read(tmp_path, *documents), rows)
    assert result.findings.is_empty()
    assert result.hits["group"].to_list() == [["ada@example.com"], ["bob@example.com"]]
    assert result.hits["uid"].to_list() == [
        "okta:system_log:okta-00001",
        "okta:system_log:okta-00003",
    ]


def test_a_rule_that_takes_too_long_fails_with_its_correlations_and_no_others(
    tmp_path, rows, monkeypatch
):
    rules = read(
        tmp_path,
        rule(1, {"eventType": RESET}),
        correlation(2, [1], gte=2),
        rule(3, {"eventType": LOCK}),
    )
    slow = next(id_ for id_ in rules.rules if id_.startswith("00000001"))
    seconds = itertools.count()
    matched = evaluate._match

    def match(used, joined, part):
        for each in used:
            if each.rule.id == slow:
                next(seconds), next(seconds), next(seconds)
        return matched(used, joined, part)

    monkeypatch.setattr(evaluate, "_match", match)
    result = found(rules, rows, limit=2.0, timer=lambda: float(next(seconds)))
    ((failed, reason),) = result.failed.items()
    assert (failed[:8], reason) == ("00000002", "Rule 1: took longer than 2 s for 3 rows")
    assert result.findings["title"].to_list() == ["Rule 3"]
    assert result.hits.is_empty()


MIXED = [
    rule(1, {"eventType": RESET}),
    rule(2, {"event_type": "user_login_attempt"}, product="jumpcloud"),
    rule(3, {"source_ip|startswith": "198."}, product="auditlake"),
    rule(4, {"actor_email|contains": "@"}, product="auditlake", service="okta"),
    correlation(5, [1, 2, 3], gte=2, by=["person"]),
]


def test_streams_together_have_the_findings_that_each_has_alone(tmp_path, lake, rows):
    land(lake, "jumpcloud", *map(jumpcloud, range(4)))
    parts = [rows, rows_of(lake, range(1, 4), LOGS["jumpcloud"])]
    rules = read(tmp_path, *MIXED)
    chosen = [id_ for id_ in rules.all() if id_ not in rules.silent]
    made = evaluate.together(rules, chosen, parts, now=LATER, ruleset="digest")
    for part, each in zip(parts, made, strict=True):
        alone = found(rules, part)
        assert each.findings.select(alone.findings.columns).equals(alone.findings)
        order = ["correlation", "rule_id", "event"]
        assert each.hits.sort(order).equals(alone.hits.sort(order))
        assert each.hits.height
        assert each.failed == {}


def test_streams_together_have_no_result_if_a_rule_is_too_slow(tmp_path, rows):
    seconds = itertools.count()
    timer = partial(next, seconds)
    rules, options = read(tmp_path, MIXED[0]), {"now": LATER, "ruleset": ""}
    assert evaluate.together(rules, [*rules.rules], [rows], **options, limit=2, timer=timer)
    assert not evaluate.together(rules, [*rules.rules], [rows], **options, limit=0, timer=timer)
