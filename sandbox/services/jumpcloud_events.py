"""Events of JumpCloud: their frequencies, and their records in Directory Insights.

Every service has its own record shape and time precision, and omits members that others always
have, such as `success`, `geoip` or the actor.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from random import Random
from typing import Any

import msgspec

from sandbox.cast import Account, Device, Place, Sort
from sandbox.company import Act, Habit, Happening, Role
from sandbox.service import iso, secret

ORG_ID = secret("jumpcloud/org")[:24]

_OS = {"iOS (iPhone)": "iOS", "Windows 11": "Windows"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doing:
    """The properties that the events of a group share."""

    service: str
    by: Role = "person"
    on: Sort | None = None
    whom: bool = False
    kind: str = ""
    """The type of the changed resource."""


_PORTAL = _Doing(service="directory")
_CONSOLE = _Doing(service="directory", by="admin", kind="admin_portal")
_ON_USER = _Doing(service="directory", by="admin", whom=True, kind="user")
_ON_SELF = _Doing(service="directory", kind="user")
_ON_ADMIN = _Doing(service="directory", by="admin", whom=True, kind="admin")
_ON_GROUP = _Doing(service="directory", by="admin", on="group", kind="user_group")
_BIND = _Doing(service="directory", by="admin", on="group", whom=True, kind="association")
_ON_POLICY = _Doing(service="directory", by="admin", on="policy", kind="policy")
_ON_APP = _Doing(service="directory", by="admin", on="app", kind="application")
_BY_SCIM = _Doing(service="directory", by="service", whom=True, kind="user")
_BY_ITSELF = _Doing(service="directory", by="system", whom=True, kind="user")
_COMMAND = _Doing(service="directory", by="admin", on="report", kind="command")
_SSO = _Doing(service="sso", on="app")
_RADIUS = _Doing(service="radius")
_LDAP = _Doing(service="ldap", by="service")
_DEVICE = _Doing(service="systems")
_SOFTWARE = _Doing(service="software", on="app")
_MDM = _Doing(service="mdm", by="admin")
_VAULT = _Doing(service="password_manager", on="app")
_SHARED = _Doing(service="password_manager", by="admin", on="group", whom=True)
_STORE = _Doing(service="object_storage", by="admin", on="app")
_ALERT = _Doing(service="alerts", by="system", whom=True)
_CHANNEL = _Doing(service="notifications", by="admin", on="report")
_REPORT = _Doing(service="reports", by="admin", on="report")
_SAAS = _Doing(service="saas_app_management", by="admin", on="app")
_REQUEST = _Doing(service="access_management", on="app")
_ASSET = _Doing(service="asset_management", by="admin")

_EVENTS: tuple[tuple[_Doing, str, float, float], ...] = (
    # group, type, frequency, fraction that fails
    (_PORTAL, "user_login_attempt", 9, 0.06),
    (_CONSOLE, "admin_login_attempt", 2, 0.03),
    (_ON_SELF, "user_lockout", 0.2, 0),
    (_ON_SELF, "user_password_change", 0.6, 0.05),
    (_ON_SELF, "totp_start_enrollment", 0.3, 0),
    (_ON_SELF, "totp_finish_enrollment", 0.3, 0),
    (_ON_SELF, "totp_delete_enrollment", 0.1, 0),
    (_ON_USER, "user_update", 2.5, 0.02),
    (_ON_USER, "user_create", 0.4, 0.05),
    (_ON_USER, "user_activated", 0.3, 0),
    (_ON_USER, "user_suspended", 0.15, 0),
    (_ON_USER, "user_unlocked", 0.2, 0),
    (_ON_USER, "user_delete", 0.2, 0),
    (_ON_USER, "user_admin_granted", 0.1, 0),
    (_BY_SCIM, "user_update", 3, 0.01),
    (_BY_SCIM, "user_update_provision", 1, 0.04),
    (_BY_ITSELF, "user_password_warning_email", 0.5, 0),
    (_BY_ITSELF, "user_password_expired", 0.2, 0),
    (_ON_ADMIN, "admin_update", 0.1, 0),
    (_ON_ADMIN, "user_group_admin_grant", 0.05, 0),
    (_ON_ADMIN, "user_group_admin_revoke", 0.05, 0),
    (_ON_GROUP, "group_create", 0.1, 0),
    (_ON_GROUP, "group_update", 0.2, 0),
    (_BIND, "association_change", 3.5, 0.01),
    (_ON_POLICY, "policy_update", 0.2, 0),
    (_ON_POLICY, "authpolicy_update", 0.1, 0),
    (_ON_APP, "application_update", 0.2, 0),
    (_COMMAND, "command_run", 0.8, 0),
    (_SSO, "sso_auth", 22, 0.02),
    (_RADIUS, "radius_auth_attempt", 14, 0.05),
    (_LDAP, "ldap_bind", 5, 0.03),
    (_LDAP, "ldap_search", 4, 0),
    (_DEVICE, "login_attempt", 12, 0.04),
    (_DEVICE, "system_fde_key_update", 0.5, 0),
    (_DEVICE, "os_minor_upgrade", 0.5, 0),
    (_SOFTWARE, "software_change", 5, 0),
    (_SOFTWARE, "software_add", 1, 0),
    (_MDM, "mdm_command_result", 1, 0.1),
    (_VAULT, "passwordmanager_item_reveal", 1, 0),
    (_VAULT, "passwordmanager_item_autofill", 2, 0),
    (_SHARED, "passwordmanager_folder_member_add", 0.2, 0.05),
    (_STORE, "object_storage_get_download_url_request", 0.2, 0.02),
    (_ALERT, "alert_created", 0.4, 0),
    (_CHANNEL, "notification_channel_updated", 0.05, 0),
    (_REPORT, "report_run", 0.3, 0),
    (_REPORT, "report_export", 0.1, 0),
    (_SAAS, "saas_management_application_update", 0.2, 0),
    (_REQUEST, "access_management_access_request", 0.2, 0),
    (_ASSET, "asset_management_asset_update", 0.2, 0),
)
_SHOWS: dict[str, tuple[Act, ...]] = {
    "user_login_attempt": ("sign_in",),
    "user_lockout": ("lock_account",),
    "alert_created": ("detect_threat",),
    "totp_delete_enrollment": ("reset_mfa",),
    "totp_finish_enrollment": ("enroll_mfa",),
    "sso_auth": ("open_app",),
    "report_export": ("export",),
    "user_group_admin_grant": ("grant_admin",),
    "user_group_admin_revoke": ("revoke_admin",),
    "authpolicy_update": ("weaken_policy",),
}
_DOINGS = {(what, doing.by): doing for doing, what, _, _ in _EVENTS}

HABITS = [
    Habit(
        what=f"{doing.by} {what}",
        weight=weight,
        by=doing.by,
        on=doing.on,
        whom=doing.whom,
        fails=fails,
        acts=_SHOWS.get(what, ()),
    )
    for doing, what, weight, fails in _EVENTS
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """A happening, with the properties of its type."""

    what: str
    doing: _Doing
    of: Happening
    rng: Random
    object_id: str

    @property
    def thing(self) -> str:
        return self.of.thing.name if self.of.thing else ""


def render(happening: Happening, rng: Random) -> dict[str, Any]:
    """Return a record; the order of its members means nothing."""
    by, _, what = happening.what.partition(" ")
    doing = _DOINGS[what, by]  # type: ignore[index]  # `by` is one of the roles
    object_id = f"{int(happening.time.timestamp()):08x}{rng.getrandbits(64):016x}"
    event = _Event(what=what, doing=doing, of=happening, rng=rng, object_id=object_id)
    return {
        **_WRITERS[doing.service](event),
        "event_type": what,
        "service": doing.service,
        "organization": ORG_ID,
        **({} if doing.service == "notifications" else {"@version": "1"}),
    }


def _stamped(event: _Event, **own: Any) -> dict[str, Any]:
    return {**own, "id": event.object_id, "timestamp": iso(event.of.time)}


def _request(event: _Event) -> dict[str, Any]:
    """Return the members that describe a request and its sender."""
    place, device = event.of.place, event.of.device
    if place is None or device is None:
        return {"initiated_by": {"type": "system"}}
    return {
        "initiated_by": _who(event.of.actor, event.doing.by),
        "client_ip": place.ip,
        "geoip": _geoip(place),
        "useragent": _agent(device),
    }


def _directory(event: _Event) -> dict[str, Any]:
    record = _stamped(event, **_request(event), **_subject(event), **_changes(event))
    record["provider"] = event.rng.choice(("", None))
    if "login_attempt" in event.what:
        record |= {"success": event.of.ok, "mfa": event.of.ok and event.rng.random() < 0.7}
        record |= {} if event.of.ok else {"error_message": "invalid credentials"}
        if event.what == "admin_login_attempt" and event.rng.random() < 0.1:
            del record["initiated_by"]  # as in the vendor's own example
        return record
    record["auth_method"] = "api key" if event.doing.by == "service" else "session"
    # Some updates do not report their success.
    if not event.of.ok or event.what != "user_update" or event.rng.random() < 0.8:
        record["success"] = event.of.ok
    return record | ({} if event.of.ok else {"error_message": "the request was not accepted"})


def _subject(event: _Event) -> dict[str, Any]:
    """Return the members that describe the affected resource."""
    kind, whom = event.doing.kind, event.of.whom or event.of.actor
    if kind == "association":
        return {"association": _association(event, whom)}
    if event.what == "admin_login_attempt":
        return {"resource": {"type": "admin", "id": _id(whom.email), "email": whom.email}}
    if kind == "admin":
        return {"resource": {"type": "admin", "id": _id(whom.email), "email": whom.email}}
    if kind == "user":
        return {"resource": {"type": "user", "id": _id(whom.email), "username": _login(whom)}}
    if kind:
        return {"resource": {"type": kind, "id": _id(event.thing), "name": event.thing}}
    return {"auth_context": {"auth_methods": {"password": {"success": event.of.ok}}}}


def _association(event: _Event, whom: Account) -> dict[str, Any]:
    return {
        "op": event.rng.choice(("add", "add", "remove")),
        "action_source": "manual",
        "connection": {
            "from": {"name": event.thing, "type": "user_group", "object_id": _id(event.thing)},
            "to": {"name": _login(whom), "type": "user", "object_id": _id(whom.email)},
        },
        "attributes": None,
    }


def _changes(event: _Event) -> dict[str, Any]:
    """Return the changes; old and new values have any type, and some are missing."""
    if not event.what.endswith(("update", "create", "suspended")):
        return {}
    address = {"type": "work", "locality": "Dublin", "id": event.object_id, "_id": event.object_id}
    found: list[list[dict[str, Any]]] = [
        [{"field": "department", "from": "Sales", "to": "Support"}],
        [{"field": "suspended", "from": False, "to": True}],
        [{"field": "addresses", "from": [], "to": [address]}],
        [{"field": "password"}, {"field": "active", "to": True}],
    ]
    return {"changes": event.rng.choice(found)}


def _sso(event: _Event) -> dict[str, Any]:
    request = _request(event)
    ok, name, actor = event.of.ok, event.thing, event.of.actor
    return {
        **request,
        "initiated_by": {"id": _id(actor.email), "type": "user", "username": _login(actor)},
        "id": event.object_id,
        "timestamp": _nanoseconds(event),
        "sso_token_success": ok,
        "error_message": "" if ok else "not authorized",
        "mfa": event.rng.random() < 0.5,
        "idp_initiated": event.rng.random() < 0.3,
        "application": {
            "id": _id(name),
            "name": name.lower().replace(" ", "-"),
            "display_label": name,
            "sso_type": "saml",
            "sso_url": f"https://sso.jumpcloud.com/saml2/{name.lower().replace(' ', '-')}",
        },
        "auth_context": {"system": _system(event.of.actor), "auth_methods": {}},
        "provider": "",
    }


def _nanoseconds(event: _Event) -> str:
    """Return the time with up to nine fractional digits, without trailing zeros."""
    digits = f"{event.of.time.microsecond // 1000:03d}{event.rng.randrange(10**6):06d}"
    return f"{event.of.time:%Y-%m-%dT%H:%M:%S}.{digits.rstrip('0') or '0'}Z"


def _radius(event: _Event) -> dict[str, Any]:
    """Return a RADIUS event: its id is a UUID of the content, its time has whole seconds."""
    name, ok = _login(event.of.actor), event.of.ok
    content = f"{name}/{event.of.time.isoformat()}/{event.object_id}".encode()
    failure = {"error_message": "mschap: MS-CHAP2-Response is incorrect"}
    request = _request(event)
    return {
        **({} if ok else failure),
        "initiated_by": {"type": "user", "username": name},
        "auth_type": event.rng.choice(("eap", "EAP", "pap")),
        "eap_type": "MSCHAPv2",
        "outer": {"eap_type": "PEAP", "username": name, **({} if ok else failure)},
        "nas_mfa_state": "DISABLED",
        "mfa": False,
        "success": ok,
        "client_ip": request["client_ip"],
        "geoip": request["geoip"],
        "username": name,
        "id": str(
            uuid.UUID(bytes=hashlib.md5(content, usedforsecurity=False).digest(), version=3)
        ).upper(),
        "timestamp": _second(event.of.time),
    }


def _ldap(event: _Event) -> dict[str, Any]:
    name, place = _login(event.of.actor), event.of.place
    dn = f"uid={name},ou=Users,o={ORG_ID},dc=jumpcloud,dc=com"
    record = _stamped(
        event,
        connection_id=f"{event.of.session}=",
        operation_number=0,
        dn=dn,
        username=name,
        success=event.of.ok,
        tls_established=True,
    )
    if event.what == "ldap_search":
        return record | {"base": dn.partition(",")[2], "scope": 2, "number_of_results": 1}
    record |= {"client_ip": place.ip if place else None, "auth_method": "simple"}
    if event.of.ok:
        return record | {"initiated_by": {"type": "user", "username": name}}
    return record | {"error_code": 49, "error_message": "invalid credentials"}


def _systems(event: _Event) -> dict[str, Any]:
    name, place = _login(event.of.actor), event.of.place
    system = _system(event.of.actor)
    record = _stamped(event, system=system, success=event.of.ok)
    if event.what != "login_attempt":
        agent = {"type": "system", "id": system["id"]}
        return record | {"initiated_by": agent, "changes": [{"field": "fde_key"}]}
    verb = "logged in" if event.of.ok else "failed to log in"
    return record | {
        "message": f"User {name} {verb}, process name: loginwindow",
        "system_timestamp": event.of.time.strftime("%Y-%m-%dT%H:%M:%S-07:00"),
        "username": name,
        "process_name": "loginwindow",
        "client_ip": place.ip if place else None,
        "src_ip": "",
        "initiated_by": {"type": "user", "username": name},
        "windows_meta": {"elevated": False, "logon_type": "2"},
    }


def _software(event: _Event) -> dict[str, Any]:
    system = {"id": _system(event.of.actor)["id"], "type": "system"}
    application = {"name": event.thing, "version": "96.1", "path": f"/Applications/{event.thing}"}
    changes = [{"field": "version", "from": "96.0", "to": "96.1"}]
    return _stamped(
        event,
        system=system,
        resource=system,
        application=application,
        changes=changes if event.what == "software_change" else [],
        provider=None,
    )


def _mdm(event: _Event) -> dict[str, Any]:
    chain = [{"error_code": 12021, "localized_description": "The device is locked."}]
    return _stamped(
        event,
        mdm_type="apple",
        device_object_id=_system(event.of.actor)["id"],
        command_uuid=str(uuid.UUID(int=event.rng.getrandbits(128), version=4)),
        request_type="DeviceInformation",
        status="Acknowledged" if event.of.ok else "Error",
        error_chain=[] if event.of.ok else chain,
        initiated_by={"email": event.of.actor.email},
    )


def _password_manager(event: _Event) -> dict[str, Any]:
    request = _request(event)
    own: dict[str, Any] = {"changes": [{"field": "item name", "from": "", "to": event.thing}]}
    if event.of.whom:
        whom = event.of.whom
        own = {
            "association": {"type": "user", "id": _id(whom.email), "email": whom.email},
            "changes": [{"field": "folder name", "from": "", "to": event.thing}],
        }
    error = "" if event.of.ok else "This user is a member already"
    record = _stamped(event, **request, **own, success=event.of.ok, error_message=error)
    record["user_agent"] = record.pop("useragent")
    return record | {"id": str(uuid.UUID(int=event.rng.getrandbits(128), version=4))}


def _object_storage(event: _Event) -> dict[str, Any]:
    return _stamped(
        event,
        result="Success" if event.of.ok else "Failure",
        referrer_type="SOFTWARE_APP",
        object_storage_item_object_id=_id(event.thing),
        object_storage_item_version_name=f"{event.thing}.pkg",
        object_storage_item_version_size=178398259,
    )


def _alerts(event: _Event) -> dict[str, Any]:
    whom = event.of.whom or event.of.actor
    return _stamped(
        event,
        correlation={"id": _id("rule/brute force")},
        category="Directory",
        severity="High" if event.of.suspicious else event.rng.choice(("Low", "Medium")),
        initiated_by={"type": "system"},
        resource={
            "id": _id(event.object_id),
            "context": "{}",
            "source_id": _id(whom.email),
            "source_type": "user",
        },
        changes=[],
    )


def _notifications(event: _Event) -> dict[str, Any]:
    request = _request(event)
    return _stamped(
        event,
        initiated_by=request["initiated_by"],
        client_ip=request["client_ip"],
        name=f"{event.thing} channel",
        type="email",
        channel_object_id=_id(event.thing),
        config=[{"role_object_id": _id("role")}],
        success=True,
    )


def _reports(event: _Event) -> dict[str, Any]:
    resource = {"id": _id(event.thing), "name": event.thing, "description": ""}
    return _stamped(event, **_request(event), resource=resource, auth_method="session")


def _saas(event: _Event) -> dict[str, Any]:
    resource = {"application_id": _id(event.thing), "application_name": event.thing}
    changes = [{"field": "status", "from": "UNAPPROVED", "to": "APPROVED"}]
    detail = "SaaS Management application updated."
    return _stamped(event, **_request(event), resource=resource, changes=changes, detail=detail)


def _access(event: _Event) -> dict[str, Any]:
    return _stamped(
        event,
        **_request(event),
        pid=None,
        access_request_id=_id(event.object_id),
        resource={"type": "user", "id": _id(event.of.actor.email), "name": event.of.actor.name},
        workflow={"type": "access-workflow", "id": _id(event.thing), "name": event.thing},
        success=True,
    )


def _assets(event: _Event) -> dict[str, Any]:
    resource = {"id": _system(event.of.actor)["id"].upper(), "type": "DEVICE"}
    detail = "An asset has been updated in Asset Management."
    return _stamped(event, **_request(event), resource=resource, detail=detail)


_WRITERS: dict[str, Callable[[_Event], dict[str, Any]]] = {
    "directory": _directory,
    "sso": _sso,
    "radius": _radius,
    "ldap": _ldap,
    "systems": _systems,
    "software": _software,
    "mdm": _mdm,
    "password_manager": _password_manager,
    "object_storage": _object_storage,
    "alerts": _alerts,
    "notifications": _notifications,
    "reports": _reports,
    "saas_app_management": _saas,
    "access_management": _access,
    "asset_management": _assets,
}


@cache
def _who(account: Account, role: Role) -> msgspec.Raw:
    """Return the actor; users have a login name in addition to the e-mail address."""
    id_ = _id(account.email)
    if role == "service":
        known = {"id": id_, "type": "admin", "email": account.email, "source": "scim"}
    elif role == "admin":
        known = {"id": id_, "type": "admin", "email": account.email}
    else:
        known = {"id": id_, "type": "user", "username": _login(account), "email": account.email}
    return _encoded(known)


@cache
def _geoip(place: Place) -> msgspec.Raw:
    return _encoded(
        {
            "country_code": place.code,
            "region_name": place.state,
            "region_code": place.state[:2].upper(),
            "timezone": "Etc/UTC",
            "continent_code": "EU",
            "latitude": place.latitude,
            "longitude": place.longitude,
        }
    )


@cache
def _agent(device: Device) -> msgspec.Raw:
    """Return a parsed user agent."""
    os, version = _OS.get(device.os, device.os), device.os_version
    if device.browser == "UNKNOWN":
        parts = {"name": "Python Requests", "major": "2", "minor": "32", "version": "2.32.5"}
        return _encoded({**parts, "os": "Other", "os_name": "Other", "os_full": "Other"})
    name = {"CHROMIUM_EDGE": "Edge"}.get(device.browser, device.browser.capitalize())
    return _encoded(
        {
            "name": name,
            "major": "141",
            "minor": "0",
            "patch": "0",
            "version": "141.0.0.0",
            "os": os,
            "os_name": os,
            "os_version": version,
            "os_full": f"{os} {version}",
            "device": "Mac" if "Mac" in os else "Other",
        }
    )


def _system(account: Account) -> dict[str, Any]:
    host = f"{_login(account).split('.')[0].upper()}-LAPTOP"
    return {"id": _id(host), "hostname": host, "displayName": host}


def _login(account: Account) -> str:
    return account.email.partition("@")[0] or account.name


def _id(name: str) -> str:
    return secret(f"jumpcloud/{name}")[:24]


def _second(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}Z"


def _encoded(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
