"""Events of Microsoft Entra ID: their frequencies, and their records in the audit logs.

https://learn.microsoft.com/entra/identity/monitoring-health/reference-audit-activities
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from random import Random
from typing import Any

from sandbox.cast import DOMAIN, Account, Device, Place, Sort
from sandbox.company import Act, Habit, Happening, Role
from sandbox.microsoft import TENANT_ID, guid

_NOBODY = "00000000-0000-0000-0000-000000000000"
_AGENTS = frozenset({"SCIM Provisioner"})
"""Service accounts that are AI agents."""


def moment(time: datetime, rng: Random) -> str:
    """Return the time in units of 100 ns without trailing zeros, as .NET formats it."""
    fraction = f"{time.microsecond:06d}{rng.randrange(10)}".rstrip("0")
    return f"{time:%Y-%m-%dT%H:%M:%S}{'.' if fraction else ''}{fraction}Z"


def fresh_id(rng: Random) -> str:
    return _grouped(f"{rng.getrandbits(128):032x}")


def _grouped(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Activity:
    """An activity of the audit log: the service that logs it, its target and its actor."""

    category: str
    service: str = "Core Directory"
    operation: str = "Update"
    by: Role = "admin"
    on: Sort | None = None
    whom: bool = False
    kind: str = ""
    """The type of the thing as a target resource."""


_USER = _Activity(category="UserManagement", whom=True)
_SELF = _Activity(
    category="UserManagement", service="Authentication Methods", by="person", operation="Update"
)
_MEMBER = _Activity(category="GroupManagement", on="group", whom=True, kind="Group")
_GROUP = _Activity(category="GroupManagement", on="group", kind="Group")
_ROLE = _Activity(category="RoleManagement", on="role", whom=True, kind="Role", operation="Assign")
_PIM = _Activity(category="RoleManagement", service="PIM", on="role", whom=True, kind="Role")
_APP = _Activity(category="ApplicationManagement", on="app", kind="ServicePrincipal")
_BY_APP = _Activity(category="ApplicationManagement", by="service", on="app", kind="Application")
_CONSENT = _Activity(
    category="ApplicationManagement", by="person", on="app", kind="ServicePrincipal"
)
_POLICY = _Activity(category="Policy", service="Conditional Access", on="policy", kind="Policy")
_DEVICE = _Activity(category="Device", service="Device Registration Service", by="person")
_SYNC = _Activity(category="UserManagement", by="system", whom=True)
_LIFECYCLE = _Activity(
    category="GroupManagement", service="Self-service Group Management", by="system"
)
_REPORT = _Activity(category="UserManagement", on="report", kind="Other", operation="Read")

_ACTIVITIES: tuple[tuple[_Activity, str, float], ...] = (
    (_USER, "Add user", 1),
    (_USER, "Update user", 9),
    (_USER, "Disable account", 0.5),
    (_USER, "Enable account", 0.3),
    (_USER, "Delete user", 0.4),
    (_USER, "Reset user password", 1.2),
    (_USER, "Invite external user", 0.6),
    (_USER, "Update StsRefreshTokenValidFrom Timestamp", 0.6),
    (_SELF, "User registered security info", 1.4),
    (_SELF, "User deleted security info", 0.4),
    (_SELF, "Change password (self-service)", 0.8),
    (_MEMBER, "Add member to group", 7),
    (_MEMBER, "Remove member from group", 4),
    (_MEMBER, "Add owner to group", 0.4),
    (_GROUP, "Add group", 0.3),
    (_GROUP, "Update group", 1.4),
    (_LIFECYCLE, "GroupLifecyclePolicies_Get", 1.5),
    (_ROLE, "Add member to role", 0.2),
    (_ROLE, "Remove member from role", 0.15),
    (_PIM, "Add member to role completed (PIM activation)", 0.8),
    (_PIM, "Remove member from role (PIM activation expired)", 0.7),
    (_APP, "Add application", 0.15),
    (_APP, "Update application", 0.5),
    (_APP, "Add service principal", 0.2),
    (_APP, "Add app role assignment grant to user", 2),
    (_APP, "Add service principal credentials", 0.15),
    (_BY_APP, "Update service principal", 2.5),
    (_CONSENT, "Consent to application", 0.3),
    (_POLICY, "Update conditional access policy", 0.15),
    (_POLICY, "Add conditional access policy", 0.05),
    (_DEVICE, "Register device", 0.5),
    (_DEVICE, "Update device", 3),
    (_SYNC, "Update user attributes from source", 2),
    (_REPORT, "Download users - finished (bulk)", 0.1),
)
_AUDITS = {activity: about for about, activity, _ in _ACTIVITIES}
_AUDIT_ACTS: dict[str, tuple[Act, ...]] = {
    "User deleted security info": ("reset_mfa",),
    "User registered security info": ("enroll_mfa",),
    "Add member to role": ("grant_admin",),
    "Remove member from role": ("revoke_admin",),
    "Add service principal credentials": ("create_token",),
    "Update conditional access policy": ("weaken_policy",),
    "Download users - finished (bulk)": ("export",),
}
_PREFIXES = {"PIM": "PIM", "Conditional Access": "IPCGraph", "Core Directory": "Directory"}


def _audit(happening: Happening, rng: Random) -> dict[str, Any]:
    about, correlation = _AUDITS[happening.what], fresh_id(rng)
    prefix = _PREFIXES.get(about.service, about.service[:4].upper())
    targets = _targets(happening, about)
    return {
        "id": f"{prefix}_{correlation}_{_code(rng)}_{rng.randrange(10**8)}",
        "category": about.category,
        "correlationId": correlation,
        "result": "success" if happening.ok else "failure",
        "resultReason": "" if happening.ok else "Insufficient privileges",
        "activityDisplayName": happening.what,
        "activityDateTime": moment(happening.time, rng),
        "loggedByService": about.service,
        "operationType": about.operation,
        "initiatedBy": _initiator(happening, about),
        "targetResources": targets,
        "additionalDetails": _details(happening, about),
    }


def _code(rng: Random) -> str:
    return "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=5))


def _initiator(happening: Happening, about: _Activity) -> dict[str, Any]:
    """Return user and app, one of them null; some services return a user without identity."""
    actor, place = happening.actor, happening.place
    if actor.kind == "system" and about.service == "Self-service Group Management":
        return {"app": None, "user": _user(None, None)}
    if actor.kind != "person":
        return {
            "app": {
                "appId": None,
                "displayName": "Microsoft Azure AD Sync" if actor.kind == "system" else actor.name,
                "servicePrincipalId": guid(f"principal {actor.name}"),
                "servicePrincipalName": None,
                "agentType": "agenticAppInstance" if actor.name in _AGENTS else "notAgentic",
            },
            "user": None,
        }
    # PIM has the IP address in its additional details only.
    return {"app": None, "user": _user(actor, None if about.service == "PIM" else place)}


def _user(actor: Account | None, place: Place | None) -> dict[str, Any]:
    return {
        "id": guid(actor.email) if actor else _NOBODY,
        "displayName": actor.name if actor else None,
        "userPrincipalName": actor.email if actor else None,
        "ipAddress": place.ip if place else None,
        "userType": None,
        "homeTenantId": None,
        "homeTenantName": None,
        "agentType": "notAgentic",
    }


def _targets(happening: Happening, about: _Activity) -> list[dict[str, Any]]:
    found = []
    if happening.thing:
        found.append(_resource(about.kind, happening.thing.name, _changes(happening)))
    if happening.whom:
        found.append(_person(happening.whom, happening.what))
    if about is _DEVICE and happening.device:
        found.append(_resource("Device", happening.device.name))
    if about is _SELF and not happening.whom:
        found.append(_person(happening.actor, happening.what))
    return found or [_resource("N/A", None) | {"id": _NOBODY}]


def _person(account: Account, what: str) -> dict[str, Any]:
    upn = account.email
    if what == "Invite external user":
        upn = f"{account.email.partition('@')[0]}_fabrikam.example#EXT#@{DOMAIN}"
    kind = "ServicePrincipal" if account.kind == "service" else "User"
    return _resource(kind, account.name) | {"id": guid(account.email), "userPrincipalName": upn}


def _resource(
    kind: str, name: str | None, changes: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    return {
        "id": guid(f"{kind} {name}"),
        "displayName": name,
        "type": kind,
        "userPrincipalName": None,
        "groupType": "unifiedGroups" if kind == "Group" else None,
        "modifiedProperties": list(changes),
    }


def _changes(happening: Happening) -> list[dict[str, Any]]:
    """Return the modified properties; their values are JSON texts."""
    if not happening.what.startswith("Update"):
        return []
    new = '"disabled"' if happening.suspicious else '"enabled"'
    return [{"displayName": "state", "oldValue": '"enabled"', "newValue": new}]


def _details(happening: Happening, about: _Activity) -> list[dict[str, Any]]:
    found = []
    if about.service == "PIM" and happening.place:
        found.append({"key": "ipaddr", "value": happening.place.ip})
    if happening.device:
        found.append({"key": "User-Agent", "value": happening.device.user_agent})
    return found


_Status = tuple[int, str | None, str | None]
_FINE: _Status = (0, "Other.", None)
_STATUS: Mapping[str, _Status] = {
    # habit: error code, failure reason, additional details
    "MFA completed": (0, "Other.", "MFA completed in Azure AD"),
    "KMSI": (
        50140,
        "This occurred due to 'Keep me signed in' interrupt when the user was signing-in.",
        None,
    ),
    "MFA required": (50074, "Strong Authentication is required.", None),
    "locked": (
        50053,
        "The account is locked, you've tried to sign in too many times with an incorrect "
        "user ID or password.",
        None,
    ),
    "malicious address": (
        50053,
        "Sign-in was blocked because it came from an IP address with malicious activity.",
        None,
    ),
    "wrong secret": (7000215, "Invalid client secret is provided.", None),
}
_WRONG_PASSWORD: _Status = (
    50126,
    "Error validating credentials due to invalid username or password.",
    "The user didn't enter the right credentials.",
)
_EXPIRED: _Status = (700082, "The refresh token has expired due to inactivity.", None)

_INTERACTIVE = (
    Habit(what="password", weight=12, on="app", fails=0.08, acts=("sign_in", "open_app")),
    Habit(what="MFA completed", weight=10, on="app"),
    Habit(what="MFA required", weight=2, on="app", acts=("fail_mfa",)),
    Habit(what="KMSI", weight=1.5, on="app"),
    Habit(what="locked", weight=0.2, on="app", acts=("lock_account",)),
    Habit(what="malicious address", weight=0.1, on="app", acts=("detect_threat",)),
)
_NON_INTERACTIVE = (
    Habit(what="refresh", weight=30, on="app", fails=0.03),
    Habit(what="device code", weight=0.2, on="app"),
)
_PRINCIPAL = (
    Habit(what="secret", weight=10, by="service"),
    Habit(what="certificate", weight=5, by="service"),
    Habit(what="wrong secret", weight=0.2, by="service"),
)
_MANAGED = (Habit(what="managed identity", weight=10, by="service"),)


def _status(happening: Happening, wrong: _Status) -> dict[str, Any]:
    code, reason, more = _STATUS.get(happening.what, _FINE if happening.ok else wrong)
    return {"errorCode": code, "failureReason": reason, "additionalDetails": more}


def _sign_in(happening: Happening, rng: Random) -> dict[str, Any]:
    """Return a sign-in as in v1.0, which has no sign-in event types."""
    device, place = happening.device, happening.place
    assert device  # noqa: S101 people have devices
    assert place  # noqa: S101
    app = happening.thing.name if happening.thing else "Office 365"
    risk = _risk(happening)
    return {
        "id": f"{fresh_id(rng)[:-4]}{rng.randrange(16, 256):02x}00",
        "createdDateTime": moment(happening.time, rng),
        **visitor(happening.actor),
        "appId": guid(f"app {app}"),
        "appDisplayName": app,
        "ipAddress": place.ip,
        "clientAppUsed": "Mobile Apps and Desktop clients" if device.mobile else "Browser",
        "userAgent": device.user_agent,
        "correlationId": _grouped(f"{happening.session}{happening.session[:8]}"),
        "conditionalAccessStatus": "success" if happening.ok else "notApplied",
        "isInteractive": True,
        "homeTenantId": TENANT_ID,
        "resourceTenantId": TENANT_ID,
        "riskDetail": "none",
        "riskLevelAggregated": risk,
        "riskLevelDuringSignIn": risk,
        "riskState": "none" if risk == "none" else "atRisk",
        "riskEventTypes": [] if risk == "none" else ["unfamiliarFeatures"],
        "riskEventTypes_v2": [] if risk == "none" else ["unfamiliarFeatures"],
        "resourceDisplayName": "Microsoft Graph",
        "resourceId": "00000003-0000-0000-c000-000000000000",
        "servicePrincipalId": "",
        "servicePrincipalName": None,
        "status": _status(happening, _WRONG_PASSWORD),
        "deviceDetail": _device(device),
        "location": location(place),
        "appliedConditionalAccessPolicies": [],
    }


def _risk(happening: Happening) -> str:
    if happening.what == "malicious address":
        return "high"
    return "medium" if happening.suspicious and happening.ok else "none"


@cache
def visitor(actor: Account) -> dict[str, Any]:
    return {
        "userDisplayName": actor.name,
        "userPrincipalName": actor.email,
        "userId": guid(actor.email),
    }


@cache
def _device(device: Device) -> dict[str, Any]:
    return {
        "deviceId": "",
        "displayName": device.name,
        "operatingSystem": device.os,
        "browser": device.browser.title(),
        "isCompliant": None if device.mobile else True,
        "isManaged": None if device.mobile else True,
        "trustType": "" if device.mobile else "Azure AD registered",
    }


@cache
def location(place: Place) -> dict[str, Any]:
    return {
        "city": place.city,
        "state": place.state,
        "countryOrRegion": place.code,
        "geoCoordinates": {
            "altitude": None,
            "latitude": place.latitude,
            "longitude": place.longitude,
        },
    }


def _refreshed(happening: Happening, rng: Random) -> dict[str, Any]:
    """Return a non-interactive sign-in, as in beta."""
    code = happening.what == "device code"
    return {
        **_sign_in(happening, rng),
        "isInteractive": False,
        "status": _status(happening, _EXPIRED),
        "sessionId": _grouped(f"{happening.session}00000000"),
        "signInEventTypes": ["nonInteractiveUser"],
        "agent": _agent(""),
        "authenticationProtocol": "deviceCode" if code else "none",
        "incomingTokenType": "none" if code else "refreshToken",
        "uniqueTokenIdentifier": _token_id(rng),
        "tokenIssuerType": "AzureAD",
        "userType": "member",
        "authenticationDetails": [],
    }


def _agent(name: str) -> dict[str, Any]:
    """Return the part of a sign-in in beta that describes its AI agent."""
    if name not in _AGENTS:
        return {"agentType": "notAgentic", "parentAppId": "", "agentSubjectType": "notAgentic"}
    return {
        "agentType": "agenticAppInstance",
        "parentAppId": guid(f"blueprint {name}"),
        "agentSubjectType": "notAgentic",
    }


def _token_id(rng: Random) -> str:
    return base64.urlsafe_b64encode(rng.randbytes(16)).rstrip(b"=").decode()


def _workload(happening: Happening, rng: Random) -> dict[str, Any]:
    """Return the sign-in of a service principal or managed identity: no user, no device."""
    managed = happening.what == "managed identity"
    name, place = happening.actor.name, happening.place
    credential = "certificate" if happening.what == "certificate" else "clientSecret"
    record: dict[str, Any] = {
        "clientCredentialType": "managedIdentity" if managed else credential,
        "conditionalAccessStatus": "notApplied",
        "isInteractive": False,
        "riskDetail": "none",
        "riskLevelAggregated": "none",
        "riskLevelDuringSignIn": "none",
        "riskState": "none",
        "signInEventTypes": ["managedIdentity" if managed else "servicePrincipal"],
        "userDisplayName": None,
        "userPrincipalName": None,
        "userId": "",
        "agent": _agent(name),
        "appliedConditionalAccessPolicies": [],
        "id": f"{fresh_id(rng)[:-4]}{rng.randrange(16, 256):02x}00",
        "createdDateTime": moment(happening.time, rng),
        "appId": guid(f"application {name}"),
        "appDisplayName": name,
        "servicePrincipalId": guid(f"principal {name}"),
        "servicePrincipalName": name,
        "ipAddress": "" if managed or not place else place.ip,
        "correlationId": fresh_id(rng),
        "resourceDisplayName": "Azure Key Vault" if managed else "Microsoft Graph",
        "resourceId": guid("Azure Key Vault" if managed else "Microsoft Graph"),
        "uniqueTokenIdentifier": _token_id(rng),
        "status": _status(happening, _WRONG_PASSWORD) | {"failureReason": _why(happening)},
        "location": _nowhere() if managed or not place else location(place),
    }
    if managed:
        record["managedServiceIdentity"] = {
            "msiType": "systemAssigned",
            "associatedResourceId": f"/subscriptions/{TENANT_ID}/virtualMachines/{name}",
        }
    return record


def _why(happening: Happening) -> str | None:
    return _STATUS[happening.what][1] if happening.what in _STATUS else None


def _nowhere() -> dict[str, Any]:
    return {"city": "", "state": "", "countryOrRegion": "", "geoCoordinates": {}}


_CYCLES = (
    Habit(what="create", weight=1, by="system", on="app", whom=True, fails=0.1),
    Habit(what="update", weight=6, by="system", on="app", whom=True, fails=0.02),
    Habit(what="disable", weight=0.4, by="system", on="app", whom=True),
    Habit(what="delete", weight=0.2, by="system", on="app", whom=True),
    Habit(what="other", weight=1, by="system", on="app", whom=True),
)
_DONE = {"create": "created", "update": "updated", "disable": "disabled", "delete": "deleted"}


def _provisioning(happening: Happening, rng: Random) -> dict[str, Any]:
    """Return the provisioning of a change to another system; `other` stands for a skipped one."""
    whom, thing = happening.whom, happening.thing
    assert whom  # noqa: S101 set by the habits
    assert thing  # noqa: S101
    skipped = happening.what == "other"
    status = "skipped" if skipped else "success" if happening.ok else "failure"
    principal = {"id": guid(f"ServicePrincipal {thing.name}"), "displayName": thing.name}
    job = f"{thing.name.partition(' ')[0]}SCIMOutDelta.{TENANT_ID.replace('-', '')}"
    hour = happening.time.replace(minute=happening.time.minute // 40 * 40)
    return {
        "id": fresh_id(rng),
        "activityDateTime": moment(happening.time, rng),
        "tenantId": TENANT_ID,
        "jobId": job,
        "cycleId": guid(f"{job} {hour:%Y%m%d%H%M}"),
        "changeId": fresh_id(rng),
        "provisioningAction": happening.what,
        "durationInMilliseconds": rng.randrange(200, 5000),
        "servicePrincipal": principal,
        "sourceSystem": _system("Azure Active Directory"),
        "targetSystem": _system(thing.name),
        "initiatedBy": {
            "id": "",
            "displayName": "Azure AD Provisioning Service",
            "initiatorType": "system",
        },
        "sourceIdentity": {
            "id": guid(whom.email),
            "displayName": whom.name,
            "identityType": "User",
            "details": {"UserPrincipalName": whom.email},
        },
        "targetIdentity": {
            "id": "" if happening.what == "create" else f"{thing.name}/{guid(whom.email)[:8]}",
            "displayName": "",
            "identityType": "urn:ietf:params:scim:schemas:core:2.0:User",
            "details": {},
        },
        "provisioningStatusInfo": {
            "status": status,
            "errorInformation": _error(thing.name) if status == "failure" else None,
        },
        "provisioningSteps": _steps(whom, thing.name, happening.what, status),
        "modifiedProperties": [
            {"displayName": "userName", "oldValue": None, "newValue": whom.email}
        ],
    }


def _system(name: str) -> dict[str, Any]:
    return {"id": guid(f"System {name}"), "displayName": name, "details": {}}


def _error(name: str) -> dict[str, Any]:
    return {
        "errorCode": "SystemForCrossDomainIdentityManagementServiceIncompatible",
        "reason": f"{name} answered with the HTTP status code 409.",
        "additionalDetails": None,
        "errorCategory": "nonServiceFailure",
        "recommendedAction": None,
    }


def _steps(whom: Account, app: str, action: str, status: str) -> list[dict[str, Any]]:
    end = {
        "success": f"User '{whom.email}' was {_DONE.get(action, 'processed')} in {app}",
        "failure": f"Failed to {action} User '{whom.email}' in {app}",
        "skipped": f"User '{whom.email}' will be skipped. The User in {app} is up to date",
    }[status]
    return [
        {
            "name": "EntryImport",
            "provisioningStepType": "import",
            "status": "success",
            "description": f"Received User '{whom.email}' from Azure Active Directory",
            "details": {},
        },
        {
            "name": "EntryExport",
            "provisioningStepType": "export",
            "status": status,
            "description": end,
            "details": {"ReportableIdentifier": whom.email},
        },
    ]


HABITS: Mapping[str, Sequence[Habit]] = {
    "directory_audits": [
        Habit(
            what=activity,
            weight=weight,
            by=about.by,
            on=about.on,
            whom=about.whom,
            fails=0.02,
            acts=_AUDIT_ACTS.get(activity, ()),
        )
        for about, activity, weight in _ACTIVITIES
    ],
    "sign_ins": _INTERACTIVE,
    "non_interactive_sign_ins": _NON_INTERACTIVE,
    "service_principal_sign_ins": _PRINCIPAL,
    "managed_identity_sign_ins": _MANAGED,
    "provisioning": _CYCLES,
}

RENDER: Mapping[str, Callable[[Happening, Random], dict[str, Any]]] = {
    "directory_audits": _audit,
    "sign_ins": _sign_in,
    "non_interactive_sign_ins": _refreshed,
    "service_principal_sign_ins": _workload,
    "managed_identity_sign_ins": _workload,
    "provisioning": _provisioning,
}
