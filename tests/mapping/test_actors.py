"""Who acted: applications and AI agents are no persons, and both who act for each other are kept.

One act in two logs is judged alike, and sign-ins are Authentication everywhere.
"""

import pytest

from tests.mapping import rows

PERSON = "ann@contoso.example"


def okta(actor, **more):
    return "okta", "system_log", {"eventType": "user.session.start", "actor": actor, **more}


def google(actor, **more):
    event = {"name": "edit", "type": "access"}
    return "google_workspace", "drive", {"actor": actor, "events": [event], **more}


def entra(initiator, **more):
    return "entra_id", "directory_audits", {
        "activityDisplayName": "Update user", "initiatedBy": initiator, **more
    }  # fmt: skip


def signed_in(**more):
    return "entra_id", "non_interactive_sign_ins", more


def office(**more):
    return "office_365", "general", {"Operation": "Act", **more}


ANN = {"user": {"id": "u1", "userPrincipalName": PERSON, "displayName": "Ann"}, "app": None}
BOTS_CLIENT = {"oauthClientId": "b1", "applicationName": "Bot", "impersonation": True}
BOT = {"appId": "b1", "displayName": "Sales agent", "agentType": "agenticAppInstance"}


@pytest.mark.parametrize(
    "record",
    [
        okta({"id": "a1", "type": "AIAgent", "displayName": "Helper"}),
        okta({"id": "a1", "type": "WorkloadPrincipal", "displayName": "Helper"}),
        okta({"id": "a1", "type": "PublicClientAppEntity", "displayName": "Helper"}),
        google({"applicationInfo": {"oauthClientId": "c1", "applicationName": "Helper"}}),
        google({"email": PERSON, "profileId": "1"}, isAgenticAction=True),
        google({"email": PERSON, "agentAttributionInfo": {"agentId": "g1", "agentName": "H"}}),
        entra({"user": {"id": "u9", "displayName": "Agent", "agentType": "agentIDuser"}}),
        entra({"user": None, "app": {"appId": "a1", "displayName": "Sync"}}),
        entra({"user": None, "app": BOT}),
        entra({"user": None, "app": None}, performedBy=BOT),
        signed_in(userId="u9", userPrincipalName="bot@x.io", agent={"agentType": "agentIDuser"}),
        signed_in(userId="u9", agent={"agentType": "x", "agentSubjectType": "agentIDuser"}),
        signed_in(servicePrincipalId="p1", agent={"agentType": "agenticAppInstance"}),
        office(UserId="ServicePrincipal_1", UserType=6),
        office(UserId="app@sharepoint", UserType=0),
        ("atlassian", "events",
         {"attributes": {"actor": {"id": "a1", "app": {"id": "a1", "name": "Automation"}}}}),
    ],
    ids=lambda record: record[0],
)  # fmt: skip
def test_an_application_or_ai_agent_is_no_person(record):
    assert rows.row(*record)["actor_type"] == "application"


@pytest.mark.parametrize(
    ("record", "person"),
    [
        (google({"email": PERSON, "agentAttributionInfo": {"agentId": "b1", "agentName": "Bot"}},
                isAgenticAction=True), PERSON),
        (google({"email": PERSON, "applicationInfo": BOTS_CLIENT}), PERSON),
        (entra(ANN, performedBy={"appId": "b1", "displayName": "Bot"}), "Ann"),
        (entra({**ANN, "app": {"appId": "b1", "displayName": "Bot"}}), "Ann"),
        (entra({**ANN, "app": {"appId": "b1", "displayName": "Bot", "agentType": "notAgentic"}}),
         "Ann"),
        (signed_in(userId="u1", userDisplayName="Ann", servicePrincipalId="b1",
                   servicePrincipalName="Bot", agent={"agentType": "agenticAppInstance"}), "Ann"),
        (office(UserId=PERSON, AgentId="b1", AgentName="Bot"), PERSON),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else value,
)  # fmt: skip
def test_acting_for_somebody_keeps_both(record, person):
    found = rows.row(*record)
    assert found["actor_name"] == person
    assert ("b1", "Bot") in {(target["id"], target["name"]) for target in found["targets"]}


@pytest.mark.parametrize(
    ("kind", "types"),
    [(None, {"Agent"}), ("agenticAppInstance", {"Agent"}), ("notAgentic", {"Application"})],
)
def test_a_performer_is_an_agent_unless_the_log_denies_it(kind, types):
    performer = {"appId": "b1", "displayName": "Bot"} | ({"agentType": kind} if kind else {})
    found = rows.row(*entra(ANN, performedBy=performer))
    assert {target["type"] for target in found["targets"]} == types


@pytest.mark.parametrize("kind", ["notAgentic", "unknownFutureValue", "", None])
def test_a_person_who_is_no_agent_stays_a_person(kind):
    user = ANN["user"] | {"agentType": kind}
    assert rows.row(*entra({"user": user}))["actor_type"] == "user"
    record = signed_in(userId="u1", agent={"agentType": kind, "parentAppId": ""})
    found = rows.row(*record)
    assert found["actor_type"] == "user"
    assert "Agent" not in {target["type"] for target in found["targets"]}


@pytest.mark.parametrize(
    "record",
    [
        okta({"id": "u1", "type": "User"}),
        ("google_workspace", "login", {"events": [{"name": "login_success"}]}),
        ("google_workspace", "saml", {"events": [{"name": "login_failure"}]}),
        ("entra_id", "sign_ins", {"id": "1"}),
        ("entra_id", "service_principal_sign_ins", {"id": "1"}),
        ("entra_id", "directory_audits",
         {"activityDisplayName": "Validate local account credentials"}),
        ("office_365", "azure_active_directory", {"Operation": "UserLoggedIn"}),
        ("office_365", "azure_active_directory", {"Operation": "UserLoginFailed"}),
        ("office_365", "exchange", {"Operation": "MailboxLogin"}),
        ("jumpcloud", "directory_insights", {"event_type": "user_login_attempt"}),
        ("jumpcloud", "directory_insights", {"event_type": "sso_auth"}),
        ("cloudflare", "audit_logs", {"action": {"type": "login"}}),
        ("cloudflare", "audit_logs_v2",
         {"action": {"type": "create", "description": "LOGIN"}, "resource": {"type": "user"}}),
        ("atlassian", "events", {"attributes": {"action": "user_login"}}),
    ],
    ids=lambda record: record[0],
)  # fmt: skip
def test_a_sign_in_of_any_vendor_is_authentication(record):
    assert rows.row(*record)["class_uid"] == 3002


@pytest.mark.parametrize("code", [50126, 50053, 399218])
def test_a_failure_without_words_has_its_number_in_either_log(code):
    entra_id = {"status": {"errorCode": code, "failureReason": "Other."}}
    office_365 = {"Operation": "UserLoginFailed", "ErrorNumber": str(code), "LogonError": "Other."}
    found = (
        rows.row("entra_id", "sign_ins", entra_id),
        rows.row("office_365", "azure_active_directory", office_365),
    )
    assert {(r["outcome"], r["outcome_reason"]) for r in found} == {("failure", f"error {code}")}
