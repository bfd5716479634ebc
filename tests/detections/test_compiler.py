"""The compiler, beside a naive evaluator, and beside SQLite by pySigma's own backend."""

import os
import re
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sigma.backends.sqlite import sqliteBackend
from sigma.collection import SigmaCollection

from pipelines.detections import rules
from pipelines.detections.compiler import Compiled, Refused, compile_rule
from tests.detections import drawn_rules, plain_sigma
from tests.detections.drawn_rules import document
from tests.detections.ruled import hits, read


def compiled(detection, placeholders=None, **logsource):
    rule = rules.rule_of(document(detection, **logsource), Path("rule.yml"))
    return compile_rule(rule, placeholders)


def matched(detection, records, **more):
    found = compiled(detection, **more)
    assert isinstance(found, Compiled), found
    return hits(found, records)


@settings(max_examples=int(os.environ.get("AUDITLAKE_RULES", "100")))
@given(drawn_rules.detections(), st.lists(drawn_rules.records, min_size=1, max_size=8))
def test_a_naive_evaluator_agrees_on_random_rules_and_records(detection, records):
    expected = [n for n, r in enumerate(records) if plain_sigma.matches(detection, r)]
    assert matched(detection, records) == expected


FLAT = st.fixed_dictionaries(
    {
        name: st.one_of(st.none(), st.sampled_from(["", "a", "ab", "a_b", "a%", "b*", "10.1.2.3"]))
        for name in ("a", "b", "c")
    }
)
FLAT_VALUES = st.sampled_from(["", "a", "ab", "a*", "*b", "a_b", "a%", "?", "b\\*", "a?b"])


@st.composite
def flat_detections(draw):
    made = {}
    for name in ("one", "two"):
        keys = [
            f"{draw(st.sampled_from('abc'))}{suffix}"
            for suffix in draw(
                st.lists(
                    st.sampled_from(["", "|contains", "|startswith", "|endswith", "|exists"]),
                    min_size=1,
                    max_size=2,
                )
            )
        ]
        made[name] = {
            key: draw(st.booleans() if "exists" in key else st.one_of(FLAT_VALUES, st.none()))
            if "|" not in key or "exists" in key
            else draw(FLAT_VALUES.filter(bool))
            for key in keys
        }
    return {**made, "condition": draw(st.sampled_from(["one", "one and two", "one or not two"]))}


@settings(max_examples=40)
@given(flat_detections(), st.lists(FLAT, min_size=1, max_size=6))
def test_sqlite_agrees_on_flat_records(detection, records):
    rule = SigmaCollection.from_dicts([document(detection)])
    (query,) = sqliteBackend().convert(rule)
    with sqlite3.connect(":memory:") as base:
        base.execute("CREATE TABLE logs (n, a, b, c)")
        rows = [(n, r["a"], r["b"], r["c"]) for n, r in enumerate(records)]
        base.executemany("INSERT INTO logs VALUES (?, ?, ?, ?)", rows)
        expected = [row[0] for row in base.execute(query.replace("*", "n", 1) + " ORDER BY n")]
    base.close()
    assert matched(detection, records) == expected


def test_a_field_that_is_missing_matches_nothing_but_null():
    records = [{}, {"a": None}, {"a": []}, {"a": ""}, {"a": "x"}, {"a": [None, "x"]}]
    assert matched({"s": {"a": None}, "condition": "s"}, records) == [0, 1, 2]
    assert matched({"s": {"a|exists": True}, "condition": "s"}, records) == [3, 4, 5]
    assert matched({"s": {"a": "x"}, "condition": "not s"}, records) == [0, 1, 2, 3]


def test_numbers_are_compared_as_numbers_and_texts_that_are_none_never():
    records = [{"a": v} for v in (5, "7", 9.5, "nan", "inf", "x", None, True, [1, 8])]
    assert matched({"s": {"a|gte": 7}, "condition": "s"}, records) == [1, 2, 8]
    assert matched({"s": {"a|lt": 7}, "condition": "s"}, records) == [0, 8]


def test_networks_contain_addresses_as_vendors_write_them():
    seen = ["10.1.2.3", "10.1.2.3:52378", "[::ffff:10.1.2.3]:80", "11.0.0.1", "x", None, "10.1"]
    assert matched({"s": {"a|cidr": "10.0.0.0/8"}, "condition": "s"}, [{"a": v} for v in seen]) == [
        0,
        1,
        2,
    ]


def test_placeholders_are_filled_and_may_hold_wildcards():
    detection = {"s": {"a|expand": "%people%", "b|contains|expand": "-%zones%-"}, "condition": "s"}
    records = [{"a": "ADA", "b": "x-1-y"}, {"a": "grace.h", "b": "-2-"}, {"a": "eve", "b": "-1-"}]
    given = {"people": ["ada", "grace*"], "zones": ["1", "2"]}
    assert matched(detection, records, placeholders=given) == [0, 1]
    refused = compiled(detection, {"people": ["ada"]})
    assert (refused.reason, refused.invalid) == ("its placeholder %zones% has no value", False)


def test_a_field_begins_with_that_of_another_one():
    detection = {"s": {"a|fieldref|startswith": "l.b"}, "condition": "s"}
    records = [
        {"a": "ada@x", "l": [{"b": "eve"}, {"b": "Ada"}]},
        {"a": ["bob", "eve@x"], "l": {"b": "eve"}},
        {"a": "ada@x", "l": {"b": "grace"}},
        {"a": "ada@x"},
    ]
    assert matched(detection, records) == [0, 1]


def test_keywords_are_found_in_names_and_values_whatever_their_escapes():
    records = [
        '{"note": "run \\u0041ttack.exe"}',
        '{"x": {"Attack": [1]}}',
        '{"x": "atta", "y": "ck"}',
    ]
    assert matched({"k": ["attack"], "condition": "k"}, records) == [0, 1]


@pytest.mark.parametrize(
    ("detection", "reason"),
    [
        ({"s": {"a|re": "(?<!x)a"}, "condition": "s"}, "egular expression"),
        ({"s": {"time|hour": 3}, "condition": "s"}, "parts of times"),
        ({"s": {"a": "x"}, "condition": "s and missing"}, "missing"),
        ({"s": {"a|nonsense": "x"}, "condition": "s"}, "nonsense"),
        ({"s": {"a": "x"}, "condition": "not " * 3000 + "s"}, "not valid"),
        ({"s": {"a": "x"}, "condition": "1 of other_*"}, ""),
    ],
)
def test_what_has_no_meaning_is_refused_with_a_reason(detection, reason):
    found = compiled(detection)
    assert isinstance(found, Refused)
    assert re.search(reason, found.reason)


def test_a_rule_is_refused_for_a_field_or_a_log_that_is_not_known():
    known = compiled({"s": {"eventTyp": "x"}, "condition": "s"}, product="okta", service="okta")
    assert known.reason == "its field eventTyp is not known in this log source"
    windows = compiled({"s": {"a": "x"}, "condition": "s"}, product="windows", service="security")
    assert windows.reason == "no stream carries the log source windows/security"
    assert not windows.invalid


def test_one_valid_rule_of_a_file_is_compiled(tmp_path):
    made = read(tmp_path, document({"s": {"a": "x"}, "condition": "s"}))
    assert [one.rule.title for one in made.rules.values()] == ["Drawn"]
