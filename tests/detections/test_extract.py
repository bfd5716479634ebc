"""Extraction by compiled structs, beside the plain reading of paths."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.detections import extract
from pipelines.detections.paths import EVERYTHING, KINDS, Path, at
from tests.detections import drawn_rules

PATHS = [
    Path("a"), Path("b"), Path("c"), Path("c.a"), Path("o.a"), Path("o.l.a"), Path("o.l.b"),
    Path("l.a"), Path("l.b"), Path("l", "text"), Path("o", "text"), Path("l{a=ab}.b"),
    Path("o.l{a=A}", "members"), Path("x", "constant"), Path("", "text"), EVERYTHING,
]  # fmt: skip


def plainly(record, path):
    if path.kind == "constant":
        return [path.text]
    return [text for value in at(record, path.steps) for text in KINDS[path.kind](value)]


def cells(found):
    """Return the texts of each row, by path."""
    frame = found.frame.to_dict(as_series=False)
    return {name: [as_list(value) for value in values] for name, values in frame.items()}


def as_list(value):
    return [] if value is None else value if isinstance(value, list) else [value]


@settings(max_examples=40)
@given(
    st.lists(drawn_rules.records, min_size=1, max_size=5),
    st.lists(st.sampled_from(PATHS), min_size=1, max_size=6, unique=True),
)
def test_structs_and_plain_values_give_the_same_texts(records, paths):
    found = extract.extract([json.dumps(record) for record in records], paths)
    expected = {p.column: [plainly(record, p) for record in records] for p in paths}
    assert cells(found) == expected
    assert found.unread == []


def test_a_bad_record_does_not_spoil_the_others():
    records = [
        '{"a": 1}', "no json", "[1]", None, "[" * 5000, b'{"a": "\\ud800"}', b'{"a": "\xff"}',
        '{"a": ' + "[" * 5000 + "]" * 5000 + "}", '{"a": 2, "l": {"a": [1, "x", {}]}}',
        '{"a": "' + "x" * extract.MOST_BYTES + '"}',
    ]  # fmt: skip
    found = extract.extract(records, [Path("a"), Path("l.a"), Path("a.b")])
    assert found.unread == [1, 2, 3, 4, 6, 7, 9]
    assert cells(found)["a:value"] == [["1"], [], [], [], [], ["\ufffd"], [], [], ["2"], []]
    assert cells(found)["l.a:value"][8] == ["1", "x", "{}"]


def test_a_record_of_several_events_has_a_row_for_each():
    records = [
        {"id": {"app": "admin"}, "events": [{"n": "A", "p": [{"name": "X", "v": 1}]}, {"n": "B"}]},
        {"id": {"app": "login"}, "events": []},
        {"id": {"app": "login"}},
        {"id": "odd", "events": [{"n": {"deep": 1}}, "text", None]},
    ]  # fmt: skip
    paths = [Path("id.app"), Path("events.n"), Path("events.p{name=x}", "members")]
    found = extract.extract([json.dumps(record) for record in records], paths, "events")
    assert found.origin.to_list() == [0, 0, 1, 2, 3, 3, 3]
    assert cells(found) == {
        "id.app:value": [["admin"], ["admin"], ["login"], ["login"], [], [], []],
        "events.n:value": [["A"], ["B"], [], [], ['{"deep":1}'], [], []],
        "events.p{name=x}:members": [["1"], [], [], [], [], [], []],
    }


def test_a_record_may_have_twenty_thousand_elements():
    record = json.dumps({"l": [{"a": n, "b": [n]} for n in range(20_000)]})
    found = extract.extract([record], [Path("l.a"), Path("l.b"), Path("l{a=7}.b")])
    assert len(cells(found)["l.a:value"][0]) == 20_000
    assert cells(found)["l{a=7}.b:value"] == [["7"]]
