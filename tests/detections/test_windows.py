"""Correlations over rows that land in any order: one finding per window, in its newest revision."""

import random
from datetime import timedelta

import polars as pl
import pytest

from pipelines.detections import engine, windows
from pipelines.lake import identity_table
from tests.detections import kills
from tests.detections.ruled import read
from tests.detections.watched import (
    START,
    correlation,
    covered,
    detect,
    findings,
    jumpcloud,
    land,
    okta,
    rule,
)
from tests.detections.watched import table as rows_of
from tests.tiers import FULL

FAILED = rule(1, {"outcome": "failure"}, product="auditlake")
SESSION = rule(2, {"eventType": "user.session.start"})
RESET = rule(3, {"eventType": "user.mfa.factor.reset_all"})
MANY = correlation(9, [1], gte=3)
CHAIN = correlation(8, [2, 3], kind="temporal_ordered")
FAILURE = {"outcome": {"result": "FAILURE"}}
MINUTE = timedelta(minutes=1)


def newest(lake):
    return windows.newest(findings(lake)).sort("since", "entity")


def test_failures_of_one_person_at_two_vendors_are_one_finding(lake, tmp_path):
    rules = read(tmp_path, FAILED, MANY)
    land(lake, "okta", okta(0, **FAILURE), okta(1, **FAILURE), entries=[covered()])
    assert detect(lake, rules).is_empty()
    land(lake, "jumpcloud", jumpcloud(2, success=False), entries=[covered()])
    (found,) = detect(lake, rules).iter_rows(named=True)
    expected = {
        "rule_id": MANY["id"],
        "level": "critical",
        "entity": "ada@example.com",
        "kind": "jumpcloud",
        "time": START + 2 * MINUTE,
        "since": START,
        "count": 3,
        "status": "found",
        "provisional": False,
        "event_uids": [
            "okta:system_log:okta-00000",
            "okta:system_log:okta-00001",
            "jumpcloud:directory_insights:jc-00002",
        ],
        "matched": [{"field": "person", "value": "ada@example.com"}],
    }
    assert {name: found[name] for name in expected} == expected
    assert detect(lake, rules).is_empty()


def test_a_late_event_revises_the_finding(lake, tmp_path):
    rules = read(tmp_path, FAILED, MANY)
    land(lake, "okta", *(okta(n, **FAILURE) for n in (0, 2, 4)))
    detect(lake, rules)
    land(lake, "okta", okta(1, **FAILURE), okta(3))
    detect(lake, rules)
    found = findings(lake)
    assert found.select("revision", "count").rows() == [(0, 3), (1, 4)]
    assert found["finding_uid"].n_unique() == 1


def test_a_late_event_withdraws_a_finding_of_few(lake, tmp_path):
    rules = read(tmp_path, FAILED, correlation(9, [1], lt=2))
    land(lake, "okta", okta(0, **FAILURE))
    detect(lake, rules)
    land(lake, "okta", okta(1, **FAILURE))
    detect(lake, rules)
    assert findings(lake).select("revision", "status").rows() == [(0, "found"), (1, "withdrawn")]
    land(lake, "okta", okta(2, **FAILURE))
    assert detect(lake, rules).is_empty()


def test_rules_that_only_serve_a_correlation_find_nothing_themselves(lake, tmp_path):
    rules = read(tmp_path, SESSION, RESET, CHAIN)
    land(lake, "okta", okta(0), okta(1, "user.mfa.factor.reset_all"))
    detect(lake, rules)
    assert findings(lake)["rule_id"].to_list() == [CHAIN["id"]]


def test_a_correlation_without_groups(lake, tmp_path):
    rules = read(tmp_path, FAILED, correlation(9, [1], by=(), gte=2))
    land(lake, "okta", *(okta(n, who=f"{n}@example.com", **FAILURE) for n in range(2)))
    (found,) = detect(lake, rules).iter_rows(named=True)
    assert (found["count"], found["entity"]) == (2, None)


