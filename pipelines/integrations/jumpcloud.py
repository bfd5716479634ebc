"""JumpCloud Directory Insights: the events of all services of one or several organisations.

Records carry only the event time and may appear late, those of devices days late, so the log is
read in windows of event time, and old windows are re-read. The next page's position is in a header.
https://docs.jumpcloud.com/api/insights/directory/1.0/index.html
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import lru_cache
from itertools import zip_longest
from typing import Annotated, Any, Self

import httpx
from pydantic import BeforeValidator, SecretStr, field_validator, model_validator

from pipelines.errors import Refused
from pipelines.sdk import auth, json_records, pasted, tenant, webhook_auth, windows
from pipelines.sdk.auth import Flow
from pipelines.sdk.contract import Docs, Field, Integration, Stream
from pipelines.sdk.pages import Span
from pipelines.sdk.pagination import Trail
from pipelines.sdk.push import Delivery, Hint, Push
from pipelines.sdk.tenant import Tenant
from pipelines.sdk.values import NOTHING, first, known, objects
from pipelines.settings import Address, IntegrationSettings

_LIMIT = 10_000
_KEEPS = timedelta(days=90)
_LAG = timedelta(days=3)  # no figure is published; a laptop may be closed for a weekend
_LADDER = windows.reread_plan(
    window=timedelta(days=1), settle=timedelta(minutes=15), lag=_LAG, keeps=_KEEPS
)


_ROOTS = [
    f"https://api.{region}jumpcloud.com/insights/directory/v1" for region in ("", "eu.", "in.")
]
_ORGANISATION = pasted.identifier(
    re.compile(r"\b[0-9a-f]{24}\b"), "the organisation's ID under Settings, or remove the key"
)
_PROVIDER = pasted.identifier(
    re.compile(r"\b[0-9a-f]{24}\b"),
    "the provider's ID in the Multi-Tenant Portal, or remove the key",
)


def _organisations(value: Any) -> Any:
    """Return the id, or those in a list."""
    return tuple(map(_ORGANISATION, value)) if isinstance(value, list) else _ORGANISATION(value)


class Settings(IntegrationSettings):
    kind: str = "jumpcloud"
    base_url: Address = _ROOTS[0]
    authority_url: Address = "https://admin-oauth.id.jumpcloud.com"
    api_key: pasted.JumpCloudKey | None = None
    client_id: pasted.ClientId | None = None
    client_secret: pasted.Token | None = None
    org_id: Annotated[str | tuple[str, ...] | None, BeforeValidator(_organisations)] = None
    """The organisation or organisations to read; None: that of the API key."""
    provider_id: Annotated[str, BeforeValidator(_PROVIDER)] | None = None
    """Read the events of the Multi-Tenant Portal itself instead."""

    @field_validator("base_url")
    @classmethod
    def _api(cls, value: str) -> str:
        """Return the address of the API for that of a console or of another of its paths."""
        return pasted.root(value.replace("://console.", "://api."), _ROOTS)

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.org_id and self.provider_id:
            raise ValueError("set org_id or provider_id; a section of its own can have the other")
        if not (isinstance(self.credential, SecretStr) or self.org_id or self.provider_id):
            raise ValueError("a service account needs org_id: set it")
        return self

    @property
    def credential(self) -> SecretStr | tuple[str, SecretStr]:
        """The API key, or a service account's client ID and client secret."""
        if self.api_key:
            return self.api_key
        if self.client_id and self.client_secret:
            return self.client_id, self.client_secret
        raise ValueError("not configured: set api_key, or client_id and client_secret")


def read(client: httpx.Client, span: Span) -> Iterator[list[bytes]]:
    query: dict[str, Any] = {
        "service": ["all"],
        "start_time": _text(span.since.isoformat()),
        "end_time": _text(span.until.isoformat()),
        "limit": _LIMIT,
        "sort": "ASC",
    }
    trail = Trail("jumpcloud directory_insights")
    while True:
        response = client.post("/events", json=query)
        found = json_records.split_array(response.content)
        yield found
        if not found or len(found) < _page_size(response):
            return
        query["search_after"] = _next_place(response)
        trail.follow(json.dumps(query["search_after"]), found)


