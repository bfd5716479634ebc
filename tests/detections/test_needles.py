"""Records that may match are found by their texts: never too few, however they are written."""

import json

import polars as pl
import pytest

from pipelines.detections import match, needles
from tests.detections.drawn_rules import document
from tests.detections.ruled import raw, read

JUMPCLOUD = "jumpcloud/directory_insights"


def of(tmp_path, detection, **placeholders):
    made = read(tmp_path, {**document(detection), "id": "00000001-0000-4000-8000-000000000000"})
    (rule,) = made.rules.values()
    return rule


@pytest.mark.parametrize(
    ("detection", "expected"),
    [
        ({"s": {"a": "Delete.User"}, "condition": "s"}, [{"delete.user"}]),
        ({"s": {"a": ["red one", "Green"]}, "condition": "s"}, [{"red", "green"}]),
        ({"s": {"a": "green", "b": "violet"}, "condition": "s"}, [{"violet"}, {"green"}]),
        ({"s": {"a|contains": 'x":"long_name"'}, "condition": "s"}, [{"long_name"}]),
        ({"s": {"a|startswith": "http://host.test/"}, "condition": "s"}, [{"host.test"}]),
        ({"s": ["anywhere"], "condition": "s"}, [{"anywhere"}]),
        ({"s": {"a": "green"}, "t": {"b": "violet"}, "condition": "s and not t"}, [{"green"}]),
        ({"s": {"a": "green"}, "t": {"b": None}, "condition": "s or t"}, []),
        ({"s": {"a": "50126"}, "condition": "s"}, []),
        ({"s": {"a": 50126}, "condition": "s"}, []),
        ({"s": {"a": "1e400"}, "condition": "s"}, []),
        ({"s": {"a": "ab"}, "condition": "s"}, []),
        ({"s": {"a|re": "delete.*"}, "condition": "s"}, []),
        ({"s": {"a": "delete"}, "condition": "not s"}, []),
    ],
)
def test_needles_are_the_texts_that_every_match_contains(tmp_path, detection, expected):
    assert [set(each) for each in of(tmp_path, detection).needles] == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "task"}',
        '{"a": "TASK"}',
        '{"a": "\\u0074\\u0061sk"}',
        '{"a": "tas\N{KELVIN SIGN}"}',
        '{"\\u0061": "task"}',
    ],
)
def test_a_record_matches_however_it_is_written(tmp_path, text):
    rule = of(tmp_path, {"s": {"a": "task"}, "condition": "s"})
    assert rule.needles == ({"task"},)
    assert match.records([rule], raw([text, '{"a": "other"}'])).hits["seq"].to_list() == [0]


def test_rules_that_may_match_many_records_are_looked_at_apart():
    records = pl.Series([f"common {n}" for n in range(99)] + ["rare common"])
    wanted = [({"common"},), ({"rare"},), ({"absent"},), ({"common"}, {"rare"})]
    found = [(rules, places.to_list()) for rules, places in needles.groups(records, wanted)]
    assert found == [([1, 2, 3], [99]), ([0], [*range(100)])]


def test_records_that_are_missing_or_without_any_needle_are_passed_over():
    records = pl.Series([None, "", "nothing"], dtype=pl.String)
    assert list(needles.groups(records, [({"wanted"},)])) == []


def test_a_batch_is_evaluated_the_same_with_and_without_needles(tmp_path, monkeypatch):
    rule = of(tmp_path, {"s": {"a|contains": ["red", "lue"]}, "condition": "s"})
    records = [{"a": value} for value in ("red", "BLUE", "dark red!", "green", None, 7, ["lue"])]
    rows = raw([json.dumps(record) for record in records] * 50)
    found = match.records([rule], rows).hits
    monkeypatch.setattr(match, "_sieved", lambda rules, _: [(rules, pl.int_range(350, eager=True))])
    assert found.equals(match.records([rule], rows).hits)
    assert found.height == 200
