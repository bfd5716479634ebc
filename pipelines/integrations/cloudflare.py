"""Cloudflare audit logs, version 1 and version 2, of one account.

Both are asked by windows of event time, oldest first, so that rows that come meanwhile do not shift
the pages. Version 2 has most products, version 1 has old and new values and the longer history;
Cloudflare advises to run both. Where edges of a window belong is not documented, so each window is
asked a second beyond its end.
https://developers.cloudflare.com/fundamentals/account/account-security/review-audit-logs/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import httpx
import msgspec

from pipelines import auth, coverage, places, records
from pipelines.coverage import Read
from pipelines.errors import Unavailable
from pipelines.integration import Columns, Field, Gap, Guide, Integration, Manners, Span, Stream
from pipelines.settings import Address, IntegrationSettings, Secret

_LIMIT = 1000
_BLOCKED = 300.0
_KEEPS = timedelta(days=548)
_LAG = timedelta(hours=1)
_EDGE = timedelta(seconds=1)
_STEPS = coverage.ladder(
    window=timedelta(days=7), settle=timedelta(minutes=15), lag=_LAG, keeps=_KEEPS
)


class Settings(IntegrationSettings):
    kind: str = "cloudflare"
    base_url: Address = "https://api.cloudflare.com/client/v4"
    account_id: str
    api_token: Secret


class _Cursors(msgspec.Struct):
    after: str | None = None


class _Info(msgspec.Struct):
    cursor: str | None = None
    cursors: _Cursors | None = None


def _pages(path: str) -> Read:
    """Version 1 counts pages; a page that is not full is the last."""

    def read(client: httpx.Client, span: Span) -> Iterator[Sequence[bytes] | Gap]:
        number, found = 1, [b""] * _LIMIT
        while len(found) >= _LIMIT:
            parameters = {**_window(span), "page": number, "per_page": _LIMIT}
            found = _result(client.get(path, params=parameters))[0]
            yield found
            number += 1

    return read


def _cursors(path: str) -> Read:
    """Version 2 gives a cursor, which the documentation and the vendor's client put elsewhere."""

    def read(client: httpx.Client, span: Span) -> Iterator[Sequence[bytes] | Gap]:
        parameters = {**_window(span), "limit": _LIMIT}
        while True:
            found, info = _result(client.get(path, params=parameters))
            yield found
            cursor = info.cursor or (info.cursors and info.cursors.after)
            if not found or not cursor or cursor == parameters.get("cursor"):
                return
            parameters["cursor"] = cursor

    return read


def _window(span: Span) -> dict[str, str | int]:
    return {
        "since": _text(span.since),
        "before": _text(span.until + _EDGE),
        "direction": "asc",
    }


def _text(time: datetime) -> str:
    return time.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _result(response: httpx.Response) -> tuple[list[bytes], _Info]:
    """The records and where the next page is. Raises Unavailable for an answer that is none."""
    answer = records.members(response.content)
    if answer.get("success") == b"false" or "result" not in answer:
        raise Unavailable("cloudflare answered 200 without a result; will be asked again")
    found = [] if answer["result"] == b"null" else records.elements(answer["result"])
    info = answer.get("result_info", b"null")
    return found, msgspec.json.decode(info, type=_Info | None, strict=False) or _Info()


_ACTORS = {
    "user": "user",
    "admin": "user",
    "account": "service",
    "system": "system",
    "cloudflare_admin": "system",
    "cloudflare": "system",
}
_BY_KEY = ("api_key", "api_token", "origin_ca_key")
_DONE = {
    "login": "signed in",
    "logout": "signed out",
    "token_create": "created an API token",
    "token_roll": "rolled an API token",
    "token_update": "changed an API token",
    "token_revoke": "revoked an API token",
    "rotate_API_key": "rotated the API key",
    "rec_add": "added a DNS record",
    "rec_set": "changed a DNS record",
    "rec_del": "deleted a DNS record",
    "purge": "purged the cache",
    "add": "added",
    "delete": "deleted",
    "change_setting": "changed a setting",
}


def _email(text: Any) -> str | None:
    return text.lower() if isinstance(text, str) and "@" in text else None


def _actor_type(kind: Any, context: Any = None) -> str | None:
    if context in _BY_KEY:
        return "api_key"
    return _ACTORS.get(kind.lower(), kind.lower()) if isinstance(kind, str) else None


def _actor_name(email: Any, token: Any, kind: Any) -> Any:
    return email or token or ("Cloudflare" if _actor_type(kind) == "system" else None)


def _actor_name_1(email: Any, pushed: Any, kind: Any, pushed_kind: Any) -> Any:
    return _actor_name(email or pushed, None, kind or pushed_kind)


def _outcome(result: Any) -> str:
    """True, "success" and their opposites; a missing result says nothing."""
    said = str(result).lower()
    if said in ("true", "success"):
        return "success"
    return "failure" if said in ("false", "failure") else "unknown"


def _reason(result: Any, info: Any) -> Any:
    return info if _outcome(result) == "failure" else None


def _targets(resource: Any, zone: Any) -> list[dict[str, Any]]:
    """`zone` is its name, or an object with id and name."""
    found = []
    name = zone.get("name") if isinstance(zone, dict) else zone
    kind = None
    if isinstance(resource, dict) and (resource.get("id") or resource.get("type")):
        kind = resource.get("type") or resource.get("product")
        own = name if kind == "zone" else _own_name(resource)
        found.append({"id": resource.get("id"), "name": own, "type": kind})
    if isinstance(name, str) and name and kind != "zone":
        id_ = zone.get("id") if isinstance(zone, dict) else None
        found.append({"id": id_, "name": name, "type": "zone"})
    return found


