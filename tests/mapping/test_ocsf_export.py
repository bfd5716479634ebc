"""OCSF 1.8.0: every event is valid by the published schema, and nothing is lost in conversion."""

import json
from datetime import UTC, datetime, timedelta
from functools import cache

import jsonschema_rs
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from pipelines import registry
from pipelines.mapping import normalise, ocsf, ocsf_export
from pipelines.schemas import EVENTS
from pipelines.sdk import json_records
from tests.mapping.from_ocsf import from_ocsf
from tests.mapping.test_golden import FIXTURES, NOW, STREAMS

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

texts = st.one_of(st.none(), st.text(max_size=8), st.sampled_from(["ada", "Ada Lovelace", "42"]))
types = st.one_of(texts, st.sampled_from(["User", "UserGroup", "AppInstance", "ROLE", "file"]))
times = st.integers(0, 10**15).map(lambda us: EPOCH + timedelta(microseconds=us))
targets = st.fixed_dictionaries({"id": texts, "name": texts, "type": types})
emails = st.one_of(texts, st.sampled_from(["ada@acme.io", "not an address", "ü@acme.io", "a@b"]))
addresses = st.one_of(texts, st.ip_addresses().map(str), st.just("fe80::1%eth0"))
classes = st.sampled_from(
    [(c, a) for c, (_, known) in ocsf.CLASSES.items() for a in (*known, ocsf.OTHER)]
)


@st.composite
def rows(draw):
    """A row as `normalise` returns it, for any record."""
    class_uid, activity_id = draw(classes)
    row = {name: draw(texts) for name, dtype in EVENTS.items() if dtype == pl.String()}
    found = draw(st.lists(targets, max_size=3))
    first = draw(st.sampled_from([*found, {"id": None, "name": None, "type": None}, draw(targets)]))
    time = draw(times)
    always = ("event_uid", "integration", "kind", "stream", "event_id")
    return row | {
        **{name: draw(st.text(max_size=5)) for name in always},
        "time": time,
        "date": time.date(),
        "ingested_at": draw(times),
        "seq": draw(st.integers(0, 2**60)),
        "class_uid": class_uid,
        "activity_id": activity_id,
        "activity_type": ocsf.class_name(class_uid),
        "action_type": ocsf.activity_name(class_uid, activity_id),
        "outcome": draw(st.sampled_from(["success", "failure", "unknown"])),
        "severity": draw(st.one_of(texts, st.sampled_from(["info", "warn", "high"]))),
        "actor_type": draw(st.one_of(texts, st.sampled_from(["user", "User", "api_key"]))),
        "actor_email": draw(emails),
        "source_ip": draw(addresses),
        "targets": found,
        **{f"target_{key}": first[key] for key in first},
        "mapping_version": draw(st.integers(1, 9)),
    }


@settings(max_examples=200)
@given(st.lists(rows(), min_size=1, max_size=4))
def test_any_row_is_a_valid_event_and_converts_back_unchanged(drawn):
    frame = pl.DataFrame(drawn, schema=EVENTS)
    events = [json.loads(json.dumps(event)) for event in ocsf_export.to_ocsf(frame)]
    assert [fault for event in events for fault in faults(event)] == []
    assert from_ocsf(events).to_dicts() == frame.to_dicts()


def faults(event):
    """The violations of the published schema and its unwritten rules in an event."""
    found = [error.message for error in validator(event["class_uid"]).iter_errors(event)]
    name, activities = ocsf.CLASSES[event["class_uid"]]
    rules = {
        "type_uid": event["type_uid"] == event["class_uid"] * 100 + event["activity_id"],
        "category_uid": event["category_uid"] == event["class_uid"] // 1000,
        "captions": (event["class_name"], event["activity_name"])
        == (name, activities.get(event["activity_id"], "Other")),
        "version": event["metadata"]["version"] == "1.8.0",
    }
    return found + [rule for rule, kept in rules.items() if not kept]


@cache
def schema():
    return OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0"))


@cache
def validator(class_uid):
    name = schema().lookup_class_name_from_uid(class_uid)
    return jsonschema_rs.validator_for(schema().get_class_schema(name, ["host"]))


def test_our_classes_and_activities_are_those_of_the_schema():
    published = get_ocsf_schema("1.8.0")["classes"]
    for class_uid, (caption, activities) in ocsf.CLASSES.items():
        found = next(c for c in published.values() if c.get("uid") == class_uid)
        enum = found["attributes"]["activity_id"]["enum"]
        assert found["caption"] == caption
        known = {int(n): e["caption"] for n, e in enum.items() if n not in ("0", "99")}
        assert known == activities


def event(**columns):
    row = dict.fromkeys(EVENTS) | {
        "event_uid": "okta:system_log:1",
        "time": EPOCH,
        "ingested_at": EPOCH,
        "kind": "okta",
        "outcome": "success",
        "targets": [],
        **columns,
    }
    row["activity_type"] = ocsf.class_name(row["class_uid"])
    row["action_type"] = ocsf.activity_name(row["class_uid"], row["activity_id"])
    frame = pl.DataFrame([row], schema=EVENTS)
    (found,) = ocsf_export.to_ocsf(frame)
    assert faults(found) == []
    return found


USER = {"id": "u2", "name": "Bob", "type": "User"}
GROUP = {"id": "g1", "name": "Admins", "type": "UserGroup"}


def test_group_and_added_user_are_distinguished():
    found = event(class_uid=3006, activity_id=3, actor_id="u1", targets=[USER, GROUP])
    assert found["group"] == {"uid": "g1", "name": "Admins", "type": "UserGroup"}
    assert found["user"]["name"] == "Bob"
    assert found["actor"]["user"]["uid"] == "u1"


def test_changing_ones_own_password_makes_the_actor_the_user():
    found = event(class_uid=3001, activity_id=3, actor_id="u1", actor_email="ada@acme.io")
    assert found["user"] == {"uid": "u1", "email_addr": "ada@acme.io"}
    assert "filled" not in found["unmapped"]


def test_required_attributes_missing_from_the_record_are_listed():
    found = event(class_uid=6003, activity_id=99)
    assert found["unmapped"]["filled"] == ["actor", "src_endpoint"]
    assert found["src_endpoint"] == {"name": "Unknown"}


def test_a_sign_in_names_the_application():
    app = {"id": "a1", "name": "Salesforce", "type": "AppInstance"}
    found = event(class_uid=3002, activity_id=1, actor_name="Ada", targets=[app])
    assert found["service"] == {"uid": "a1", "name": "Salesforce"}
    assert event(class_uid=3002, activity_id=1)["service"] == {"name": "okta"}


def test_a_granted_role_is_the_privilege():
    role = {"id": "r1", "name": "Super Administrator", "type": "ROLE"}
    found = event(class_uid=3005, activity_id=1, targets=[USER, role])
    assert (found["user"]["name"], found["privileges"]) == ("Bob", ["Super Administrator"])


@pytest.mark.parametrize(("kind", "stream"), STREAMS)
def test_every_vendors_events_are_valid_and_convert_back(kind, stream):
    integration = registry.kind(kind)
    found = next(s for s in integration.streams(None) if s.name == stream)
    lines = json_records.split_lines((FIXTURES / kind / f"{stream}.ndjson").read_bytes())
    raw = normalise.read(found, lines, NOW, "poll").with_row_index("seq")
    frame = normalise.normalise(kind, integration, found, raw).events
    events = list(ocsf_export.to_ocsf(frame))
    assert [fault for event in events for fault in faults(event)] == []
    assert from_ocsf(events).to_dicts() == frame.to_dicts()
