"""Events of Okta: their frequencies, and their records in the System Log.

https://developer.okta.com/docs/reference/api/event-types/
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

import msgspec

from sandbox.cast import Account, Device, Place, Sort
from sandbox.company import Act, Habit, Happening, Role
from sandbox.service import iso, secret


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doing:
    """The properties that the events of a group share: actor, object and request path."""

    by: Role = "person"
    on: Sort | None = None
    whom: bool = False
    uri: str = ""
    severity: str = "INFO"


_SIGN_IN = _Doing(uri="/idp/idx/challenge/answer")
_ON_APP = _Doing(on="app", uri="/app/saml/sso")
_BY_SERVICE = _Doing(by="service", on="app", uri="/oauth2/default/v1/token")
_ADMIN_APP = _Doing(by="admin", on="app", uri="/api/v1/apps")
_ON_USER = _Doing(by="admin", whom=True, uri="/api/v1/users/lifecycle")
_ON_ROLE = _Doing(by="admin", on="role", whom=True, uri="/api/v1/users/roles")
_ON_GROUP = _Doing(by="admin", on="group", whom=True, uri="/api/v1/groups/users")
_ASSIGNED = _Doing(by="admin", on="app", whom=True, uri="/api/v1/apps/users")
_ON_POLICY = _Doing(by="admin", on="policy", uri="/api/v1/policies")
_ON_ZONE = _Doing(by="admin", on="zone", uri="/api/v1/zones")
_ON_TOKEN = _Doing(by="admin", on="token", uri="/api/internal/tokens")
_EXPORT = _Doing(by="admin", on="report", uri="/api/internal/v1/admin/reports/export")
_SENDING = _Doing(by="system", whom=True)
_PROVISIONED = _Doing(by="system", on="app", whom=True)
_JOB = _Doing(by="system", on="directory")
_LIMITED = _Doing(by="service", uri="/api/v1/users", severity="WARN")
_SUSPECT = _Doing(by="stranger", uri="/idp/idx/identify", severity="WARN")

_REPORT = "user.account.report_suspicious_activity_by_enduser"
_EVENTS: tuple[tuple[_Doing, str, str, float], ...] = (
    # group, type, message, frequency
    (_SIGN_IN, "user.session.start", "User login to Okta", 9),
    (_SIGN_IN, "user.session.end", "User logout from Okta", 3),
    (_SIGN_IN, "user.session.clear", "Clear user session", 0.2),
    (_SIGN_IN, "user.authentication.auth_via_mfa", "Authentication of user via MFA", 11),
    (_SIGN_IN, "user.authentication.verify", "Verify user identity", 3),
    (_SIGN_IN, "user.authentication.auth_via_AD_agent", "Authenticate user with AD agent", 1.5),
    (_SIGN_IN, "user.authentication.auth_via_IDP", "Authenticate user via IDP", 0.8),
    (_SIGN_IN, "user.account.lock", "Max sign in attempts exceeded", 0.2),
    (_SIGN_IN, "user.account.unlock", "Auto-unlock user account for Okta", 0.2),
    (_SIGN_IN, "user.account.update_password", "User update password for Okta", 0.6),
    (_SIGN_IN, _REPORT, "User reported suspicious activity", 0.05),
    (_SIGN_IN, "user.mfa.factor.activate", "Activate factor for user", 0.5),
    (_SIGN_IN, "user.mfa.factor.update", "Update factor for user", 0.2),
    (_SIGN_IN, "user.mfa.factor.deactivate", "Reset factor for user", 0.2),
    (_SIGN_IN, "user.mfa.okta_verify.deny_push", "User rejected Okta push verify", 0.3),
    (_SIGN_IN, "device.enrollment.create", "Enroll new device", 0.2),
    (_SIGN_IN, "device.user.add", "Add device to user", 0.2),
    (_ON_APP, "policy.evaluate_sign_on", "Evaluation of sign-on policy", 14),
    (_ON_APP, "user.authentication.sso", "User single sign on to app", 22),
    (_ON_APP, "app.oauth2.as.authorize.code", "OAuth2 authorization code request", 2),
    (_ON_APP, "app.generic.unauth_app_access_attempt", "User attempted unauthorized access", 0.3),
    (_ON_APP, "app.access_request.request", "Request to access an app", 0.1),
    (_BY_SERVICE, "app.oauth2.as.token.grant.access_token", "OAuth2 access token is granted", 4),
    (_ADMIN_APP, "user.session.access_admin_app", "User accessing Okta admin app", 1),
    (_ADMIN_APP, "application.lifecycle.create", "Create application", 0.06),
    (_ADMIN_APP, "application.lifecycle.update", "Update application", 0.2),
    (_ADMIN_APP, "application.policy.sign_on.update", "Update app sign on policy", 0.08),
    (_ON_USER, "user.lifecycle.create", "Create Okta user", 0.4),
    (_ON_USER, "user.lifecycle.activate", "Activate Okta user", 0.4),
    (_ON_USER, "user.lifecycle.deactivate", "Deactivate Okta user", 0.25),
    (_ON_USER, "user.lifecycle.suspend", "Suspend Okta user", 0.05),
    (_ON_USER, "user.lifecycle.unsuspend", "Unsuspend Okta user", 0.05),
    (_ON_USER, "user.lifecycle.delete.initiated", "Delete Okta user initiated", 0.05),
    (_ON_USER, "user.account.update_profile", "Update user profile for Okta", 1.2),
    (_ON_USER, "user.account.reset_password", "User reset password for Okta", 0.4),
    (_ON_USER, "user.account.expire_password", "User's Okta password is expired", 0.1),
    (_ON_USER, "user.mfa.factor.reset_all", "Reset all factors for user", 0.15),
    (_ON_ROLE, "user.account.privilege.grant", "Grant user privilege", 0.12),
    (_ON_ROLE, "user.account.privilege.revoke", "Revoke user privilege", 0.08),
    (_ON_GROUP, "group.user_membership.add", "Add user to group membership", 2.2),
    (_ON_GROUP, "group.user_membership.remove", "Remove user from group membership", 1),
    (_ON_GROUP, "group.lifecycle.create", "Create Okta group", 0.1),
    (_ON_GROUP, "group.privilege.grant", "Grant group privilege", 0.04),
    (_ASSIGNED, "application.user_membership.add", "Add user to application membership", 1.6),
    (_ASSIGNED, "application.user_membership.remove", "Remove user's app membership", 0.8),
    (_ASSIGNED, "application.user_membership.change_username", "Change user's app username", 0.2),
    (_ON_POLICY, "policy.lifecycle.update", "Update policy", 0.08),
    (_ON_POLICY, "policy.rule.update", "Update policy rule", 0.12),
    (_ON_POLICY, "policy.rule.add", "Add policy rule", 0.05),
    (_ON_ZONE, "zone.update", "Network zone update", 0.05),
    (_ON_TOKEN, "system.api_token.create", "Create API token", 0.06),
    (_ON_TOKEN, "system.api_token.revoke", "Revoke API token", 0.05),
    (_EXPORT, "analytics.reports.export.download", "Download report export", 0.06),
    (_SENDING, "system.push.send_factor_verify_push", "Send push for factor verification", 5),
    (_SENDING, "system.sms.send_factor_verify_message", "Send second factor auth SMS", 0.5),
    (_SENDING, "system.email.password_reset.sent_message", "Send password reset email", 0.3),
    (_SENDING, "user.risk.detect", "User risk detected", 0.15),
    (_PROVISIONED, "application.provision.user.push_profile", "Push user's profile to app", 1.5),
    (_PROVISIONED, "application.provision.user.sync", "Sync user in external application", 1),
    (_JOB, "system.import.start", "Import started", 0.6),
    (_JOB, "system.import.complete", "Import process complete", 0.6),
    (_JOB, "system.agent.ad.connect", "Connect AD agent to Okta", 0.15),
    (_JOB, "directory.mapping.update", "Update universal directory mappings", 0.05),
    (_LIMITED, "system.org.rate_limit.warning", "Rate limit warning", 0.1),
    (_LIMITED, "system.org.rate_limit.violation", "Rate limit violation", 0.04),
    (_LIMITED, "system.operation.rate_limit.violation", "Operation rate limit violation", 0.05),
    (_SUSPECT, "security.threat.detected", "Request from suspicious actor", 0.4),
)

NOT_ELIGIBLE = frozenset(
    [
        "analytics.reports.export.download",
        "app.generic.unauth_app_access_attempt",
        "app.oauth2.as.authorize.code",
        "app.oauth2.as.token.grant.access_token",
        "application.policy.sign_on.update",
        "application.user_membership.change_username",
        "directory.mapping.update",
        "policy.evaluate_sign_on",
        "security.threat.detected",
        "system.agent.ad.connect",
        "system.email.password_reset.sent_message",
        "system.operation.rate_limit.violation",
        "system.push.send_factor_verify_push",
        "system.sms.send_factor_verify_message",
        "user.account.expire_password",
        "user.authentication.auth_via_AD_agent",
        "user.authentication.verify",
        "user.mfa.okta_verify.deny_push",
        "user.session.access_admin_app",
        "zone.update",
    ]
)
"""The types used here that Okta's catalogue does not tag event-hook-eligible."""

