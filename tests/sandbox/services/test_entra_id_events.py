"""The contents of Entra ID's sign-ins, audits and provisioning."""

from __future__ import annotations

import re

import pytest

from tests.sandbox.rendered import records, rendered


def test_only_beta_sign_ins_have_event_types() -> None:
    assert not any("signInEventTypes" in record for record in records("entra_id", "sign_ins"))
    for stream, expected in (
        ("non_interactive_sign_ins", ["nonInteractiveUser"]),
        ("service_principal_sign_ins", ["servicePrincipal"]),
        ("managed_identity_sign_ins", ["managedIdentity"]),
    ):
        assert all(record["signInEventTypes"] == expected for record in records("entra_id", stream))


def test_a_workload_signs_in_without_user_or_device() -> None:
    for stream in ("service_principal_sign_ins", "managed_identity_sign_ins"):
        for record in records("entra_id", stream):
            assert record["userPrincipalName"] is None
            assert "deviceDetail" not in record
    managed = records("entra_id", "managed_identity_sign_ins")
    assert {record["ipAddress"] for record in managed} == {""}


def test_a_wrong_password_is_error_50126_and_success_is_0() -> None:
    passwords = [pair for pair in rendered("entra_id", "sign_ins") if pair[0].what == "password"]
    assert {happening.ok for happening, _ in passwords} == {True, False}
    for happening, record in passwords:
        assert record["status"]["errorCode"] == (0 if happening.ok else 50126)


def test_only_sign_ins_of_attackers_are_at_risk() -> None:
    for happening, record in rendered("entra_id", "sign_ins"):
        attacked = happening.suspicious and happening.ok
        expected = attacked or happening.what == "malicious address"
        assert (record["riskState"] == "atRisk") is expected
        assert bool(record["riskEventTypes"]) is expected


@pytest.mark.parametrize("stream", ["sign_ins", "directory_audits", "provisioning"])
def test_times_have_up_to_seven_decimals_without_trailing_zeros(stream: str) -> None:
    times = [r.get("createdDateTime") or r["activityDateTime"] for r in records("entra_id", stream)]
    shape = re.compile(r"2026-11-\d\dT\d\d:\d\d:\d\d(\.\d{0,6}[1-9])?Z")
    assert all(shape.fullmatch(time) for time in times)
    assert len({len(time) for time in times}) > 1


def test_a_skipped_or_failed_provisioning_differs_from_a_successful_one() -> None:
    found = rendered("entra_id", "provisioning")
    states = {record["provisioningStatusInfo"]["status"] for _, record in found}
    assert states == {"success", "failure", "skipped"}
    for happening, record in found:
        status = record["provisioningStatusInfo"]
        assert (status["status"] == "failure") is (status["errorInformation"] is not None)
        # A created account has no id in the target system yet.
        assert (record["targetIdentity"]["id"] == "") is (happening.what == "create")


def test_an_audit_is_initiated_by_either_a_user_or_an_app() -> None:
    for happening, record in rendered("entra_id", "directory_audits"):
        by = record["initiatedBy"]
        assert (by["user"] is None) is not (by["app"] is None)
        if happening.actor.kind == "person":
            assert by["user"]["userPrincipalName"] == happening.actor.email
        elif happening.actor.kind == "service":
            assert by["app"]["displayName"] == happening.actor.name


def test_one_service_account_is_an_ai_agent_in_every_log() -> None:
    principals = records("entra_id", "service_principal_sign_ins")
    agents = {
        record["servicePrincipalName"]
        for record in principals
        if record["agent"]["agentType"] == "agenticAppInstance"
    }
    assert agents == {"SCIM Provisioner"}
    audits = [record["initiatedBy"]["app"] for record in records("entra_id", "directory_audits")]
    initiators = {app["displayName"]: app["agentType"] for app in audits if app}
    assert initiators.pop("SCIM Provisioner") == "agenticAppInstance"
    assert set(initiators.values()) == {"notAgentic"}
    refreshed = records("entra_id", "non_interactive_sign_ins")
    assert {record["agent"]["agentType"] for record in refreshed} == {"notAgentic"}