def _page_size(response: httpx.Response) -> int:
    """Return the page size in effect, which may be less than requested.

    Where a proxy drops the header, only an empty page is the end.
    """
    if "X-Limit" in response.headers:
        return int(response.headers["X-Limit"])
    return 1 if "X-Search_after" in response.headers else _LIMIT


def _next_place(response: httpx.Response) -> Any:
    try:
        return json.loads(response.headers["X-Search_after"])
    except (KeyError, ValueError):
        raise Refused(
            "a full page of events has no header X-Search_after, so the next page cannot be "
            "fetched: let the proxy in between pass headers with an underscore"
        ) from None


def _text(time: str) -> str:
    return time.replace("+00:00", "Z")


_ACTORS = {
    "admin": "user",
    "user": "user",
    "systemuser": "user",
    "service_account": "service",
    "application": "application",
    "system": "system",
    "device": "system",
    "api_key": "api_key",
    "service": "service",
}
_STATES = {
    "acknowledged": "success",
    "success": "success",
    "error": "failure",
    "commandformaterror": "failure",
    "failure": "failure",
    "failed": "failure",
}
_NAMES = (
    "username",
    "display_label",
    "displayName",
    "name",
    "hostname",
    "email",
    "recipient_email",
    "application_name",
)
_PARTS = {
    # Members other than `resource` that name a target -> its type if the record has none.
    "application": "application",
    "workflow": "access-workflow",
    "system_group": "system_group",
    "system": "system",
    "target_resource": "",
}
_OWN = {
    # Members that contain a bare id -> the type of the target.
    "channel_object_id": "notification_channel",
    "object_storage_item_object_id": "object_storage_item",
    "device_object_id": "device",
    "base": "ldap",
    "dn": "ldap",
}
_OWN_NAMES = ("name", "object_storage_item_version_name")  # names of the first two


def _identity(id_: Any, timestamp: Any) -> Any:
    """Return the id, with the time for RADIUS: its ids are hashes (UUID version 3) that repeat."""
    if isinstance(id_, str) and id_[14:15] == "3" and id_[8:9] == "-":
        return f"{id_}@{timestamp}"
    return id_


def _action(event_type: Any, service: Any, auth_type: Any) -> Any:
    return event_type or service or ("radius_auth" if auth_type else "unknown")


def _who(by: Any, resource: Any, action: Any) -> dict[str, Any]:
    """Return the actor; some sign-ins name them only as the resource."""
    if isinstance(by, dict):
        id_ = by.get("id")
        # For nearly every record, so without a call of known().
        if isinstance(id_, str) and id_ not in NOTHING:
            return by
        if first(id_, by.get("email"), by.get("username")):
            return by
    elif isinstance(by, str) and known(by):
        return {"username": by}
    if isinstance(resource, dict) and str(action).endswith("login_attempt"):
        return resource
    return by if isinstance(by, dict) else {}


def _actor_id(who: dict[str, Any]) -> Any:
    id_ = who.get("id")
    if isinstance(id_, str) and id_ not in NOTHING:
        return id_
    return first(id_, who.get("user_id"))


def _actor_name(who: dict[str, Any], username: Any) -> Any:
    name = who.get("username")
    if isinstance(name, str) and name not in NOTHING:
        return name
    return first(name, who.get("name"), who.get("email"), username)


def _actor_email(who: dict[str, Any], username: Any) -> str | None:
    for name in (who.get("email"), who.get("username") or username):
        if isinstance(name, str) and "@" in name:
            return name
    return None


def _actor_type(who: dict[str, Any], username: Any, method: Any) -> str | None:
    if method in ("api key", "api-key", "api_key"):
        return "api_key"
    if kind := who.get("type"):
        return _type_of(str(kind))
    return "user" if who.get("email") or who.get("username") or username else None


@lru_cache(maxsize=1024)
def _type_of(kind: str) -> str | None:
    name = kind.lower().replace(" ", "_").replace("-", "_")
    return _ACTORS.get(name) or ("application" if "agent" in name else None)


