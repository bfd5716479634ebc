"""Words that mean nothing, and lists with odd elements; tests/mapping tries them on all vendors."""

import pytest

from pipelines.sdk import values


@pytest.mark.parametrize("value", [None, "", "-", "null", "<null>", "N/A", "Not Available", 0, []])
def test_a_value_that_means_nothing_is_unknown(value):
    assert values.known(value) is None


@pytest.mark.parametrize("value", ["Null", "nullable", "ada", " - x", 7, ["null"], {"a": None}])
def test_any_other_value_is_kept_as_it_is(value):
    assert values.known(value) is value


def test_the_first_known_value_wins():
    assert values.first(None, "", "unknown", "ada", "bob") == "ada"
    assert values.first("-", None) is None
    assert values.first() is None


@pytest.mark.parametrize("value", [None, "text", {"a": 1}, 7])
def test_only_a_list_has_objects(value):
    assert values.objects(value) == []


def test_odd_elements_of_a_list_are_left_out():
    assert values.objects([None, {"a": 1}, "text", [{"b": 2}], {}, 3]) == [{"a": 1}, {}]
