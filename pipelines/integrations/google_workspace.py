"""Google Workspace: the audit activities of each application, from the Admin SDK Reports API.

Activities come newest first and late, and nothing says when one became visible. So each application
is asked by closed windows of event time that are read again as they age; a window counts once its
last page has landed. One activity may hold several events.
https://developers.google.com/workspace/admin/reports/reference/rest/v1/activities/list
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Annotated, Any

import httpx
import msgspec
from pydantic import BeforeValidator, SecretStr, field_validator

from pipelines import auth, coverage, places, records
from pipelines.coverage import Read
from pipelines.integration import Columns, Field, Gap, Guide, Integration, Manners, Span, Stream
from pipelines.settings import Address, IntegrationSettings, SecretFile

_LIMIT = 1000
_KEEPS = timedelta(days=180)
_SWEEP = timedelta(days=3)
_EDGE = timedelta(seconds=1)
_SCOPE = "https://www.googleapis.com/auth/admin.reports.audit.readonly"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_AUDIENCE = "https://oauth2.googleapis.com/token"
_LATER = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded"})

APPLICATIONS = (
    "access_transparency",
    "admin",
    "calendar",
    "chat",
    "drive",
    "gcp",
    "gmail",
    "gplus",
    "groups",
    "groups_enterprise",
    "jamboard",
    "login",
    "meet",
    "mobile",
    "rules",
    "saml",
    "token",
    "user_accounts",
    "context_aware_access",
    "chrome",
    "data_studio",
    "keep",
    "vault",
    "gemini_in_workspace_apps",
    "classroom",
    "assignments",
    "cloud_search",
    "tasks",
    "data_migration",
    "meet_hardware",
    "directory_sync",
    "ldap",
    "profile",
    "access_evaluation",
    "admin_data_action",
    "contacts",
    "takeout",
    "graduation",
    "voice",
    "chrome_sync",
    "workspace_studio",
    "gemini_notebook",
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
_LAGS = {
    # hours within which Google, or those who watched it, say that late activities come
    "admin": 2, "login": 6, "drive": 2, "saml": 2, "token": 12, "user_accounts": 6,
    "calendar": 6, "groups": 6, "groups_enterprise": 6, "mobile": 12, "gcp": 6,
    "gemini_in_workspace_apps": 6, "cloud_search": 24,
}  # fmt: skip


def _key_or_file(value: Any) -> Any:
    """The key file's text itself is as good as its path."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return SecretStr(value)
    return value


class Settings(IntegrationSettings):
    kind: str = "google_workspace"
    base_url: Address = "https://admin.googleapis.com"
    credentials: Annotated[SecretFile, BeforeValidator(_key_or_file)]
    subject: str
    customer_id: str = "my_customer"
    applications: tuple[str, ...] = DEFAULT

    @field_validator("applications")
    @classmethod
    def _known_applications(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in value if name not in APPLICATIONS]:
            raise ValueError(f"{unknown[0]!r} is not one of {', '.join(APPLICATIONS)}")
        return value

    @field_validator("credentials")
    @classmethod
    def _a_key_file(cls, value: SecretStr) -> SecretStr:
        try:
            key = json.loads(value.get_secret_value())
            url = httpx.URL(key["token_uri"])
            whole = bool(key["client_email"] and key["private_key"])
        except (ValueError, KeyError, TypeError, httpx.InvalidURL):
            whole = False
        if not whole:
            raise ValueError("it is not the JSON key file of a service account")
        if url.scheme != "https" and url.host not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError("its token_uri is not an https address")
        return value


def _read(application: str, customer_id: str) -> Read:
    path = f"admin/reports/v1/activity/users/all/applications/{application}"

    def read(client: httpx.Client, span: Span) -> Iterator[Sequence[bytes] | Gap]:
        """A closed window: late activities would shift the pages of an open one."""
        parameters: dict[str, str | int] = {
            "startTime": _text(span.since),
            "endTime": _text(span.until + _EDGE),
            "maxResults": _LIMIT,
            "customerId": customer_id,
        }
        while True:
            answer = records.members(client.get(path, params=parameters).content)
            yield records.elements(answer["items"]) if "items" in answer else []
            token = msgspec.json.decode(answer.get("nextPageToken", b"null"))
            if not token or token == parameters.get("pageToken"):
                return
            parameters["pageToken"] = token

    return read


