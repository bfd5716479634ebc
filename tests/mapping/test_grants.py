"""Who gets what, from whom and in which direction, for every vendor's grants and removals."""

import json

import pytest

from pipelines import registry
from tests.mapping import rows

ACTOR_TYPES = {"user", "service", "api_key", "application", "system", "anonymous", None}


def okta(event, *targets, **debug):
    return "okta", "system_log", {
        "eventType": event,
        "actor": {"id": "00u1", "type": "User", "displayName": "Ada"},
        "target": [{"id": "00u2", "type": "User", "displayName": "Bob"}, *targets],
        "debugContext": {"debugData": debug},
    }  # fmt: skip


def google(stream, event, **parameters):
    given = [
        {"name": k, "multiValue": v} if isinstance(v, list) else {"name": k, "value": v}
        for k, v in parameters.items()
    ]
    return "google_workspace", stream, {"events": [{"name": event, "parameters": given}]}


def entra(action, changes=(), details=(), kind="User", name="bob@contoso.example"):
    target = {
        "id": "u2",
        "type": kind,
        "userPrincipalName": name,
        "modifiedProperties": [
            {"displayName": key, "oldValue": old, "newValue": new} for key, old, new in changes
        ],
    }
    return "entra_id", "directory_audits", {
        "activityDisplayName": action,
        "targetResources": [target],
        "additionalDetails": [{"key": k, "value": v} for k, v in details],
    }  # fmt: skip


def directory(action, *changes, **more):
    return "office_365", "azure_active_directory", {
        "Operation": action,
        "ObjectId": "bob@contoso.example",
        "ModifiedProperties": [
            {"Name": key, "OldValue": old, "NewValue": new} for key, old, new in changes
        ],
        **more,
    }  # fmt: skip


def cmdlet(name, **parameters):
    given = [{"Name": key, "Value": value} for key, value in parameters.items()]
    return "office_365", "exchange", {"Operation": name, "ObjectId": "ceo", "Parameters": given}


def sharepoint(action, **more):
    return "office_365", "sharepoint", {"Operation": action, **more}


def jumpcloud(event, **more):
    return "jumpcloud", "directory_insights", {"event_type": event, **more}


def joined(op, kind="user_group"):
    ends = {"from": {"type": kind, "object_id": "g1", "name": "Admins"},
            "to": {"type": "user", "object_id": "u2", "name": "bob"}}  # fmt: skip
    return jumpcloud("association_change", association={"op": op, "connection": ends})


def changed(field, old, new):
    return jumpcloud("user_update", resource={"type": "user", "id": "u2", "username": "bob"},
                     changes=[{"field": field, "from": old, "to": new}])  # fmt: skip


def cloudflare(action, **more):
    resource = {"type": "member", "request": {"email": "bob@acme.example"},
                "response": {"roles": [{"id": "r1", "name": "Super Administrator"}]}}  # fmt: skip
    return "cloudflare", "audit_logs_v2", {"action": {"type": action}, "resource": resource, **more}


def roles(*names):
    return [{"id": f"r-{name}", "name": name} for name in names]


def membership(after, before, stream="audit_logs"):
    """A change of the roles of a member of a Cloudflare account."""
    if stream == "audit_logs":
        return "cloudflare", stream, {
            "action": {"type": "update"}, "resource": {"type": "account_member"},
            "newValueJson": {"email": "bob@acme.example", "roles": after},
            "oldValueJson": {"email": "bob@acme.example", "roles": before},
        }  # fmt: skip
    value = {"after": {"roles": after}, "before": {"roles": before}}
    response = {"user": {"email": "bob@acme.example"}, "roles": after}
    return "cloudflare", stream, {
        "action": {"type": "update"},
        "resource": {"type": "member", "value": value, "response": response},
    }  # fmt: skip


def associated(op, kind, other, **more):
    ends = {"from": {"type": kind, "id": "g1", "name": "Admins"},
            "to": {"type": other, "id": "u2", "name": "bob"}}  # fmt: skip
    return jumpcloud("association_change", association={"op": op, "connection": ends, **more})


