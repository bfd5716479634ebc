"""Atlassian's organisation audit log, simulated: the stream by processing time and the query.

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
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from pipelines.sandbox.cast import Sort
from pipelines.sandbox.company import Act, Habit, Happening, Role
from pipelines.sandbox.service import (
    Limiter,
    Log,
    Service,
    Site,
    Stream,
    at,
    iso,
    page,
    secret,
)

API_KEY = secret("atlassian")
ORG_ID = str(uuid.uuid5(uuid.NAMESPACE_DNS, "atlassian.larkfield.example"))
_PER_MINUTE = 10
_SITE = "https://larkfield.atlassian.net"


def _habit(  # noqa: PLR0917 a table reads better so
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
    processed = it.time + timedelta(milliseconds=rng.randrange(200, 2000))
    self_ = {"self": f"https://api.atlassian.com/admin/v1/orgs/{ORG_ID}/events/{id_}"}
    attributes: dict[str, Any] = {
        "time": time,
        "action": it.what,
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
        "message": {"content": _said(it), "format": "simple"},
    }


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


def _said(it: Happening) -> str:
    words = it.what.replace("_", " ").capitalize()
    whom = f": {it.whom.name}" if it.whom else ""
    return f"{words}{whom}" + (f" ({it.thing.name})" if it.thing else "")


def _id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def routes(site: Site) -> Sequence[BaseRoute]:
    limiter = Limiter(count=_PER_MINUTE if site.limits else 10**9, seconds=60)

    def answered(request: Request) -> Response:
        now = site.clock()
        if request.headers.get("Authorization") != f"Bearer {API_KEY}":
            return refusal(401, now, 0)
        allowance = limiter.take(request.url.path, now)
        if not allowance.allowed:
            return refusal(429, now, (allowance.reset - now).total_seconds())
        if request.path_params["org"] != ORG_ID:
            return refusal(404, now, 0)
        try:
            if request.url.path.endswith("/events-stream"):
                return _stream(site.logs["events"], request)
            return _query(site.logs["events"], request)
        except (KeyError, ValueError) as error:
            return _errors(400, "INVALID_PARAM", f"Invalid request: {error}")

    return [
        Route("/admin/v1/orgs/{org}/events-stream", answered),
        Route("/admin/v1/orgs/{org}/events", answered),
    ]


def _stream(log: Log, request: Request) -> Response:
    """By processing time; a cursor remembers order, bounds and position, and never ends."""
    asked = request.query_params
    count = _count(asked.get("limit", "200"))
    if asked.get("cursor"):
        order, position, bound = _opened(asked["cursor"])
    else:
        order = asked.get("sortOrder", "asc")
        low = log.position(int(asked.get("from", 0)) * 1000)
        high = log.position(int(asked["to"]) * 1000) if "to" in asked else -1
        if order == "asc":
            position, bound = low, high
        else:
            position, bound = (len(log.visible()) if high < 0 else high), low
    visible = log.visible()
    if order == "asc":
        end = len(visible) if bound < 0 else bound
        found = visible[position : min(end, position + count)]
        position += len(found)
    else:
        found = visible[max(bound, position - count) : position][::-1]
        position -= len(found)
    cursor = _closed(order, position, bound)
    return _page(page(found), {"next": cursor, "page_size": count})


def _query(log: Log, request: Request) -> Response:
    """By event time, newest first; no cursor after the last page."""
    asked = request.query_params
    count = _count(asked.get("limit", "25"))
    since, until = int(asked.get("from", 0)) * 1000, int(asked.get("to", 2**42)) * 1000
    after = None
    if asked.get("cursor"):
        _, time, number = _opened(asked["cursor"])
        after = (time, number)
    found = log.window(since, until, count, after=after, newest_first=True)
    more = _closed("query", *found.keys[-1]) if found.more else None
    return _page(page(found.records), {"next": more, "page_size": count})


def _count(text: str) -> int:
    if not 1 <= int(text) <= 500:
        raise ValueError("limit")
    return int(text)


def _closed(*parts: str | int) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode()


def _opened(cursor: str) -> tuple[str, int, int]:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[str, int, int])
    except msgspec.DecodeError as error:
        raise ValueError("cursor") from error


def _page(data: bytes, meta: dict[str, Any]) -> Response:
    body = b'{"data":%s,"meta":%s,"links":{}}' % (data, msgspec.json.encode(meta))
    return Response(body, media_type="application/json")


def _errors(
    status: int, title: str, detail: str, headers: dict[str, str] | None = None
) -> Response:
    error = {"code": f"ADMIN-{status}-24", "status": str(status), "title": title, "detail": detail}
    return JSONResponse({"errors": [error]}, status, headers)


def refusal(status: int, now: datetime, retry_after: float) -> Response:
    """Any status as Atlassian words it; the reset is a time in ISO 8601."""
    if status == 401:
        return JSONResponse({"code": 401, "message": "Unauthorized"}, status)
    headers = None
    if status == 429:
        reset = now + timedelta(seconds=retry_after)
        headers = {
            "X-RateLimit-Limit": str(_PER_MINUTE),
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": iso(reset),
        }
    return _errors(status, "REFUSED", "the request was refused", headers)


SERVICE = Service(
    kind="atlassian",
    streams=(
        Stream(
            name="events",
            habits=HABITS,
            render=render,
            identify=at("id"),
            time="attributes.time",
            keeps=timedelta(days=180),
            share=0.5,
        ),
    ),
    routes=routes,
    settings=lambda base_url: {"base_url": base_url, "org_id": ORG_ID, "api_key": API_KEY},
    refusal=refusal,
)