def _text(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _identity(customer: Any, application: Any, time: Any, qualifier: Any) -> str | None:
    """The qualifier only tells activities of one time apart."""
    return f"{customer}/{application}/{time}/{qualifier}" if time and qualifier else None


_TARGETS = (
    # parameter with the id, parameter with the name, type
    ("USER_EMAIL", None, "user"),
    ("user_email", None, "user"),
    ("affected_email_address", None, "user"),
    ("target_user", None, "user"),
    ("GROUP_EMAIL", None, "group"),
    ("group_email", None, "group"),
    ("group_id", None, "group"),
    ("doc_id", "doc_title", "document"),
    ("client_id", "app_name", "application"),
    ("API_CLIENT_NAME", None, "application"),
    ("APPLICATION_NAME", None, "application"),
    ("application_name", None, "application"),
    ("ROLE_ID", "ROLE_NAME", "role"),
    ("DOMAIN_NAME", None, "domain"),
    ("DEVICE_ID", "DEVICE_MODEL", "device"),
    ("device_id", "DEVICE_MODEL", "device"),
    ("calendar_id", "event_title", "calendar"),
    ("rule_resource_name", "rule_name", "rule"),
    ("RESOURCE_NAME", None, "resource"),
    ("ORG_UNIT_NAME", None, "org_unit"),
    ("SETTING_NAME", None, "setting"),
)
_RANK = {"user": 0, "group": 1, "document": 2, "role": 3, "application": 4}
_PLACEHOLDER = "105250506097979753968"


def _parameters(found: Any) -> dict[str, Any]:
    """name -> value, whichever of the seven kinds of value it is."""
    said: dict[str, Any] = {}
    for parameter in found if isinstance(found, list) else ():
        if isinstance(parameter, dict) and isinstance(parameter.get("name"), str):
            for kind in ("value", "intValue", "boolValue", "multiValue", "multiIntValue"):
                if kind in parameter:
                    said[parameter["name"]] = parameter[kind]
                    break
    return said


def _targets(found: Any) -> list[dict[str, Any]]:
    said = _parameters(found)
    targets = []
    for id_, name, kind in _TARGETS:
        value = _one(said.get(id_))
        shown = _one(said.get(name)) if name else None
        if value or shown:
            targets.append({"id": value, "name": shown or value, "type": kind})
    return targets


def _one(value: Any) -> str | None:
    if isinstance(value, list):
        value = value[0] if value else None
    return str(value) if value not in (None, "") else None


def _action(name: Any, type_: Any) -> Any:
    return name or type_ or "unknown"


def _actor_name(email: Any, key: Any, application: Any, profile: Any) -> Any:
    return email or key or application or profile


def _email(email: Any) -> str | None:
    return email.lower() if isinstance(email, str) and "@" in email else None


def _actor_type(caller: Any, email: Any, key: Any, profile: Any, application: Any) -> str:
    if key == "SYSTEM" or (caller == "KEY" and not key):
        return "system"
    if caller == "KEY" or key:
        return "api_key"
    if isinstance(email, str) and email:
        return "service" if email.endswith(".gserviceaccount.com") else "user"
    if application:
        return "application"
    return "user" if profile and profile != _PLACEHOLDER else "anonymous"


_FAILED = "FAILED"
_SUCCEEDED = ("SUCCEEDED", "SUCCEEDED_WITH_WARNINGS")


def _outcome(name: Any, status: Any, parameters: Any) -> str:
    """The event's own status where there is one; else what its name or its challenge says."""
    if status in _SUCCEEDED:
        return "success"
    if status == _FAILED:
        return "failure"
    challenge = _parameters(parameters).get("login_challenge_status")
    if isinstance(challenge, str) and name in ("login_challenge", "login_verification"):
        return "success" if "passed" in challenge.lower() else "failure"
    if isinstance(name, str) and name.lower().endswith(("_failure", "_failed", "failure_event")):
        return "failure"
    return "success" if name else "unknown"


def _reason(status: Any, message: Any, parameters: Any) -> Any:
    said = _parameters(parameters)
    failure = said.get("login_failure_type") or said.get("failure_type")
    return message or failure or (status if status == _FAILED else None)


def _message(application: Any, name: Any, type_: Any, email: Any, parameters: Any) -> str:
    done = str(_action(name, type_)).lower().replace("_", " ")
    targets = _targets(parameters)
    on = f": {', '.join(t['name'] for t in targets[:2] if t['name'] != email)}" if targets else ""
    return f"{email or 'Somebody'}, {application}: {done}{on.removesuffix(': ')}"


def _device(kind: Any, version: Any) -> str | None:
    return " ".join(str(part) for part in (kind, version) if part) or None


def _device_from(value: Any) -> str | None:
    """`userDeviceInfo`: there is no user agent, only the type and version of the system."""
    if not isinstance(value, Mapping):
        return None
    return _device(value.get("deviceType"), value.get("deviceOsVersion"))


COLUMNS: Columns = {
    "action": Field(_action, "events[].name", "events[].type"),
    "actor_id": "actor.profileId",
    "actor_name": Field(
        _actor_name,
        "actor.email",
        "actor.key",
        "actor.applicationInfo.applicationName",
        "actor.profileId",
    ),
    "actor_email": Field(_email, "actor.email"),
    "actor_type": Field(
        _actor_type,
        "actor.callerType",
        "actor.email",
        "actor.key",
        "actor.profileId",
        "actor.applicationInfo.oauthClientId",
    ),
    "targets": Field(_targets, "events[].parameters"),
    "outcome": Field(
        _outcome, "events[].name", "events[].status.eventStatus", "events[].parameters"
    ),
    "outcome_reason": Field(
        _reason,
        "events[].status.eventStatus",
        "events[].status.errorMessage",
        "events[].parameters",
    ),
    "source_ip": Field(places.address, "ipAddress"),
    "user_agent": Field(_device_from, "userDeviceInfo"),
    "country": "networkInfo.regionCode",
    "message": Field(
        _message,
        "id.applicationName",
        "events[].name",
        "events[].type",
        "actor.email",
        "events[].parameters",
    ),
}


@cache
def _stream(application: str, customer_id: str) -> Stream:
    lag = timedelta(hours=_LAGS.get(application, 2))
    steps = coverage.ladder(
        window=timedelta(days=7), settle=timedelta(minutes=15), lag=_SWEEP, keeps=_KEEPS
    )
    return Stream(
        name=application,
        begin=coverage.begin(steps),
        pages=coverage.pages(steps, _read(application, customer_id)),
        between=coverage.between(steps),
        id=Field(_identity, "id.customerId", "id.applicationName", "id.time", "id.uniqueQualifier"),
        time="id.time",
        columns=COLUMNS,
        target_rank=_RANK,
        explode="events",
        keeps=_KEEPS,
        lag=lag,
        page_size=_LIMIT,
    )


def _streams(settings: Settings | None) -> list[Stream]:
    if settings is None:
        others = [name for name in APPLICATIONS if name not in DEFAULT]
        return [_stream(name, "my_customer") for name in (*DEFAULT, *others)]
    return [_stream(name, settings.customer_id) for name in settings.applications]


def _auth(settings: Settings) -> httpx.Auth:
    key = json.loads(settings.credentials.get_secret_value())
    where = "google_workspace: credentials"
    private = auth.private_key(SecretStr(key["private_key"]), where)
    claims = {
        "iss": key["client_email"],
        "sub": settings.subject,
        "scope": _SCOPE,
        # Google's own library says so wherever token_uri leads.
        "aud": _AUDIENCE,
    }
    headers = {"kid": key["private_key_id"]} if key.get("private_key_id") else None

    def ask() -> httpx.Request:
        assertion = auth.assertion(private, claims, headers=headers)
        form = {"grant_type": _GRANT, "assertion": assertion}
        return httpx.Request("POST", key["token_uri"], data=form)

    return auth.Token(ask, _sign_in_advice)


def _sign_in_advice(response: httpx.Response) -> str:
    match auth.oauth_error(response):
        case "unauthorized_client":
            return (
                "authorise the service account's client id for the scope "
                f"{_SCOPE} under Security > API controls > Domain-wide delegation"
            )
        case "invalid_grant":
            return (
                "subject is no user of this organisation, the key has been deleted, or this "
                "machine's clock is off"
            )
        case error:
            return error or "check token_uri in the key file"


def _reasons(response: httpx.Response) -> set[str]:
    try:
        errors = response.json()["error"].get("errors") or []
        return {str(error.get("reason")) for error in errors}
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()


def _throttled(response: httpx.Response) -> bool:
    """Google says "later" with 429, and with a 403 that gives a reason."""
    if response.status_code == httpx.codes.FORBIDDEN:
        return bool(_reasons(response) & _LATER)
    return response.status_code == httpx.codes.TOO_MANY_REQUESTS


def _advice(response: httpx.Response) -> str | None:
    match response.status_code:
        case 401:
            return (
                "the user in `subject` lacks the admin privilege Reports: give it an admin role "
                "that has it"
            )
        case 403 if "accessNotConfigured" in _reasons(response):
            return "enable the Admin SDK API in the service account's Google Cloud project"
        case 403:
            return (
                "the user in `subject` may not read this application's log, or the edition does "
                "not have it: take it out of `applications`"
            )
    return None


INTEGRATION = Integration(
    kind="google_workspace",
    title="Google Workspace",
    settings=Settings,
    streams=_streams,
    auth=_auth,
    manners=Manners(rate=(5, 1.0), throttled=_throttled, retry_after=lambda _: 5.0),
    advice=_advice,
    guide=Guide(
        credentials="Service account key (JSON) with domain-wide delegation",
        permissions="scope `admin.reports.audit.readonly`; `subject` needs the privilege Reports",
        history="180 days",
        delay="minutes to hours, by application",
        push="watch channels",
    ),
)
