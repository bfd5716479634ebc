"""Events of Google Workspace: their frequencies, and their activities in the Reports API.

Their shapes follow the discovery document and published recordings: parameters of seven types,
events without any, actors without a caller type, times with and without milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

from sandbox.cast import Sort
from sandbox.company import Act, Habit, Happening, Role
from sandbox.service import Stream, iso, micros, promptly, secret

CUSTOMER = "C03lark1e"
KEEPS = timedelta(days=180)
_NOBODYS_PROFILE = "105250506097979753968"
_GUEST = "a.partner@mailbox.example"
_AGENTIC = frozenset({"workspace_studio"})
_WHOLE_SECONDS = frozenset({"calendar", "groups", "mobile"})

Parameters = list[dict[str, Any]]
More = Callable[[Happening, Random], Parameters]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """An event of an application."""

    name: str
    type: str
    weight: float = 1.0
    by: Role = "person"
    on: Sort | None = None
    thing: tuple[str, ...] = ()
    """The parameters that contain the thing: its id and its name, or its name alone."""
    whom: str = ""
    """The parameter that contains the affected person."""
    fails: float = 0.0
    acts: tuple[Act, ...] = ()
    more: More = lambda _happening, _rng: []
    aside: tuple[str, ...] = ()
    """Further events in the same activity."""


def _text(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "value": value}


def _texts(name: str, *values: str) -> dict[str, Any]:
    return {"name": name, "multiValue": list(values)}


def _flag(name: str, value: bool) -> dict[str, Any]:
    return {"name": name, "boolValue": value}


def _number(name: str, value: int) -> dict[str, Any]:
    return {"name": name, "intValue": str(value)}


def _signing_in(it: Happening, rng: Random) -> Parameters:
    method = rng.choice(["password", "security_key", "google_authenticator", "idv_any_phone"])
    found = [
        _text("login_type", "google_password"),
        _texts("login_challenge_method", method),
        _flag("is_suspicious", it.suspicious),
    ]
    if it.ok:
        return found
    return [*found, _text("login_failure_type", "login_failure_invalid_password")]


def _challenge(it: Happening, rng: Random) -> Parameters:
    """Return a login challenge; its status has several spellings."""
    passed = rng.choice(["Challenge Passed.", "Challenge Passed", "passed"])
    return [
        _text("login_type", "google_password"),
        _texts("login_challenge_method", "security_key"),
        _text("login_challenge_status", passed if it.ok else "Challenge Failed."),
        _flag("is_second_factor", True),
    ]


def _affected(it: Happening, _rng: Random) -> Parameters:
    return [
        _text("affected_email_address", it.actor.email),
        _number("login_timestamp", micros(it.time)),
    ]


def _document(it: Happening, _rng: Random) -> Parameters:
    return [
        _flag("primary_event", True),
        _flag("billable", True),
        _text("doc_type", "spreadsheet"),
        _text("owner", it.actor.email),
        _flag("owner_is_shared_drive", False),
        _text("visibility", "private"),
        _text("originating_app_id", "691301496089"),
    ]


def _sharing(it: Happening, rng: Random) -> Parameters:
    outside = it.suspicious or it.whom is None
    return [
        *_document(it, rng),
        _text("target_user", it.whom.email if it.whom and not outside else _GUEST),
        _texts("old_value", "none"),
        _texts("new_value", rng.choice(["can_view", "can_edit", "can_comment"])),
        _text("old_visibility", "private"),
        _text("visibility_change", "external" if outside else "internal"),
    ]


def _scopes(_it: Happening, rng: Random) -> Parameters:
    root = "https://www.googleapis.com/auth/"
    scopes = rng.sample([f"{root}drive", f"{root}calendar", f"{root}gmail.readonly"], 2)
    data = [
        {"parameter": [_text("scope_name", scope), _texts("product_bucket", "OTHER")]}
        for scope in scopes
    ]
    return [
        _text("client_type", "WEB"),
        _texts("scope", *scopes),
        {"name": "scope_data", "multiMessageValue": data},
    ]


def _call(_it: Happening, rng: Random) -> Parameters:
    return [
        _text("api_name", "drive"),
        _text("method_name", "drive.files.list"),
        _text("product_bucket", "DRIVE"),
        _number("num_response_bytes", rng.randrange(200, 90_000)),
    ]


def _saml(it: Happening, _rng: Random) -> Parameters:
    """Return a SAML sign-in; the status code of a failure is success, too."""
    found = [
        _text("initiated_by", "sp"),
        _text("orgunit_path", f"/{it.actor.department}"),
        _text("saml_status_code", "SUCCESS_URI"),
    ]
    return found if it.ok else [*found, _text("failure_type", "failure_app_not_enabled_for_user")]


def _setting(_it: Happening, _rng: Random) -> Parameters:
    return [
        _text("APPLICATION_NAME", "Security"),
        _text("ORG_UNIT_NAME", "larkfield.example"),
        _text("OLD_VALUE", "true"),
        _text("NEW_VALUE", "false"),
    ]


def _event(it: Happening, rng: Random) -> Parameters:
    agent = it.device.user_agent if it.device else ""
    return [
        _text("event_id", f"{rng.getrandbits(60):x}"),
        _text("event_title", f"{it.actor.department} meeting"),
        _text("calendar_id", it.actor.email),
        _text("organizer_calendar_id", it.actor.email),
        _text("api_kind", "web"),
        _text("user_agent", agent),
    ]


def _device(it: Happening, rng: Random) -> Parameters:
    if it.device is None:
        return []
    return [
        _text("USER_EMAIL", it.actor.email),
        _text("DEVICE_ID", secret(f"{it.actor.email} {it.device.name}")[:18]),
        _text("DEVICE_TYPE", it.device.os),
        _text("DEVICE_MODEL", it.device.name),
        _text("OS_VERSION", it.device.os_version),
        _text("LAST_SYNC_AUDIT_DATE", str(rng.randrange(10**12, 2 * 10**12))),
    ]


def _rule(_it: Happening, rng: Random) -> Parameters:
    return [
        _flag("has_alert", True),
        _texts("rule_name", "Payment cards leave the company"),
        {"name": "rule_id", "multiIntValue": ["12"]},
        _text("severity", rng.choice(["LOW", "MEDIUM", "HIGH"])),
        _number("resource_recipients_omitted_count", 0),
    ]


def _call_ended(it: Happening, rng: Random) -> Parameters:
    return [
        _text("conference_id", secret(f"meet {it.session}")[:24]),
        _text("meeting_code", "LRKFIELDEX"),
        _text("display_name", it.actor.name),
        _text("identifier", it.actor.email),
        _text("identifier_type", "email_address"),
        _text("ip_address", it.place.ip if it.place else ""),
        _text("location_country", it.place.code if it.place else ""),
        _number("duration_seconds", rng.randrange(60, 5000)),
        _flag("is_external", False),
    ]


def _delivery(it: Happening, rng: Random) -> Parameters:
    event = [_number("timestamp_usec", micros(it.time)), _flag("success", it.ok)]
    message = [
        _text("rfc2822_message_id", f"<{rng.getrandbits(64):x}@larkfield.example>"),
        _text("subject", f"{it.actor.department} news"),
        {"name": "source", "messageValue": {"parameter": [_text("address", _GUEST)]}},
        _delivered_to(it.actor.email),
        _text("flattened_destinations", f"gmail-ui:1:{it.actor.email}"),
        *([] if it.ok else [_text("smtp_relay_error", "SMTP_RELAY_UNAUTHORIZED_SENDER")]),
    ]
    return [
        {"name": "event_info", "messageValue": {"parameter": event}},
        {"name": "message_info", "messageValue": {"parameter": message}},
    ]


def _delivered_to(email: str) -> dict[str, Any]:
    return {"name": "destination", "multiMessageValue": [{"parameter": [_text("address", email)]}]}


def _chromebook(it: Happening, _rng: Random) -> Parameters:
    return [
        _text("DIRECTORY_DEVICE_ID", secret(f"{it.actor.email} chromebook")[:24]),
        _text("DEVICE_NAME", f"CB-{it.actor.name.split()[0]}"),
        _text("DEVICE_USER", it.actor.email),
        _text("CLIENT_TYPE", "CHROME_OS_DEVICE"),
        *([] if it.ok else [_text("LOGIN_FAILURE_REASON", "AUTHENTICATION_ERROR")]),
    ]


def _kinds(type_: str, *kinds: tuple[str, float], **shared: Any) -> list[_Kind]:
    return [_Kind(name=name, type=type_, weight=weight, **shared) for name, weight in kinds]


_DOC: dict[str, Any] = {"on": "document", "thing": ("doc_id", "doc_title")}
_READ: dict[str, Any] = {**_DOC, "more": _document}
_APP: dict[str, Any] = {"on": "app", "thing": ("client_id", "app_name")}
_USER: dict[str, Any] = {"by": "admin", "whom": "USER_EMAIL"}
_GROUP: dict[str, Any] = {**_USER, "on": "group", "thing": ("GROUP_EMAIL",)}
_ROLE: dict[str, Any] = {**_USER, "on": "role", "thing": ("ROLE_ID", "ROLE_NAME")}
_MEMBER: dict[str, Any] = {"on": "group", "thing": ("group_email",)}

_KINDS: dict[str, list[_Kind]] = {
    "login": [
        *_kinds("login", ("login_success", 10), fails=0.03, more=_signing_in, acts=("sign_in",)),
        *_kinds("login", ("login_challenge", 3), ("login_verification", 2), fails=0.1,
                more=_challenge),
        *_kinds("login", ("logout", 3)),
        *_kinds("account_warning", ("suspicious_login", 0.05), more=_affected,
                acts=("detect_threat",)),
        *_kinds("account_warning", ("account_disabled_hijacked", 0.02), more=_affected,
                acts=("lock_account",)),
        *_kinds("account_warning", ("gov_attack_warning", 0.02)),
    ],
    "admin": [
        *_kinds("USER_SETTINGS", ("CREATE_USER", 1), ("SUSPEND_USER", 0.4), ("DELETE_USER", 0.2),
                ("CHANGE_PASSWORD", 1), **_USER),
        *_kinds("USER_SETTINGS", ("TURN_OFF_2_STEP_VERIFICATION", 0.1), acts=("reset_mfa",),
                **_USER),
        *_kinds("DELEGATED_ADMIN_SETTINGS", ("ASSIGN_ROLE", 0.2), acts=("grant_admin",), **_ROLE),
        *_kinds("DELEGATED_ADMIN_SETTINGS", ("UNASSIGN_ROLE", 0.2), acts=("revoke_admin",),
                **_ROLE),
        *_kinds("GROUP_SETTINGS", ("ADD_GROUP_MEMBER", 2),
                aside=("UPDATE_GROUP_MEMBER_DELIVERY_SETTINGS",), **_GROUP),
        *_kinds("GROUP_SETTINGS", ("REMOVE_GROUP_MEMBER", 1), **_GROUP),
        *_kinds("APPLICATION_SETTINGS", ("CHANGE_APPLICATION_SETTING", 2), by="admin", on="policy",
                thing=("SETTING_NAME",), more=_setting, acts=("weaken_policy",)),
        *_kinds("DOMAIN_SETTINGS", ("AUTHORIZE_API_CLIENT_ACCESS", 0.1), by="admin", on="app",
                thing=("API_CLIENT_NAME",)),
        *_kinds("LICENSES_SETTINGS", ("USER_LICENSE_ASSIGNMENT", 1), by="system",
                whom="USER_EMAIL"),
    ],
    "drive": [
        *_kinds("access", ("view", 20), ("edit", 12), ("rename", 1), ("trash", 0.5), **_READ),
        *_kinds("access", ("create", 2), ("upload", 1),
                aside=("edit", "change_user_access", "change_acl_editors", "add_to_folder"),
                **_READ),
        *_kinds("access", ("download", 4), acts=("download", "export"), **_READ),
        *_kinds("acl_change", ("change_user_access", 2), more=_sharing,
                aside=("change_document_visibility",), acts=("share_outside",), **_DOC),
    ],
    "token": [
        *_kinds("auth", ("authorize", 3), more=_scopes, acts=("create_token",), **_APP),
        *_kinds("auth", ("revoke", 0.5), more=_scopes, **_APP),
        *_kinds("auth", ("activity", 1), by="service", more=_call, **_APP),
    ],
    "saml": _kinds("login", ("login_success", 6), fails=0.05, on="app", thing=("application_name",),
                   more=_saml, acts=("open_app",)),
    "user_accounts": [
        *_kinds("2sv_change", ("2sv_enroll", 1), acts=("enroll_mfa",)),
        *_kinds("2sv_change", ("2sv_disable", 0.2)),
        *_kinds("password_change", ("password_edit", 2)),
        *_kinds("recovery_info_change", ("recovery_email_edit", 0.5), ("recovery_phone_edit", 0.5)),
        *_kinds("email_forwarding_change", ("email_forwarding_out_of_domain", 0.1),
                more=lambda _it, _rng: [_text("email_forwarding_destination_address", _GUEST)],
                acts=("forward_mail",)),
    ],
    "groups": [
        *_kinds("moderator_action", ("add_user", 2), ("remove_user", 1), whom="user_email",
                **_MEMBER),
        *_kinds("user_action", ("join", 1), **_MEMBER),
        *_kinds("setting_change", ("change_basic_setting", 0.5), **_MEMBER),
    ],
    "groups_enterprise": _kinds("moderator_action", ("add_member", 2), ("remove_member", 1),
                                on="group", thing=("group_id",), whom="member_id"),
    "calendar": [
        *_kinds("event_change", ("create_event", 3), ("change_event", 3), ("delete_event", 1),
                more=_event),
        *_kinds("calendar_change", ("change_calendar_acls", 0.5), whom="user_email"),
    ],
    "mobile": [
        *_kinds("device_updates", ("DEVICE_SYNC_EVENT", 3), more=_device),
        *_kinds("device_updates", ("DEVICE_REGISTER_UNREGISTER_EVENT", 0.5), more=_device),
        *_kinds("suspicious_activity", ("DEVICE_COMPROMISED_EVENT", 0.1), more=_device),
    ],
    "rules": _kinds("rule_match_type", ("rule_match", 1), more=_rule, **_DOC),
    "gcp": _kinds("CLOUD_OSLOGIN", ("IMPORT_SSH_PUBLIC_KEY", 1), ("DELETE_POSIX_ACCOUNT", 0.2)),
    "meet": _kinds("call", ("call_ended", 1), more=_call_ended),
    "gmail": _kinds("delivery_type", ("delivery", 1), fails=0.05, more=_delivery),
    "chrome": [
        *_kinds("CHROME_OS_LOGIN_LOGOUT_TYPE", ("CHROME_OS_LOGIN_EVENT", 2),
                ("CHROME_OS_LOGOUT_EVENT", 1), more=_chromebook),
        *_kinds("CHROME_OS_LOGIN_LOGOUT_TYPE", ("CHROME_OS_LOGIN_FAILURE_EVENT", 0.2),
                by="stranger", fails=1, more=_chromebook),
        *_kinds("DEVICE_BOOT_STATE_CHANGE_TYPE", ("DEVICE_BOOT_STATE_CHANGE", 0.3), by="system"),
    ],
}  # fmt: skip
_QUIET = {
    # application: (type of event, its names)
    "access_evaluation": ("ACCESS_EVALUATION", "ACCESS_EVALUATION_EVENT"),
    "access_transparency": ("GSUITE_RESOURCE", "ACCESS"),
    "admin_data_action": ("ADMIN_DATA_ACTION", "VIEW_DATA"),
    "assignments": ("user_action", "create_assignment", "view_submission"),
    "chat": ("user_action", "message_posted", "message_edited", "add_room_member"),
    "chrome_sync": ("SYNC", "UPDATE_SETTING"),
    "classroom": ("user_action", "add_participant", "course_create"),
    "cloud_search": ("search", "search_query"),
    "contacts": ("CONTACTS", "CREATE_CONTACT", "EDIT_CONTACT"),
    "context_aware_access": ("CONTEXT_AWARE_ACCESS_USER_EVENT", "ACCESS_DENY_EVENT"),
    "data_migration": ("user_action", "import_item"),
    "data_studio": ("ACCESS", "VIEW", "DOWNLOAD_REPORT", "CHANGE_USER_ACCESS"),
    "directory_sync": ("DIRECTORY_SYNC", "SYNC_UPDATE"),
    "gemini_in_workspace_apps": ("feature_utilization", "feature_utilization"),
    "gemini_notebook": ("user_action", "create_notebook", "share_notebook"),
    "gplus": ("post_change", "create_post", "edit_post"),
    "graduation": ("user_action", "content_transfer_create"),
    "jamboard": ("device_change", "update_device"),
    "keep": ("user_action", "created_note", "edited_note_content", "modified_permissions"),
    "ldap": ("ldap_event", "ldap_bind", "ldap_search"),
    "meet_hardware": ("device_change", "device_update"),
    "profile": ("user_action", "profile_edit"),
    "takeout": ("user_action", "user_schedules_takeout", "user_download"),
    "tasks": ("user_action", "create_task", "edit_task"),
    "vault": ("user_action", "VIEW_INVESTIGATION", "CREATE_EXPORT", "SEARCH"),
    "voice": ("call", "call_add"),
    "workspace_studio": ("user_action", "flow_create", "flow_edit"),
}
_KINDS |= {
    application: _kinds(type_, *((name, 1.0) for name in names))
    for application, (type_, *names) in _QUIET.items()
}
_SHARES = {"login": 0.3, "drive": 0.5, "token": 0.1, "saml": 0.1, "admin": 0.05, "calendar": 0.03}
_LATE = {"login": 6, "token": 12, "user_accounts": 6, "mobile": 12, "calendar": 2, "groups": 2}
"""The longest delay of late activities in hours; two hours if not listed."""


def _render(application: str) -> Callable[[Happening, Random], dict[str, Any]]:
    kinds = {kind.name: kind for kind in _KINDS[application]}

    def render(it: Happening, rng: Random) -> dict[str, Any]:
        kind = kinds[it.what]
        record: dict[str, Any] = {
            "kind": "admin#reports#activity",
            "id": {
                "time": _time(application, it),
                "uniqueQualifier": str(rng.getrandbits(64) - 2**63),
                "applicationName": application,
                "customerId": CUSTOMER,
            },
            "etag": f'"{rng.getrandbits(128):032x}"',
            "actor": _actor(it, rng) | _agent(application, it),
            "isAgenticAction": application in _AGENTIC,
            **_origin(it, application),
            "events": _events(kind, it, rng),
        }
        if kind.on == "document" and it.thing:
            resource = {"id": _id(it.thing.name), "title": it.thing.name, "type": "DOCUMENT"}
            record["resourceDetails"] = [resource]
        return record

    return render


def _time(application: str, it: Happening) -> str:
    if application in _WHOLE_SECONDS:
        return it.time.strftime("%Y-%m-%dT%H:%M:%SZ")
    return iso(it.time)


def _actor(it: Happening, rng: Random) -> dict[str, Any]:
    """Return the actor; its `callerType` is sometimes missing."""
    if it.actor.kind == "system":
        return {"callerType": "KEY", "key": "SYSTEM"}
    if not it.actor.email:
        return {"profileId": _NOBODYS_PROFILE}
    who = {"email": it.actor.email, "profileId": profile(it.actor.email)}
    return who if rng.random() < 0.1 else {"callerType": "USER", **who}


def _agent(application: str, it: Happening) -> dict[str, Any]:
    """Return the AI agent that acted for the user, in applications where that happens."""
    if application not in _AGENTIC:
        return {}
    owner = {"email": it.actor.email}
    agent = {"agentId": "agents/4711", "agentName": "Flow helper", "agentType": "WORKSPACE"}
    return {"agentAttributionInfo": {**agent, "agentOwner": owner}}


def profile(email: str) -> str:
    """Return the profile id of an account."""
    return f"1{int(secret(email)[:15], 16):020d}"


def _origin(it: Happening, application: str) -> dict[str, Any]:
    """Return address and network; a Meet event has them in its parameters instead."""
    if it.place is None or application == "meet":
        return {}
    network = {
        "ipAsn": [it.place.as_number],
        "regionCode": it.place.code,
        "subdivisionCode": it.place.state,
    }
    return {"ipAddress": it.place.ip, "networkInfo": network}


def _events(kind: _Kind, it: Happening, rng: Random) -> list[dict[str, Any]]:
    name = kind.name if it.ok else kind.name.replace("_success", "_failure")
    parameters = [*_things(kind, it), *kind.more(it, rng)]
    event: dict[str, Any] = {"type": kind.type, "name": name}
    if parameters:
        event["parameters"] = parameters
    if kind.on == "document" and it.thing:
        event["resourceIds"] = [_id(it.thing.name)]
    return [event, *(_side_effect(event, name) for name in kind.aside)]


def _side_effect(event: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a copy of the main event under another name, no longer marked as primary."""
    parameters = [
        _flag("primary_event", False) if one["name"] == "primary_event" else one
        for one in event["parameters"]
    ]
    return {**event, "name": name, "parameters": parameters}


