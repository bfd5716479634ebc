"""Google Workspace's Reports API, simulated: newest first, late, several events an activity.

https://developers.google.com/workspace/admin/reports/reference/rest/v1/activities/list
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from pipelines.sandbox import tokens
from pipelines.sandbox.cast import DOMAIN, Sort
from pipelines.sandbox.company import Act, Habit, Happening, Role
from pipelines.sandbox.service import (
    Key,
    Limiter,
    Log,
    Service,
    Site,
    Stream,
    form,
    iso,
    micros,
    page,
    secret,
)
from pipelines.sandbox.tokens import Grant, Rejected

CLIENT = f"auditlake@{DOMAIN.partition('.')[0]}.iam.gserviceaccount.example"
SUBJECT = f"reports@{DOMAIN}"
_CUSTOMER = "C03lark1e"
_KEY_ID = secret("google key")
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_AUDIENCE = "https://oauth2.googleapis.com/token"
_SCOPE = "https://www.googleapis.com/auth/admin.reports.audit.readonly"
_PER_MINUTE = 2400
_PARAMETERS = frozenset(
    {
        "actorIpAddress", "alt", "customerId", "endTime", "eventName", "fields", "filters",
        "groupIdFilter", "maxResults", "orgUnitID", "pageToken", "prettyPrint", "quotaUser",
        "startTime",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """An event of an application: `thing` and `whom` name the parameters that hold them."""

    name: str
    type: str
    weight: float
    by: Role = "person"
    on: Sort | None = None
    thing: tuple[str, ...] = ()
    whom: str = ""
    fails: float = 0.0
    acts: tuple[Act, ...] = ()
    side_effect: str = ""
    """A second event in the same activity."""


def _kind(name: str, type_: str, weight: float, **more: Any) -> _Kind:
    return _Kind(name=name, type=type_, weight=weight, **more)


_DOC: dict[str, Any] = {"on": "document", "thing": ("doc_id", "doc_title")}
_APP: dict[str, Any] = {"on": "app", "thing": ("client_id", "app_name")}
_GROUP: dict[str, Any] = {"on": "group", "thing": ("GROUP_EMAIL",), "whom": "USER_EMAIL"}
_MEMBER: dict[str, Any] = {"on": "group", "thing": ("group_id",), "whom": "user_email"}
_ADMIN: dict[str, Any] = {"by": "admin"}

_KINDS: dict[str, tuple[_Kind, ...]] = {
    "login": (
        _kind("login_success", "login", 10, fails=0.03, acts=("sign_in",)),
        _kind("login_challenge", "login", 3),
        _kind("login_verification", "login", 2),
        _kind("logout", "login", 3),
        _kind("suspicious_login", "account_warning", 0.05, acts=("detect_threat",)),
        _kind("account_disabled_hijacked", "account_warning", 0.02, acts=("lock_account",)),
    ),
    "admin": (
        _kind("CREATE_USER", "USER_SETTINGS", 1, whom="USER_EMAIL", **_ADMIN),
        _kind("SUSPEND_USER", "USER_SETTINGS", 0.4, whom="USER_EMAIL", **_ADMIN),
        _kind("CHANGE_PASSWORD", "USER_SETTINGS", 1, whom="USER_EMAIL", **_ADMIN),
        _kind("TURN_OFF_2_STEP_VERIFICATION", "USER_SETTINGS", 0.1, whom="USER_EMAIL",
              acts=("reset_mfa",), **_ADMIN),
        _kind("ASSIGN_ROLE", "DELEGATED_ADMIN_SETTINGS", 0.2, on="role", thing=("ROLE_NAME",),
              whom="USER_EMAIL", acts=("grant_admin",), **_ADMIN),
        _kind("UNASSIGN_ROLE", "DELEGATED_ADMIN_SETTINGS", 0.2, on="role", thing=("ROLE_NAME",),
              whom="USER_EMAIL", acts=("revoke_admin",), **_ADMIN),
        _kind("ADD_GROUP_MEMBER", "GROUP_SETTINGS", 2, side_effect="UPDATE_GROUP_MEMBER",
              **_GROUP, **_ADMIN),
        _kind("REMOVE_GROUP_MEMBER", "GROUP_SETTINGS", 1, **_GROUP, **_ADMIN),
        _kind("CHANGE_APPLICATION_SETTING", "APPLICATION_SETTINGS", 2, on="policy",
              thing=("SETTING_NAME",), acts=("weaken_policy",), **_ADMIN),
        _kind("AUTHORIZE_API_CLIENT_ACCESS", "DOMAIN_SETTINGS", 0.1, on="app",
              thing=("API_CLIENT_NAME",), acts=("create_token",), **_ADMIN),
        _kind("USER_LICENSE_ASSIGNMENT", "LICENSES_SETTINGS", 1, by="system", whom="USER_EMAIL"),
    ),
    "drive": (
        _kind("view", "access", 20, **_DOC),
        _kind("edit", "access", 12, **_DOC),
        _kind("download", "access", 4, acts=("download", "export"), **_DOC),
        _kind("create", "access", 3, **_DOC),
        _kind("rename", "access", 1, **_DOC),
        _kind("trash", "access", 0.5, **_DOC),
        _kind("change_user_access", "acl_change", 2, whom="target_user", acts=("share_outside",),
              side_effect="change_document_visibility", **_DOC),
    ),
    "token": (
        _kind("authorize", "auth", 3, **_APP),
        _kind("activity", "auth", 1, by="service", **_APP),
        _kind("revoke", "auth", 0.5, **_APP),
    ),
    "saml": (
        _kind("login_success", "login", 6, fails=0.05, on="app", thing=("application_name",),
              acts=("open_app",)),
    ),
    "user_accounts": (
        _kind("2sv_enroll", "2sv_change", 1, acts=("enroll_mfa",)),
        _kind("2sv_disable", "2sv_change", 0.2),
        _kind("password_edit", "password_change", 2),
        _kind("recovery_email_edit", "recovery_info_change", 0.5),
        _kind("email_forwarding_out_of_domain", "email_forwarding_change", 0.1,
              acts=("forward_mail",)),
    ),
    "groups": (
        _kind("add_user", "moderator_action", 2, **_MEMBER),
        _kind("join", "user_action", 1, on="group", thing=("group_email",)),
        _kind("change_basic_setting", "setting_change", 0.5, on="group", thing=("group_email",)),
    ),
    "groups_enterprise": (
        _kind("add_member", "moderator_action", 2, **_MEMBER),
        _kind("remove_member", "moderator_action", 1, **_MEMBER),
    ),
    "calendar": (
        _kind("create_event", "event_change", 3),
        _kind("change_event", "event_change", 3),
        _kind("change_calendar_acls", "calendar_change", 0.5, whom="user_email"),
    ),
    "mobile": (
        _kind("DEVICE_SYNC_EVENT", "device_updates", 3),
        _kind("DEVICE_REGISTER_UNREGISTER_EVENT", "device_updates", 0.5),
    ),
    "rules": (_kind("rule_match", "rule_match_type", 1, **_DOC),),
    "gcp": (_kind("IMPORT_SSH_PUBLIC_KEY", "CLOUD_OSLOGIN", 1),),
}  # fmt: skip
_SHARES = {"login": 0.3, "drive": 0.5, "token": 0.1, "saml": 0.1, "admin": 0.05}


def _render(application: str) -> Any:
    kinds = {kind.name: kind for kind in _KINDS[application]}

    def render(it: Happening, rng: Random) -> dict[str, Any]:
        kind = kinds[it.what]
        record: dict[str, Any] = {
            "kind": "admin#reports#activity",
            "id": {
                "time": iso(it.time),
                "uniqueQualifier": str(rng.getrandbits(64) - 2**63),
                "applicationName": application,
                "customerId": _CUSTOMER,
            },
            "etag": f'"{rng.getrandbits(128):032x}"',
            "actor": _actor(it),
        }
        if it.place:
            record["ipAddress"] = it.place.ip
            record["networkInfo"] = {
                "ipAsn": [it.place.as_number],
                "regionCode": it.place.code,
                "subdivisionCode": it.place.state,
            }
        record["events"] = _events(kind, it)
        return record

    return render


def _actor(it: Happening) -> dict[str, Any]:
    if it.actor.kind == "system":
        return {"callerType": "KEY", "key": "SYSTEM"}
    if not it.actor.email:
        return {"profileId": "105250506097979753968"}
    profile = f"1{int(secret(it.actor.email)[:15], 16):020d}"
    return {"callerType": "USER", "email": it.actor.email, "profileId": profile}


def _events(kind: _Kind, it: Happening) -> list[dict[str, Any]]:
    name = kind.name if it.ok else kind.name.replace("_success", "_failure")
    event: dict[str, Any] = {"type": kind.type, "name": name}
    if parameters := _parameters(kind, it):
        event["parameters"] = parameters
    found = [event]
    if kind.side_effect:
        found.append({**event, "name": kind.side_effect})
    return found


def _parameters(kind: _Kind, it: Happening) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if kind.thing and it.thing:
        value = it.thing.name if len(kind.thing) == 1 else secret(it.thing.name)[:20]
        found.append({"name": kind.thing[0], "value": value})
        if len(kind.thing) > 1:
            found.append({"name": kind.thing[1], "value": it.thing.name})
    if kind.whom and it.whom:
        found.append({"name": kind.whom, "value": it.whom.email})
    if kind.type == "login":
        found.append({"name": "login_type", "value": "google_password"})
        found.append({"name": "login_challenge_method", "multiValue": ["password"]})
        found.append({"name": "is_suspicious", "boolValue": it.suspicious})
        if not it.ok:
            found.append({"name": "login_failure_type", "value": "login_failure_invalid_password"})
    if kind.name in ("login_challenge", "login_verification"):
        status = "Challenge Passed." if it.ok else "Challenge Failed."
        found.append({"name": "login_challenge_status", "value": status})
    return found


def routes(site: Site) -> Sequence[BaseRoute]:
    limiter = Limiter(count=_PER_MINUTE if site.limits else 10**9, seconds=60)

    def activities(request: Request) -> Response:
        now = site.clock()
        said = request.headers.get("Authorization", "").removeprefix("Bearer ")
        grant = site.tokens.find(said, now)
        if grant is None:
            return refusal(401, now, 0)
        if not limiter.take(grant.client, now).allowed:
            return _error(403, "rateLimitExceeded", "Quota exceeded for quota metric Queries")
        log = site.logs.get(request.path_params["application"])
        if log is None:
            return _error(400, "invalidParameter", "unknown application")
        try:
            return _list(log, request, now)
        except ValueError as error:
            return _error(400, "invalidParameter", str(error))

    async def token(request: Request) -> Response:
        return _granted(site, await form(request), site.clock())

    return [
        Route("/admin/reports/v1/activity/users/{user}/applications/{application}", activities),
        Route("/token", token, methods=["POST"]),
    ]


def _granted(site: Site, fields: dict[str, str], now: datetime) -> Response:
    """A token for a signed assertion. Whatever token_uri says, Google's own audience is meant."""
    try:
        if fields.get("grant_type") != _GRANT:
            raise Rejected("Invalid grant_type.")  # noqa: TRY301 one answer to all that is wrong
        claims = tokens.verified(
            fields.get("assertion", ""),
            tokens.rsa_key("google_workspace").public_key(),
            issuer=CLIENT,
            subject=SUBJECT,
            audiences=[_AUDIENCE],
            now=now,
            longest=3700,
        )
    except Rejected as error:
        return JSONResponse({"error": "invalid_grant", "error_description": str(error)}, 400)
    if _SCOPE not in str(claims.get("scope", "")).split():
        said = "Client is unauthorized to retrieve access tokens using this method, or client not "
        said += "authorized for any of the scopes requested."
        return JSONResponse({"error": "unauthorized_client", "error_description": said}, 401)
    grant = Grant(client=CLIENT, scopes=frozenset({_SCOPE}), expires=now + timedelta(hours=1))
    body = {"access_token": site.tokens.issue(grant), "expires_in": 3599, "token_type": "Bearer"}
    return JSONResponse(body)