def _outcome(success: Any, sso_success: Any, status: Any, result: Any) -> str | None:
    """Return the outcome: `success` where present, else the states of SSO and of devices."""
    for flag in (success, sso_success):
        if flag in (True, "true"):
            return "success"
        if flag in (False, "false"):
            return "failure"
    return _STATES.get(str(status).lower()) or _STATES.get(str(result).lower())


def _reason(error: Any, outer: Any, chain: Any, errors: Any) -> Any:
    if known(error):
        return error
    if isinstance(outer, dict) and outer.get("error_message"):
        return outer["error_message"]
    for each in objects(errors) if errors else ():
        if text := first(each.get("localized_description"), each.get("us_english_description")):
            return text
    return chain.get("response_message") if isinstance(chain, dict) else None


def _user_agent(agent: Any, other: Any) -> str | None:
    """Return text such as `Firefox 114.0 (Mac OS X 10.15)`; the vendor stores only the parts."""
    agent = agent or other
    if not isinstance(agent, dict):
        return agent if isinstance(agent, str) else None
    agent = agent.get("useragent") or agent
    name = _known(agent.get("name"))
    version = agent.get("version") or _dotted(agent)
    system = _known(agent.get("os_full")) or _known(agent.get("os_name"))
    program = f"{name} {version}" if name and version else name
    return f"{program or 'unknown'} ({system})" if system else program


_NO_NAMES = {*NOTHING, "Other"}


def _known(name: Any) -> str | None:
    return name if isinstance(name, str) and name not in _NO_NAMES else None


def _dotted(agent: dict[str, Any]) -> str:
    return ".".join(agent[part] for part in ("major", "minor", "patch") if agent.get(part))


def _country(geoip: Any) -> Any:
    if not isinstance(geoip, dict):
        return None
    geoip = geoip.get("geoip") or geoip
    return geoip.get("country_code") or geoip.get("country_code2")


def _name(thing: Any) -> Any:
    if isinstance(thing, dict):
        for key in _NAMES:
            if (name := thing.get(key)) and known(name):
                return name
    return None


def _targets(
    service: Any, resource: Any, association: Any, changes: Any, action: Any, *rest: Any
) -> list[dict[str, Any]]:
    """Return the targets; `rest` holds the values at _PARTS, _OWN and _OWN_NAMES."""
    found: list[dict[str, Any]] = []
    if resource:
        found += _resource(resource, service)
    if association:
        found += _associated(association)
    if any(rest):
        for part, kind in zip(rest, _PARTS.values(), strict=False):
            if part:
                found += _thing(part, kind)
        ids, names = rest[len(_PARTS) : -len(_OWN_NAMES)], rest[-len(_OWN_NAMES) :]
        for id_, name, kind in zip_longest(ids, names, _OWN.values()):
            if id_:
                found.append({"id": id_, "name": name, "type": kind})
    if changes:
        found += _named_by_changes(changes, action)
    return found if len(found) < 2 else _distinct(found)


def _thing(value: Any, kind: str) -> list[dict[str, Any]]:
    if not isinstance(value, dict):
        return []
    kind = value.get("type") or kind
    id_ = value.get("id") or value.get("object_id") or value.get("application_id")
    name = _name(value)
    return [{"id": id_, "name": name or (None if id_ else kind), "type": kind}]


def _resource(value: Any, service: Any) -> list[dict[str, Any]]:
    if service != "alerts":
        kind = "application" if isinstance(value, dict) and value.get("application_id") else None
        found = _thing(value, kind or str(service))
        if found and (role := value.get("roleName") or value.get("role")):
            found += _given(role, "role")
        return found
    found = _thing(value, "alert")
    if found and value.get("source_id"):
        found.append({"id": value["source_id"], "name": None, "type": value.get("source_type")})
    return found


def _associated(value: Any) -> list[dict[str, Any]]:
    """Return both ends of a new connection, or the one thing associated with the resource."""
    connection = value.get("connection") if isinstance(value, dict) else None
    if isinstance(connection, dict):
        found = [*_thing(connection.get("from"), ""), *_thing(connection.get("to"), "")]
        return [*found, {"id": None, "name": _SUDO, "type": "privilege"}] if _sudo(value) else found
    return _thing(value, "user")


