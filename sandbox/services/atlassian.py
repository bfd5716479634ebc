"""Atlassian's organisation audit log, simulated: the stream by processing time, and the query.

https://developer.atlassian.com/cloud/admin/organization/rest/api-group-events/
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sandbox.cast import Sort
from sandbox.company import Act, Habit, Happening, Role
from sandbox.pushes import Patience
from sandbox.rate_limit import Limiter
from sandbox.service import (
    Console,
    Log,
    Micros,
    Service,
    Site,
    Stream,
    at,
    iso,
    micros,
    page,
    promptly,
    secret,
)

API_KEY = secret("atlassian")
ORG_ID = str(uuid.uuid5(uuid.NAMESPACE_DNS, "atlassian.larkfield.example"))
_PER_MINUTE, _OF_STREAM_PER_MINUTE = 10, 50
_MOST = 500
_KEEPS = timedelta(days=180)
_KEY_LIFE = timedelta(days=300)
_SITE = "https://larkfield.atlassian.net"


def _habit(  # noqa: PLR0917 positional arguments keep the table readable
    what: str,
    weight: float,
    by: Role = "person",
    on: Sort | None = None,
    whom: bool = False,
    acts: tuple[Act, ...] = (),
) -> Habit:
    return Habit(what=what, weight=weight, by=by, on=on, whom=whom, acts=acts)


HABITS = [
    _habit("user_login", 10, acts=("sign_in",)),
    _habit("user_logout", 3),
    _habit("jira_issue_viewed", 14, on="document"),
    _habit("confluence_page_viewed", 12, on="document"),
    _habit("confluence_page_updated", 4, on="document"),
    _habit("jira_issue_created", 3, on="document"),
    _habit("jira_issue_updated", 6, on="document"),
    _habit("confluence_page_created", 2, on="document"),
    _habit("confluence_page_exported", 0.5, on="document", acts=("download", "export")),
    _habit("jira_project_created", 0.2, "admin", "app"),
    _habit("user_added_to_group", 1, "admin", "group", whom=True),
    _habit("user_removed_from_group", 0.5, "admin", "group", whom=True),
    _habit("group_created", 0.1, "admin", "group"),
    _habit("group_deleted", 0.05, "admin", "group"),
    _habit("user_created", 0.3, "admin", whom=True),
    _habit("user_deactivated", 0.2, "admin", whom=True),
    _habit("twosv_disabled_for_user", 0.05, "admin", whom=True, acts=("reset_mfa",)),
    _habit("added_org_admin", 0.05, "admin", whom=True, acts=("grant_admin",)),
    _habit("removed_org_admin", 0.05, "admin", whom=True, acts=("revoke_admin",)),
    _habit("user_granted_role", 0.3, "admin", "role", whom=True),
    _habit("user_revoked_role", 0.2, "admin", "role", whom=True),
    _habit("api_token_created", 0.3, "person", "token", acts=("create_token",)),
    _habit("api_token_revoked", 0.2, "person", "token"),
    _habit("authentication_policy_updated", 0.1, "admin", "policy", acts=("weaken_policy",)),
    _habit("app_installed", 0.1, "service", "app"),
]


def render(it: Happening, rng: Random) -> dict[str, Any]:
    id_ = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    time = iso(it.time) if rng.random() < 0.6 else f"{it.time:%Y-%m-%dT%H:%M:%SZ}"
    processed = it.time + timedelta(seconds=_lateness(rng))
    self_ = {"self": f"https://api.atlassian.com/admin/v1/orgs/{ORG_ID}/events/{id_}"}
    attributes: dict[str, Any] = {
        "time": time,
        "action": it.what
        if it.ok
        else f"{it.what}_failed",  # invented: no failure names are published
        "actor": _actor(it),
        "context": _context(it),
        "container": [
            {
                "id": _id(_SITE),
                "type": "sites",
                "attributes": {"siteHostName": "larkfield.atlassian.net", "siteName": "larkfield"},
                "links": {"alt": _SITE},
            }
        ],
        "processedAt": iso(processed),
    }
    if it.place:
        attributes["location"] = {
            "ip": it.place.ip,
            "geo": f"{it.place.latitude},{it.place.longitude}",
            "countryName": it.place.country,
            "regionName": it.place.state,
            "city": it.place.city,
        }
    return {
        "id": id_,
        "type": "events",
        "attributes": attributes,
        "links": self_,
        "message": {"content": _message(it), "format": "simple"},
    }


def _lateness(rng: Random) -> float:
    """Return the delay that the log will draw for this record, which is processed on arrival."""
    # Peek into a copy: drawing from `rng` itself would change the delay.
    ahead = Random()
    ahead.setstate(rng.getstate())
    return promptly(ahead)


def _actor(it: Happening) -> dict[str, Any]:
    if it.actor.kind == "system":
        return {"id": "", "name": "Atlassian"}
    actor: dict[str, Any] = {
        "id": _id(it.actor.name),
        "name": it.actor.name,
        "email": it.actor.email,
        "links": {"alt": f"https://admin.atlassian.com/o/{ORG_ID}/members/{_id(it.actor.name)}"},
    }
    if it.actor.kind == "service":
        actor["auth"] = {"authType": "api-token", "tokenId": _id("t"), "tokenLabel": it.actor.name}
    return actor


def _context(it: Happening) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if it.thing:
        name = {"name": it.thing.name}
        kind = f"{it.thing.sort}s".replace("policys", "policies")
        found.append({"id": _id(it.thing.name), "type": kind, "attributes": name})
    if it.whom:
        person = {"name": it.whom.name, "email": it.whom.email, "accountType": "atlassian"}
        found.append({"id": _id(it.whom.name), "type": "users", "attributes": person})
    return found


def _message(it: Happening) -> str:
    words = it.what.replace("_", " ").capitalize() + ("" if it.ok else " failed")
    whom = f": {it.whom.name}" if it.whom else ""
    return f"{words}{whom}" + (f" ({it.thing.name})" if it.thing else "")


def _id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def routes(site: Site) -> Sequence[BaseRoute]:
    ordinary = Limiter(count=_PER_MINUTE, seconds=60)
    of_stream = Limiter(count=_OF_STREAM_PER_MINUTE, seconds=60)

    def handle(request: Request) -> Response:
        now = site.clock()
        if request.headers.get("Authorization") != f"Bearer {API_KEY}":
            return refusal(401, now, 0)
        if not site.limits:
            return respond(request, now)
        path = request.url.path
        limiter = of_stream if path.endswith("/events-stream") else ordinary
        allowance = limiter.take(path, now)
        if not allowance.allowed:
            return refusal(429, now, (allowance.reset - now).total_seconds())
        response = respond(request, now)
        response.headers.update(
            _rate_headers(allowance.limit, allowance.remaining, allowance.reset)
        )
        return response

    def respond(request: Request, now: datetime) -> Response:
        if request.path_params["org"] != ORG_ID:
            return refusal(404, now, 0)
        try:
            if request.url.path.endswith("/api-keys"):
                return _keys(now)
            if request.url.path.endswith("/events-stream"):
                return _stream(site.logs["events"], request, now)
            return _query(site.logs["events"], request, now)
        except ValueError as error:
            return _errors(400, "INVALID_PARAM", f"Invalid request: {error}")

    return [
        Route("/admin/v1/orgs/{org}/events-stream", handle),
        Route("/admin/v1/orgs/{org}/events", handle),
        Route("/admin/api-access/v1/orgs/{org}/api-keys", handle),
    ]


def _keys(now: datetime) -> Response:
    """Return the API keys of the organisation, of which only one is valid."""
    keys = [
        {"id": _id("key"), "label": "auditlake", "expiresAt": iso(now + _KEY_LIFE)},
        {"id": _id("former"), "label": "former", "expiresAt": iso(now - _KEY_LIFE)},
    ]
    return JSONResponse({"data": keys, "links": {"next": None}})


def _stream(log: Log, request: Request, now: datetime) -> Response:
    """Return a page by processing time; there is always a cursor: order, position and bound."""
    params = request.query_params
    count = _count(params.get("limit", "200"))
    order, position, bound = _opened(params.get("cursor")) or _place(log, params, now)
    visible = log.visible()
    if order == "asc":
        end = len(visible) if bound < 0 else bound
        found = visible[position : min(end, position + count)]
        position += len(found)
    else:
        found = visible[max(bound, position - count) : position][::-1]
        position -= len(found)
    return _page(request, page(found), _closed(order, position, bound), count)


def _place(log: Log, params: QueryParams, now: datetime) -> tuple[str, int, int]:
    """Return order, position and bound of a first page; a negative bound means none."""
    order = params.get("sortOrder", "asc")
    if order not in ("asc", "desc"):
        raise ValueError("sortOrder")
    low = log.position(_from(params, now))
    high = log.position(int(params["to"]) * 1000) if "to" in params else -1
    if order == "asc":
        return order, low, high
    return order, len(log.visible()) if high < 0 else high, low


def _query(log: Log, request: Request, now: datetime) -> Response:
    """Return a page by event time, newest first; the last one has no cursor."""
    params = request.query_params
    count = _count(params.get("limit", "25"))
    until = int(params.get("to", 2**42)) * 1000
    after = None
    if place := _opened(params.get("cursor")):
        after = place[1:]
    found = log.window(_from(params, now), until, count, after=after, newest_first=True)
    more = _closed("query", *found.keys[-1]) if found.more else None
    return _page(request, page(found.records), more, count)


def _from(params: QueryParams, now: datetime) -> Micros:
    """Return the parameter `from` (epoch milliseconds), bounded by the retention."""
    return max(int(params.get("from", 0)) * 1000, micros(now - _KEEPS))


def _count(text: str) -> int:
    if not 1 <= int(text) <= _MOST:
        raise ValueError("limit")
    return int(text)


def _closed(*parts: str | int) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode()


def _opened(cursor: str | None) -> tuple[str, int, int] | None:
    """Decode a cursor. Raises ValueError if the sandbox did not issue it."""
    if not cursor:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[str, int, int])
    except msgspec.DecodeError as error:
        raise ValueError("cursor") from error


def _page(request: Request, data: bytes, cursor: str | None, count: int) -> Response:
    links = {"self": str(request.url)}
    if cursor:
        links["next"] = str(request.url.include_query_params(cursor=cursor))
    meta = {"next": cursor, "page_size": count}
    body = b'{"data":%s,"meta":%s,"links":%s}' % (data, *map(msgspec.json.encode, (meta, links)))
    return Response(body, media_type="application/json")


def _errors(
    status: int, title: str, detail: str, headers: dict[str, str] | None = None
) -> Response:
    error = {"code": f"ADMIN-{status}-24", "status": str(status), "title": title, "detail": detail}
    return JSONResponse({"errors": [error]}, status, headers)


def refusal(status: int, now: datetime, retry_after: float) -> Response:
    """Return Atlassian's error response for a status; the reset is an ISO 8601 time."""
    if status == 401:
        return JSONResponse({"code": 401, "message": "Unauthorized"}, status)
    reset = now + timedelta(seconds=retry_after)
    headers = _rate_headers(_PER_MINUTE, 0, reset) if status == 429 else None
    return _errors(status, "REFUSED", "the request was refused", headers)


def _rate_headers(limit: int, remaining: int, reset: datetime) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": iso(reset),
    }


def _event(record: Any) -> str | None:
    action = at("attributes.action")(record)
    return None if action is None else str(action)


SERVICE = Service(
    kind="atlassian",
    streams=(
        Stream(
            name="events",
            habits=HABITS,
            render=render,
            identify=at("id"),
            time="attributes.time",
            keeps=_KEEPS,
            share=0.5,
        ),
    ),
    routes=routes,
    settings=lambda base_url: {"base_url": base_url, "org_id": ORG_ID, "api_key": API_KEY},
    refusal=refusal,
    # Retries are undocumented; simulate the worst case: none.
    console=Console(
        kind="atlassian",
        stream="events",
        event=_event,
        body=page,
        patience=Patience(),
        most=50,
        every=2.0,
        webhooks=3,
    ),
)