def person(**attributes):
    return {"id": "u2", "type": "users", "attributes": {"name": "Bob", **attributes}}


def atlassian(action, *context):
    return "atlassian", "events", {"attributes": {"action": action, "context": list(context)}}


def opsgenie(summary, **details):
    record = {"summary": summary, **({"details": json.dumps(details)} if details else {})}
    return "opsgenie", "jira_service_management_operations", record


ROLE = ("Role.DisplayName", '"Global Administrator"')
SCOPE = "https://www.googleapis.com/auth/drive"
CONSENT = "[[Id: x, Scope: User.Read Mail.Read, CreatedDateTime: ]]"


@pytest.mark.parametrize(
    ("record", "names"),
    [
        (okta("user.account.privilege.grant", privilegeGranted="Super administrator"),
         {"Bob", "Super administrator"}),
        (okta("user.account.privilege.revoke", privilegeRevoked="Help desk (Sales, IT), Reports"),
         {"Bob", "Help desk (Sales, IT)", "Reports"}),
        (okta("group.user_membership.add", {"id": "g", "type": "UserGroup", "displayName": "IT"}),
         {"Bob", "IT"}),
        (okta("app.oauth2.as.consent.grant", grantedScopes="openid, okta.users.manage"),
         {"Bob", "openid", "okta.users.manage"}),
        (okta("app.oauth2.as.token.grant.access_token", grantedScopes="full:access read"),
         {"full:access", "read"}),
        (okta("app.oauth2.as.token.grant", grantedScopes=["full:access", None]), {"full:access"}),
        (okta("app.oauth2.admin.consent.grant",
              {"type": "ConsentGrant", "displayName": "okta.logs.read",
               "detailEntry": {"publicclientapp": "okta.2b19"}}), {"okta.logs.read"}),
        (google("admin", "ASSIGN_ROLE", USER_EMAIL="b@a.io", ROLE_NAME="_SEED_ADMIN_ROLE"),
         {"b@a.io", "_SEED_ADMIN_ROLE"}),
        (google("admin", "AUTHORIZE_API_CLIENT_ACCESS", API_CLIENT_NAME="c", API_SCOPES=SCOPE),
         {"c", SCOPE}),
        (google("admin", "UPDATE_GROUP_MEMBER", USER_EMAIL="b@a.io", GROUP_EMAIL="it@a.io",
                OLD_VALUE="MEMBER", NEW_VALUE="OWNER"), {"b@a.io", "it@a.io", "OWNER"}),
        (google("admin", "GRANT_DELEGATED_ADMIN_PRIVILEGES", USER_EMAIL="b@a.io",
                NEW_VALUE="HELP_DESK"), {"b@a.io", "HELP_DESK"}),
        (google("admin", "TRANSFER_DOCUMENT_OWNERSHIP", USER_EMAIL="b@a.io", NEW_VALUE="c@a.io"),
         {"b@a.io", "c@a.io"}),
        (google("admin", "MAIL_ROUTING_DESTINATION_ADDED", USER_EMAIL="b@a.io",
                NEW_VALUE="eve@evil.example"), {"b@a.io", "eve@evil.example"}),
        (google("admin", "MAIL_ROUTING_DESTINATION_REMOVED", USER_EMAIL="b@a.io",
                OLD_VALUE="eve@evil.example"), {"b@a.io", "eve@evil.example"}),
        (google("drive", "change_user_access", doc_id="d", doc_title="Plan", target_user="b@a.io",
                old_value=["none"], new_value=["can_edit"]), {"Plan", "b@a.io", "can_edit"}),
        (google("drive", "change_user_access", doc_id="d", doc_title="Plan", target_user="b@a.io",
                old_value=["can_view"], new_value=["none"]), {"Plan", "b@a.io", "can_view"}),
        (google("drive", "change_document_visibility", doc_id="d", doc_title="Plan",
                old_value=["private"], new_value=["people_with_link"]),
         {"Plan", "people_with_link"}),
        (google("data_studio", "CHANGE_USER_ACCESS", ASSET_ID="r", TARGET_USER_EMAIL="b@a.io",
                NEW_VALUE=["CAN_EDIT"]), {"b@a.io", "CAN_EDIT"}),
        (google("admin", "CREATE_EMAIL_MONITOR", USER_EMAIL="b@a.io",
                EMAIL_MONITOR_DEST_EMAIL="eve@evil.example"), {"b@a.io", "eve@evil.example"}),
        (google("admin", "EMAIL_LOG_SEARCH", EMAIL_LOG_SEARCH_RECIPIENT="b@a.io"), {"b@a.io"}),
        (google("admin", "TOGGLE_SERVICE_ENABLED", SERVICE_NAME="Drive", NEW_VALUE="true"),
         {"Drive"}),
        (google("user_accounts", "email_forwarding_out_of_domain",
                email_forwarding_destination_address="eve@evil.example"), {"eve@evil.example"}),
        (google("gmail", "delivery", delegate_user_email="b@a.io"), {"b@a.io"}),
        (google("token", "authorize", app_name="Mail", client_id="c", scope=[SCOPE]),
         {"Mail", SCOPE}),
        (google("drive", "shared_drive_membership_change", target="b@a.io", added_role="organizer"),
         {"b@a.io", "organizer"}),
        (google("meet", "invitation_sent", target_email="b@a.io"), {"b@a.io"}),
        (entra("Add member to role", [(ROLE[0], None, ROLE[1])]),
         {"bob@contoso.example", "Global Administrator"}),
        (entra("Remove member from role", [(ROLE[0], ROLE[1], None)]),
         {"bob@contoso.example", "Global Administrator"}),
        (entra("Add app role assignment to service principal",
               [("AppRole.Value", None, '"Mail.Read"')], kind="ServicePrincipal"), {"Mail.Read"}),
        (entra("Invite external user", details=[("InvitedUserEmailAddress", "eve@evil.example")],
               name=None), {"eve@evil.example"}),
        (entra("Invite external user", details=[("InvitedUserEmailAddress", "eve@evil.example")],
               name="eve_evil.example#EXT#@contoso.example"), {"eve@evil.example"}),
        (entra("Remove role assignment", details=[("RoleName", "Reader")]),
         {"bob@contoso.example", "Reader"}),
        (directory("Add app role assignment to service principal.",
                   ("AppRole.Value", "", "Mail.Read")), {"Mail.Read"}),
        (directory("Consent to application.", ("ConsentAction.Permissions", "", CONSENT)),
         {"User.Read", "Mail.Read"}),
        (directory("Add member to role.", (ROLE[0], "", "Global Administrator")),
         {"Global Administrator"}),
        (directory("Remove member from group.", ("Group.DisplayName", "Staff", "")), {"Staff"}),
        (directory("Invite external user.", ExtendedProperties=[
            {"Name": "additionalDetails",
             "Value": '{"InvitedUserEmailAddress":"eve@evil.example"}'}]), {"eve@evil.example"}),
        (cmdlet("Add-MailboxPermission", User="eve@a.io", AccessRights="FullAccess"),
         {"ceo", "eve@a.io", "FullAccess"}),
        (cmdlet("New-InboxRule", ForwardTo='"Eve" [SMTP:eve@evil.example]'), {"eve@evil.example"}),
        (cmdlet("Set-Mailbox", ForwardingSmtpAddress="smtp:eve@evil.example"),
         {"eve@evil.example"}),
        (cmdlet("Set-CalendarProcessing", ResourceDelegates="eve@a.io"), {"ceo", "eve@a.io"}),
        (cmdlet("New-JournalRule", JournalEmailAddress="eve@evil.example"),
         {"eve@evil.example"}),
        (("office_365", "exchange",
          {"Operation": "Send",
           "Item": {"Subject": "Hi", "Recipients": [{"Address": "eve@evil.example"}],
                    "Attachments": "plan (1).pdf (949373b); b.gif (4154b)"}}),
         {"Hi", "eve@evil.example", "plan (1).pdf", "b.gif"}),
        (("office_365", "general",
          {"Operation": "ShareReport", "ObjectId": "Sales",
           "SharingInformation": [{"RecipientEmail": "eve@evil.example"}]}),
         {"Sales", "eve@evil.example"}),
        (("office_365", "general",
          {"Operation": "MemberRoleChanged", "TeamName": "Sales",
           "Members": [{"UPN": "bob@a.io", "DisplayName": "Bob", "Role": 2}]}),
         {"Bob", "Sales", "Owner"}),
        (("office_365", "exchange",
          {"Operation": "AddFolderPermissions",
           "Item": {"ParentFolder": {"MemberUpn": "eve@a.io", "MemberRights": "ReadAny"}}}),
         {"eve@a.io", "ReadAny"}),
        (sharepoint("SiteCollectionAdminAdded", ObjectId="https://a/s",
                    TargetUserOrGroupName="eve@a.io", TargetUserOrGroupType="Member"),
         {"s", "eve@a.io"}),
        (sharepoint("SharingSet", ItemType="File", SourceFileName="x",
                    EventData="<Permissions granted>Contribute</Permissions granted>"),
         {"x", "Contribute"}),
        (joined("add"), {"Admins", "bob"}),
        (changed("sudo", False, True), {"bob", "sudo"}),
        (cloudflare("create"), {"bob@acme.example", "Super Administrator"}),
        (atlassian("user_granted_role", {"id": "u2", "type": "users", "attributes": {"name": "B"}},
                   {"id": "r", "type": "roles", "attributes": {"roleName": "org-admin"}}),
         {"B", "org-admin"}),
        (membership(roles("Admin", "DNS"), roles("DNS")), {"bob@acme.example", "Admin"}),
        (membership(roles("DNS"), roles("DNS", "Admin")), {"bob@acme.example", "Admin"}),
        (membership(roles("Admin"), roles("DNS"), "audit_logs_v2"),
         {"bob@acme.example", "Admin", "DNS"}),
        (("cloudflare", "audit_logs",
          {"action": {"type": "member_add"}, "NewValue": {"email": "bob@acme.example",
           "roles": ["Administrator"]}}), {"bob@acme.example", "Administrator"}),
        (("cloudflare", "audit_logs_v2",
          {"action": {"type": "create"}, "resource": {"type": "members", "response": {
              "email": "bob@acme.example",
              "policies": [{"access": "allow", "permission_groups": roles("Zone Admin")}]}}}),
         {"bob@acme.example", "Zone Admin"}),
        (("cloudflare", "audit_logs",
          {"action": {"type": "change_setting"}, "resource": {"type": "zone", "id": "z"},
           "metadata": {"name": "security_level", "zone_name": "acme.example"}}),
         {"acme.example", "security_level"}),
        (associated("ADD", "USER_GROUP", "USER"), {"Admins", "bob"}),
        (jumpcloud("admin_update", resource={"type": "admin", "id": "a", "email": "bob@a.io"},
                   changes=[{"field": "roleName", "from": "Help Desk", "to": "Administrator"}]),
         {"bob@a.io", "Administrator"}),
        (jumpcloud("admin_create",
                   resource={"type": "admin", "id": "a", "email": "b@a.io", "roleName": "Manager"}),
         {"b@a.io", "Manager"}),
        (atlassian("confluence_added_space_permission", person(),
                   {"id": "s", "type": "sites",
                    "attributes": {"siteName": "acme", "permissionName": "Add Pages"}}),
         {"Bob", "acme", "Add Pages"}),
        (atlassian("user_granted_product_access",
                   person(product="jira", role="product/admin")),
         {"Bob", "jira", "product/admin"}),
        (atlassian("group_granted_product_access",
                   {"id": "g", "type": "groups", "attributes": {"groupName": "staff"}},
                   {"id": "p", "type": "products", "attributes": {"productName": "Jira"}}),
         {"staff", "Jira"}),
        (atlassian("user_granted_role", person(roles=[{"name": "org-admin"}, "site-admin"])),
         {"Bob", "org-admin", "site-admin"}),
        (atlassian("org_settings_update",
                   {"type": "orgs", "attributes": {"name": "Acme", "settingName": "SamlPolicy"}}),
         {"Acme", "SamlPolicy"}),
        (("atlassian", "events", {"attributes": {"action": "api_token_created", "actor": {
            "id": "5b1", "auth": {"authType": "session", "tokenId": "t", "tokenLabel": "CI"}}}}),
         {"CI"}),
        (opsgenie("Team member [user: bob@a.io] added to team [name: Ops]."), {"bob@a.io", "Ops"}),
        (opsgenie("Role assigned", _member={"id": "u2", "username": "bob@a.io"}, role="Owner"),
         {"bob@a.io", "Owner"}),
        (opsgenie("User [bob@a.io] role changed from [User] to [Admin]."), {"bob@a.io", "Admin"}),
        (opsgenie("Escalation [name: Night, id: e1] updated.",
                  _escalation={"id": "e1", "name": "Night"}, **{"-members": ["bob@a.io"]}),
         {"Night", "bob@a.io"}),
    ],
    ids=lambda value: f"{value[0]}" if isinstance(value, tuple) else "",
)  # fmt: skip
def test_who_gets_something_and_what_they_get_are_targets(record, names):
    found = rows.row(*record)
    assert names <= {target["name"] for target in found["targets"]}
    assert found["target_name"]


