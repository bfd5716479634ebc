"""Cloudflare audit logs, version 1 and version 2, of one account.

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

from pipelines.errors import TooHeavy, Unavailable
from pipelines.sdk import answers, auth, json_records, pasted, webhook_auth, windows
from pipelines.sdk.contract import Columns, Docs, Field, Integration, RequestPolicy, Stream
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
from pipelines.sdk.values import first, objects
from pipelines.sdk.windows import Read
from pipelines.settings import Address, IntegrationSettings

_LIMIT = 1000
_PAGES = 100  # page numbers beyond it are not served
_BLOCKED = 300.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEEPS = timedelta(days=548)
_LAG = timedelta(hours=1)
_EDGE = timedelta(seconds=1)
_STEPS = windows.reread_plan(
    window=timedelta(days=7), settle=timedelta(minutes=15), lag=_LAG, keeps=_KEEPS
)


_ROOT = "https://api.cloudflare.com/client/v4"
_ACCOUNT = pasted.identifier(
    re.compile(r"\b[0-9a-f]{32}\b"), "the 32 digits on the account's overview page"
)


class Settings(IntegrationSettings):
    kind: str = "cloudflare"
    base_url: Address = _ROOT
    account_id: Annotated[str, BeforeValidator(_ACCOUNT)]
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
            parameters = {**_window(span), "page": number, "per_page": _LIMIT}
            found = _result(client.get(path, params=parameters))[0]
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
        parameters, trail = {**_window(span), "limit": _LIMIT}, Trail("cloudflare audit_logs_v2")
        while True:
            found, info = _result(client.get(path, params=parameters))
            yield found
            # The documentation and the vendor's client disagree on where the cursor is.
            cursor = info.cursor or (info.cursors and info.cursors.after)
            if not cursor:
                return
            trail.follow(cursor, found)
            parameters["cursor"] = cursor

    return read


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


def _time(when: Any) -> Any:
    """Return RFC 3339 text, or the datetime of Logpush's Unix time in seconds or nanoseconds."""
    if isinstance(when, str) and when.isdecimal():
        when = int(when)
    if not isinstance(when, int):
        return when
    micros = when // 1000 if when > 10**12 else when * 10**6
    return _EPOCH + timedelta(microseconds=micros)


def _email(text: Any) -> str | None:
    return text.lower() if isinstance(text, str) and "@" in text else None


def _actor_type(kind: Any, context: Any = None) -> str | None:
    if context in _BY_KEY:
        return "api_key"
    return _ACTORS.get(kind.lower()) if isinstance(kind, str) else None


def _actor_name(email: Any, kind: Any, token: Any = None) -> Any:
    return first(email, token) or ("Cloudflare" if _actor_type(kind) == "system" else None)


def _outcome(result: Any) -> str:
    """Return the outcome of a result, which is a boolean, "success", "failure" or missing."""
    text = str(result).lower()
    if text in ("true", "success"):
        return "success"
    return "failure" if text in ("false", "failure") else "unknown"


def _reason(result: Any, info: Any) -> Any:
    return info if _outcome(result) == "failure" else None


def _targets_1(  # noqa: PLR0917 one per path
    id_: Any, kind: Any, new: Any, old: Any, zone: Any, token_id: Any, token: Any, *member: Any
) -> list[dict[str, Any]]:
    """Return the targets; `new` and `old` are the names after and before a change."""
    found = _thing_in_zone(id_, new or old, kind, None, zone)
    if token_id or token:
        found.append({"id": token_id, "name": token, "type": "token"})
    return found + _member(*member) if any(member) else found


def _targets_2(  # noqa: PLR0917 one per path
    id_: Any,
    kind: Any,
    product: Any,
    requested: Any,
    answered: Any,
    zone_id: Any,
    zone: Any,
    *member: Any,
) -> list[dict[str, Any]]:
    found = _thing_in_zone(id_, requested or answered, kind or product, zone_id, zone)
    return found + _member(*member) if any(member) else found


def _member(email: Any, *roles: Any) -> list[dict[str, Any]]:
    """Return the person who gets or loses membership, and the roles."""
    found = []
    if isinstance(email, str) and "@" in email:
        found.append({"id": None, "name": email, "type": "member"})
    for role in next(filter(None, map(objects, roles)), []):
        found.append({"id": role.get("id"), "name": role.get("name"), "type": "role"})
    return found


_SIGN_INS = {"login": "login", "log in": "login", "signin": "login", "sign in": "login",
             "logout": "logout", "log out": "logout", "signout": "logout",
             "sign out": "logout"}  # fmt: skip