_SUDO = "sudo"
_NAMED = {"folder name": "folder", "role": "role", "role name": "role", "rolename": "role",
          "group name": "user_group"}  # fmt: skip


def _sudo(association: dict[str, Any]) -> dict[str, Any] | None:
    """Return the grant that makes a user an administrator of a device."""
    sudo = _sudo_setting(association)
    return sudo if sudo and sudo.get("enabled") in _ON else None


def _sudo_setting(association: dict[str, Any]) -> dict[str, Any] | None:
    attributes = association.get("attributes")
    sudo = attributes.get("sudo") if isinstance(attributes, dict) else None
    return sudo if isinstance(sudo, dict) else None


def _named_by_changes(changes: Any, action: Any) -> list[dict[str, Any]]:
    """Return the names that only the list of changes contains: a folder, a role or sudo."""
    found = []
    for change in objects(changes):
        field = str(change.get("field")).lower()
        name = first(change.get("to"), change.get("from"))
        if field in _SUDO_FIELDS:
            # The list of a new user has the field too, without sudo.
            if change.get("to") not in _OFF or str(action).endswith(("_update", "_change")):
                found.append({"id": None, "name": _SUDO, "type": "privilege"})
        elif field in _NAMED:
            found += _given(name, _NAMED[field])
    return found


def _given(value: Any, kind: str) -> list[dict[str, Any]]:
    """Return the target that a text or an object names."""
    if isinstance(value, str):
        return [{"id": None, "name": value, "type": kind}]
    return _thing(value, kind)


_SUDO_FIELDS = ("sudo", "passwordless_sudo", "enable_sudo")
_ON = (True, "true")
_OFF = (False, "false", None, "", "disabled")
_PEOPLE = ("user", "systemuser")
_GROUPS = ("user_group", "system_group", "group")
_MEMBERS = ("user", "systemuser", "system", "device")


_SWITCHES = {
    # Field of a changed account -> the action when it is switched on, and off.
    "suspended": ("user_suspended", "user_unsuspended"),
    "account_locked": ("user_lockout", "user_unlocked"),
}
_STATED = {"suspended": "user_suspended", "activated": "user_activated"}


def _op(association: dict[str, Any]) -> str:
    """Return "add", "remove" or "update", or "" if the association has none."""
    op = association.get("op")
    return op.lower() if isinstance(op, str) else ""


def _classified_as(association: Any, changes: Any, action: Any, resource: Any) -> str | None:
    """Return the action with its direction, where one action adds and removes."""
    if not association and not changes:
        return None
    if isinstance(association, dict) and (op := _op(association)):
        if op == "update" and (sudo := _sudo_setting(association)):
            return f"sudo {'add' if sudo.get('enabled') in _ON else 'remove'}"
        return f"association {op} {_relation(association, resource)}"
    if not changes or not str(action).endswith(("_update", "_change")):
        return None
    account = action in ("user_update", "admin_update")
    return next(filter(None, (_switched(each, account) for each in objects(changes))), None)


def _switched(change: dict[str, Any], account: bool) -> str | None:
    """Return the action of a change that switches sudo or an account on or off."""
    field, new = str(change.get("field")).lower(), change.get("to")
    if change.get("from") == new:
        return None
    if field in _SUDO_FIELDS:
        return f"sudo {'remove' if new in _OFF else 'add'}"
    if not account:
        return None
    if _NAMED.get(field) == "role":
        given, taken = new not in _OFF, change.get("from") not in _OFF
        return f"role {'change' if given and taken else 'add' if given else 'remove'}"
    if field in ("state", "status"):
        return _STATED.get(str(new).lower())
    return _SWITCHES[field][new in _OFF] if field in _SWITCHES else None


def _ends(association: dict[str, Any]) -> list[dict[str, Any]]:
    connection = association.get("connection")
    ends = map(connection.get, ("from", "to")) if isinstance(connection, dict) else ()
    return [end for end in ends if isinstance(end, dict)]


