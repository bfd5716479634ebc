"""Words that mean nothing: null in every column that names something, for every vendor."""

import ipaddress

import pytest

from pipelines import registry
from pipelines.sdk import values
from tests.mapping import rows

NAMING = (
    *("actor_id", "actor_name", "actor_email", "source_ip", "user_agent"),
    *("city", "country", "session_id", "outcome_reason", "target_id", "target_name"),
)
WORDS = ("null", "<null>", "Not Available", "N/A", "-", "unknown")
ADDRESSES = {
    "okta": ("system_log", ("client", "ipAddress")),
    "google_workspace": ("login", ("ipAddress",)),
    "entra_id": ("sign_ins", ("ipAddress",)),
    "office_365": ("exchange", ("ClientIP",)),
    "jumpcloud": ("directory_insights", ("client_ip",)),
    "cloudflare": ("audit_logs_v2", ("actor", "ip_address")),
    "atlassian": ("events", ("attributes", "location", "ip")),
    "opsgenie": ("logs", ("_incomingData", "_httpHeaders", "X-Forwarded-For")),
}


def nested(path, value):
    for step in reversed(path):
        value = {step: value}
    return value


@pytest.mark.parametrize(("kind", "stream"), rows.STREAMS)
def test_no_column_holds_a_word_that_means_nothing(kind, stream):
    nothing = registry.kind(kind).nothing
    changed = [
        copy
        for record in rows.records(kind, stream)[:3]
        for word in WORDS
        for copy in rows.everywhere(record, lambda _, old, w=word: w if _is_text(old) else None)
    ]
    for row in rows.rows(kind, stream, *changed):
        assert [c for c in NAMING if row[c] in nothing] == []
        named = [part for t in row["targets"] for part in (t["id"], t["name"])]
        assert [part for part in named if part in nothing] == []


def _is_text(value):
    return isinstance(value, str)


def test_every_vendor_lists_its_words():
    for integration in registry.kinds().values():
        assert integration.nothing >= values.NOTHING
        assert not {"Null", "Nil", "None of us"} & integration.nothing


@pytest.mark.parametrize("kind", ADDRESSES)
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("null", None),
        ("unknown", None),
        ("<null>", None),
        ("localhost", None),
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7:443 ", "203.0.113.7"),
        ("203.0.113.7, 10.0.0.1", "203.0.113.7"),
        ("unknown, 203.0.113.7", "203.0.113.7"),
        ("[2001:DB8::7]:443", "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
    ],
)
def test_an_address_in_any_spelling_is_stored_in_one(kind, given, expected):
    stream, path = ADDRESSES[kind]
    record = nested(path, given)
    if kind == "google_workspace":
        record["events"] = [{"name": "login_success"}]
    assert rows.row(kind, stream, record)["source_ip"] == expected


@pytest.mark.parametrize(
    ("kind", "stream", "record"),
    [
        ("jumpcloud", "directory_insights", {"src_ip": "", "client_ip": "203.0.113.7"}),
        ("jumpcloud", "directory_insights", {"ip_address": "203.0.113.7"}),
        ("opsgenie", "logs", {"details": {"clientIp": "203.0.113.7"}}),
        ("opsgenie", "logs", {"details": '{"_incomingData":{"remoteIp":"203.0.113.7"}}'}),
        ("opsgenie", "logs", {"_incomingData": {"_httpHeaders": {"X-Real-IP": ["203.0.113.7"]}}}),
        ("opsgenie", "logs",
         {"_incomingData": {"_httpHeaders": {"True-Client-IP": "203.0.113.7"}}}),
    ],
)  # fmt: skip
def test_an_address_is_found_under_the_names_of_each_part_of_a_service(kind, stream, record):
    assert rows.row(kind, stream, record)["source_ip"] == "203.0.113.7"


@pytest.mark.parametrize(
    ("kind", "stream", "record", "severity"),
    [
        ("jumpcloud", "directory_insights", {"event_type": "alert_created", "priority": "High"},
         "high"),
        ("opsgenie", "logs", {"details": {"priority": "P1"}}, "p1"),
        ("opsgenie", "logs", {"details": {"_parsedData": {"priority": "P2"}}}, "p2"),
    ],
)  # fmt: skip
def test_a_severity_is_found_under_the_names_of_each_part_of_a_service(
    kind, stream, record, severity
):
    assert rows.row(kind, stream, record)["severity"] == severity


@pytest.mark.parametrize(("kind", "stream"), rows.STREAMS)
def test_source_ip_is_an_address_or_null(kind, stream):
    for row in rows.rows(kind, stream, *rows.records(kind, stream)):
        assert row["source_ip"] is None or ipaddress.ip_address(row["source_ip"])


PEOPLE = {
    "okta": ("system_log", {"actor": {"id": "00u1", "type": "User", "displayName": "Null"}}),
    "entra_id": ("sign_ins", {"userId": "1a", "userDisplayName": "Null"}),
    "office_365": ("exchange", {"LogonUserDisplayName": "Null", "UserType": 0}),
    "jumpcloud": ("directory_insights", {"initiated_by": {"type": "user", "username": "Null"}}),
    "atlassian": ("events", {"attributes": {"actor": {"id": "5b10", "name": "Null"}}}),
    "opsgenie": ("logs", {"user": "Null"}),
}


@pytest.mark.parametrize("kind", PEOPLE)
def test_a_user_called_null_keeps_their_name(kind):
    assert rows.row(kind, *PEOPLE[kind])["actor_name"] == "Null"


@pytest.mark.parametrize(
    ("column", "given"),
    [
        ("action", {"eventType": "unknown"}),
        ("message", {"eventType": "user.session.start", "displayMessage": "null"}),
    ],
)
def test_actions_and_messages_keep_every_word(column, given):
    assert rows.row("okta", "system_log", given)[column] in ("unknown", "null")


@pytest.mark.parametrize(("kind", "stream"), rows.STREAMS)
def test_the_main_target_has_a_name_if_any_target_has(kind, stream):
    for row in rows.rows(kind, stream, *rows.records(kind, stream)):
        if any(target["name"] for target in row["targets"]):
            assert row["target_name"]