def _own_name(resource: dict[str, Any]) -> Any:
    for part in ("request", "response"):
        said = resource.get(part)
        if isinstance(said, dict) and isinstance(said.get("name"), str):
            return said["name"]
    return None


def _message(  # noqa: PLR0917 one a path
    action: Any, result: Any, email: Any, kind: Any, resource: Any, zone: Any
) -> str:
    who = email or ("Cloudflare" if _actor_type(kind) == "system" else "Somebody")
    done = _DONE.get(action) or f"performed {str(action).replace('_', ' ')}"
    thing = f" {resource.replace('_', ' ')}" if done in ("added", "deleted") and resource else ""
    failed = " (failed)" if _outcome(result) == "failure" else ""
    return f"{who} {done}{thing}" + (f" of {zone}" if zone else "") + failed


def _described(description: Any, action: Any, email: Any, product: Any) -> str:
    return description or f"{email or 'Somebody'}: {action} in {product}"


def _either(api: Any, pushed: Any) -> Any:
    return pushed if api is None else api


def _both_shapes(derive: Callable[..., object], *paths: str) -> Field:
    """The API's path and Logpush's of each value: "action.type ActionType"."""
    pairs = [path.split() for path in paths]

    def derived(*values: Any) -> object:
        return derive(*(_either(*values[n : n + 2]) for n in range(0, len(values), 2)))

    return Field(derived, *(path for pair in pairs for path in pair))


def _same(value: Any) -> Any:
    return value


def _pushed_time(when: Any) -> Any:
    """RFC 3339, or Unix time in seconds or nanoseconds, as the Logpush job says."""
    if isinstance(when, str) and when.isdecimal():
        when = int(when)
    if isinstance(when, int) and not isinstance(when, bool):
        return datetime.fromtimestamp(when / (1e9 if when > 1e12 else 1), UTC)
    return when


def _pushed_targets(resource: Any, zone: Any, id_: Any, kind: Any) -> list[dict[str, Any]]:
    return _targets(resource or {"id": id_, "type": kind}, zone)


AUDIT_LOGS: Columns = {
    "action": _both_shapes(_same, "action.type ActionType"),
    "actor_id": _both_shapes(_same, "actor.id ActorID"),
    "actor_name": Field(_actor_name_1, "actor.email", "ActorEmail", "actor.type", "ActorType"),
    "actor_email": _both_shapes(_email, "actor.email ActorEmail"),
    "actor_type": _both_shapes(_actor_type, "actor.type ActorType"),
    "targets": Field(
        _pushed_targets, "resource", "metadata.zone_name", "ResourceID", "ResourceType"
    ),
    "outcome": _both_shapes(_outcome, "action.result ActionResult"),
    "outcome_reason": Field(_reason, "action.result", "action.info"),
    "source_ip": _both_shapes(places.address, "actor.ip ActorIP"),
    "message": _both_shapes(
        _message,
        "action.type ActionType",
        "action.result ActionResult",
        "actor.email ActorEmail",
        "actor.type ActorType",
        "resource.type ResourceType",
        "metadata.zone_name Metadata.zone_name",
    ),
}

AUDIT_LOGS_V2: Columns = {
    "action": "action.type",
    "actor_id": "actor.id",
    "actor_name": Field(_actor_name, "actor.email", "actor.token_name", "actor.type"),
    "actor_email": Field(_email, "actor.email"),
    "actor_type": Field(_actor_type, "actor.type", "actor.context"),
    "targets": Field(_targets, "resource", "zone"),
    "outcome": Field(_outcome, "action.result"),
    "source_ip": Field(places.address, "actor.ip_address"),
    "user_agent": "raw.user_agent",
    "message": Field(
        _described, "action.description", "action.type", "actor.email", "resource.product"
    ),
    "correlation_id": "raw.cf_ray_id",
}


_ID = _both_shapes(_same, "id ID")
_WHEN = _both_shapes(_pushed_time, "when When")


@cache
def _both(account_id: str) -> tuple[Stream, ...]:
    account = f"accounts/{account_id}"
    return (
        _stream("audit_logs", _ID, _WHEN, _pages(f"{account}/audit_logs"), AUDIT_LOGS),
        _stream(
            "audit_logs_v2", "id", "action.time", _cursors(f"{account}/logs/audit"), AUDIT_LOGS_V2
        ),
    )


def _stream(name: str, id_: str | Field, time: str | Field, read: Read, columns: Columns) -> Stream:
    return Stream(
        name=name,
        begin=coverage.begin(_STEPS),
        pages=coverage.pages(_STEPS, read),
        between=coverage.between(_STEPS),
        id=id_,
        time=time,
        columns=columns,
        keeps=_KEEPS,
        lag=_LAG,
        page_size=_LIMIT,
    )


def _streams(settings: Settings | None) -> tuple[Stream, ...]:
    return _both(settings.account_id if settings else "")


def _advice(response: httpx.Response) -> str | None:
    match response.status_code:
        case 400 | 401:
            return (
                "the API token is wrong, expired or revoked: create one under "
                "My Profile or Manage Account > API Tokens and set api_token"
            )
        case 403:
            return (
                "the API token lacks a permission: give it the account permission "
                "Account Settings: Read for this account"
            )
        case 404:
            return "there is no such account: set account_id to the id on the account's overview"
    return None


INTEGRATION = Integration(
    kind="cloudflare",
    title="Cloudflare",
    settings=Settings,
    streams=_streams,
    auth=lambda settings: auth.Header("Authorization", "Bearer", settings.api_token),
    manners=Manners(rate=(1100, 300.0), retry_after=lambda _: _BLOCKED),
    advice=_advice,
    guide=Guide(
        credentials="API token",
        permissions="Account Settings: Read",
        history="18 months (v2: since March 2026)",
        delay="minutes; not published",
        push="Logpush over HTTPS",
    ),
)