def _relation(association: dict[str, Any], resource: Any) -> str:
    ends = _ends(association) or objects([resource, association])
    kinds = [str(end.get("type")).lower() for end in ends]
    groups = [kind for kind in kinds if kind in _GROUPS]
    members = [kind for kind in kinds if kind in _MEMBERS]
    if groups and members:
        return "member"
    if groups:
        return "group"
    return "user" if any(kind in _PEOPLE for kind in kinds) else "thing"


_JOINED = {"add": "associated {} with {}", "remove": "dissociated {} from {}",
           "update": "changed the association of {} with {}"}  # fmt: skip


def _sentence(who: Any, association: Any, success: Any, message: Any, detail: Any) -> Any:
    """Return the vendor's text or, for an association, a sentence with its direction."""
    if (message or detail) and (text := first(message, detail)):
        return text
    if not association:
        return None
    words = _JOINED.get(_op(association)) if isinstance(association, dict) else None
    ends = _ends(association) if words else []
    granted = _sudo(association) if words else None
    if not words or len(ends) != 2 or success in (False, "false"):
        return None
    vague = _op(association) == "update" and _sudo_setting(association)
    if not (granted or vague) and any(str(end.get("type")).lower() in _PEOPLE for end in ends):
        return None  # the class of the event has a better sentence
    how = ", without sudo" if vague else ""
    if granted:
        how = f", with {'passwordless ' if granted.get('withoutPassword') is True else ''}sudo"
    actor = _actor_name(who, None) or _actor_id(who) or "Somebody"
    names = [_name(end) or end.get("object_id") for end in reversed(ends)]
    return f"{actor} {words.format(*names)}{how}"


