"""Google Workspace: the audit activities of each application, from the Admin SDK Reports API.

Activities are sorted newest first and may appear late, without any sign of when they became
visible. So each application is read in closed windows of event time, which are re-read until its
lag has passed, and a few times after that. An activity may contain several events.
https://developers.google.com/workspace/admin/reports/reference/rest/v1/activities/list
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from itertools import chain, zip_longest
from typing import Annotated, Any

import httpx
import msgspec
from pydantic import BeforeValidator, SecretStr, field_validator

from pipelines.errors import Refused, Unavailable
from pipelines.sdk import answers, auth, endings, json_records, pasted, webhook_auth, windows
from pipelines.sdk.contract import Columns, Docs, Field, Integration, RequestPolicy, Stream
from pipelines.sdk.endings import Ending
from pipelines.sdk.pages import Gap, Span
from pipelines.sdk.pagination import Trail
from pipelines.sdk.push import (
    Delivery,
    Endpoint,
    Headers,
    Hint,
    Push,
    Subscription,
    SubscriptionApi,
    Subscriptions,
)
from pipelines.sdk.record_versions import Comparison
from pipelines.sdk.tenant import Tenant
from pipelines.sdk.values import first, known, objects
from pipelines.sdk.windows import Read, RereadPlan
from pipelines.settings import UNREAD, Address, IntegrationSettings, SecretFile, is_loopback

_LIMIT = 1000
_KEEPS = timedelta(days=180)
_WINDOW = timedelta(days=7)  # gmail refuses more than 30 days; short windows waste the quota
_SETTLE = timedelta(minutes=15)
_SWEEPS = (timedelta(days=3), timedelta(days=14))  # "a small chance of later arrival"
_SCOPE = "https://www.googleapis.com/auth/admin.reports.audit.readonly"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_AUDIENCE = "https://oauth2.googleapis.com/token"
_QUOTA_REASONS = frozenset(
    {"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "RESOURCE_EXHAUSTED"}
)

DEFAULT = (
    "admin",
    "login",
    "drive",
    "token",
    "saml",
    "user_accounts",
    "groups",
    "groups_enterprise",
    "calendar",
    "mobile",
    "rules",
    "gcp",
)
APPLICATIONS = (
    *DEFAULT,
    "access_evaluation",
    "access_transparency",
    "admin_data_action",
    "assignments",
    "chat",
    "chrome",
    "chrome_sync",
    "classroom",
    "cloud_search",
    "contacts",
    "context_aware_access",
    "data_migration",
    "data_studio",
    "directory_sync",
    "gemini_in_workspace_apps",
    "gemini_notebook",
    "gmail",
    "gplus",
    "graduation",
    "jamboard",
    "keep",
    "ldap",
    "meet",
    "meet_hardware",
    "profile",
    "takeout",
    "tasks",
    "vault",
    "voice",
    "workspace_studio",
)
"""All applications in the API's discovery document of September 2026."""
_LISTED_ONLY = frozenset(
    {
        "access_evaluation",
        "admin_data_action",
        "assignments",
        "chrome_sync",
        "cloud_search",
        "contacts",
        "data_migration",
        "directory_sync",
        "gemini_in_workspace_apps",
        "gemini_notebook",
        "gmail",
        "graduation",
        "ldap",
        "meet_hardware",
        "profile",
        "takeout",
        "tasks",
        "vault",
        "voice",
        "workspace_studio",
    }
)
"""Applications without watch channels."""
_LAGS = {
    # Hours; two for those near real time: https://support.google.com/a/answer/7061566
    "login": 6,
    "token": 12,
    "user_accounts": 6,
    "groups": 6,
    "groups_enterprise": 6,
    "calendar": 6,
    "mobile": 12,
    "gcp": 6,
    "gemini_in_workspace_apps": 6,
    "cloud_search": 24,
}


