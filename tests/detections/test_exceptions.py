"""Exceptions of rules on findings."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipelines.detections import exceptions
from pipelines.detections.exceptions import RuleException, excepted
from pipelines.schemas import EXCEPTIONS, Timestamp

EXPIRES = datetime(2026, 6, 1, tzinfo=UTC)


def exception(id_="e1", rule="r1", expires=EXPIRES, **fields):
    return RuleException(
        id=id_,
        rule_id=rule,
        fields=tuple((name, tuple([v] if isinstance(v, str) else v)) for name, v in fields.items()),
        owner="ada@example.com",
        reason="known",
        expires=expires,
    )


def findings(*rows):
    usual = {
        "rule_id": "r1",
        "time": EXPIRES - timedelta(days=1),
        "count": 1,
        "entity": "Robot@example.com",
        "source_ip": "10.1.2.3",
        "integration": "okta",
        "event.actor_email": "Robot@example.com",
        "event.is_change": True,
        "exception": None,
    }
    schema = {"time": Timestamp, "exception": pl.String, "count": pl.Int64}
    return pl.DataFrame([usual | row for row in rows], schema_overrides=schema)


def applied(frame, *given):
    return excepted(frame, given)["exception"].to_list()


def test_an_exception_applies_to_events_before_it_expires():
    late = {"time": EXPIRES}
    just = {"time": EXPIRES - timedelta(microseconds=1)}
    assert applied(findings(late, just), exception(entity="robot@example.com")) == [None, "e1"]


def test_all_fields_have_to_hold_and_any_value_of_a_field():
    frame = findings({})
    both = exception(entity=["other", "ROBOT@example.com"], integration="okta")
    assert applied(frame, both) == ["e1"]
    assert applied(frame, exception(entity="robot@example.com", integration="jumpcloud")) == [None]
    assert applied(frame, exception(rule="r2", entity="robot@example.com")) == [None]


def test_columns_of_the_event_hold_for_findings_of_one_event_only():
    frame = findings({}, {"count": 2})
    assert applied(frame, exception(**{"actor_email": "robot@example.com"})) == ["e1", None]
    assert applied(frame, exception(integration="okta")) == ["e1", None]
    assert applied(frame, exception(entity="robot@example.com")) == ["e1", "e1"]


def test_a_field_that_is_missing_or_null_does_not_hold():
    frame = findings({}, {"entity": None})
    assert applied(frame, exception(entity="robot@example.com")) == ["e1", None]
    assert applied(frame, exception(target_id="x")) == [None, None]
    assert applied(frame, exception(nonsense="x")) == [None, None]


def test_an_address_may_be_given_as_a_network():
    frame = findings({}, {"source_ip": "11.1.2.3"}, {"source_ip": None})
    assert applied(frame, exception(source_ip="10.0.0.0/8")) == ["e1", None, None]


def test_of_several_exceptions_the_first_by_id_counts():
    frame = findings({}, {"entity": "x"})
    given = [exception("e2", entity="x"), exception("e1", integration="okta")]
    assert applied(frame, *given) == applied(frame, *reversed(given)) == ["e1", "e1"]
    assert applied(findings({}).clear(), *given) == []


def test_without_exceptions_none_applies():
    assert applied(findings({})) == [None]


def test_fields_are_single_values_of_events_or_findings():
    exceptions.check_fields(["actor_email", "entity", "source_ip"])
    for names, reason in (
        ([], "at least one"),
        (["targets"], "targets"),
        (["tags"], "tags"),
        (["foo"], "foo"),
    ):
        with pytest.raises(ValueError, match=reason):
            exceptions.check_fields(names)


def rows(*given):
    usual = {
        "time": EXPIRES - timedelta(days=30),
        "who": "ada@example.com",
        "exception": "e1",
        "rule_id": "r1",
        "fields": [{"field": "entity", "value": "robot@example.com"}],
        "owner": "ada@example.com",
        "reason": "known",
        "expires": EXPIRES,
    }
    return pl.DataFrame([usual | row for row in given], schema=EXCEPTIONS)


def test_of_recorded_exceptions_the_newest_per_id_counts():
    first = {"time": EXPIRES - timedelta(days=9), "expires": EXPIRES - timedelta(days=8)}
    found = exceptions.recorded(rows(first, {}, {"exception": "e2"}))
    assert [each.id for each in found] == ["e1", "e2"]
    assert found[0].expires == EXPIRES - timedelta(days=8)
    assert applied(findings({}), *found) == ["e2"]


def test_recorded_exceptions_without_fields_or_day_apply_to_nothing():
    given = rows({"fields": []}, {"exception": "e2", "expires": None}, {"exception": "e3"})
    assert [each.id for each in exceptions.recorded(given)] == ["e3"]
    assert exceptions.recorded(rows()) == ()


def test_two_values_of_one_field_never_hold_together():
    twice = [{"field": "entity", "value": "x"}, {"field": "entity", "value": "y"}]
    assert applied(findings({"entity": "x"}), *exceptions.recorded(rows({"fields": twice}))) == [
        None
    ]