def _list(log: Log, request: Request, now: datetime) -> Response:
    """Newest first; `items` is missing where there is nothing."""
    asked = request.query_params
    if unknown := set(asked) - _PARAMETERS:
        raise ValueError(f"Unknown parameter: {unknown.pop()}")
    count = int(asked.get("maxResults", 1000))
    if not 1 <= count <= 1000:
        raise ValueError("maxResults must be between 1 and 1000")
    oldest = now - timedelta(days=180)
    since = max(_time(asked["startTime"]) if "startTime" in asked else oldest, oldest)
    until = _time(asked["endTime"]) if "endTime" in asked else now
    if since >= until or since > now:
        raise ValueError("startTime must be before endTime and before now")
    after = _opened(asked["pageToken"]) if asked.get("pageToken") else None
    found = log.window(
        micros(since), micros(until), count, after=after, newest_first=True, keep=_keep(asked)
    )
    body = b'{"kind":"admin#reports#activities","etag":"\\"page\\""'
    if found.more:
        body += b',"nextPageToken":' + msgspec.json.encode(_closed(found.keys[-1]))
    if found.records:
        body += b',"items":' + page(found.records)
    return Response(body + b"}", media_type="application/json")


def _keep(asked: Any) -> Any:
    if "eventName" not in asked:
        return None
    wanted = asked["eventName"]
    return lambda raw: any(e.get("name") == wanted for e in json.loads(raw).get("events", []))


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _closed(key: Key) -> str:
    return "A:" + base64.urlsafe_b64encode(f"{key[0]}:{key[1]}".encode()).decode()