def test_different_values_are_counted(lake, tmp_path):
    rules = read(
        tmp_path,
        FAILED,
        correlation(9, [1], kind="value_count", by=("source_ip",), gte=3, field="actor_email"),
    )
    land(lake, "okta", *(okta(n, who=f"{n % 2}@example.com", **FAILURE) for n in range(4)))
    assert detect(lake, rules).is_empty()
    land(lake, "okta", okta(9, who="other@example.com", **FAILURE))
    assert detect(lake, rules)["entity"].to_list() == ["203.0.113.7"]


def test_a_new_correlation_sees_all_of_history(lake, tmp_path):
    land(lake, "okta", *(okta(n, **FAILURE) for n in range(3)))
    alone = rule(5, {"eventType": "none"})
    detect(lake, read(tmp_path, alone))
    both = read(tmp_path, alone, FAILED, MANY)
    assert detect(lake, both)["count"].to_list() == [3]


def test_a_finding_over_a_gap_is_provisional_until_it_is_filled(lake, tmp_path):
    rules = read(tmp_path, FAILED, MANY)
    records = [okta(n, **FAILURE) for n in range(3)]
    land(lake, "okta", *records, entries=[covered(0, 30), covered(90, 600)])
    assert detect(lake, rules)["provisional"].to_list() == [True]
    assert detect(lake, rules).is_empty()
    land(lake, "okta", okta(700), entries=[covered(30, 90)])
    detect(lake, rules)
    found = findings(lake)
    assert found.select("revision", "provisional").rows() == [(0, True), (1, False)]


def test_an_account_that_is_recognised_later_counts(lake, tmp_path, monkeypatch):
    rules = read(tmp_path, FAILED, MANY)
    nameless = {"actor": {"id": "00u1", "type": "User"}, **FAILURE}
    land(lake, "okta", okta(0, **nameless), okta(1, **nameless), entries=[covered()])
    land(lake, "jumpcloud", jumpcloud(2, success=False))
    now = START + timedelta(hours=1)
    assert detect(lake, rules, clock=lambda: now).is_empty()
    named = {"id": "00u1", "type": "User", "alternateId": "ada@example.com"}
    land(lake, "okta", okta(30, actor=named))
    detect(lake, rules, clock=lambda: now)
    identity_table.derive(lake)
    with monkeypatch.context() as patched, pytest.raises(kills.Ended):
        patched.setattr(engine.table, "commit", lambda *_: kills.end())
        detect(lake, rules, clock=lambda: now)
    (found,) = detect(lake, rules, clock=lambda: now).iter_rows(named=True)
    assert (found["entity"], found["count"]) == ("ada@example.com", 3)
    identity_table.derive(lake)
    assert detect(lake, rules, clock=lambda: now).is_empty()
    assert rows_of(lake, "hits").height == 5


@pytest.mark.parametrize("seed", range(20 if FULL else 1))
def test_the_order_of_arrival_does_not_matter(lake, tmp_path, monkeypatch, seed):
    monkeypatch.setattr(engine, "ROWS", 8)
    rules = read(tmp_path, FAILED, SESSION, RESET, MANY, CHAIN, correlation(7, [1], lt=3))
    chance = random.Random(seed)
    records = [
        okta(
            n,
            chance.choice(["user.session.start", "user.mfa.factor.reset_all"]),
            minute=chance.randrange(240),
            who=chance.choice(["ada@example.com", "bob@example.com"]),
            **chance.choice([{}, FAILURE]),
        )
        for n in range(24)
    ]
    for some in (records[:9], records[9:10], records[10:]):
        land(lake, "okta", *some)
        detect(lake, rules)
    ordered = type(lake)(f"{lake.root}-ordered")
    land(ordered, "okta", *sorted(records, key=lambda one: one["published"]))
    detect(ordered, rules)
    kept = ("finding_uid", "count", "since", "time", "event_uids", "entity", "provisional")

    def standing(some):
        return newest(some).filter(pl.col("status") == "found").select(kept).sort("finding_uid")

    assert standing(lake).equals(standing(ordered))
    assert standing(lake).height > 0
    assert rows_of(lake, "hits").height
