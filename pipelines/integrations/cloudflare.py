"""Cloudflare audit logs: versions 1 and 2 of one account, and version 2 of its organisation.

Both are queried in windows of event time, oldest first, so that new rows do not shift the pages.
Version 2 covers most products, version 1 has old and new values and the longer history; Cloudflare
recommends running both. Whether the ends of a window are inclusive is not documented, so each query
reaches a second beyond the end.
https://developers.cloudflare.com/fundamentals/account/account-security/review-audit-logs/
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from typing import Annotated, Any

import httpx
import msgspec
from pydantic import BeforeValidator, field_validator

from pipelines.errors import Refused, TooHeavy, Unavailable
from pipelines.sdk import answers, auth, endings, json_records, pasted, webhook_auth, windows
from pipelines.sdk.contract import Columns, Docs, Field, Integration, RequestPolicy, Stream
from pipelines.sdk.endings import Ending
from pipelines.sdk.headers import server_seconds
from pipelines.sdk.pages import Gap, Span
from pipelines.sdk.pagination import Trail
from pipelines.sdk.push import (
    Delivery,
    Endpoint,
    Push,
    Records,
    Subscription,
    SubscriptionApi,
    Subscriptions,
)
from pipelines.sdk.record_versions import Comparison
from pipelines.sdk.tenant import Tenant
from pipelines.sdk.values import first, objects
from pipelines.sdk.windows import Read
from pipelines.settings import Address, IntegrationSettings

_LIMIT, _DEFAULT_LIMIT = 1000, 100
_PAGES = 100  # page numbers beyond it are not served
_BLOCKED = 300.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEEPS = timedelta(days=546)  # 18 months have at least as many
_OF_ORGANIZATION = "organization_audit_logs_v2"
_LAG = timedelta(hours=1)
_EDGE = timedelta(seconds=1)
_STEPS = windows.reread_plan(
    window=timedelta(days=7), settle=timedelta(minutes=15), lag=_LAG, keeps=_KEEPS
)


_ROOT = "https://api.cloudflare.com/client/v4"
_ACCOUNT = pasted.identifier(
    re.compile(r"\b[0-9a-f]{32}\b"), "the 32 digits on the account's overview page"
)
_ORGANIZATION = pasted.identifier(
    re.compile(r"\b[0-9a-f]{32}\b"), "the organization's ID in the dashboard, or remove the key"
)


class Settings(IntegrationSettings):
    kind: str = "cloudflare"
    base_url: Address = _ROOT
    account_id: Annotated[str, BeforeValidator(_ACCOUNT)]
    organization_id: Annotated[str, BeforeValidator(_ORGANIZATION)] | None = None
    api_token: pasted.Token

    @field_validator("base_url")
    @classmethod
    def _api(cls, value: str) -> str:
        if pasted.is_below(value, "dash.cloudflare.com"):
            raise ValueError(f"this is the dashboard: set {_ROOT}, or remove the key")
        return pasted.root(value, [_ROOT])


class _Cursors(msgspec.Struct):
    after: str | None = None


class _Info(msgspec.Struct):
    cursor: str | None = None
    cursors: _Cursors | None = None


def _pages(path: str) -> Read:
    """Return the reader of version 1, which numbers its pages."""

    def read(client: httpx.Client, span: Span) -> Iterator[Sequence[bytes] | Gap]:
        number, before = 0, list[bytes]()
        while True:
            number += 1
            parameters = {**_window(span), "page": number}
            found = _result(_sized(client, path, parameters, "per_page"))[0]
            yield found
            # A service that ignores the number repeats its only page, which is not full then.
            if not found or (found == before and len(found) < _LIMIT):
                return
            if found == before or number >= _PAGES:
                raise TooHeavy(
                    f"cloudflare has more than it returns for {span.until - span.since}: nothing "
                    "is taken for complete, and the next round retries"
                )
            before = found

    return read


def _cursors(path: str) -> Read:
    """Return the reader of version 2, which has cursors."""

    def read(client: httpx.Client, span: Span) -> Iterator[Sequence[bytes] | Gap]:
        parameters, trail = _window(span), Trail("cloudflare audit_logs_v2")
        while True:
            found, info = _result(_sized(client, path, parameters, "limit"))
            yield found
            # The documentation and the vendor's client disagree on where the cursor is.
            cursor = info.cursor or (info.cursors and info.cursors.after)
            if not cursor:
                return
            trail.follow(cursor, found)
            parameters["cursor"] = cursor

    return read


def _sized(
    client: httpx.Client, path: str, parameters: dict[str, str | int], size: str
) -> httpx.Response:
    """Return a page of the greatest size, or of the default size where that is refused."""
    try:
        return client.get(path, params={**parameters, size: _LIMIT})
    except Refused as error:
        if error.status != httpx.codes.BAD_REQUEST or size.encode() not in error.body.lower():
            raise
    return client.get(path, params={**parameters, size: _DEFAULT_LIMIT})


def _window(span: Span) -> dict[str, str | int]:
    return {
        "since": _rfc_3339(span.since),
        "before": _rfc_3339(span.until + _EDGE),
        "direction": "asc",
    }


def _rfc_3339(time: datetime) -> str:
    return time.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _result(response: httpx.Response) -> tuple[list[bytes], _Info]:
    """Return the records and the paging info. Raises Unavailable if there is no result."""
    answer = json_records.split_object(response.content)
    succeeded, result = answer.get("success", b"true"), answer.get("result")
    # A list without records may be null, but then only `success` tells it from an error.
    if succeeded != b"true" or result is None or (result == b"null" and "success" not in answer):
        raise Unavailable(
            f"cloudflare answered 200 without a result{answers.quoted(response)}; "
            "the next round retries"
        )
    found = [] if result == b"null" else json_records.split_array(result)
    info = answer.get("result_info", b"null")
    return found, msgspec.json.decode(info, type=_Info | None, strict=False) or _Info()


_ACTORS = {
    "user": "user",
    "account": "service",
    "system": "system",
    "admin": "system",
    "cloudflare_admin": "system",
    "cloudflare": "system",
}
_BY_KEY = ("api_key", "api_token", "origin_ca_key")


_UNITS = ((10**17, 10**9), (10**14, 10**6), (10**11, 10**3), (0, 1))
"""Smallest Unix time in ns, us, ms and s -> how many of the unit a second has."""


def _time(when: Any) -> Any:
    """Return RFC 3339 text, or the datetime of Logpush's Unix time in any unit."""
    if isinstance(when, str) and when.replace(".", "", 1).isdecimal():
        when = float(when) if "." in when else int(when)
    if not isinstance(when, int | float):
        return when
    units = next(units for least, units in _UNITS if when >= least)
    return _EPOCH + timedelta(microseconds=when * 10**6 // units)


def _email(text: Any) -> str | None:
    return text.lower() if isinstance(text, str) and "@" in text else None


def _actor_type(kind: Any, context: Any = None) -> str | None:
    if context in _BY_KEY:
        return "api_key"
    return _ACTORS.get(kind.lower()) if isinstance(kind, str) else None


def _actor_name(email: Any, kind: Any, token: Any = None) -> Any:
    return first(email, token) or ("Cloudflare" if _actor_type(kind) == "system" else None)


_OUTCOMES = {
    **dict.fromkeys(("true", "success", "succeeded"), "success"),
    **dict.fromkeys(("false", "failure", "failed", "fail", "error", "denied"), "failure"),
}


def _outcome(result: Any) -> str:
    """Return the outcome of a result, which is a boolean, "success", "failure" or missing."""
    return _OUTCOMES.get(str(result).lower(), "unknown")


def _reason(result: Any, info: Any) -> Any:
    return info if _outcome(result) == "failure" else None


def _targets_1(  # noqa: PLR0917 one per path
    id_: Any,
    kind: Any,
    new: Any,
    old: Any,
    zone: Any,
    about: Any,
    token_id: Any,
    token: Any,
    member: Any,
) -> list[dict[str, Any]]:
    """Return the targets; `new` and `old` are the names after and before a change."""
    name = new or old or (about if kind != "zone" else None)
    found = _thing_in_zone(id_, name, kind, None, zone)
    if about and about != name:
        found.append({"id": None, "name": about, "type": "setting"})
    if token_id or token:
        found.append({"id": token_id, "name": token, "type": "token"})
    # The person and the roles are more telling than the membership, which is the resource.
    return member + found if member else found


def _targets_2(  # noqa: PLR0917 one per path
    id_: Any,
    kind: Any,
    product: Any,
    requested: Any,
    answered: Any,
    zone_id: Any,
    zone: Any,
    member: Any,
) -> list[dict[str, Any]]:
    found = _thing_in_zone(id_, requested or answered, kind or product, zone_id, zone)
    return member + found if member else found


def _member(email: Any, after: Sequence[Any], before: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the person who gets or loses membership or a role, and the roles that change.

    `after` and `before` are the places where the roles may be; the first with any counts.
    """
    found = []
    if isinstance(email, str) and "@" in email:
        found.append({"id": None, "name": email, "type": "member"})
    new, old = (_first_roles(places) for places in (after, before))
    return found + (_without(new, old) + _without(old, new) or new)


def _member_1(email: Any, *roles: Any) -> list[dict[str, Any]]:
    return _member(email, roles[:2], roles[2:])


def _member_2(email: Any, *roles: Any) -> list[dict[str, Any]]:
    return _member(email, roles[:-1], roles[-1:])


def _first_roles(places: Sequence[Any]) -> list[dict[str, Any]]:
    return next(filter(None, map(_roles, places)), [])


def _roles(given: Any) -> list[dict[str, Any]]:
    """Return the roles in a list of roles, of policies or of their names or IDs."""
    listed = given if isinstance(given, list) else [given]
    found = []
    for each in objects(listed):
        found += _roles(each.get("permission_groups")) or [_role(each.get("id"), each.get("name"))]
    if found:
        return found
    texts = [each for each in listed if isinstance(each, str)]
    return [_role(each, None) if _ID.fullmatch(each) else _role(None, each) for each in texts]


def _role(id_: Any, name: Any) -> dict[str, Any]:
    return {"id": id_, "name": name, "type": "role"}


def _without(roles: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [role for role in roles if role not in others]


_ID = re.compile(r"[0-9a-f]{32}")
_SIGN_IN = re.compile(
    r"(?:(?:user|account|dashboard|sso|failed) )*(?:log|sign) ?(?P<way>in|on|out|off)"
    r"(?: (?:attempt|failed|failure|denied|success|succeeded))*"
)


_MEMBERS = frozenset(
    {"member", "members", "memberships", "account_member", "account_members",
     "organization_member", "organization_members", "user_group_member", "user_group_members"}
)  # fmt: skip


def _changed_roles(after: Any, before: Any) -> str | None:
    """Return "role add" or "role remove" for a member who had and has roles, or null."""
    if after is None or before is None:
        return None
    new, old = _roles(after), _roles(before)
    given, taken = _without(new, old), _without(old, new)
    if not (given or taken):
        return None
    return "role change" if given and taken else f"role {'add' if given else 'remove'}"


def _classified_as(
    description: Any, product: Any, kind: Any, action: Any, roles: Any
) -> str | None:
    """Return "login", "member create" or the like, where the action alone is less specific."""
    if found := _sign_in(str(description)) or _sign_in(str(product)):
        return found
    if action in ("create", "delete") and (_is_member(str(kind)) or _is_member(str(product))):
        return f"member {action}"
    return roles if isinstance(roles, str) else None


@lru_cache(maxsize=4096)
def _is_member(text: str) -> bool:
    return re.sub(r"\W", "_", text.strip().lower()) in _MEMBERS


@lru_cache(maxsize=4096)
def _sign_in(text: str) -> str | None:
    found = _SIGN_IN.fullmatch(re.sub(r"[\W_]+", " ", text).strip().lower())
    return found and ("login" if found["way"] in ("in", "on") else "logout")


def _thing_in_zone(id_: Any, name: Any, kind: Any, zone_id: Any, zone: Any) -> list[dict[str, Any]]:
    if kind == "zone":
        return [{"id": id_ or zone_id, "name": zone or name, "type": kind}]
    found = [{"id": id_, "name": name, "type": kind}]
    if zone_id or zone:
        found.append({"id": zone_id, "name": zone, "type": "zone"})
    return found


# Few records have any of these, and nothing is called for the others.
_MEMBER_1 = Field(
    _member_1,
    "newValueJson.email|NewValue.email|oldValueJson.email|OldValue.email|metadata.email",
    "newValueJson.roles|NewValue.roles",
    "newValueJson.policies|NewValue.policies",
    "oldValueJson.roles|OldValue.roles",
    "oldValueJson.policies|OldValue.policies",
)
_MEMBER_2 = Field(
    _member_2,
    "resource.request.email|ResourceRequest.email|resource.response.user.email"
    "|ResourceResponse.user.email|resource.response.email|ResourceResponse.email",
    "resource.value.after.roles|ResourceValue.after.roles",
    "resource.response.roles|ResourceResponse.roles",
    "resource.request.roles|ResourceRequest.roles",
    "resource.response.policies|ResourceResponse.policies",
    "resource.request.policies|ResourceRequest.policies",
    "resource.value.before.roles|ResourceValue.before.roles",
)
_ROLES_1 = Field(
    _changed_roles, "newValueJson.roles|NewValue.roles", "oldValueJson.roles|OldValue.roles"
)
_ROLES_2 = Field(
    _changed_roles,
    "resource.value.after.roles|ResourceValue.after.roles",
    "resource.value.before.roles|ResourceValue.before.roles",
)

AUDIT_LOGS: Columns = {
    "action": "action.type|ActionType",
    "actor_id": "actor.id|ActorID",
    "actor_name": Field(_actor_name, "actor.email|ActorEmail", "actor.type|ActorType"),
    "actor_email": Field(_email, "actor.email|ActorEmail"),
    "actor_type": Field(_actor_type, "actor.type|ActorType"),
    "targets": Field(
        _targets_1,
        "resource.id|ResourceID",
        "resource.type|ResourceType",
        "newValueJson.name|NewValue.name",
        "oldValueJson.name|OldValue.name",
        "metadata.zone_name|Metadata.zone_name",
        "metadata.name|Metadata.name",
        "metadata.token_tag|Metadata.token_tag",
        "metadata.token_name|Metadata.token_name",
        _MEMBER_1,
    ),
    "outcome": Field(_outcome, "action.result|ActionResult"),
    "outcome_reason": Field(_reason, "action.result", "action.info"),
    "source_ip": "actor.ip|ActorIP",
}

AUDIT_LOGS_V2: Columns = {
    "action": "action.type|ActionType",
    "actor_id": "actor.id|ActorID",
    "actor_name": Field(
        _actor_name,
        "actor.email|ActorEmail",
        "actor.type|ActorType",
        "actor.token_name|ActorTokenDetails.name",
    ),
    "actor_email": Field(_email, "actor.email|ActorEmail"),
    "actor_type": Field(_actor_type, "actor.type|ActorType", "actor.context|ActorContext"),
    "targets": Field(
        _targets_2,
        "resource.id|ResourceID",
        "resource.type|ResourceType",
        "resource.product|ResourceProduct",
        "resource.request.name|ResourceRequest.name",
        "resource.response.name|ResourceResponse.name",
        "zone.id|ZoneID",
        "zone.name|ZoneName",
        _MEMBER_2,
    ),
    "outcome": Field(_outcome, "action.result|ActionResult"),
    "source_ip": "actor.ip_address|ActorIPAddress",
    "user_agent": "raw.user_agent|Raw.user_agent",
    "message": "action.description|ActionDescription",
    "correlation_id": "raw.cf_ray_id|Raw.cf_ray_id",
}

_AS_POLLED = {
    # Dataset (also the stream's name) -> field of Logpush -> path of the same value in the API.
    "audit_logs": {
        "ActionResult": "action.result",
        "ActionType": "action.type",
        "ActorEmail": "actor.email",
        "ActorID": "actor.id",
        "ActorIP": "actor.ip",
        "ActorType": "actor.type",
        "Interface": "interface",
        "Metadata": "metadata",
        "NewValue": "newValueJson",
        "OldValue": "oldValueJson",
        "OwnerID": "owner.id",
        "ResourceID": "resource.id",
        "ResourceType": "resource.type",
    },
    "audit_logs_v2": {
        "AccountID": "account.id",
        "AccountName": "account.name",
        "ActionDescription": "action.description",
        "ActionResult": "action.result",
        "ActionType": "action.type",
        "ActorContext": "actor.context",
        "ActorEmail": "actor.email",
        "ActorID": "actor.id",
        "ActorIPAddress": "actor.ip_address",
        "ActorTokenDetails.id": "actor.token_id",
        "ActorTokenDetails.name": "actor.token_name",
        "ActorType": "actor.type",
        "Raw": "raw",
        "ResourceID": "resource.id",
        "ResourceProduct": "resource.product",
        "ResourceRequest": "resource.request",
        "ResourceResponse": "resource.response",
        "ResourceType": "resource.type",
        "ResourceValue": "resource.value",
        "ZoneID": "zone.id",
        "ZoneName": "zone.name",
    },
}

_NOT_COMPARED = {
    # Identity and time, which are matched already, and text where the API may have an object.
    "audit_logs": ("ID", "When"),
    "audit_logs_v2": ("AuditLogID", "ActionTimestamp", "ResourceScope"),
}


@cache
def _all(account_id: str, organization_id: str) -> tuple[Stream, ...]:
    account = f"accounts/{account_id}"
    return (
        _stream(
            name="audit_logs",
            id="id|ID",
            time=Field(_time, "when|When"),
            read=_pages(f"{account}/audit_logs"),
            ordered_by="when",
            columns=AUDIT_LOGS,
            classified_as=_ROLES_1,
        ),
        _second("audit_logs_v2", f"{account}/logs/audit"),
        _second(_OF_ORGANIZATION, f"organizations/{organization_id}/logs/audit"),
    )


def _second(name: str, path: str) -> Stream:
    """Return a stream of version 2."""
    return _stream(
        name=name,
        id="id|AuditLogID|audit_log_id",
        time=Field(_time, "action.time|ActionTimestamp"),
        read=_cursors(path),
        ordered_by="action.time",
        columns=AUDIT_LOGS_V2,
        classified_as=Field(
            _classified_as,
            "action.description|ActionDescription",
            "resource.product|ResourceProduct",
            "resource.type|ResourceType",
            "action.type|ActionType",
            _ROLES_2,
        ),
    )


def _stream(*, name: str, read: Read, ordered_by: str, **own: Any) -> Stream:
    return Stream(
        name=name,
        versions=Comparison(
            volatile=_NOT_COMPARED.get(name, ()),
            pushed_as=_AS_POLLED.get(name, {}),
            pushed_only=name in _AS_POLLED,
        ),
        begin=windows.begin(_STEPS),
        pages=windows.pages(_STEPS, read, ordered_by),
        between=windows.between(_STEPS),
        reached=windows.reached,
        learn=windows.learn(_STEPS),
        target_rank={"token": 0},
        keeps=_KEEPS,
        lag=_LAG,
        **own,
    )


def _streams(settings: Settings | None) -> tuple[Stream, ...]:
    if settings is None:
        return _all("", "")
    found = _all(settings.account_id, settings.organization_id or "")
    return found if settings.organization_id else found[:-1]


def _tenant(settings: Settings, stream: Stream) -> Tenant:
    if stream.name == _OF_ORGANIZATION:
        return {"organization_id": settings.organization_id or ""}
    return {"account_id": settings.account_id}


def _pause(response: httpx.Response) -> float:
    """Return the seconds until the reset once the limit is used up."""
    # One request too many blocks the whole account for five minutes.
    used_up = response.headers.get("x-ratelimit-remaining") == "0"
    return _until_reset(response) if used_up else 0.0


def _until_reset(response: httpx.Response) -> float:
    """Return the seconds until x-ratelimit-reset (an RFC 1123 date), or else a whole block."""
    try:
        reset = parsedate_to_datetime(response.headers["x-ratelimit-reset"])
        return min(_BLOCKED, server_seconds(response, reset.timestamp()))
    except (KeyError, TypeError, ValueError):
        return _BLOCKED


def _advice(response: httpx.Response) -> str | None:
    if response.status_code in (403, 404) and "/organizations/" in response.request.url.path:
        return (
            "the audit log of the organization is not available: check organization_id, and let "
            "one of its administrators create the API token, or remove organization_id"
        )
    return _account_advice(response)


def _account_advice(response: httpx.Response) -> str | None:
    match response.status_code:
        case 400 if b"6003" not in response.content:  # 6003: invalid request headers
            return None
        case 400 | 401:
            return (
                "the API token is wrong, expired or revoked: create one under "
                "My Profile or Manage Account > API Tokens and set api_token"
            )
        case 403 if "/logpush/" in response.request.url.path:
            return "the API token lacks a permission: give it the account permission Logs: Edit"
        case 403:
            return (
                "the API token lacks a permission: give it the account permission "
                "Account Settings: Read for this account"
            )
        case 404:
            return "account not found: set account_id to the id on the account's overview page"
    return None


def _endings(settings: Settings, client: httpx.Client) -> list[Ending]:
    """Return the end of the API token, which belongs to a user or to the account."""
    try:
        response = client.get("user/tokens/verify")
    except Refused:
        response = client.get(f"accounts/{settings.account_id}/tokens/verify")
    token = answers.members(response.content).get("result")
    return endings.reported(
        "the API token",
        token.get("expires_on") if isinstance(token, dict) else None,
        "roll it or create a new one under My Profile or Manage Account > API Tokens, and set "
        "api_token",
    )


_TEST = {"content": "tests"}


class _Pushed(msgspec.Struct):
    """The field that distinguishes the two datasets."""

    id_2: str | None = msgspec.field(default=None, name="AuditLogID")


def _pushed(_: Settings, delivery: Delivery) -> list[Records]:
    """Return the pushed records by stream, without the test upload of a new job."""
    found: dict[str, list[bytes]] = {"audit_logs": [], "audit_logs_v2": []}
    for line in json_records.split_lines(delivery.body):
        if not json_records.is_complete(line):
            raise json_records.MalformedJson("a line is truncated")
        # The length is checked first, to avoid parsing every record.
        if len(line) > 64 or json_records.load(line) != _TEST:
            found["audit_logs_v2" if _is_second(line) else "audit_logs"].append(line)
    return [Records(stream=name, records=lines) for name, lines in found.items() if lines]


def _is_second(line: bytes) -> bool:
    try:
        return msgspec.json.decode(line, type=_Pushed).id_2 is not None
    except (msgspec.DecodeError, RecursionError):
        return b'"AuditLogID"' in line


def _jobs(settings: Settings) -> str:
    return f"accounts/{settings.account_id}/logpush/jobs"


def _register(
    settings: Settings, client: httpx.Client, endpoint: Endpoint, known: Subscriptions, _: datetime
) -> Subscriptions:
    """Create one job per dataset, replacing existing ones."""
    # A new job makes Cloudflare test the destination again.
    _remove(settings, client, endpoint, known)
    # Logpush has no dataset for the log of an organization.
    for stream in filter(_AS_POLLED.__contains__, endpoint.streams):
        client.post(_jobs(settings), json=_job(endpoint, stream))
    return _subscriptions(settings, client, endpoint, known)


def _job(endpoint: Endpoint, dataset: str) -> dict[str, Any]:
    header = urllib.parse.quote(f"Bearer {endpoint.secret.get_secret_value()}", safe="")
    return {
        "name": f"auditlake-{endpoint.name}-{dataset}".replace("_", "-"),
        "dataset": dataset,
        "destination_conf": f"{endpoint.address}?header_Authorization={header}",
        "enabled": True,
        "output_options": {
            "field_names": _fields(dataset),
            "output_type": "ndjson",
            "timestamp_format": "rfc3339",
        },
        "max_upload_bytes": 5_000_000,
        "max_upload_records": 1000,
    }


def _fields(dataset: str) -> list[str]:
    """Return the fields of a dataset that a job pushes."""
    names = {path.partition(".")[0] for path in _AS_POLLED[dataset]}
    return sorted(names.union(_NOT_COMPARED[dataset]))


def _subscriptions(
    settings: Settings, client: httpx.Client, endpoint: Endpoint, _: Subscriptions
) -> Subscriptions:
    """Return the jobs that push to this address."""
    # The query of a destination contains the secret: compare only the part before it.
    return [
        Subscription(
            stream=str(job.get("dataset")),
            id=str(job["id"]),
            active=bool(job.get("enabled")) and not job.get("error_message"),
            note="the last upload failed" if job.get("error_message") else "",
        )
        for job in map(json_records.load, _result(client.get(_jobs(settings)))[0])
        if str(job.get("destination_conf")).partition("?")[0] == endpoint.address
    ]


def _remove(
    settings: Settings, client: httpx.Client, endpoint: Endpoint, known: Subscriptions
) -> None:
    for job in _subscriptions(settings, client, endpoint, known):
        client.delete(f"{_jobs(settings)}/{job.id}")


PUSH = Push(
    authentic=webhook_auth.authorised,
    read=_pushed,
    # Cloudflare does not document which of these Logpush sends.
    media_types=frozenset(
        {
            "",
            "application/gzip",
            "application/json",
            "application/octet-stream",
            "application/x-gzip",
            "application/x-ndjson",
            "text/plain",
        }
    ),
    packed=True,
    subscription_api=SubscriptionApi(register=_register, current=_subscriptions, remove=_remove),
)

INTEGRATION = Integration(
    kind="cloudflare",
    title="Cloudflare",
    settings=Settings,
    streams=_streams,
    auth=lambda settings: auth.Header("Authorization", "Bearer", settings.api_token),
    request_policy=RequestPolicy(
        rate=(1100, _BLOCKED), delay_after=_pause, retry_after=_until_reset
    ),
    advice=_advice,
    mapping_version=5,
    tenant=_tenant,
    reported_endings=_endings,
    docs=Docs(
        credentials="API token",
        permissions="Account Settings: Read; `organization_audit_logs_v2` needs a token of an "
        "administrator of the organization",
        history="18 months (v2: since March 2026)",
        delay="minutes; not published",
        push="Logpush over HTTPS (all plans; 25 GB a month are free)",
    ),
    push=PUSH,
)