def _distinct(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each target once; a device may also be its own resource."""
    by_id: dict[Any, dict[str, Any]] = {}
    for target in found:
        first = by_id.setdefault(target["id"] or target["name"], target)
        first["name"] = first["name"] or target["name"]
    return list(by_id.values())


_WHO = Field(_who, "initiated_by", "resource", "event_type")

DIRECTORY_INSIGHTS = Stream(
    name="directory_insights",
    begin=windows.begin(_LADDER),
    pages=windows.pages(_LADDER, read, "timestamp"),
    between=windows.between(_LADDER),
    reached=windows.reached,
    learn=windows.learn(_LADDER),
    id=Field(_identity, "id|_id", "timestamp"),
    time="timestamp|@timestamp",
    keeps=_KEEPS,
    lag=_LAG,
    classified_as=Field(_classified_as, "association", "changes", "event_type", "resource"),
    target_rank={
        "user": 0,
        "systemuser": 0,
        "admin": 0,
        "user_group": 1,
        "system_group": 1,
        "application": 2,
        "privilege": 3,
        "folder": 3,
        "system": 100,
        "ldap": 100,
    },
    columns={
        "action": Field(_action, "event_type", "service", "auth_type"),
        "actor_id": Field(_actor_id, _WHO),
        "actor_name": Field(_actor_name, _WHO, "username"),
        "actor_email": Field(_actor_email, _WHO, "username"),
        "actor_type": Field(_actor_type, _WHO, "username", "auth_method"),
        "targets": Field(
            _targets,
            "service",
            "resource",
            "association",
            "changes",
            "event_type",
            *_PARTS,
            *_OWN,
            *_OWN_NAMES,
        ),
        "outcome": Field(_outcome, "success", "sso_token_success", "status", "result"),
        "outcome_reason": Field(_reason, "error_message", "outer", "message_chain", "error_chain"),
        "source_ip": Field(first, "src_ip", "client_ip", "ip_address|source_ip|remote_ip|ip"),
        "user_agent": Field(_user_agent, "useragent", "user_agent"),
        "country": Field(_country, "geoip"),
        "severity": "severity|priority",
        "message": Field(_sentence, _WHO, "association", "success", "message", "detail"),
        "session_id": "connection_id",
        "correlation_id": Field(first, "correlation.id", "access_request_id", "command_uuid"),
    },
)


class _Scoped(httpx.Auth):
    """Adds the organisations or the provider to the requests of another flow."""

    requires_response_body = True

    def __init__(self, inner: httpx.Auth, name: str, ids: Sequence[str]) -> None:
        self._inner = inner
        self._headers = [(name, id_) for id_ in ids]

    def auth_flow(self, request: httpx.Request) -> Flow:
        # Several organisations are as many headers of the same name.
        request.headers = httpx.Headers([*request.headers.multi_items(), *self._headers])
        yield from self._inner.auth_flow(request)


def _auth(settings: Settings) -> httpx.Auth:
    credential = settings.credential
    inner = (
        auth.Header("x-api-key", "", credential)
        if isinstance(credential, SecretStr)
        else _service_account(settings.authority_url, *credential)
    )
    if settings.provider_id:
        return _Scoped(inner, "x-provider-id", [settings.provider_id])
    return _Scoped(inner, "x-org-id", _ids(settings))


def _ids(settings: Settings) -> tuple[str, ...]:
    return (settings.org_id,) if isinstance(settings.org_id, str) else settings.org_id or ()


def _tenant(settings: Settings, _stream: Stream) -> Tenant:
    # Without an id it is that of the API key, of which only the region is known.
    region = tenant.by_address(settings.base_url)
    if settings.provider_id:
        return {"org_id": f"the provider {settings.provider_id}", **region}
    ids = _ids(settings)
    return {"org_id": tenant.listed(ids), **region} if ids else region


def _service_account(authority_url: str, client_id: str, secret: SecretStr) -> httpx.Auth:
    pair = f"{client_id}:{secret.get_secret_value()}"
    basic = f"Basic {base64.b64encode(pair.encode()).decode()}"
    form = {"grant_type": "client_credentials", "scope": "api"}
    url = f"{authority_url}/oauth2/token"

    def token_request(_now: float) -> httpx.Request:
        return httpx.Request("POST", url, data=form, headers={"Authorization": basic})

    return auth.Token(token_request, _sign_in_advice)


def _sign_in_advice(response: httpx.Response) -> str:
    match auth.oauth_error(response):
        case "invalid_client" | "unauthorized_client":
            return (
                "client_id or client_secret is invalid or has expired: check them, or create a "
                "new client secret for the service account under Settings > Service Accounts"
            )
        case error:
            return error or "check authority_url: it must be the address of JumpCloud's sign-in"


def _advice(response: httpx.Response) -> str | None:
    match response.status_code:
        case 401 if auth.scheme(response.request) == "Bearer":
            return (
                "the service account's access token is not accepted: check org_id, and that "
                "base_url and authority_url belong to the same region"
            )
        case 401:
            return (
                "api_key is invalid or has expired: generate a new API key under My API "
                "Key, or correct base_url (api.eu. or api.in. for those regions)"
            )
        case 403:
            return (
                "the credential may not read Directory Insights: give its administrator or service "
                "account a role such as Read Only (Command Runner is not enough), switch on Enable "
                "API access, and check org_id and provider_id"
            )
        case 404:
            return (
                "Directory Insights not found there: correct base_url, such as "
                "https://api.jumpcloud.com/insights/directory/v1"
            )
    return None


def _hints(_: Settings, delivery: Delivery) -> list[Hint]:
    """Return a hint and no record, because JumpCloud masks values in its pushes."""
    json_records.split_object(delivery.body)
    return [Hint(stream="directory_insights", records=[delivery.body])]


PUSH = Push(
    authentic=webhook_auth.authorised,
    read=_hints,
    steps=(
        "In the Admin Portal open Settings > Notification Channels > Webhooks and create one.",
        "URL: {address}",
        "Header: Authorization, value: Bearer {secret}",
        "Leave TLS verification on, and send the test event.",
        "Under Insights > Rules, choose the event types and this channel.",
    ),
)

INTEGRATION = Integration(
    kind="jumpcloud",
    title="JumpCloud",
    settings=Settings,
    streams=lambda _: (DIRECTORY_INSIGHTS,),
    auth=_auth,
    advice=_advice,
    mapping_version=5,
    tenant=_tenant,
    docs=Docs(
        credentials="API key of an administrator, or a service account's client ID and secret",
        permissions="a role that reads Directory Insights, such as Read Only; Enable API access",
        history="90 days; 15 in the lowest plan",
        delay="minutes; days for devices that were offline",
        push="webhooks of alert rules (chosen event types)",
    ),
    push=PUSH,
)