def _things(kind: _Kind, it: Happening) -> Parameters:
    found: Parameters = []
    if kind.thing and it.thing:
        if len(kind.thing) == 2:
            found.append(_text(kind.thing[0], _id(it.thing.name)))
        found.append(_text(kind.thing[-1], it.thing.name))
    if kind.whom and it.whom:
        found.append(_text(kind.whom, it.whom.email))
    return found


def _id(name: str) -> str:
    return secret(name)[:28]


def _lateness(application: str) -> Callable[[Random], float]:
    """Return a delay function: 1 % of the activities arrive as late as Google documents."""
    longest = _LATE.get(application, 2) * 3600

    def delay(rng: Random) -> float:
        return rng.uniform(60, longest) if rng.random() < 0.01 else promptly(rng)

    return delay


def _identity(record: Any) -> object:
    id_ = record.get("id") if isinstance(record, dict) else None
    if not isinstance(id_, dict):
        return None
    names = ("customerId", "applicationName", "time", "uniqueQualifier")
    return "/".join(str(id_.get(name)) for name in names)


def _habits(application: str) -> list[Habit]:
    return [
        Habit(
            what=kind.name,
            weight=kind.weight,
            by=kind.by,
            on=kind.on,
            whom=bool(kind.whom),
            fails=kind.fails,
            acts=kind.acts,
        )
        for kind in _KINDS[application]
    ]


STREAMS: Sequence[Stream] = tuple(
    Stream(
        name=application,
        habits=_habits(application),
        render=_render(application),
        identify=_identity,
        time="id.time",
        keeps=KEEPS,
        share=_SHARES.get(application, 0.02 if application not in _QUIET else 0.005),
        delay=_lateness(application),
    )
    for application in _KINDS
)