def _key_or_file(value: Any) -> Any:
    """Accept the text of the key file as well as its path."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return SecretStr(value)
    return value


_ROOTS = ("https://admin.googleapis.com", "https://www.googleapis.com")
_CUSTOMER = pasted.identifier(
    re.compile(r"\bC0[0-9a-z]{7}\b"),
    "the customer ID under Account > Account settings, or remove it",
)


class Settings(IntegrationSettings):
    kind: str = "google_workspace"
    base_url: Address = "https://admin.googleapis.com"
    credentials: Annotated[SecretFile, BeforeValidator(_key_or_file)]
    subject: pasted.Person
    customer_id: Annotated[str, BeforeValidator(_CUSTOMER)] = "my_customer"
    applications: tuple[str, ...] = DEFAULT

    @field_validator("base_url")
    @classmethod
    def _api(cls, value: str) -> str:
        return pasted.root(value, _ROOTS)

    @field_validator("applications")
    @classmethod
    def _known_applications(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in value if name not in APPLICATIONS]:
            raise ValueError(f"{unknown[0]!r} is not one of {', '.join(APPLICATIONS)}")
        return tuple(dict.fromkeys(value))

    @field_validator("credentials")
    @classmethod
    def _a_key_file(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() == UNREAD:
            return value
        try:
            key = json.loads(value.get_secret_value())
            url = httpx.URL(key["token_uri"])
            complete = bool(key["client_email"] and key["private_key"])
        except (ValueError, KeyError, TypeError, httpx.InvalidURL):
            complete = False
        if not complete:
            raise ValueError("not a JSON key file of a service account")
        if url.scheme != "https" and not is_loopback(url.host):
            raise ValueError("token_uri in the key file must be an https address")
        return value


def _read(application: str, customer_id: str) -> Read:
    path = f"admin/reports/v1/activity/users/all/applications/{application}"

    def read(client: httpx.Client, span: Span) -> Iterator[Sequence[bytes] | Gap]:
        """Yield the activities of a closed window; late ones would shift the pages of an open one.

        startTime is inclusive; endTime is not documented, and either works.
        """
        query: dict[str, str | int] = {
            "startTime": _text(span.since),
            "endTime": _text(span.until),
            "maxResults": _LIMIT,
            "customerId": customer_id,
        }
        trail = Trail(f"google_workspace {application}")
        while True:
            response = client.get(path, params=query)
            answer = json_records.split_object(response.content)
            found = _items(answer, response)
            yield found
            token = msgspec.json.decode(answer.get("nextPageToken", b"null"), type=str | None)
            if not token:
                return
            if token == query.get("pageToken"):
                raise Refused(f"{application}: a page links to itself: report this to Google")
            trail.follow(token, found)
            query["pageToken"] = token

    return read


def _items(answer: dict[str, bytes], response: httpx.Response) -> list[bytes]:
    """Return the activities; Google omits `items` if there are none, but never `kind`."""
    if "error" in answer or not answer.keys() & {"items", "kind"}:
        raise Unavailable(
            f"google_workspace answered 200 without activities{answers.quoted(response)}; "
            "the next round retries"
        )
    found = answer.get("items", b"null")
    return [] if found == b"null" else json_records.split_array(found)


def _text(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _identity(customer: Any, application: Any, time: Any, qualifier: Any) -> str | None:
    """Return the identity; the qualifier is unique only among activities of the same time."""
    if not time or qualifier in (None, ""):
        return None
    return "/".join(str(part) for part in (customer, application, time, qualifier) if part)


_TARGETS = {
    # Parameter with the id -> (parameter with the name, type).
    "doc_id": ("doc_title", "document"),
    "rfc2822_message_id": ("subject", "message"),
    "shared_drive_id": ("shared_drive_name", "shared_drive"),
    "USER_EMAIL": ("", "user"),
    "user_email": ("", "user"),
    "affected_email_address": ("", "user"),
    "target_user": ("", "user"),
    "DESTINATION_USER_EMAIL": ("", "user"),
    "new_owner": ("", "user"),
    "target_users": ("", "user"),
    "TARGET_USER_EMAIL": ("", "user"),
    "impacted_users": ("", "user"),
    "grantee_email": ("", "user"),
    "recipient_email": ("", "user"),
    "target_email": ("", "user"),
    "resource_recipients": ("", "recipient"),
    "event_guest": ("", "user"),
    "subscriber_calendar_id": ("", "user"),
    "member_id": ("", "user"),
    "target": ("", "account"),
    "delegate_user_email": ("", "delegate"),
    "email_forwarding_destination_address": ("", "address"),
    "EMAIL_MONITOR_DEST_EMAIL": ("", "address"),
    "EMAIL_LOG_SEARCH_RECIPIENT": ("", "address"),
    "EMAIL_LOG_SEARCH_SENDER": ("", "address"),
    "EMAIL_LOG_SEARCH_MSG_ID": ("", "message"),
    "USER_NICKNAME": ("", "alias"),
    "GROUP_EMAIL": ("", "group"),
    "group_email": ("", "group"),
    "group_id": ("", "group"),
    "ROLE_ID": ("ROLE_NAME", "role"),
    "client_id": ("app_name", "application"),
    "OAUTH2_APP_ID": ("OAUTH2_APP_NAME", "application"),
    "ldap_audit_application_id": ("ldap_audit_application_name", "application"),
    "MOBILE_APP_PACKAGE_ID": ("", "application"),
    "API_CLIENT_NAME": ("", "application"),
    "APPLICATION_NAME": ("", "application"),
    "CAA_APPLICATION": ("", "application"),
    "CAA_ACCESS_APPLICATION": ("", "application"),
    "APPLICATION_NAME_OF_TARGET_DATA": ("", "application"),
    "application_name": ("", "application"),
    "SERVICE_NAME": ("", "application"),
    "OAUTH2_SERVICE_NAME": ("", "application"),
    "REAUTH_APPLICATION": ("", "application"),
    "device_id": ("device_name", "device"),
    "DEVICE_ID": ("DEVICE_MODEL", "device"),
    "DIRECTORY_DEVICE_ID": ("DEVICE_NAME", "device"),
    "COMPANY_DEVICE_ID": ("", "device"),
    "DEVICE_SERIAL_NUMBER": ("", "device"),
    "event_id": ("event_title", "event"),
    "calendar_id": ("", "calendar"),
    "target_calendar_id": ("", "calendar"),
    "conference_id": ("meeting_code", "meeting"),
    "room_id": ("room_name", "space"),
    "course_id": ("course_title", "course"),
    "note_name": ("", "note"),
    "attachment_name": ("", "attachment"),
    "file_name": ("", "attachment"),
    "destination_folder_id": ("destination_folder_title", "folder"),
    "source_folder_id": ("source_folder_title", "folder"),
    "ASSET_ID": ("ASSET_NAME", "asset"),
    "matter_id": ("", "matter"),
    "resource_name": ("", "resource"),
    "resource_id": ("resource_title", "resource"),
    "CONTENT_NAME": ("", "file"),
    "URL": ("", "url"),
    "resource_url": ("", "resource"),
    "TARGET_IDENTIFIER": ("", "resource"),
    "rule_id": ("rule_name", "rule"),
    "rule_resource_name": ("rule_name", "rule"),
    "RULE_NAME": ("", "rule"),
    "ALERT_NAME": ("", "alert"),
    "PRIVILEGE_NAME": ("", "privilege"),
    "API_SCOPES": ("", "permission"),
    "scope": ("", "permission"),
    "access_level": ("", "permission"),
    "added_role": ("", "permission"),
    "removed_role": ("", "permission"),
    "member_role": ("", "permission"),
    "PRODUCT_NAME": ("", "license"),
    "RESOURCE_IDENTIFIER": ("", "resource"),
    "PRINTER_NAME": ("", "printer"),
    "DOMAIN_NAME": ("", "domain"),
    "DOMAIN_ALIAS": ("", "domain"),
    "SECONDARY_DOMAIN_NAME": ("", "domain"),
    "target_domain": ("", "domain"),
    "SETTING_NAME": ("", "setting"),
    "ORG_UNIT_NAME": ("", "org_unit"),
    "DEVICE_NEW_ORG_UNIT": ("", "org_unit"),
}
_KINDS_OF_VALUES = {
    # Event -> the type of what only the new value, or else the old one, names.
    "TRANSFER_DOCUMENT_OWNERSHIP": "user",
    "UPDATE_DOMAIN_PRIMARY_ADMIN_EMAIL": "user",
    "UPDATE_DOMAIN_SECONDARY_EMAIL": "address",
    "MAIL_ROUTING_DESTINATION_ADDED": "address",
    "MAIL_ROUTING_DESTINATION_REMOVED": "address",
    "ALERT_RECEIVERS_CHANGED": "address",
    "GRANT_DELEGATED_ADMIN_PRIVILEGES": "privilege",
    "UPDATE_GROUP_MEMBER": "permission",
    "USER_LICENSE_ASSIGNMENT": "license",
    "USER_LICENSE_REASSIGNMENT": "license",
    "USER_LICENSE_REVOKE": "license",
    "CHANGE_USER_ACCESS": "permission",
    "change_user_access": "permission",
    "change_user_access_hierarchy_reconciled": "permission",
    "change_document_access_scope": "permission",
    "change_document_access_scope_hierarchy_reconciled": "permission",
    "change_document_visibility": "permission",
    "change_document_visibility_hierarchy_reconciled": "permission",
}
_LAST = ("permission", "recipient", "attachment")
_TITLES = {title: kind for title, kind in _TARGETS.values() if title}
_FIRST = (
    "document shared_drive message attachment file url resource device user setting group role "
    "application"
)
_RANK = {kind: rank for rank, kind in enumerate(_FIRST.split())}
_KINDS = ("value", "multiValue", "boolValue", "intValue", "multiIntValue", "multiMessageValue")
_LDAP = "ldap_audit_message_id"
_PLACEHOLDER = "105250506097979753968"  # the profile of anonymous users


def _values(found: Any) -> dict[str, Any]:
    """Return an event's parameters by name, with those of nested messages on the same level."""
    values: dict[str, Any] = {}
    for parameter in found if isinstance(found, list) else ():
        name = parameter.get("name", "") if isinstance(parameter, dict) else None
        if not isinstance(name, str):
            continue
        for kind in _KINDS:
            if kind in parameter:
                values[name] = parameter[kind]
                break
        else:
            message = parameter.get("messageValue")
            if isinstance(message, dict):
                # On a conflict the outer parameter wins.
                values = {**_values(message.get("parameter")), **values}
    if "message_info" in values or "event_info" in values:
        values = _with_members(values)
    return values