_FAILING: dict[str, tuple[float, str, str]] = {
    # type: fraction that fails, result, reason
    "user.session.start": (0.05, "FAILURE", "INVALID_CREDENTIALS"),
    "user.authentication.auth_via_mfa": (0.04, "FAILURE", "INVALID_CREDENTIALS"),
    "user.authentication.verify": (0.02, "FAILURE", "VERIFICATION_ERROR"),
    "user.authentication.sso": (0.01, "FAILURE", "User not assigned to app"),
    "user.account.lock": (1.0, "FAILURE", "LOCKED_OUT"),
    "user.account.update_password": (0.1, "FAILURE", "PASSWORD_REQUIREMENTS_NOT_MET"),
    "user.lifecycle.create": (0.05, "FAILURE", "An object with this field already exists"),
    "policy.evaluate_sign_on": (0.03, "DENY", "Sign-on policy evaluation resulted in DENY"),
    "app.generic.unauth_app_access_attempt": (1.0, "FAILURE", "User not assigned to app"),
    "application.provision.user.push_profile": (0.03, "FAILURE", "The app did not answer"),
    "system.import.complete": (0.02, "FAILURE", "Agent not reachable"),
    "system.org.rate_limit.violation": (1.0, "RATE_LIMIT", "Org rate limit exceeded"),
    "system.operation.rate_limit.violation": (1.0, "DENY", "Too many OTP verification attempts"),
    "security.threat.detected": (1.0, "DENY", "Password Spray, Login failures"),
}
_SUCCEEDING = {"policy.evaluate_sign_on": "ALLOW"}
_SHOWS: dict[str, tuple[Act, ...]] = {
    "user.session.start": ("sign_in",),
    "user.authentication.auth_via_mfa": ("fail_mfa",),
    "user.account.lock": ("lock_account",),
    "security.threat.detected": ("detect_threat",),
    "user.mfa.factor.reset_all": ("reset_mfa",),
    "user.mfa.factor.activate": ("enroll_mfa",),
    "user.authentication.sso": ("open_app",),
    "analytics.reports.export.download": ("export",),
    "user.account.privilege.grant": ("grant_admin",),
    "user.account.privilege.revoke": ("revoke_admin",),
    "system.api_token.create": ("create_token",),
    "policy.lifecycle.update": ("weaken_policy",),
}
_LEGACY = {
    "user.session.start": "core.user_auth.login_success",
    "user.session.end": "core.user_auth.logout_success",
    "user.authentication.auth_via_mfa": "core.user.factor.attempt_success",
    "user.authentication.sso": "app.auth.sso",
    "user.account.lock": "core.user_auth.account_locked",
    "user.account.update_password": "core.user.config.password_update.success",
    "user.lifecycle.create": "core.user.config.user_creation.success",
    "user.lifecycle.deactivate": "core.user.config.user_deactivated",
    "application.user_membership.add": "app.generic.provision.assign_user_to_app",
    "group.user_membership.add": "core.user_group_member.user_add",
    "security.threat.detected": "security.threat.detected",
}
_ALSO: dict[str, tuple[str, str]] = {
    # type: the type and name of one more target
    "user.session.start": ("AppInstance", "Okta Dashboard"),
    "user.authentication.auth_via_mfa": ("AuthenticatorEnrollment", "Okta Verify"),
    "user.mfa.factor.activate": ("AuthenticatorEnrollment", "Okta Verify"),
    "user.mfa.okta_verify.deny_push": ("AuthenticatorEnrollment", "Okta Verify"),
    "policy.evaluate_sign_on": ("PolicyRule", "Catch-all Rule"),
    "policy.rule.update": ("PolicyRule", "Catch-all Rule"),
}
_TYPES: dict[Sort, str] = {
    "app": "AppInstance",
    "group": "UserGroup",
    "policy": "PolicyEntity",
    "token": "Token",
    "role": "ROLE",
    "report": "Report",
    "directory": "AppInstance",
    "zone": "NetworkZone",
    "document": "Document",
}
_ACTORS = {
    "person": "User",
    "service": "PublicClientApp",
    "system": "SystemPrincipal",
    "stranger": "IP address",
}

