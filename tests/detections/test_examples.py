"""The examples beside rules."""

import pytest

from pipelines.detections import examples, rules
from tests.detections.drawn_rules import document
from tests.detections.ruled import written

SIGN_IN = {
    "uuid": "u-1",
    "published": "2026-03-02T09:15:00.000Z",
    "eventType": "user.session.start",
    "actor": {"id": "00u1", "type": "User", "alternateId": "ada@example.com", "displayName": "Ada"},
    "outcome": {"result": "FAILURE", "reason": "INVALID_CREDENTIALS"},
}
SUCCESS = {**SIGN_IN, "outcome": {"result": "SUCCESS"}}
OKTA = document(
    {"s": {"eventType": "user.session.start", "outcome.result": "FAILURE"}, "condition": "s"},
    product="okta",
    service="okta",
)
OVER_EVENTS = document(
    {"s": {"action": "user.session.start", "outcome": "failure"}, "condition": "s"},
    product="auditlake",
)
EXPANDED = document(
    {"s": {"actor.alternateId|expand": "%people%"}, "condition": "s"}, product="okta"
)
COUNT = {
    "title": "Three",
    "id": "99999999-0000-4000-8000-000000000000",
    "correlation": {
        "type": "event_count",
        "rules": [OKTA["id"]],
        "group-by": ["actor_email"],
        "timespan": "10m",
        "condition": {"gte": 3},
    },
}


def example(*records, matches, stream="okta/system_log"):
    if len(records) == 1:
        return {"stream": stream, "matches": matches, "record": records[0]}
    timed = [
        {"record": record, "time": f"2026-03-01T00:0{n}:00Z"} for n, record in enumerate(records)
    ]
    return {"stream": stream, "matches": matches, "records": timed}


def failures(folder, documents, *given):
    loaded = rules.load([written(folder, *documents)])
    assert loaded.problems == ()
    file = written(folder, list(given), name="rule.tests.yml")
    assert examples.file_of(folder / "rule.yml") == file
    return [*examples.failures(examples.read(file), loaded.rules[-1], loaded)]


@pytest.mark.parametrize("document", [OKTA, OVER_EVENTS], ids=["raw", "events"])
def test_examples_are_vendors_records_also_for_rules_over_events(tmp_path, document):
    good = [example(SIGN_IN, matches=True), example(SUCCESS, matches=False)]
    assert failures(tmp_path, [document], *good) == []
    wrong = [example(SIGN_IN, matches=False), example(SUCCESS, matches=True)]
    assert failures(tmp_path, [document], *wrong) == [
        "example 1 matches, but must not",
        "example 2 does not match",
    ]


def test_a_row_of_events_may_be_given_itself(tmp_path):
    row = {"action": "user.session.start", "outcome": "failure"}
    assert failures(tmp_path, [OVER_EVENTS], example(row, matches=True, stream="events")) == []


@pytest.mark.parametrize("base", [OKTA, OVER_EVENTS], ids=["raw", "events"])
def test_a_correlation_is_tried_on_several_records(tmp_path, base):
    three, two = [SIGN_IN] * 3, [SIGN_IN, SUCCESS, SIGN_IN]
    other = {**SIGN_IN, "actor": {**SIGN_IN["actor"], "alternateId": "eve@example.com"}}
    given = [
        example(*three, matches=True),
        example(*two, matches=False),
        example(SIGN_IN, SIGN_IN, other, matches=False),
    ]
    assert failures(tmp_path, [base, COUNT], *given) == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"record": SIGN_IN, "stream": "okta/system_log"}, "give `record` or `records`"),
        ({"matches": True, "records": []}, "give `record` or `records`"),
        ({"matches": True, "record": SIGN_IN}, "give each record and its stream"),
        ({"matches": True, "record": "x", "stream": "okta/system_log"}, "give each record"),
        ("text", "give `record` or `records`"),
        (
            {"matches": True, "record": SIGN_IN, "stream": "okta/x", "placeholders": {"a": 1}},
            "give lists of values",
        ),
    ],
)
def test_an_example_that_is_none_is_an_error(tmp_path, given, reason):
    with pytest.raises(ValueError, match=reason):
        failures(tmp_path, [OKTA], given)


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        ("okta/nothing", "there is no stream okta/nothing"),
        ("nobody/events", "unknown kind 'nobody'"),
        ("jumpcloud/directory_insights", "the rule is not about the stream"),
    ],
)
def test_an_example_of_another_stream_fails(tmp_path, stream, reason):
    (line,) = failures(tmp_path, [OKTA], example(SIGN_IN, matches=True, stream=stream))
    assert line.startswith(f"example 1: {reason}")


@pytest.mark.parametrize("documents", [[EXPANDED], [EXPANDED, COUNT]], ids=["rule", "correlation"])
def test_examples_give_values_for_placeholders(tmp_path, documents):
    given = example(*[SIGN_IN] * (3 if len(documents) > 1 else 1), matches=True)
    assert failures(tmp_path, documents, {**given, "placeholders": {"people": ["ada@*"]}}) == []
    (line,) = failures(tmp_path, documents, given)
    assert line.endswith("its placeholder %people% has no value")


def test_a_rule_without_examples_has_no_file(tmp_path):
    written(tmp_path, OKTA)
    assert examples.file_of(tmp_path / "rule.yml") is None