@pytest.mark.parametrize(
    ("record", "answer"),
    [
        (okta("user.account.privilege.grant"), (3005, 1)),
        (okta("user.account.privilege.revoke"), (3005, 2)),
        (google("admin", "ASSIGN_ROLE"), (3005, 1)),
        (google("admin", "UNASSIGN_ROLE"), (3005, 2)),
        (google("drive", "change_user_access", new_value=["can_edit"]), (6006, 12)),
        (google("drive", "change_user_access", new_value=["none"]), (6006, 13)),
        (google("drive", "change_document_visibility", new_value=["public_on_the_web"]),
         (6006, 12)),
        (google("drive", "change_document_visibility", new_value=["private"]), (6006, 13)),
        (google("drive", "change_document_access_scope", new_value="none"), (6006, 13)),
        (google("calendar", "change_calendar_acls", access_level="owner"), (6001, 8)),
        (google("calendar", "change_calendar_acls", access_level="none"), (3005, 2)),
        (entra("Add member to role"), (3005, 1)),
        (entra("Remove member from role"), (3005, 2)),
        (("office_365", "general",
          {"Operation": "MemberRoleChanged", "Members": [{"Role": 2}]}), (3006, 1)),
        (("office_365", "general",
          {"Operation": "MemberRoleChanged", "Members": [{"Role": 1}]}), (3006, 2)),
        (("office_365", "general",
          {"Operation": "MemberRoleChanged", "Members": [{"Role": "Owner"}]}), (3006, 1)),
        (("office_365", "general", {"Operation": "MemberRoleChanged"}), (3006, 99)),
        (okta("application.provision.user.delete"), (3001, 6)),
        (okta("application.provision.user.delete.schedule"), (3001, 99)),
        (okta("application.provision.user.remove_entitlements"), (3005, 2)),
        (okta("application.provision.user.remove_entitlements.schedule"), (3005, 99)),
        (okta("application.account.decision.revoke"), (3005, 2)),
        (directory("Add member to group."), (3006, 3)),
        (directory("Remove member from group."), (3006, 4)),
        (cmdlet("Add-MailboxPermission"), (3005, 1)),
        (cmdlet("Remove-MailboxPermission"), (3005, 2)),
        (joined("add"), (3006, 3)),
        (joined("remove"), (3006, 4)),
        (changed("sudo", False, True), (3005, 1)),
        (changed("sudo", True, False), (3005, 2)),
        (changed("sudo", None, False), (3005, 2)),
        (changed("suspended", False, True), (3001, 5)),
        (changed("suspended", True, False), (3001, 2)),
        (changed("account_locked", True, False), (3001, 12)),
        (changed("state", "STAGED", "ACTIVATED"), (3001, 2)),
        (changed("firstname", "A", "B"), (3001, 99)),
        (jumpcloud("user_create", changes=[{"field": "sudo", "to": False}]), (3001, 1)),
        (cloudflare("create"), (3005, 1)),
        (cloudflare("delete"), (3005, 2)),
        (cloudflare("update"), (3004, 3)),
        (("cloudflare", "audit_logs", {"action": {"type": "member_add"}}), (3005, 1)),
        (atlassian("user_granted_role"), (3005, 1)),
        (atlassian("user_revoked_role"), (3005, 2)),
        (membership(roles("Admin", "DNS"), roles("DNS")), (3005, 1)),
        (membership(roles("DNS"), roles("DNS", "Admin")), (3005, 2)),
        (membership(roles("Admin"), roles("DNS")), (3005, 99)),
        (membership(roles("Admin", "DNS"), roles("DNS"), "audit_logs_v2"), (3005, 1)),
        (membership([], roles("DNS"), "audit_logs_v2"), (3005, 2)),
        (associated("ADD", "USER_GROUP", "USER"), (3006, 3)),
        (associated("remove", "user_group", "user"), (3006, 4)),
        (associated("add", "user_group", "application"), (3006, 1)),
        (associated("remove", "system_group", "user_group"), (3006, 2)),
        (associated("add", "system", "user"), (3005, 1)),
        (associated("remove", "application", "user"), (3005, 2)),
        (jumpcloud("admin_update", changes=[{"field": "role", "from": "A", "to": "B"}]),
         (3005, 99)),
        (jumpcloud("admin_update", changes=[{"field": "roleName", "to": "B"}]), (3005, 1)),
        (atlassian("group_granted_product_access"), (3006, 1)),
        (atlassian("group_revoked_product_access"), (3006, 2)),
        (atlassian("user_granted_product_access"), (3005, 1)),
        (atlassian("user_revoked_product_access"), (3005, 2)),
        (atlassian("confluence_added_space_permission"), (3005, 1)),
        (atlassian("confluence_removed_space_permission"), (3005, 2)),
        (atlassian("user_added_to_site"), (3005, 1)),
        (atlassian("user_removed_from_org"), (3005, 2)),
        (atlassian("user_added_to_team"), (3006, 3)),
        (atlassian("group_member_removed"), (3006, 4)),
        (atlassian("user_role_changed"), (3005, 99)),
        (atlassian("project_role_actor_added"), (3005, 1)),
        (jumpcloud("association_change", resource={"type": "user_group", "id": "g"},
                   association={"op": "remove", "type": "user", "object_id": "u"}), (3006, 4)),
        (opsgenie("Team role [name: Lead] added to member [username: b]."), (3005, 1)),
        (opsgenie("User [b] assigned role [Admin]."), (3005, 1)),
        (opsgenie("User [b] unassigned role [Admin]."), (3005, 2)),
        (opsgenie("User [b] added to team [Ops]."), (3006, 3)),
        (opsgenie("User [b] removed from team [Ops]."), (3006, 4)),
        (opsgenie("User [b] added to escalation [Night]."), (3005, 1)),
        (opsgenie("User [b] removed from schedule [Night]."), (3005, 2)),
        (opsgenie("Team member [user: b] added to team [name: Ops]."), (3006, 3)),
        (opsgenie("Team member [user: b] removed from team [name: Ops]."), (3006, 4)),
    ],
    ids=lambda value: f"{value[0]}",
)  # fmt: skip
def test_giving_and_taking_away_have_different_activities(record, answer):
    found = rows.row(*record)
    assert (found["class_uid"], found["activity_id"]) == answer


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (("cloudflare", "audit_logs_v2",
          {"action": {"description": "LOGIN_FAILED", "type": "create", "result": "failed"}}),
         ("Logon", "failure")),
        (("cloudflare", "audit_logs_v2",
          {"action": {"description": "User Login", "type": "update", "result": "Success"}}),
         ("Logon", "success")),
        (("cloudflare", "audit_logs_v2", {"action": {"description": "Sign out", "type": "delete"}}),
         ("Logoff", "unknown")),
        (("cloudflare", "audit_logs_v2",
          {"action": {"description": "Update Login Page", "type": "update"}}),
         ("Update", "unknown")),
        (atlassian("user_login"), ("Logon", "success")),
        (atlassian("user_login_failed"), ("Logon", "failure")),
        (atlassian("user_logged_in_as_user"), ("Account Switch", "success")),
        (atlassian("login_policy_updated"), ("Update", "unknown")),
        (jumpcloud("user_login_attempt", success="false"), ("Logon", "failure")),
        (opsgenie("Logged in"), ("Logon", "unknown")),
    ],
    ids=lambda value: f"{value[0]}",
)  # fmt: skip
def test_a_sign_in_is_one_whatever_it_is_called_with_the_outcome_in_its_name(record, expected):
    found = rows.row(*record)
    assert (found["action_type"], found["outcome"]) == expected