_HIDING = (64500, 64505)
"""Numbers of the networks of strangers and attackers."""

_ROWS = {what: (doing, message) for doing, what, message, _ in _EVENTS}

HABITS = [
    Habit(
        what=what,
        weight=weight,
        by=doing.by,
        on=doing.on,
        whom=doing.whom,
        fails=_FAILING.get(what, (0.0,))[0],
        acts=_SHOWS.get(what, ()),
    )
    for doing, what, _, weight in _EVENTS
]


def render(happening: Happening, rng: Random) -> dict[str, Any]:
    """Return a LogEvent with its members in Okta's order."""
    doing, message = _ROWS[happening.what]
    request = f"{rng.getrandbits(128):032x}"
    parts = _origin(happening.place, happening.device)
    outcome = _outcome(happening)
    return {
        "actor": _actor(happening),
        "client": parts.client,
        "device": None,
        "authenticationContext": _authentication(happening),
        "displayMessage": message,
        "eventType": happening.what,
        "outcome": outcome,
        "published": iso(happening.time),
        "securityContext": parts.security,
        "severity": "WARN" if outcome["result"] in ("DENY", "RATE_LIMIT") else doing.severity,
        "debugContext": {"debugData": _debug(happening, doing, request)},
        "legacyEventType": _LEGACY.get(happening.what),
        "transaction": {
            "type": "WEB" if happening.place else "JOB",
            "id": request,
            "detail": {},
        },
        "uuid": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "version": "0",
        "request": parts.request,
        "target": _targets(happening),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """The members that describe place and device, encoded only once: most of a record's text."""

    client: msgspec.Raw
    security: msgspec.Raw
    request: msgspec.Raw


@cache
def _origin(place: Place | None, device: Device | None) -> _Origin:
    return _Origin(
        client=_encoded(_client_of(place, device)),
        security=_encoded(
            {
                "asNumber": place.as_number if place else None,
                "asOrg": place.isp if place else None,
                "isp": place.isp if place else None,
                "domain": "." if place else None,
                "isProxy": False if place else None,
                "ipDetails": _details(place) if place else None,
            }
        ),
        request=_encoded({"ipChain": [_hop(place)] if place else []}),
    )


def _encoded(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _client_of(place: Place | None, device: Device | None) -> dict[str, Any]:
    if place is None or device is None:
        names = ("userAgent", "zone", "device", "id", "ipAddress", "geographicalContext")
        return dict.fromkeys(names)
    return {
        "userAgent": {
            "rawUserAgent": device.user_agent,
            "os": device.os,
            "browser": device.browser,
        },
        "zone": "null",
        "device": "Mobile" if device.mobile else "Computer",
        "id": None,
        "ipAddress": place.ip,
        "geographicalContext": _geography(place),
    }


def _hop(place: Place) -> dict[str, Any]:
    return {
        "ip": place.ip,
        "geographicalContext": _geography(place),
        "version": "V4",
        "source": None,
        "ipDetails": _details(place),
    }


def _details(place: Place) -> list[dict[str, Any]]:
    """Return the services that hide a client behind an address, as since 2026.04."""
    if place.as_number not in _HIDING:
        return []
    return [{"operator": "EXAMPLE_VPN", "type": "VPN", "anonymous": True}]


def _geography(place: Place) -> dict[str, Any]:
    return {
        "city": place.city,
        "state": place.state,
        "country": place.country,
        "postalCode": place.postal_code,
        "geolocation": {"lat": place.latitude, "lon": place.longitude},
    }


def _actor(happening: Happening) -> msgspec.Raw:
    if happening.what == "security.threat.detected" and happening.place:
        return _address(happening.place)
    return _account(happening.actor, _ACTORS[happening.actor.kind])


@cache
def _address(place: Place) -> msgspec.Raw:
    return _encoded(_entity(_id("ip", place.ip), "IP address", None, place.ip))


@cache
def _account(account: Account, kind: str) -> msgspec.Raw:
    if account.kind == "system":
        return _encoded(_entity("okta-system", kind, "system@okta.com", "Okta System"))
    prefix = {"AppUser": "0ua", "PublicClientApp": "0oa"}.get(kind, "00u")
    return _encoded(_entity(_id(prefix, account.email), kind, account.email, account.name))


@cache
def _thing(kind: str, name: str) -> msgspec.Raw:
    prefix = {"AppInstance": "0oa", "UserGroup": "00g", "Token": "00T"}.get(kind, "00p")
    return _encoded(_entity(_id(prefix, name), kind, name, name))


def _entity(id_: str, kind: str, alternate: str | None, name: str) -> dict[str, Any]:
    return {
        "id": id_,
        "type": kind,
        "alternateId": alternate or "unknown",
        "displayName": name,
        "detailEntry": None,
    }


def _id(prefix: str, name: str) -> str:
    return f"{prefix}{secret(name)[:14]}1d7"


def _authentication(happening: Happening) -> dict[str, Any]:
    session = f"{'idx' if happening.place else 'trs'}{happening.session}"
    mfa = happening.what == "user.authentication.auth_via_mfa"
    return {
        "authenticationProvider": "FACTOR_PROVIDER" if mfa else None,
        "credentialProvider": "OKTA_CREDENTIAL_PROVIDER" if mfa else None,
        "credentialType": None,
        "issuer": None,
        "interface": None,
        "authenticationStep": 0,
        "rootSessionId": session,
        "externalSessionId": session,
    }


def _outcome(happening: Happening) -> dict[str, Any]:
    if happening.ok:
        return {"result": _SUCCEEDING.get(happening.what, "SUCCESS"), "reason": None}
    _, result, reason = _FAILING.get(happening.what, (0, "FAILURE", "UNKNOWN"))
    return {"result": result, "reason": reason}


def _debug(happening: Happening, doing: _Doing, request: str) -> dict[str, Any]:
    if happening.place is None:
        return {"jobId": request[:20], "jobType": happening.what}
    new, level = ("POSITIVE", "HIGH") if happening.suspicious else ("NEGATIVE", "LOW")
    granted = ".token.grant" in happening.what
    scopes = {"grantedScopes": "openid, okta.users.read"} if granted else {}
    return {
        "behaviors": f"{{New Geo-Location={new}, New Device={new}, New IP={new}}}",
        "risk": f"{{level={level}}}",
        "requestId": request,
        "threatSuspected": str(happening.what == "security.threat.detected").lower(),
        "requestUri": doing.uri,
        "url": f"{doing.uri}?",
        **scopes,
    }


def _targets(happening: Happening) -> list[msgspec.Raw] | None:
    found = []
    if happening.whom:
        found.append(_account(happening.whom, "User"))
    if happening.thing:
        found.append(_thing(_TYPES[happening.thing.sort], happening.thing.name))
    if happening.what in _ALSO:
        found.append(_thing(*_ALSO[happening.what]))
    if happening.what.startswith("application.") and happening.whom:
        found.append(_account(happening.whom, "AppUser"))
    return found or None
