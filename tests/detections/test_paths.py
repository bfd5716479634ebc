"""Paths into records, and the kinds of texts found at them."""

import pytest

from pipelines.detections.paths import EVERYTHING, KINDS, Path, at

RECORD = {
    "a": {"b": 1},
    "l": [{"name": "One", "value": "x", "more": [1, {"z": True}]}, {"name": "two"}, "text"],
    "result": "Succeeded",
}


def texts(text, kind="value", record=None):
    path = Path(text, kind)
    found = at(RECORD if record is None else record, path.steps)
    return [each for value in found for each in KINDS[kind](value)]


def test_lists_on_the_way_are_entered():
    assert texts("a.b") == ["1"]
    assert texts("l.name") == ["One", "two"]
    assert texts("l.more.z") == ["true"]
    assert texts("l.missing") == texts("a.b.c") == []


def test_a_condition_chooses_the_elements_of_a_list_or_an_object_in_any_case():
    assert texts("l{name=ONE}.value") == ["x"]
    assert texts("l{name=ONE}", "members") == ["x", "1", "true"]
    assert texts("a{b=1}.b") == ["1"]
    assert texts("l{name=three}.value") == []


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("value", [1, 2.0, 0.5, None, False, ["x"]], ["1", "2", "0.5", "false", "x"]),
        ("value", {"a": [1]}, ['{"a":[1]}']),
        ("text", [], ["[]"]),
        ("text", None, []),
        ("trimmed", "Update application ", ["Update application"]),
        ("unquoted", '"False"', ['"False"', "False"]),
        ("words", "ServicePrincipal", ["ServicePrincipal", "Service Principal"]),
        ("bare", [{"a": 1, "b": "x"}], ['"a":1,"b":"x"']),
        ("error_code", 0, ["Success"]),
        ("error_code", 50057, ["Failure"]),
        ("result", "True", ["True", "success"]),
        ("result", "Failed", ["Failed", "failure"]),
        ("result", "PartiallySucceeded", ["PartiallySucceeded", "success"]),
        ("result", "other", ["other"]),
    ],
)
def test_each_kind_of_value(kind, value, expected):
    assert list(KINDS[kind](value)) == expected


def test_everything_is_all_names_and_values():
    assert list(KINDS[EVERYTHING.kind]({"a": [{"b": 1}], "c": None})) == ["a", "b", "1", "c"]


def test_a_number_longer_than_python_prints_is_still_a_text():
    assert next(iter(KINDS["value"](10**5000))).startswith("0x")


@pytest.mark.parametrize("text", ["a..b", "a{b=c", "{}", ".a"])
def test_what_is_no_path_is_an_error(text):
    with pytest.raises(ValueError, match="is not a path"):
        _ = Path(text).steps