@pytest.mark.parametrize(
    "actor",
    [
        {"id": "557058:f581", "name": "Automation for Jira", "accountType": "app"},
        {"id": "557058:f581", "name": "Slack", "email": "x@connect.atlassian.com"},
        {"id": "712020:f581", "name": "Rovo", "type": "agent"},
    ],
)
def test_the_account_of_an_app_is_no_person(actor):
    found = rows.row("atlassian", "events", {"attributes": {"action": "x", "actor": actor}})
    assert found["actor_type"] == "application"


def test_an_actor_that_is_only_a_text_is_named():
    found = rows.row(*jumpcloud("user_login_attempt", initiated_by="bob@acme.example"))
    assert (found["actor_name"], found["actor_email"]) == ("bob@acme.example",) * 2


def test_a_new_user_without_sudo_has_no_sudo():
    found = rows.row(*jumpcloud("user_create", changes=[{"field": "sudo", "to": False}]))
    assert found["targets"] == []


def test_acting_on_behalf_of_somebody_keeps_both():
    actor = {"id": "5b1", "name": "Bot", "app": {"id": "a1", "name": "Automation"},
             "onBehalfOf": {"id": "5b2", "email": "ann@acme.example"}}  # fmt: skip
    found = rows.row("atlassian", "events", {"attributes": {"actor": actor}})
    assert (found["actor_type"], found["actor_name"]) == ("application", "Bot")
    assert {"Automation", "ann@acme.example"} <= {t["name"] for t in found["targets"]}


