"""Cloudflare's audit log API, simulated: version 1 by page, version 2 by cursor.

It is not known which of two members of `result_info` holds the real cursor. So the account in the
settings returns both, and two more accounts with the same events return one each. An organisation
has the same events too.
https://developers.cloudflare.com/api/resources/audit_logs/
"""

from __future__ import annotations

import base64
import email.utils
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import ceil
from random import Random
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sandbox.cast import DOMAIN, Account, Sort
from sandbox.company import Act, Habit, Happening, Role
from sandbox.rate_limit import Allowance, Limiter
from sandbox.service import (
    Key,
    Log,
    Micros,
    Service,
    Site,
    Stream,
    at,
    iso,
    micros,
    page,
    secret,
)
from sandbox.services import cloudflare_logpush

API_TOKEN = secret("cloudflare")
ACCOUNT_ID = secret("cloudflare account")[:32]
ACCOUNT_WITH_CURSOR = secret("cloudflare account with cursor")[:32]
ACCOUNT_WITH_CURSORS = secret("cloudflare account with cursors")[:32]
_ACCOUNTS = (ACCOUNT_ID, ACCOUNT_WITH_CURSOR, ACCOUNT_WITH_CURSORS)
ORGANIZATION_ID = secret("cloudflare organization")[:32]
_ZONE_ID = secret("cloudflare zone")[:32]
_PER_FIVE_MINUTES = 1200
_BLOCK = timedelta(minutes=5)
_TOKEN_LIFE = timedelta(days=300)
_KEEPS = timedelta(days=548)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """An event, with its names in both versions of the API."""

    what: str
    weight: float
    resource: str
    product: str
    description: str
    type: str
    by: Role = "admin"
    on: Sort | None = None
    whom: bool = False
    fails: float = 0.0
    acts: tuple[Act, ...] = ()


def _kind(what: str, weight: float, words: str, **more: Any) -> _Kind:
    """`words`: version 1's resource, version 2's product, type and description, split by |."""
    resource, product, type_, description = words.split("|")
    return _Kind(
        what=what,
        weight=weight,
        resource=resource,
        product=product,
        type=type_,
        description=description,
        **more,
    )


_KINDS = (
    _kind("login", 6, "account|user|create|Login", fails=0.04, acts=("sign_in",)),
    _kind("logout", 2, "account|user|delete|Logout"),
    _kind("rec_add", 3, "DNS_record|dns_records|create|Create DNS Record", on="zone"),
    _kind("rec_set", 5, "DNS_record|dns_records|update|Update DNS Record", on="zone"),
    _kind("rec_del", 1, "DNS_record|dns_records|delete|Delete DNS Record", on="zone"),
    _kind("purge", 2, "zone|cache|delete|Purge Cache", on="zone"),
    _kind("change_setting", 2, "zone|zone_settings|update|Edit Zone Setting", on="zone"),
    _kind("firewall_rule_update", 1, "firewall.rule|firewall|update|Update Firewall Rule",
          on="policy"),
    _kind("firewall_rule_disable", 0.2, "firewall.rule|firewall|update|Disable Firewall Rule",
          on="policy", acts=("weaken_policy",)),
    _kind("token_create", 0.3, "account|api_tokens|create|Create API Token", on="token",
          acts=("create_token",)),
    _kind("token_roll", 0.2, "account|api_tokens|update|Roll API Token", on="token"),
    _kind("token_revoke", 0.1, "account|api_tokens|delete|Delete API Token", on="token"),
    _kind("member_add", 0.2, "account|members|create|Add Account Member", whom=True,
          acts=("grant_admin",)),
    _kind("member_remove", 0.1, "account|members|delete|Remove Account Member", whom=True,
          acts=("revoke_admin",)),
    _kind("script_deployed", 4, "worker|workers|update|Deploy Worker Script", by="service",
          on="app"),
    _kind("tls_settings_deployed", 1, "zone|ssl|update|Deploy TLS Settings", by="system",
          on="zone"),
)  # fmt: skip
_BY_WHAT = {kind.what: kind for kind in _KINDS}
HABITS = [
    Habit(what=k.what, weight=k.weight, by=k.by, on=k.on, whom=k.whom, fails=k.fails, acts=k.acts)
    for k in _KINDS
]


