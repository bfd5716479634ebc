"""The fields of a vendor's record, those that a rule has read first."""

from __future__ import annotations

import json

import pytest

from dashboard import records

RECORD = {
    "eventType": "user.session.start",
    "actor": {"alternateId": "ada@acme.example", "type": "User"},
    "target": [{"id": "t1"}, {"id": "t2", "flag": True}],
    "none": None,
    "n": 3,
}


def test_matched_fields_are_marked_and_come_first() -> None:
    matched = [
        {"field": "actor.alternateid", "value": "ada@acme.example"},
        {"field": "eventName", "value": "login"},
        {"field": "target.id", "value": "t2"},
    ]
    rows = records.fields(json.dumps(RECORD), matched).rows()
    assert rows[:3] == [
        ("▸", "actor.alternateId", "ada@acme.example"),
        ("▸", "target[1].id", "t2"),
        ("▸", "eventName", "login"),
    ]
    assert ("", "target[0].id", "t1") in rows
    assert ("", "target[1].flag", "true") in rows
    assert ("", "n", "3") in rows
    assert len(rows) == 8


@pytest.mark.parametrize("raw", ["", "not json", "[" * 5000, "7", "null"])
def test_what_matched_is_listed_without_a_record(raw: str) -> None:
    rows = records.fields(raw, [{"field": "a", "value": None}, {"field": "a", "value": None}])
    assert rows.rows()[0] == ("▸", "a", "")
    assert rows.filter(mark="▸").height == 1


def test_a_huge_record_is_cut() -> None:
    rows = records.fields(json.dumps(dict.fromkeys(map(str, range(9999)), "x")), [])
    assert rows.height == records.MOST