def _opened(token: str) -> Key:
    time, _, number = base64.urlsafe_b64decode(token.removeprefix("A:")).decode().partition(":")
    return int(time), int(number)


def _error(
    status: int, reason: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    domain = "usageLimits" if "imit" in reason else "global"
    error = {
        "code": status,
        "message": message,
        "errors": [{"message": message, "domain": domain, "reason": reason}],
    }
    return JSONResponse({"error": error}, status, headers)


def refusal(status: int, _now: datetime, retry_after: float) -> Response:
    """Any status as Google words it, for faults."""
    reason, message = {
        401: ("authError", "Invalid Credentials"),
        403: ("forbidden", "Not Authorized to access this resource/api"),
        404: ("notFound", "Not Found"),
        429: ("rateLimitExceeded", "Quota exceeded"),
    }.get(status, ("backendError", "Backend Error"))
    headers = {"Retry-After": str(-int(-retry_after // 1))} if status == 429 else None
    return _error(status, reason, message, headers)


def _identity(record: Any) -> object:
    id_ = record.get("id") if isinstance(record, dict) else None
    if not isinstance(id_, dict):
        return None
    names = ("customerId", "applicationName", "time", "uniqueQualifier")
    return "/".join(str(id_.get(name)) for name in names)


def _settings(base_url: str) -> dict[str, Any]:
    key = {
        "type": "service_account",
        "private_key_id": _KEY_ID,
        "private_key": tokens.pem(tokens.rsa_key("google_workspace")),
        "client_email": CLIENT,
        "token_uri": f"{base_url}/token",
    }
    return {"base_url": base_url, "credentials": json.dumps(key), "subject": SUBJECT}


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


SERVICE = Service(
    kind="google_workspace",
    streams=tuple(
        Stream(
            name=application,
            habits=_habits(application),
            render=_render(application),
            identify=_identity,
            time="id.time",
            keeps=timedelta(days=180),
            share=_SHARES.get(application, 0.02),
        )
        for application in _KINDS
    ),
    routes=routes,
    settings=_settings,
    refusal=refusal,
)