def _id(name: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_DNS, name).hex


def _version_1(it: Happening, rng: Random) -> dict[str, Any]:
    """Return a v1 record: values are strings, mostly empty; objects have *Json members instead."""
    kind = _BY_WHAT[it.what]
    record: dict[str, Any] = {
        "action": _action_1(it),
        "actor": _actor_1(it),
        "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "interface": "UI" if it.device and not it.device.mobile else "",
        "metadata": _metadata(it, kind),
        "newValue": "null" if rng.random() < 0.05 else "",
        "oldValue": "",
        "owner": {"id": ACCOUNT_ID},
        "resource": {"id": _id(_named(it)), "type": kind.resource},
        "when": iso(it.time) if rng.random() < 0.7 else f"{it.time:%Y-%m-%dT%H:%M:%SZ}",
    }
    if kind.resource == "DNS_record":
        value = {"name": f"{_named(it).lower().replace(' ', '-')}.{DOMAIN}", "type": "A"}
        record["oldValueJson" if it.what == "rec_del" else "newValueJson"] = value
    return record


def _action_1(it: Happening) -> dict[str, Any]:
    """Return the action; only failures have `info`."""
    action: dict[str, Any] = {"result": it.ok, "type": it.what}
    return action if it.ok else {"info": "wrong e-mail or password", **action}


def _metadata(it: Happening, kind: _Kind) -> dict[str, str]:
    if kind.on == "zone":
        return {"zone_name": DOMAIN}
    if kind.on == "token":
        return {"token_name": _named(it), "token_tag": _id(_named(it))}
    return {}


def _actor_1(it: Happening) -> dict[str, Any]:
    if it.actor.kind == "system":
        return {"id": "1", "type": "system"}
    ip = it.place.ip if it.place else ""
    actor = {"id": _id(it.actor.name), "ip": f"::ffff:{ip}" if "." in ip else ip, "type": "user"}
    return {**actor, "email": it.actor.email} if it.actor.email else actor


def _version_2(it: Happening, rng: Random) -> dict[str, Any]:
    kind = _BY_WHAT[it.what]
    return {
        "account": {"id": ACCOUNT_ID, "name": "Larkfield"},
        "action": {
            "description": kind.description,
            "result": "success" if it.ok else "failure",
            "time": iso(it.time),
            "type": kind.type,
        },
        "actor": _actor_2(it.actor, it),
        "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "raw": {
            "cf_ray_id": f"{rng.getrandbits(64):016x}",
            "method": {"create": "POST", "view": "GET", "update": "PATCH"}.get(kind.type, "DELETE"),
            "status_code": 200 if it.ok else 500,
            "uri": f"/client/v4/accounts/{ACCOUNT_ID}/{kind.product}",
            "user_agent": it.device.user_agent if it.device else "cloudflare-terraform/5.9",
        },
        "resource": {
            "id": _id(_named(it)),
            "product": kind.product,
            "request": {"name": _named(it)},
            "response": {},
            "scope": "zones" if kind.on == "zone" else {"type": "accounts"},
            "type": kind.resource,
        },
        "zone": {"id": _ZONE_ID, "name": DOMAIN} if kind.on == "zone" else {},
    }


def _actor_2(account: Account, it: Happening) -> dict[str, Any]:
    if account.kind == "system":
        return {"context": "dash", "id": "", "type": "system"}
    actor = {
        "context": "api_token" if account.kind == "service" else "dash",
        "email": account.email,
        "id": _id(account.name),
        "ip_address": it.place.ip if it.place else "",
        "type": "account" if account.kind == "service" else "user",
    }
    if account.kind == "service":
        actor |= {"token_id": _id(f"token of {account.name}"), "token_name": account.name}
    return actor


