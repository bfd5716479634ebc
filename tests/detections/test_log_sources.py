"""Rules in SigmaHQ's words on records in the vendors' shapes: they match, and no longer match once
the value that they name is another one."""

import copy

import pytest

from tests.detections.drawn_rules import document
from tests.detections.ruled import hits, read

OKTA = {
    "uuid": "dc9fd3c0-598c-11ef-8478-2b7584bf8d5a",
    "published": "2026-03-02T09:15:00.000Z",
    "eventType": "policy.evaluate_sign_on",
    "displayMessage": "Evaluation of sign-on policy",
    "severity": "INFO",
    "actor": {"id": "00u1", "type": "User", "alternateId": "ada@example.com", "detailEntry": None},
    "client": {"ipAddress": "203.0.113.7", "userAgent": {"rawUserAgent": "curl/8", "os": "Linux"}},
    "outcome": {"result": "CHALLENGE", "reason": None},
    "securityContext": {"asNumber": 64496, "isProxy": True, "domain": None},
    "debugContext": {
        "debugData": {"requestUri": "/admin/users", "behaviors": "{New Device=POSITIVE}"}
    },
    "target": [
        {"id": "00u2", "type": "User", "displayName": "Grace"},
        {"id": "0oa1", "type": "AppInstance", "displayName": "Okta Admin Console"},
    ],
}
AUDIT = {
    "id": "Directory_da159bfb-54fa_L5WQ4_102345671",
    "category": "UserManagement",
    "result": "success",
    "resultReason": "",
    "activityDisplayName": "Update user",
    "activityDateTime": "2026-03-02T09:15:00.7215374Z",
    "loggedByService": "Core Directory",
    "initiatedBy": {
        "app": None,
        "user": {"id": "72", "displayName": None, "userPrincipalName": "ada@contoso.example"},
    },
    "targetResources": [
        {
            "id": "1f0e98f5",
            "type": "ServicePrincipal",
            "displayName": "Backup",
            "modifiedProperties": [
                {"displayName": "ConsentContext.IsAdminConsent", "newValue": '"False"'},
                {"displayName": "UserType", "oldValue": '["Guest"]', "newValue": '["Member"]'},
            ],
        }
    ],
    "additionalDetails": [{"key": "User-Agent", "value": "EvoSTS"}],
}  # fmt: skip
GUEST_TO_MEMBER = r'''"displayName":"UserType","oldValue":"[\"Guest\"]","newValue":"[\"Member\"]"'''
SIGN_IN = {
    "id": "66ea54eb-6301-4ee5-be62-ff5a759b0100",
    "createdDateTime": "2026-03-02T09:15:00Z",
    "userPrincipalName": "ada@contoso.example",
    "appId": "de8bc8b5",
    "ipAddress": "203.0.113.7",
    "clientAppUsed": "IMAP",
    "userAgent": "BAV2ROPC",
    "conditionalAccessStatus": "success",
    "authenticationRequirement": "singleFactorAuthentication",
    "authenticationProtocol": "deviceCode",
    "networkLocationDetails": [],
    "riskState": "atRisk",
    "resourceDisplayName": "Device Registration Service",
    "status": {
        "errorCode": 50057,
        "failureReason": "User account is disabled.",
        "additionalDetails": "MFA denied; user declined the authentication",
    },
    "deviceDetail": {"deviceId": "", "isCompliant": False, "trustType": None},
    "location": {"city": "Oslo", "countryOrRegion": "NO", "geoCoordinates": {}},
}
RISK = {
    "id": "6a5874ca9b",
    "riskEventType": "unfamiliarFeatures",
    "riskState": "atRisk",
    "riskLevel": "high",
    "riskDetail": "none",
    "ipAddress": "203.0.113.7",
    "userPrincipalName": "ada@contoso.example",
    "detectedDateTime": "2026-03-02T09:15:00Z",
}
MAILBOX_RULE = {
    "CreationTime": "2026-03-02T09:15:00",
    "Id": "9ada47ad-5f9e-5336-a084-4f69fa4d2d43",
    "Operation": "New-InboxRule",
    "RecordType": 1,
    "ResultStatus": "True",
    "Workload": "Exchange",
    "UserId": "adele@contoso.example",
    "ClientIP": "203.0.113.10:52378",
    "Parameters": [
        {"Name": "ForwardTo", "Value": "eve@example.net"},
        {"Name": "DeleteMessage", "Value": "True"},
    ],
}
LOGGED_IN = {
    "CreationTime": "2026-03-02T09:15:00",
    "Id": "3663119d-9cca-56fd-bf13-19210f556127",
    "Operation": "UserLoggedIn",
    "RecordType": 15,
    "ResultStatus": "Success",
    "Workload": "AzureActiveDirectory",
    "ApplicationId": "89bee1f7",
    "ExtendedProperties": [
        {"Name": "ResultStatusDetail", "Value": "Redirect"},
        {"Name": "RequestType", "Value": "Cmsi:Cmsi"},
    ],
}
ALERT = {
    "CreationTime": "2026-03-02T09:29:31",
    "Id": "05696540-cbfc-51fc-8642-71e60fecf17a",
    "Operation": "AlertTriggered",
    "RecordType": 40,
    "ResultStatus": "Succeeded",
    "Workload": "SecurityComplianceCenter",
    "AlertType": "System",
    "Category": "ThreatManagement",
    "Name": "Unusual volume of external file sharing",
    "Severity": "Medium",
}
ADMIN = {
    "kind": "admin#reports#activity",
    "id": {"time": "2026-03-02T09:15:00.658Z", "applicationName": "admin", "customerId": "C0"},
    "actor": {"callerType": "USER", "email": "ada@example.com"},
    "ipAddress": "203.0.113.24",
    "events": [
        {
            "type": "APPLICATION_SETTINGS",
            "name": "CHANGE_APPLICATION_SETTING",
            "parameters": [
                {"name": "SETTING_NAME", "value": "ContextAwareAccess - Level"},
                {"name": "NEW_VALUE", "value": "false"},
            ],
        }
    ],
}
LOGIN = {
    "kind": "admin#reports#activity",
    "id": {"time": "2026-03-02T09:15:00.481Z", "applicationName": "login", "customerId": "C0"},
    "actor": {"email": "ada@example.com"},
    "events": [
        {
            "type": "login",
            "name": "suspicious_login",
            "parameters": [
                {"name": "login_challenge_method", "multiValue": ["password", "security_key"]},
                {"name": "is_second_factor", "boolValue": False},
            ],
        }
    ],
}
CLOUDFLARE = {
    "action": {"type": "delete", "result": True},
    "actor": {"email": "ada@example.com", "ip": "203.0.113.7", "type": "user"},
    "resource": {"type": "dns_record"},
    "oldValueJson": {"type": "MX", "name": "example.com"},
}
LOGPUSH = {
    "ActionType": "delete",
    "ActionResult": True,
    "ActorEmail": "ada@example.com",
    "ResourceType": "dns_record",
    "OldValue": {"type": "MX"},
}
ATLASSIAN = {
    "id": "c0ffee00",
    "type": "events",
    "attributes": {
        "time": "2026-03-02T09:15:00.001Z",
        "action": "api_token_created",
        "actor": {"id": "5b10", "email": "Ada@example.com"},
        "context": [{"id": "t-1", "type": "tokens", "attributes": {"label": "ci"}}],
        "location": {"ip": "198.51.100.4", "countryName": "Ireland"},
    },
}
JUMPCLOUD = {
    "event_type": "user_update",
    "service": "directory",
    "timestamp": "2026-03-02T09:15:00Z",
    "success": True,
    "client_ip": "198.18.0.24",
    "changes": [
        {"field": "sudo", "from": False, "to": True},
        {"field": "email", "from": "a", "to": "b"},
    ],
}
OPSGENIE = {
    "created": "2026-03-02T09:15:00.741Z",
    "category": "API Requests",
    "level": "Warn",
    "owner": "ada@example.com",
    "details": {"action": "Delete", "_incomingData": {"httpUrl": "/v2/escalations"}},
}