def test_a_person_in_a_session_is_no_api_key():
    for context in ("dash", "api", "oauth"):
        actor = {"id": "u1", "type": "user", "context": context, "email": "ada@acme.example"}
        assert rows.row("cloudflare", "audit_logs_v2", {"actor": actor})["actor_type"] == "user"
    given = {"attributes": {"actor": {"id": "5b1", "auth": {"authType": "session"}}}}
    assert rows.row("atlassian", "events", given)["actor_type"] == "user"


ODD_TYPES = ("", "null", "Robot", "AiAgent", "ServicePrincipal", 7, True, [], {}, ["user"])


@pytest.mark.parametrize(("kind", "stream"), rows.STREAMS)
def test_actor_type_stays_within_its_documented_set(kind, stream):
    given = rows.records(kind, stream)[:4]
    odd = [
        copy
        for record in given
        for value in ODD_TYPES
        for copy in rows.everywhere(record, lambda path, _, v=value: v if _of_actor(path) else None)
    ]
    assert {row["actor_type"] for row in rows.rows(kind, stream, *given, *odd)} <= ACTOR_TYPES


def _of_actor(path):
    words = " ".join(map(str, path)).lower()
    return any(word in words for word in ("actor", "initiat", "user", "agent", "caller", "auth"))


@pytest.mark.parametrize("code", [50158, 70043, 70044, 50199, 50078, 50173, 50133, 70016, 90094])
def test_an_interrupt_is_no_failure_in_either_log(code):
    entra_id = {"status": {"errorCode": code}}
    office_365 = {"Operation": "UserLoginFailed", "ErrorNumber": str(code)}
    assert rows.row("entra_id", "sign_ins", entra_id)["outcome"] == "unknown"
    found = rows.row("office_365", "azure_active_directory", office_365)
    assert found["outcome"] == "unknown"


def test_every_vendor_is_covered():
    assert {kind for kind, _ in rows.STREAMS} == set(registry.kinds())