def _named(it: Happening) -> str:
    if it.whom:
        return it.whom.name
    return it.thing.name if it.thing else "Larkfield"


@dataclass(slots=True, kw_only=True)
class _Gate:
    """A limit per five minutes; exceeding it blocks the client for five minutes."""

    limiter: Limiter
    blocked_until: datetime | None = None

    def take(self, now: datetime) -> Allowance:
        allowance = self.limiter.take("token", now)
        if not allowance.allowed and (self.blocked_until is None or now >= self.blocked_until):
            self.blocked_until = now + _BLOCK
        if self.blocked_until is None or now >= self.blocked_until:
            return allowance
        return replace(allowance, allowed=False, remaining=0, reset=self.blocked_until)


def routes(site: Site) -> Sequence[BaseRoute]:
    gate = _Gate(limiter=Limiter(count=_PER_FIVE_MINUTES, seconds=300))

    def handle(request: Request) -> Response:
        now = site.clock()
        if refused := _refused(request, now):
            return refused
        if not site.limits:
            return respond(request, now)
        allowance = gate.take(now)
        if not allowance.allowed:
            return refusal(429, now, (allowance.reset - now).total_seconds())
        response = respond(request, now)
        response.headers.update(_rate_headers(allowance.remaining, allowance.reset))
        return response

    def verify(request: Request) -> Response:
        now = site.clock()
        token = {"expires_on": iso(now + _TOKEN_LIFE), "id": _id(API_TOKEN), "status": "active"}
        return _unauthorised(request, now) or _success(msgspec.json.encode(token), None)

    def admit(request: Request) -> Response | None:
        return _refused(request, site.clock())

    def respond(request: Request, now: datetime) -> Response:
        try:
            if request.url.path.endswith("/logs/audit"):
                return _by_cursor(site.logs["audit_logs_v2"], request, now)
            return _by_page(site.logs["audit_logs"], request, now)
        except (KeyError, ValueError) as error:
            return _envelope(400, 1004, f"invalid or missing parameter: {error}")

    return [
        Route("/client/v4/accounts/{account}/audit_logs", handle),
        Route("/client/v4/accounts/{account}/logs/audit", handle),
        Route("/client/v4/organizations/{organization}/logs/audit", handle),
        Route("/client/v4/user/tokens/verify", verify),
        *cloudflare_logpush.routes(site, admit, _success, _envelope),
    ]


def _refused(request: Request, now: datetime) -> Response | None:
    if refused := _unauthorised(request, now):
        return refused
    if "organization" in request.path_params:
        known = request.path_params["organization"] == ORGANIZATION_ID
    else:
        known = request.path_params["account"] in _ACCOUNTS
    return None if known else refusal(404, now, 0)


def _unauthorised(request: Request, now: datetime) -> Response | None:
    authorization = request.headers.get("Authorization", "")
    if authorization == f"Bearer {API_TOKEN}":
        return None
    return refusal(401 if authorization else 400, now, 0)


def _rate_headers(remaining: int, reset: datetime) -> dict[str, str]:
    return {
        "x-ratelimit-limit": str(_PER_FIVE_MINUTES),
        "x-ratelimit-remaining": str(remaining),
        "x-ratelimit-reset": email.utils.format_datetime(reset, usegmt=True),
    }


def _by_page(log: Log, request: Request, now: datetime) -> Response:
    params = request.query_params
    number, count = int(params.get("page", 1)), int(params.get("per_page", 100))
    if number < 1 or not 1 <= count <= 1000:
        raise ValueError("page or per_page")
    since, before = _since(params.get("since"), now), _time(params.get("before") or "9999-01-01")
    newest_first = params.get("direction", "desc") == "desc"
    # Pages are offsets into a live list: a record that arrives in between shifts them.
    found = log.window(since, before, number * count, newest_first=newest_first)
    return _success(page(found.records[(number - 1) * count :]), None)


