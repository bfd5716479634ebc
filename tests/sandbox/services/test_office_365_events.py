"""The contents of Office 365's unified audit log."""

from __future__ import annotations

import ipaddress
import json
import re

import pytest

from tests.sandbox.rendered import records, rendered

STREAMS = ("azure_active_directory", "exchange", "sharepoint", "general", "dlp")


@pytest.mark.parametrize("stream", STREAMS)
def test_every_record_has_the_common_schema_and_a_time_without_zone(stream: str) -> None:
    common = {"CreationTime", "Id", "Operation", "OrganizationId", "RecordType", "UserId"}
    for happening, record in rendered("office_365", stream):
        assert common <= record.keys()
        assert record["CreationTime"] == f"{happening.time:%Y-%m-%dT%H:%M:%S}"


def test_addresses_come_bare_with_a_port_and_mapped_to_ipv6() -> None:
    shapes = set()
    for happening, record in rendered("office_365", "exchange", 1500):
        if record["RecordType"] == 1 and "ClientIP" in record:
            bracketed = re.fullmatch(r"\[(.+)\]:\d+", record["ClientIP"])
            host = bracketed[1] if bracketed else record["ClientIP"].partition(":")[0]
            address = ipaddress.ip_address(host)
            mapped = getattr(address, "ipv4_mapped", None) or address
            assert happening.place
            assert str(mapped) == happening.place.ip
            shapes.add((bool(bracketed), address.version, ":" in record["ClientIP"]))
    assert len(shapes) == 4


def test_only_an_attacker_forwards_mail_outside() -> None:
    rules = [
        (happening, {one["Name"]: one["Value"] for one in record["Parameters"]})
        for happening, record in rendered("office_365", "exchange")
        if record["Operation"] == "New-InboxRule"
    ]
    assert any(happening.suspicious for happening, _ in rules)
    for _, rule in rules:
        assert rule["ForwardTo"] == "collector@fabrikam.example"


def test_a_service_principal_acts_under_its_id() -> None:
    found = [
        record
        for happening, record in rendered("office_365", "azure_active_directory")
        if happening.actor.kind == "service"
    ]
    assert found
    for record in found:
        assert re.fullmatch(r"ServicePrincipal_[0-9a-f-]{36}", record["UserId"])
        assert record["UserType"] == 4


def test_microsofts_own_cmdlets_have_no_client() -> None:
    own = [r for h, r in rendered("office_365", "exchange") if h.actor.kind == "system"]
    assert own
    for record in own:
        assert "ClientIP" not in record
        assert record["UserId"].startswith("NT AUTHORITY")


def test_an_incident_may_have_several_records() -> None:
    found = records("office_365", "dlp")
    assert len({record["Id"] for record in found}) == len(found)
    assert len({record["IncidentId"] for record in found}) < len(found)
    assert all(record["UserType"] == 4 for record in found)


def test_a_changed_role_is_that_of_an_owner() -> None:
    roles = {
        (record["Operation"], member["Role"])
        for record in records("office_365", "general")
        for member in record.get("Members", ())
    }
    assert {("MemberRoleChanged", 2), ("MemberAdded", 1)} <= roles
    assert ("MemberRoleChanged", 1) not in roles


def test_an_alert_has_the_account_concerned_in_json_text() -> None:
    alerts = [r for r in records("office_365", "general") if r["RecordType"] == 40]
    assert alerts
    for record in alerts:
        assert json.loads(record["Data"])["sev"] == record["Severity"]