_MEMBERS = frozenset({"member", "members", "memberships", "account_member", "account_members"})


def _classified_as(description: Any, product: Any, kind: Any, action: Any) -> str | None:
    """Return "login", "member create" or the like, where the action alone is less specific."""
    if found := _sign_in(str(description)) or _sign_in(str(product)):
        return found
    if action in ("create", "delete") and (str(kind) in _MEMBERS or str(product) in _MEMBERS):
        return f"member {action}"
    return None


@lru_cache(maxsize=4096)
def _sign_in(text: str) -> str | None:
    return _SIGN_INS.get(text.strip().lower().replace("_", " ").replace("-", " "))


def _thing_in_zone(id_: Any, name: Any, kind: Any, zone_id: Any, zone: Any) -> list[dict[str, Any]]:
    if kind == "zone":
        return [{"id": id_ or zone_id, "name": zone or name, "type": kind}]
    found = [{"id": id_, "name": name, "type": kind}]
    if zone_id or zone:
        found.append({"id": zone_id, "name": zone, "type": "zone"})
    return found


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
        "metadata.token_tag|Metadata.token_tag",
        "metadata.token_name|Metadata.token_name",
        "newValueJson.email|NewValue.email|oldValueJson.email|OldValue.email|metadata.email",
        "newValueJson.roles|NewValue.roles|oldValueJson.roles|OldValue.roles",
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
        "resource.request.email|ResourceRequest.email|resource.response.user.email"
        "|ResourceResponse.user.email",
        "resource.response.roles|ResourceResponse.roles",
        "resource.request.roles|ResourceRequest.roles",
    ),
    "outcome": Field(_outcome, "action.result|ActionResult"),
    "source_ip": "actor.ip_address|ActorIPAddress",
    "user_agent": "raw.user_agent|Raw.user_agent",
    "message": "action.description|ActionDescription",
    "correlation_id": "raw.cf_ray_id|Raw.cf_ray_id",
}


@cache
def _both(account_id: str) -> tuple[Stream, ...]:
    account = f"accounts/{account_id}"
    return (
        _stream(
            name="audit_logs",
            id="id|ID",
            time=Field(_time, "when|When"),
            read=_pages(f"{account}/audit_logs"),
            ordered_by="when",
            columns=AUDIT_LOGS,
        ),
        _stream(
            name="audit_logs_v2",
            id="id|AuditLogID",
            time=Field(_time, "action.time|ActionTimestamp"),
            read=_cursors(f"{account}/logs/audit"),
            ordered_by="action.time",
            columns=AUDIT_LOGS_V2,
            classified_as=Field(
                _classified_as,
                "action.description|ActionDescription",
                "resource.product|ResourceProduct",
                "resource.type|ResourceType",
                "action.type|ActionType",
            ),
        ),
    )


def _stream(*, read: Read, ordered_by: str, **own: Any) -> Stream:
    return Stream(
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
    return _both(settings.account_id if settings else "")


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


_TEST = {"content": "tests"}
_FIELDS = {
    # Dataset (also the stream's name) -> its fields.
    "audit_logs": "ActionResult ActionType ActorEmail ActorID ActorIP ActorType ID Interface "
    "Metadata NewValue OldValue OwnerID ResourceID ResourceType When",
    "audit_logs_v2": "AccountID AccountName ActionDescription ActionResult ActionTimestamp "
    "ActionType ActorContext ActorEmail ActorID ActorIPAddress ActorTokenDetails ActorType "
    "AuditLogID Raw ResourceID ResourceProduct ResourceRequest ResourceResponse ResourceScope "
    "ResourceType ResourceValue ZoneID ZoneName",
}


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
    except msgspec.DecodeError:
        return b'"AuditLogID"' in line


def _jobs(settings: Settings) -> str:
    return f"accounts/{settings.account_id}/logpush/jobs"


def _register(
    settings: Settings, client: httpx.Client, endpoint: Endpoint, known: Subscriptions, _: datetime
) -> Subscriptions:
    """Create one job per dataset, replacing existing ones."""
    # A new job makes Cloudflare test the destination again.
    _remove(settings, client, endpoint, known)
    for stream in endpoint.streams:
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
            "field_names": _FIELDS[dataset].split(),
            "output_type": "ndjson",
            "timestamp_format": "rfc3339",
        },
        "max_upload_bytes": 5_000_000,
        "max_upload_records": 1000,
    }


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
    mapping_version=4,
    docs=Docs(
        credentials="API token",
        permissions="Account Settings: Read",
        history="18 months (v2: since March 2026)",
        delay="minutes; not published",
        push="Logpush over HTTPS",
    ),
    push=PUSH,
)
