"""The fields, as the dashboard names and offers them."""

from __future__ import annotations

from dashboard import fields


def test_every_offered_field_can_be_searched_by() -> None:
    assert {*fields.FILTERS, *fields.MORE_FILTERS, *fields.GROUPS} <= set(fields.NAMES)


def test_labels_are_words_and_distinct() -> None:
    labels = [fields.label(name) for name in fields.NAMES]
    assert len(set(labels)) == len(labels)
    assert not any("_" in label for label in labels)
    assert fields.label("source_ip") == "IP address"
    assert fields.label("outcome_reason") == "Outcome reason"


def test_an_absent_value_is_visible() -> None:
    assert fields.shown("") == fields.NONE
    assert fields.shown("x") == "x"