CASES = [
    ("okta", "okta", OKTA, {"eventtype": "policy.evaluate_sign_on"}, "eventType"),
    ("okta", "okta", OKTA, {"target.displayName": "Okta Admin Console"}, "target.1.displayName"),
    ("okta", "okta", OKTA, {"securityContext.isProxy": "true"}, "securityContext.isProxy"),
    ("okta", "okta", OKTA, {"debugContext.debugData.requestUri|contains": "admin"},
     "debugContext.debugData.requestUri"),
    ("okta", None, OKTA, {"client.ipAddress|cidr": "203.0.113.0/24"}, "client.ipAddress"),
    ("azure", "auditlogs", AUDIT, {"properties.message": "Update user"}, "activityDisplayName"),
    ("azure", "auditlogs", AUDIT, {"OperationName": "update user"}, "activityDisplayName"),
    ("azure", "auditlogs", AUDIT, {"Status": "Success"}, "result"),
    ("azure", "auditlogs", AUDIT, {"ConsentContext.IsAdminConsent": "false"},
     "targetResources.0.modifiedProperties.0.newValue"),
    ("azure", "auditlogs", AUDIT, {"TargetResources.ModifiedProperties.DisplayName": "UserType"},
     "targetResources.0.modifiedProperties.1.displayName"),
    ("azure", "auditlogs", AUDIT, {"targetResources.type": "Service Principal"},
     "targetResources.0.type"),
    ("azure", "auditlogs", AUDIT,
     {"properties.message": GUEST_TO_MEMBER},
     "targetResources.0.modifiedProperties.1.newValue"),
    ("azure", "auditlogs", AUDIT, {"Initiatied.By": "ada@contoso.example"},
     "initiatedBy.user.userPrincipalName"),
    ("azure", "auditlogs", AUDIT, {"properties.initiatedBy|contains": "ADA@"},
     "initiatedBy.user.userPrincipalName"),
    ("azure", "signinlogs", SIGN_IN, {"ResultType": 50057}, "status.errorCode"),
    ("azure", "signinlogs", SIGN_IN, {"ResultType": "50057", "ResultDescription": "Failure"},
     "status.errorCode"),
    ("azure", "signinlogs", SIGN_IN, {"Status|contains": "MFA Denied"}, "status.additionalDetails"),
    ("azure", "signinlogs", SIGN_IN, {"ActivityDetails": "Sign-ins", "ClientApp": ["POP3", "IMAP"]},
     "clientAppUsed"),
    ("azure", "signinlogs", SIGN_IN, {"properties.message": "Device Code"},
     "authenticationProtocol"),
    ("azure", "signinlogs", SIGN_IN, {"NetworkLocationDetails": "[]", "DeviceDetail.deviceId": ""},
     "deviceDetail.deviceId"),
    ("azure", "signinlogs", SIGN_IN, {"DeviceDetail.trusttype": None, "RiskState": "atRisk"},
     "deviceDetail.trustType"),
    ("azure", "signinlogs", SIGN_IN, {"DeviceDetail.isCompliant": "false"},
     "deviceDetail.isCompliant"),
    ("azure", "signinlogs", SIGN_IN, {"location|contains": "NO"}, "location.countryOrRegion"),
    ("azure", "riskdetection", RISK, {"riskEventType": "unfamiliarFeatures"}, "riskEventType"),
    ("azure", "riskdetection", RISK, {"RiskType": "unfamiliarFeatures"}, "riskEventType"),
    ("m365", "audit", MAILBOX_RULE, {"Operation|contains": "InboxRule"}, "Operation"),
    ("m365", "audit", MAILBOX_RULE, {"Parameters|contains": ["RedirectTo", "ForwardTo"]},
     "Parameters.0.Name"),
    ("m365", "audit", LOGGED_IN, {"RequestType": "Cmsi:Cmsi"}, "ExtendedProperties.1.Value"),
    ("m365", "exchange", MAILBOX_RULE,
     {"eventSource": "Exchange", "eventName": "New-InboxRule", "status": "success"},
     "ResultStatus"),
    ("m365", "threat_management", ALERT,
     {"eventSource": "SecurityComplianceCenter", "status": "success",
      "eventName": "Unusual volume of external file sharing"}, "Name"),
    ("gcp", "google_workspace.admin", ADMIN,
     {"eventService": "admin.googleapis.com", "setting_name|startswith": "ContextAware"},
     "events.0.parameters.0.value"),
    ("gcp", "google_workspace.admin", ADMIN, {"new_value": "false"}, "events.0.parameters.1.value"),
    ("gcp", "google_workspace.login", LOGIN,
     {"protoPayload.Servicename": "login.googleapis.com",
      "protoPayload.metadata.event.eventName": "suspicious_login"}, "events.0.name"),
    ("google_workspace", "login", LOGIN, {"parameters.login_challenge_method": "security_key"},
     "events.0.parameters.0.multiValue.1"),
    ("google_workspace", "login", LOGIN, {"parameters.is_second_factor": False},
     "events.0.parameters.1.boolValue"),
    ("cloudflare", None, CLOUDFLARE, {"action.type": "delete", "oldValueJson.type": "MX"},
     "oldValueJson.type"),
    ("cloudflare", None, LOGPUSH, {"action.type": "delete", "oldValueJson.type": "MX"},
     "OldValue.type"),
    ("atlassian", None, ATLASSIAN, {"attributes.action": "api_token_created"}, "attributes.action"),
    ("atlassian", None, ATLASSIAN, {"attributes.context.attributes.label": "ci"},
     "attributes.context.0.attributes.label"),
    ("jumpcloud", None, JUMPCLOUD, {"event_type": "user_update", "changes.sudo": True},
     "changes.0.to"),
    ("opsgenie", None, OPSGENIE, {"details._incomingData.httpUrl|startswith": "/v2/esc"},
     "details._incomingData.httpUrl"),
]  # fmt: skip


def changed(record, path):
    """Return a copy of the record with another value at the path, where numbers are indices."""
    found = copy.deepcopy(record)
    *steps, last = (int(step) if step.isdecimal() else step for step in path.split("."))
    inner = found
    for step in steps:
        inner = inner[step]
    inner[last] = "changed"
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[4]}")
def test_a_rule_matches_the_vendors_record_until_its_value_changes(tmp_path, case):
    product, service, record, fields, path = case
    source = {"product": product} | ({"service": service} if service else {})
    made = read(tmp_path, document({"s": fields, "condition": "s"}, **source))
    (one,) = made.rules.values()
    assert hits(one, [record, changed(record, path)]) == [0]