def _by_cursor(log: Log, request: Request, now: datetime) -> Response:
    params = request.query_params
    count = int(params.get("limit", 100))
    if not 1 <= count <= 1000:
        raise ValueError("limit")
    since, before = _since(params["since"], now), _time(params["before"])
    newest_first = params.get("direction", "desc") == "desc"
    after = _opened(params["cursor"]) if params.get("cursor") else None
    found = log.window(since, before, count, after=after, newest_first=newest_first)
    cursor = _closed(found.keys[-1]) if found.more else ""
    info = {"count": str(len(found.records)), **_places(request.path_params.get("account"), cursor)}
    return _success(page(found.records), info)


def _places(account: str | None, cursor: str) -> dict[str, Any]:
    """Return the account's cursor members; on the last page the cursor is empty or missing."""
    both: dict[str, Any] = {"cursor": cursor, "cursors": {"after": cursor}}
    if account == ACCOUNT_WITH_CURSOR:
        return {"cursor": cursor}
    if account == ACCOUNT_WITH_CURSORS:
        return {"cursors": {"after": cursor}}
    return both if cursor else {}


def _since(text: str | None, now: datetime) -> Micros:
    oldest = micros(now - _KEEPS)
    return max(oldest, _time(text)) if text else oldest


def _time(text: str) -> Micros:
    """Parse a date or a date-time; without a zone it is UTC."""
    time = datetime.fromisoformat(text)
    return micros(time if time.tzinfo else time.replace(tzinfo=UTC))


def _closed(key: Key) -> str:
    return base64.urlsafe_b64encode(f"{key[0]}.{key[1]}".encode()).decode()


def _opened(cursor: str) -> Key:
    time, _, number = base64.urlsafe_b64decode(cursor).decode().partition(".")
    return int(time), int(number)


def _success(result: bytes, info: dict[str, Any] | None) -> Response:
    body = b'{"success":true,"errors":[],"messages":[],"result":' + result
    if info is not None:
        body += b',"result_info":' + msgspec.json.encode(info)
    return Response(body + b"}", media_type="application/json")


def _envelope(
    status: int, code: int, message: str, headers: dict[str, str] | None = None
) -> Response:
    errors = [{"code": code, "message": message}]
    body = {"success": False, "errors": errors, "messages": [], "result": None}
    return JSONResponse(body, status, headers)


def refusal(status: int, now: datetime, retry_after: float) -> Response:
    """Return Cloudflare's error response for a status."""
    code, message = {
        400: (6003, "Invalid request headers"),
        401: (1000, "Invalid API Token"),
        403: (10_000, "Authentication error"),
        404: (7003, "Could not route to it, perhaps your object identifier is invalid?"),
        429: (971, "Please wait and consider throttling your request speed"),
    }.get(status, (10_001, "Internal error"))
    headers = None
    if status == 429:
        reset = now + timedelta(seconds=retry_after)
        headers = {"retry-after": str(ceil(retry_after)), **_rate_headers(0, reset)}
    return _envelope(status, code, message, headers)


SERVICE = Service(
    kind="cloudflare",
    streams=(
        Stream(
            name="audit_logs",
            habits=HABITS,
            render=_version_1,
            identify=at("id"),
            time="when",
            also_time=("When",),
            keeps=_KEEPS,
            share=0.15,
        ),
        Stream(
            name="audit_logs_v2",
            habits=HABITS,
            render=_version_2,
            identify=at("id"),
            time="action.time",
            also_time=("ActionTimestamp",),
            keeps=_KEEPS,
            share=0.15,
        ),
    ),
    routes=routes,
    settings=lambda base_url: {
        "base_url": f"{base_url}/client/v4",
        "account_id": ACCOUNT_ID,
        "api_token": API_TOKEN,
    },
    refusal=refusal,
    pushes=True,
)
