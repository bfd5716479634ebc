"""SCIM filters."""

from __future__ import annotations

import pytest

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