def _with_members(values: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters with the members of those messages that are JSON text."""
    found: dict[str, Any] = {}
    for name in ("event_info", "message_info"):
        with suppress(ValueError, TypeError):
            found |= _members(json.loads(values[name]) if name in values else {})
    return {**found, **values}


def _members(message: Any) -> dict[str, Any]:
    """Return the members of an object, with those of inner objects on the same level."""
    found: dict[str, Any] = {}
    for name, value in message.items() if isinstance(message, dict) else ():
        found = {**_members(value), **found} if isinstance(value, dict) else {**found, name: value}
    return found


def _targets(
    values: dict[str, Any], rare: Any, name: Any, resource_ids: Any, details: Any, *others: Any
) -> list[dict[str, Any]]:
    found = _named(values)
    if rare:
        found += _in_value(name, values)
        if "destination" in values or "flattened_destinations" in values or "address" in values:
            found += _correspondents(values)
        found += _triggered(values.get("triggered_rule_info"))
    if isinstance(resource_ids, list) and isinstance(details, list):
        listed = {target["id"] for target in found}
        found += [
            {"id": one.get("id"), "name": one.get("title"), "type": str(one.get("type")).lower()}
            for one in objects(details)
            if one.get("id") in resource_ids and one["id"] not in listed
        ]
    agent, impersonates, *application = others
    if isinstance(agent, dict):
        found.append({"id": agent.get("agentId"), "name": agent.get("agentName"), "type": "agent"})
    return found + _acting_for_someone(*application) if impersonates is True else found


_NEW_AND_OLD = (("NEW_VALUE", "new_value"), ("OLD_VALUE", "old_value"))


def _in_value(name: Any, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the target that only the value of a change names."""
    named = name if isinstance(name, str) else ""
    kind = "org_unit" if named.endswith("TO_ORG_UNIT") else _KINDS_OF_VALUES.get(named)
    if not kind:
        return []
    new, old = (first(*map(values.get, keys)) for keys in _NEW_AND_OLD)
    given = old if new is None or (old and new in _NO_ACCESS) else new
    return [{"id": None, "name": value, "type": kind} for value in _several(given)]


def _correspondents(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the recipients of a message and its sender."""
    given = objects(values.get("destination"))
    who = [address for one in given if known(address := _inside(one).get("address"))]
    if not who:  # "gmail-ui:1:ann@acme.example,smtp-out::bob@acme.example"
        flat = str(values.get("flattened_destinations") or "").split(",")
        who = [part.rpartition(":")[2] for part in flat]
    sender = first(values.get("from_header_address"), values.get("address"))
    return [
        *({"id": each, "name": each, "type": "address"} for each in who if each),
        *([{"id": sender, "name": sender, "type": "sender"}] if sender else ()),
    ]


def _inside(message: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a nested message, or the members of one in JSON text."""
    return _values(message["parameter"]) if "parameter" in message else message


def _triggered(rules: Any) -> list[dict[str, Any]]:
    names = (_inside(one).get("rule_name") for one in objects(rules))
    return [{"id": None, "name": name, "type": "rule"} for name in names if known(name)]


def _acting_for_someone(client: Any, name: Any, email: Any) -> list[dict[str, Any]]:
    """Return the application that acted in the name of a person."""
    if not email:
        return []
    return [{"id": client, "name": name or client, "type": "application"}]


def _named(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return targets in the order of the parameters, then rights, then those without an id."""
    found: list[dict[str, Any]] = []
    rights: list[dict[str, Any]] = []
    for parameter, value in values.items():
        if parameter in _TARGETS:
            title, kind = _TARGETS[parameter]
            pairs = zip_longest(_several(value), _several(values.get(title)))
            named = [{"id": id_, "name": name or id_, "type": kind} for id_, name in pairs]
            if kind in _LAST:
                rights += named
            else:
                found += named
    found += rights
    for title in sorted(values.keys() & _TITLES.keys()):
        names = set(_several(values[title])) - {target["name"] for target in found}
        found += [{"id": None, "name": name, "type": _TITLES[title]} for name in sorted(names)]
    return found


def _several(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [one for one in value if one is not None]
    return [] if value in (None, "") else [value]


def _action(name: Any, type_: Any) -> Any:
    return name or type_ or "unknown"


def _actor_id(profile: Any, key: Any, client: Any, agent: Any) -> Any:
    if profile and profile != _PLACEHOLDER:
        return profile
    return first(key, client, agent.get("agentId") if isinstance(agent, dict) else None)


def _actor_name(  # noqa: PLR0917 one per path
    email: Any, key: Any, app: Any, agent: Any, profile: Any, values: dict[str, Any]
) -> Any:
    if email:
        return email
    # Guests of a meeting have no account, only the name they entered.
    named = agent.get("agentName") if isinstance(agent, dict) else None
    own = profile if profile != _PLACEHOLDER else None
    return first(_display_name(values), key, app, named, own)


def _display_name(values: dict[str, Any]) -> Any:
    return values.get("display_name") or (values.get("name") if _LDAP in values else None)


def _email(email: Any, values: dict[str, Any]) -> Any:
    if email is None and values.get("identifier_type") == "email_address":
        email = values.get("identifier")
    return email if isinstance(email, str) and "@" in email else None


def _actor_type(caller: Any, email: Any, key: Any, *others: Any) -> str:
    profile, client, is_agentic, agent, values = others
    if is_agentic is True or agent:
        return "application"
    if email:
        return "service" if str(email).endswith(".gserviceaccount.com") else "user"
    if caller == "KEY" or key:
        return "system" if key in ("SYSTEM", None) else _holder(str(key))
    if client or caller == "APPLICATION":
        return "application"
    if not profile:
        return "user" if _LDAP in values else "system"
    return "user" if profile != _PLACEHOLDER else "anonymous"


def _holder(key: str) -> str:
    return "anonymous" if "ANONYMOUS" in key.upper() else "api_key"


_OUTCOMES = {
    "SUCCEEDED": "success",
    "SUCCEEDED_WITH_WARNINGS": "success",
    "FAILED": "failure",
    "SKIPPED": "unknown",
}
_CHALLENGES = ("login_challenge", "login_verification")
_BLOCKED = ("BLOCKED", "EVENT_RESULT_BLOCKED")
_STOPPED = frozenset({"access_deny_event", "risky_sensitive_action_blocked"})
_BROKEN_OFF = ("FAILED", "CANCELED")


def _outcome(status: Any, name: Any, rare: dict[str, Any] | None) -> str:
    """Return the outcome from the status, the event's name, the login challenge or other results.

    Events without any of these are logged once they have happened: "success", except warnings.
    """
    if status is not None and status in _OUTCOMES:
        return _OUTCOMES[status]
    if not isinstance(name, str):
        return "unknown"
    if known := _outcome_by_name(name):
        return known
    return _outcome_by_values(name, rare) if rare else "success"


@lru_cache(maxsize=65536)
def _outcome_by_name(name: str) -> str | None:
    lower = name.lower()
    if "fail" in lower or lower in _STOPPED:
        return "failure"
    return "unknown" if lower.startswith("suspicious_") or lower.endswith("_warning") else None


def _outcome_by_values(name: str, values: dict[str, Any]) -> str:
    if name.lower() in _CHALLENGES and (challenge := values.get("login_challenge_status")):
        return "success" if "passed" in str(challenge).lower() else "failure"
    stopped = (
        values.get("success") is False
        or values.get("EVENT_RESULT") in _BLOCKED
        or values.get("TAKEOUT_STATUS") in _BROKEN_OFF
        or (values.get("success") is not True and _refused(values))
    )
    return "failure" if stopped else "success"


def _refused(values: dict[str, Any]) -> str | None:
    """Return the error of a mail relay, or the SMTP reply that refused a message."""
    code = values.get("smtp_reply_code")
    if code is None and "smtp_relay_error" not in values:
        return None
    error = str(values.get("smtp_relay_error"))
    if error not in _NO_ERROR:
        return f"relay error {error}" if error.isdigit() else error
    return f"SMTP reply {code}" if str(code)[:1] in ("4", "5") else None


_NO_ERROR = ("0", "", "None", "NO_ERROR")
_REASONS = (
    "login_failure_type",
    "failure_type",
    "LOGIN_FAILURE_REASON",
    "login_challenge_status",
    "TAKEOUT_STATUS",
)


def _reason(message: Any, code: Any, rare: dict[str, Any] | None) -> Any:
    if (found := first(message, code)) or not rare:
        return found
    return first(*map(rare.get, _REASONS), _refused(rare))


_ADDRESSES = ("ip_address", "actor_ip_address", "client_ip", "smtp_in_connect_ip")


def _source_ip(address: Any, rare: dict[str, Any] | None) -> Any:
    if (found := known(address)) or not rare:
        return found
    return first(*map(rare.get, _ADDRESSES))


def _country(region: Any, rare: dict[str, Any] | None) -> Any:
    if (found := known(region)) or not rare:
        return found
    return first(rare.get("location_country"), rare.get("ip_geo_country"))


def _user_agent(rare: dict[str, Any] | None) -> Any:
    return first(rare.get("user_agent"), rare.get("USER_AGENT")) if rare else None


def _severity(rare: dict[str, Any] | None) -> Any:
    return (rare.get("severity") or rare.get("SEVERITY")) if rare else None


def _session(rare: dict[str, Any] | None) -> Any:
    return first(rare.get("SESSION_ID"), rare.get("conference_id")) if rare else None


# The parameters that the functions of most columns read; few events have any of them.
_RARE = frozenset(
    {
        *_ADDRESSES,
        *_REASONS,
        *chain.from_iterable(_NEW_AND_OLD),
        *("address", "destination", "flattened_destinations", "triggered_rule_info"),
        *("success", "EVENT_RESULT", "smtp_relay_error", "smtp_reply_code"),
        *("location_country", "ip_geo_country", "user_agent", "USER_AGENT"),
        *("severity", "SEVERITY", "SESSION_ID", "conference_id"),
    }
)


def _rare(values: dict[str, Any]) -> dict[str, Any] | None:
    """Return the parameters if one of _RARE is among them."""
    return None if _RARE.isdisjoint(values) else values


_BOTH_WAYS = frozenset(
    {
        "shared_drive_membership_change",
        "team_drive_membership_change",
        "change_user_access",
        "change_acl_editors",
        "change_calendar_acls",
        "change_document_access_scope",
        "change_document_visibility",
        "DEVICE_REGISTER_UNREGISTER_EVENT",
    }
)


_NO_ACCESS = ("none", ["none"], "private", ["private"])


def _classified_as(name: Any, values: dict[str, Any]) -> Any:
    """Return the name of an event with its direction, where one name covers both."""
    if name not in _BOTH_WAYS:
        return None
    change = values.get("membership_change_type")
    if isinstance(change, str) and change.startswith("remove"):
        return f"{name} remove"
    if values.get("ACCOUNT_STATE") == "UNREGISTERED":
        return f"{name} unregistered"
    if any(values.get(key) in _NO_ACCESS for key in ("new_value", "access_level")):
        return f"{name} remove"
    return None


_PARAMETERS = Field(_values, "events[].parameters")
_RARE_PARAMETERS = Field(_rare, _PARAMETERS)
COLUMNS: Columns = {
    "action": Field(_action, "events[].name", "events[].type"),
    "actor_id": Field(
        _actor_id,
        "actor.profileId",
        "actor.key",
        "actor.applicationInfo.oauthClientId",
        "actor.agentAttributionInfo",
    ),
    "actor_name": Field(
        _actor_name,
        "actor.email",
        "actor.key",
        "actor.applicationInfo.applicationName",
        "actor.agentAttributionInfo",
        "actor.profileId",
        _PARAMETERS,
    ),
    "actor_email": Field(_email, "actor.email", _PARAMETERS),
    "actor_type": Field(
        _actor_type,
        "actor.callerType",
        "actor.email",
        "actor.key",
        "actor.profileId",
        "actor.applicationInfo.oauthClientId",
        "isAgenticAction",
        "actor.agentAttributionInfo",
        _PARAMETERS,
    ),
    "targets": Field(
        _targets,
        _PARAMETERS,
        _RARE_PARAMETERS,
        "events[].name",
        "events[].resourceIds",
        "resourceDetails",
        "actor.agentAttributionInfo",
        "actor.applicationInfo.impersonation",
        "actor.applicationInfo.oauthClientId",
        "actor.applicationInfo.applicationName",
        "actor.email",
    ),
    "outcome": Field(_outcome, "events[].status.eventStatus", "events[].name", _RARE_PARAMETERS),
    "outcome_reason": Field(
        _reason,
        "events[].status.errorMessage",
        "events[].status.errorCode",
        _RARE_PARAMETERS,
    ),
    "source_ip": Field(_source_ip, "ipAddress", _RARE_PARAMETERS),
    "user_agent": Field(_user_agent, _RARE_PARAMETERS),
    "country": Field(_country, "networkInfo.regionCode", _RARE_PARAMETERS),
    "severity": Field(_severity, _RARE_PARAMETERS),
    "session_id": Field(_session, _RARE_PARAMETERS),
    "correlation_id": "id.uniqueQualifier",
}


def _ladder(lag: timedelta) -> RereadPlan:
    steps = windows.reread_plan(window=_WINDOW, settle=_SETTLE, lag=lag, keeps=_KEEPS)
    return replace(steps, ages=(*steps.ages, *_SWEEPS), always=(lag, *_SWEEPS))


@cache
def _stream(application: str, customer_id: str) -> Stream:
    lag = timedelta(hours=_LAGS.get(application, 2))
    steps = _ladder(lag)
    return Stream(
        name=application,
        begin=windows.begin(steps),
        pages=windows.pages(steps, _read(application, customer_id), "id.time"),
        between=windows.between(steps),
        reached=windows.reached,
        learn=windows.learn(steps),
        id=Field(_identity, "id.customerId", "id.applicationName", "id.time", "id.uniqueQualifier"),
        time="id.time",
        # The kind depends on where the activity comes from; the order of its events is not defined.
        versions=Comparison(volatile=("etag", "kind"), unordered=True),
        columns=COLUMNS,
        classified_as=Field(_classified_as, "events[].name", _PARAMETERS),
        target_rank=_RANK,
        explode="events",
        keeps=_KEEPS,
        lag=lag,
    )


def _streams(settings: Settings | None) -> list[Stream]:
    """Return the streams; one listed in `streams` need not be in `applications` as well."""
    if settings is None:
        return [_stream(application, "my_customer") for application in APPLICATIONS]
    named = [name for name in settings.streams if name in APPLICATIONS]
    names = dict.fromkeys([*settings.applications, *named])
    return [_stream(name, settings.customer_id) for name in names]


def _tenant(settings: Settings, _stream: Stream) -> Tenant:
    domain = {"the domain of subject": settings.subject.rpartition("@")[2].lower()}
    if settings.customer_id == "my_customer":
        return domain
    return {"customer_id": settings.customer_id, **domain}


def _auth(settings: Settings) -> httpx.Auth:
    key = json.loads(settings.credentials.get_secret_value())
    private = auth.private_key(SecretStr(key["private_key"]), "google_workspace: credentials")
    claims = {
        "iss": key["client_email"],
        "sub": settings.subject,
        "scope": _SCOPE,
        "aud": _AUDIENCE,  # as in Google's own library, whatever the token_uri
    }
    headers = {"kid": key["private_key_id"]} if key.get("private_key_id") else None

    def token_request(now: float) -> httpx.Request:
        assertion = auth.assertion(private, claims, headers=headers, now=now)
        form = {"grant_type": _GRANT, "assertion": assertion}
        return httpx.Request("POST", key["token_uri"], data=form)

    return auth.Token(token_request, _sign_in_advice)


_DELEGATION = (
    "in the Admin console, under Security > API controls > Domain-wide delegation, authorise the "
    f"service account's client id for the scope {_SCOPE}"
)
_SIGN_IN_ADVICE = {
    # Part of the token endpoint's error -> advice; the first match counts.
    "Invalid email or User ID": "`subject` is not a user of this organisation: set an admin's "
    "e-mail address",
    "Invalid JWT Signature": "the key in `credentials` has been deleted: create a new one",
    "invalid_grant": "the key in `credentials` is no longer valid, or this machine's clock is "
    "wrong: create a new key, or set the clock",
    "unauthorized_client": _DELEGATION,
    "access_denied": _DELEGATION,
    "invalid_scope": _DELEGATION,
}


def _sign_in_advice(response: httpx.Response) -> str:
    known = (advice for words, advice in _SIGN_IN_ADVICE.items() if words in response.text)
    return next(known, auth.oauth_error(response) or "check token_uri in the key file")


def _reasons(response: httpx.Response) -> set[str]:
    error = answers.members(response.content).get("error")
    if not isinstance(error, dict):
        return set()
    return {str(one.get("reason")) for one in objects(error.get("errors"))} | {
        str(error.get("status"))
    }


def _throttled(response: httpx.Response) -> bool:
    """Return whether the request was throttled: a 429, or a 403 with a quota reason."""
    if response.status_code == httpx.codes.FORBIDDEN:
        return bool(_reasons(response) & _QUOTA_REASONS)
    return response.status_code == httpx.codes.TOO_MANY_REQUESTS


def _advice(response: httpx.Response) -> str | None:
    match response.status_code:
        case 400 if "pageToken" in response.request.url.params:
            return "the page token has expired: the next round restarts the window"
        case 400:
            return "Google does not know this application or `customer_id`: check both"
        case 401:
            return (
                "the user in `subject` lacks the admin privilege Reports: assign an admin role "
                "that includes it"
            )
        case 403 if "accessNotConfigured" in _reasons(response):
            return "enable the Admin SDK API in the service account's Google Cloud project"
        case 403:
            return (
                "the user in `subject` may not read this application's log, or the edition does "
                "not include it: remove it from `applications`"
            )
    return None


_LONGEST = timedelta(hours=6)
_RESOURCE = re.compile(r"/applications/([a-z_]+)(?:[/?]|$)")
_REPORTS = "admin/reports/v1/activity/users/all/applications"


def _application(headers: Headers) -> str:
    found = _RESOURCE.search(headers.get("x-goog-resource-uri", ""))
    return found[1] if found else ""


def _token(secret: str, application: str) -> str:
    """Return the token of one application's channel, which is not valid for any other."""
    return hmac.new(secret.encode(), application.encode(), hashlib.sha256).hexdigest()


def _authentic(headers: Headers, secret: str) -> bool:
    expected = _token(secret, _application(headers))
    return webhook_auth.same(headers.get("x-goog-channel-token", ""), expected)


def _hints(_: Settings, delivery: Delivery) -> list[Hint]:
    """Return a hint; the message is not a record, as it has only one event of the activity."""
    if delivery.headers.get("x-goog-resource-state") == "sync":  # the channel was created
        return []
    if delivery.body:
        json_records.split_object(delivery.body)
    activities = [delivery.body] if delivery.body else []
    return [Hint(stream=_application(delivery.headers), records=activities)]


def _register(
    settings: Settings,
    client: httpx.Client,
    endpoint: Endpoint,
    known: Subscriptions,
    now: datetime,
) -> Subscriptions:
    """Create channels, then stop the old ones."""
    # Channels cannot be renewed; this order leaves no time without one.
    fresh = [
        _watch(settings, client, endpoint, application, now)
        for application in endpoint.streams
        if application not in _LISTED_ONLY
    ]
    _remove(settings, client, endpoint, known)
    return fresh


def _watch(
    settings: Settings, client: httpx.Client, endpoint: Endpoint, application: str, now: datetime
) -> Subscription:
    channel = {
        "id": str(uuid.uuid4()),
        "type": "web_hook",
        "address": endpoint.address,
        "token": _token(endpoint.secret.get_secret_value(), application),
        "payload": True,
        "expiration": str(int((now + _LONGEST).timestamp() * 1000)),
    }
    answer = client.post(
        f"{_REPORTS}/{application}/watch",
        params={"customerId": settings.customer_id},
        json=channel,
    ).json()
    ends = int(answer.get("expiration", channel["expiration"])) / 1000
    return Subscription(
        stream=application,
        id=str(answer["id"]),
        expires=datetime.fromtimestamp(ends, UTC),
        resource=str(answer["resourceId"]),
    )


def _subscriptions(
    _: Settings, _client: httpx.Client, _endpoint: Endpoint, known: Subscriptions
) -> Subscriptions:
    """Return the known channels, because Google cannot list them."""
    return known


def _remove(_: Settings, client: httpx.Client, _endpoint: Endpoint, known: Subscriptions) -> None:
    for each in known:
        with suppress(Refused):  # an expired channel is unknown to Google
            client.post(
                "admin/reports_v1/channels/stop", json={"id": each.id, "resourceId": each.resource}
            )


PUSH = Push(
    authentic=_authentic,
    read=_hints,
    keeps=("x-goog-resource-state", "x-goog-resource-uri"),
    media_types=frozenset({"application/json", ""}),
    subscription_api=SubscriptionApi(register=_register, current=_subscriptions, remove=_remove),
)

_CERTIFICATES = "https://www.googleapis.com/"


def _endings(settings: Settings, client: httpx.Client) -> list[Ending]:
    """Return the end of the key, which is that of its public certificate."""
    key = json.loads(settings.credentials.get_secret_value())
    url = key.get("client_x509_cert_url")
    if not (isinstance(url, str) and url.startswith(_CERTIFICATES)):
        return []
    # The certificates of a service account are public: no token is sent to another host.
    found = answers.members(client.get(url, auth=None).content).get(key.get("private_key_id"))
    if not isinstance(found, str):
        return []
    advice = "create a new key for the service account, and set credentials"
    return [
        replace(end, what="the service account's key")
        for end in endings.of_certificate(SecretStr(found), advice)
    ]


INTEGRATION = Integration(
    kind="google_workspace",
    title="Google Workspace",
    settings=Settings,
    streams=_streams,
    auth=_auth,
    request_policy=RequestPolicy(rate=(5, 1.0), is_throttled=_throttled, first_delay=5.0),
    advice=_advice,
    mapping_version=5,
    tenant=_tenant,
    reported_endings=_endings,
    docs=Docs(
        credentials="Service account key (JSON) with domain-wide delegation",
        permissions="scope `admin.reports.audit.readonly`; `subject` needs the privilege Reports",
        history="180 days",
        delay="minutes to hours, by application",
        push="watch channels",
    ),
    push=PUSH,
)
