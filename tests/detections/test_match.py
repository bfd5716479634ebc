"""Matching batches of raw rows and of events."""

import json
from dataclasses import replace

import polars as pl

from pipelines.detections import match
from pipelines.detections.paths import Path
from pipelines.schemas import EVENTS
from tests.detections.drawn_rules import document
from tests.detections.ruled import START, raw, read

ADMIN = {"product": "gcp", "service": "google_workspace.admin"}


def rule(number, detection, **logsource):
    made = document({**detection, "condition": "s"}, **logsource)
    return {**made, "id": f"{number:08}-0000-4000-8000-000000000000", "title": f"R{number}"}


def named(found):
    return list(zip(found.hits["rule_id"].str.head(8).cast(int), found.hits["seq"], strict=True))


def test_many_rules_are_evaluated_over_one_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(match, "_CHUNK", 3)
    made = read(
        tmp_path,
        rule(1, {"s": {"event_type": "sso_auth", "success": False}}),
        rule(2, {"s": {"changes.field|contains": "sudo"}}),
    )
    records = [
        {"event_type": "SSO_auth", "success": False},
        {"event_type": "sso_auth", "success": True},
        {"event_type": "user_update", "changes": [{"field": "email"}, {"field": "Sudo"}]},
        {"event_type": "sso_auth", "success": "false", "changes": {"field": "sudo_enabled"}},
    ]
    found = match.records(made.of_stream("jumpcloud/directory_insights"), raw(records))
    assert named(found) == [(1, 0), (1, 3), (2, 2), (2, 3)]
    assert found.hits.columns == ["seq", "event_id", "time", "rule_id"]


def test_the_conditions_of_a_rule_are_about_one_event_of_a_record(tmp_path):
    selected = {"eventName": "ENFORCE_STRONG_AUTHENTICATION", "new_value": "false"}
    made = read(tmp_path, rule(1, {"s": selected}, **ADMIN))
    value = {"name": "NEW_VALUE", "value": "false"}
    enforced, other = {"name": "ENFORCE_STRONG_AUTHENTICATION"}, {"name": "CHANGE_SETTING"}
    records = [
        {"events": [enforced, {**other, "parameters": [value]}]},
        {"events": [other, *[{**enforced, "parameters": [value]}] * 2]},
    ]
    assert named(match.records([*made.rules.values()], raw(records))) == [(1, 1)]


def test_a_record_that_cannot_be_read_matches_nothing_not_even_a_negation(tmp_path):
    made = read(tmp_path, {**rule(1, {}), "detection": {"s": {"a": "x"}, "condition": "not s"}})
    found = match.records([*made.rules.values()], raw(["nonsense", None, "[]", {}, {"a": "x"}]))
    assert (named(found), found.unread) == ([(1, 3)], 3)


def test_a_rule_that_fails_is_reported_and_the_others_match(tmp_path):
    made = read(tmp_path, rule(1, {"s": {"a": "x"}}), rule(2, {"s": {"b": "y"}}))
    good, bad = made.rules.values()
    broken = replace(bad, build=lambda lists: pl.col("b:value").str.to_integer(strict=True) > 1)
    found = match.records([broken, good], raw([{"a": "x", "b": "y"}]))
    assert named(found) == [(1, 0)]
    assert [*found.errors] == [broken.rule.id]
    assert match.records([broken], raw([{"a": "x"}])).errors == {}


def test_values_for_a_correlation_come_with_the_hits(tmp_path):
    made = read(tmp_path, rule(1, {"s": {"a": "x"}}))
    (one,) = made.rules.values()
    wanted = {one.rule.id: {"who": (Path("u.id"), Path("names"))}}
    records = [{"a": "x", "u": {"id": 7}}, {"a": "x", "names": ["b", "c"]}, {"a": "y"}, {"a": "x"}]
    found = match.records([one], raw(records), wanted)
    assert found.hits["group.who"].to_list() == ["7", "b", None]


def test_one_rule_covers_the_events_of_all_vendors(tmp_path):
    over = {"s": {"action_type": "delete", "targets.name|endswith": ".key", "class_uid": 6001}}
    made = read(
        tmp_path,
        rule(1, over, product="auditlake"),
        rule(2, over, product="auditlake", service="okta"),
        rule(3, {"s": ["Ada@x"]}, product="auditlake"),
        rule(4, {"s": {"time|startswith": "2026-03-01T00:00"}}, product="auditlake"),
    )  # fmt: skip
    base = {"time": START, "action_type": "Delete", "class_uid": 6001}
    rows = pl.DataFrame(
        [
            {**base, "seq": 0, "kind": "okta", "targets": [{"name": "A"}, {"name": "b.KEY"}]},
            {**base, "seq": 1, "kind": "jumpcloud", "targets": [{"name": "c.key"}]},
            {**base, "seq": 2, "kind": "okta", "class_uid": 6002, "actor_email": "ada@x.example"},
        ],
        EVENTS,
    )
    rules = made.of_stream("events")
    assert all(match.over_events(one) for one in rules)
    found = named(match.events(rules, rows))
    assert found == [(1, 0), (1, 1), (2, 0), (3, 2), (4, 0), (4, 1), (4, 2)]


def test_no_rules_and_no_rows_are_no_hits(tmp_path):
    made = read(tmp_path, rule(1, {"s": {"a": "x"}}))
    assert match.records([], raw([{"a": "x"}])).hits.is_empty()
    empty = match.records([*made.rules.values()], raw([]))
    assert empty.hits.columns == ["seq", "event_id", "time", "rule_id"]
    assert match.events([], pl.DataFrame(schema=EVENTS)).hits.is_empty()


def test_a_large_batch_of_wide_records_keeps_its_order(tmp_path):
    made = read(tmp_path, rule(1, {"s": {"n|gte": 49_990}}))
    records = [json.dumps({"n": n, "pad": "x" * 100}) for n in range(50_000)]
    found = match.records([*made.rules.values()], raw(records))
    assert found.hits["seq"].to_list() == [*range(49_990, 50_000)]
