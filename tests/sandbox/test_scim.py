"""SCIM filters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import scim


@pytest.mark.parametrize(
    ("expression", "passes"),
    [
        ('a.b eq "X"', True),
        ('a.b ne "x"', False),
        ('not (a.b eq "x") or list.id sw "se"', True),
        ("list.id pr and a.b pr", True),
        ("nothing pr", False),
        ('a.b co "x" and n gt "2"', True),
        ('a.b eq "y" or a.b eq "x" and n eq "4"', False),
        ("flag eq true", True),
    ],
)
def test_filters_follow_scim(expression: str, passes: bool) -> None:
    record = {"a": {"b": "x"}, "list": [{"id": "first"}, {"id": "second"}], "n": 3, "flag": True}
    predicate, _ = scim.parse(expression)
    assert predicate(record) is passes


@pytest.mark.parametrize(
    "expression", ["", "a", "a eq", 'a eq "b', '(a eq "b"', 'a eq "b")', "a is b"]
)
def test_an_invalid_filter_is_refused(expression: str) -> None:
    with pytest.raises(scim.Malformed):
        scim.parse(expression)


def test_comparisons_are_listed_with_their_attributes_and_unquoted_values() -> None:
    _, found = scim.parse(r'a.b eq "Say \"Hi\" now" and not (c pr or d sw "x")')
    assert [(one.attribute, one.operator, one.value) for one in found] == [
        ("a.b", "eq", 'say "hi" now'),
        ("c", "pr", ""),
        ("d", "sw", "x"),
    ]


@pytest.mark.parametrize("record", [None, [], "text", 7, {"a": None}, {"a": "text"}, {"a": [{}]}])
def test_a_record_of_another_shape_does_not_match(record: object) -> None:
    predicate, _ = scim.parse('a.b eq "x"')
    assert predicate(record) is False


def test_parentheses_change_the_precedence_of_and_over_or() -> None:
    record = {"a": "1", "b": "2", "c": "3"}
    bare, _ = scim.parse('a eq "1" or b eq "0" and c eq "0"')
    grouped, _ = scim.parse('(a eq "1" or b eq "0") and c eq "0"')
    assert bare(record) is True
    assert grouped(record) is False


@given(st.text(alphabet='aeqornt ()"\\.', max_size=40))
def test_any_text_is_a_filter_or_malformed(text: str) -> None:
    try:
        predicate, _ = scim.parse(text)
    except scim.Malformed:
        return
    assert predicate({"a": "x"}) in (True, False)
