"""JumpCloud's Directory Insights API, simulated: `POST /events` and `/events/count`, and sign-in.

https://docs.jumpcloud.com/api/insights/directory/1.0/index.html
The headers of a page, even of the last one, contain its number of rows, its limit and the place
where the next page begins.
"""

from __future__ import annotations

import base64
import json
import struct
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from random import Random
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sandbox.pushes import Patience
from sandbox.rate_limit import Limiter
from sandbox.service import (
    Console,
    Key,
    Log,
    Service,
    Site,
    Stream,
    at,
    decoded,
    form,
    micros,
    page,
    promptly,
    secret,
)
from sandbox.services import jumpcloud_events
from sandbox.services.jumpcloud_events import ORG_ID
from sandbox.tokens import Grant

API_KEY = f"jca_{secret('jumpcloud/api_key')}"
COMMAND_RUNNER_KEY = f"jca_{secret('jumpcloud/command_runner')}"
CLIENT_ID = "sandbox-service-account"
CLIENT_SECRET = secret("jumpcloud/client_secret")
SECOND_ORG_ID = secret("jumpcloud/second organisation")[:24]
"""Another organisation of the same provider, with the same events."""
PROVIDER_ID = secret("jumpcloud/provider")[:24]
_KNOWN = ({ORG_ID}, {SECOND_ORG_ID}, {ORG_ID, SECOND_ORG_ID})

SERVICES = (
    "all",
    "access_management",
    "alerts",
    "asset_management",
    "directory",
    "ldap",
    "mdm",
    "notifications",
    "object_storage",
    "password_manager",
    "radius",
    "reports",
    "saas_app_management",
    "software",
    "sso",
    "systems",
    "workflows",
)
_RETENTION = timedelta(days=90)
_TOKEN_LIFE = timedelta(hours=1)
_DEFAULT_LIMIT, _MOST = 1000, 10_000
_PER_SECOND, _PLENTY = 10, 100_000
_PLACE = struct.Struct(">qL3s")
_NOT_SEARCHABLE = ("changes", "useragent", "system_timestamp")


def settings(base_url: str) -> dict[str, Any]:
    return {"base_url": base_url, "api_key": API_KEY, "org_id": ORG_ID}


def settings_of_service_account(base_url: str) -> dict[str, Any]:
    return {
        "base_url": base_url,
        "authority_url": base_url,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "org_id": ORG_ID,
    }


def routes(site: Site) -> Sequence[BaseRoute]:
    limiter = Limiter(count=_PER_SECOND if site.limits else _PLENTY, seconds=1)
    log = site.logs["directory_insights"]

    async def events(request: Request) -> Response:
        return await answer(request, _events)

    async def count(request: Request) -> Response:
        return await answer(request, _count)

    async def answer(
        request: Request, found: Callable[[Log, _Query, datetime], Response]
    ) -> Response:
        now = site.clock()
        try:
            allowance = limiter.take(_client(site, request, now), now)
            if not allowance.allowed:
                return refusal(429, now, 1)
            response = found(log, _read(await request.body(), now), now)
        except _Refusal as error:
            response = error.response()
        response.headers["X-Request-Id"] = str(uuid.uuid4())
        return response

    async def token(request: Request) -> Response:
        return _grant(site, request, await form(request), site.clock())

    return [
        Route("/events", events, methods=["POST"]),
        Route("/events/count", count, methods=["POST"]),
        Route("/oauth2/token", token, methods=["POST"]),
    ]


class _Refusal(Exception):
    """An error response of JumpCloud."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self._status = status

    def response(self) -> Response:
        return JSONResponse({"message": str(self)}, self._status)


def refusal(status: int, _now: datetime, retry_after: float) -> Response:
    """Return JumpCloud's error response for a status."""
    words = {401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 429: "Too Many Requests"}
    response = _Refusal(status, words.get(status, "Internal Server Error")).response()
    if status == 429:
        response.headers["Retry-After"] = str(int(retry_after))
    return response


def _client(site: Site, request: Request, now: datetime) -> str:
    """Authenticate a request and return its client. Raises _Refusal."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    grant = site.tokens.find(token, now) if scheme == "Bearer" else None
    key = request.headers.get("x-api-key")
    if grant is None and key not in (API_KEY, COMMAND_RUNNER_KEY):
        raise _Refusal(401, "Unauthorized")
    # A service account must name its organisations; for an API key they are optional.
    wanted = request.headers.getlist("x-org-id")
    if not wanted and "x-provider-id" in request.headers:
        known = request.headers["x-provider-id"] == PROVIDER_ID
    else:
        known = set(wanted or ([] if grant else [ORG_ID])) in _KNOWN
    if key == COMMAND_RUNNER_KEY or not known:
        raise _Refusal(403, "Forbidden")
    return grant.client if grant else "api_key"


def _grant(site: Site, request: Request, fields: dict[str, str], now: datetime) -> Response:
    pair = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
    if request.headers.get("Authorization") != f"Basic {pair}":
        return JSONResponse({"error": "invalid_client"}, 401)
    if fields.get("grant_type") != "client_credentials":
        return JSONResponse({"error": "unsupported_grant_type"}, 400)
    if fields.get("scope") != "api":
        return JSONResponse({"error": "invalid_scope"}, 400)
    grant = Grant(client=CLIENT_ID, scopes=frozenset({"api"}), expires=now + _TOKEN_LIFE)
    return JSONResponse(
        {
            "access_token": site.tokens.issue(grant),
            "expires_in": int(_TOKEN_LIFE.total_seconds()),
            "scope": "api",
            "token_type": "bearer",
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Query:
    """A parsed query."""

    since: datetime
    until: datetime | None
    limit: int
    descending: bool
    after: Any
    fields: list[str] | None
    keep: Callable[[bytes], bool] | None


def _events(log: Log, query: _Query, now: datetime) -> Response:
    since, until = _bounds(query, now)
    found = log.window(
        since,
        until,
        query.limit,
        after=None if query.after is None else _key(query.after),
        newest_first=query.descending,
        keep=query.keep,
    )
    body = page(found.records)
    if query.fields is not None:
        body = _projected(body, query.fields)
    headers = {
        "X-Result-Count": str(len(found.records)),
        "X-Limit": str(query.limit),
        "X-Sort": "DESC" if query.descending else "ASC",
        "X-Search_after": json.dumps(_place(found.keys[-1]) if found.keys else query.after),
    }
    return Response(body, media_type="application/json", headers=headers)


def _count(log: Log, query: _Query, now: datetime) -> Response:
    since, until = _bounds(query, now)
    found = log.window(since, until, 10**9, keep=query.keep)
    return JSONResponse({"count": len(found.records)})


def _bounds(query: _Query, now: datetime) -> tuple[int, int]:
    until = query.until or now + timedelta(days=1)
    return micros(max(query.since, now - _RETENTION)), micros(until)


def _place(key: Key) -> list[Any]:
    """Return [milliseconds, name of the row]; every call gives another name, equally valid."""
    time, position = key
    noise = Random().randbytes(3)
    name = base64.urlsafe_b64encode(_PLACE.pack(time, position, noise)).decode()
    return [time // 1000, name]


def _key(after: Any) -> Key:
    try:
        milliseconds, name = after
        time, position, _ = _PLACE.unpack(base64.urlsafe_b64decode(name))
    except (ValueError, TypeError, struct.error):
        raise _Refusal(400, "search_after is not valid") from None
    if str(milliseconds) != str(time // 1000):
        raise _Refusal(400, "search_after is not valid")
    return time, position


def _projected(body: bytes, fields: list[str]) -> bytes:
    """Return the records with only these members, given as dotted paths."""
    rows = [
        {name: value for name in fields if (value := at(name)(record)) is not None}
        for record in msgspec.json.decode(body)
    ]
    return msgspec.json.encode(rows)


def _read(body: bytes, now: datetime) -> _Query:
    """Parse the body of a query. Raises _Refusal."""
    options = decoded(body)
    if not isinstance(options, dict):
        raise _Refusal(400, "request body is not a JSON object")
    services = options.get("service")
    if not isinstance(services, list) or not services or set(services) - set(SERVICES):
        raise _Refusal(400, f"Invalid service. Valid services: {', '.join(SERVICES)}")
    since, until = _time(options, "start_time"), None
    if since > now:
        raise _Refusal(400, "Start Time is in the future")
    if options.get("end_time") is not None:
        until = _time(options, "end_time")
        if since >= until:
            raise _Refusal(
                400, f"Start Time not after End Time {_formatted(since)} > {_formatted(until)}"
            )
    fields = options.get("fields")
    if fields is not None and not (isinstance(fields, list) and fields):
        raise _Refusal(400, "fields holds no known field")
    return _Query(
        since=since,
        until=until,
        limit=_limit(options.get("limit")),
        descending=str(options.get("sort")).upper() == "DESC",
        after=options.get("search_after"),
        fields=fields,
        keep=_keep(services, options.get("search_term")),
    )


def _time(options: dict[str, Any], name: str) -> datetime:
    try:
        time = datetime.fromisoformat(options[name])
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _Refusal(400, f"{name} is missing or not an RFC 3339 date") from None


def _formatted(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def _limit(value: Any) -> int:
    """Return the limit; an invalid one silently becomes the default."""
    # Not isinstance: True is an int, but not a limit.
    return value if type(value) is int and 0 < value <= _MOST else _DEFAULT_LIMIT


def _keep(services: list[str], term: Any) -> Callable[[bytes], bool] | None:
    """Return a filter by service and search term, or None if every record matches."""
    if "all" in services and not term:
        return None
    wanted = None if "all" in services else frozenset(services)

    def keep(raw: bytes) -> bool:
        record = decoded(raw)
        if wanted is not None and record.get("service") not in wanted:
            return False
        return not term or _matches(record, term)

    return keep


def _matches(record: Any, term: Any) -> bool:
    """Return True if a record matches: terms are and, or, not over terms, or member values."""
    if not isinstance(term, dict):
        raise _Refusal(400, "search_term is not valid")
    return all(_holds(record, name, value) for name, value in term.items())


def _holds(record: Any, name: str, value: Any) -> bool:
    terms = value if isinstance(value, list) else [value]
    match name:
        case "and":
            return all(_matches(record, term) for term in terms)
        case "or":
            return any(_matches(record, term) for term in terms)
        case "not":
            return not any(_matches(record, term) for term in terms)
    if name in _NOT_SEARCHABLE:
        raise _Refusal(400, f"{name} is not searchable")
    return _lowered(at(name)(record)) in [_lowered(term) for term in terms]


def _lowered(value: object) -> str:
    return str(value).lower()


def _delay(rng: Random) -> float:
    """Return the usual delay, or hours for one event in 1,000, whose device was offline."""
    return rng.uniform(3600, 48 * 3600) if rng.random() < 0.001 else promptly(rng)


def _event_type(record: Any) -> str | None:
    kind = at("event_type")(record)
    return None if kind is None else str(kind)


def _again(status: int | None) -> bool:
    return status is None or status in (408, 429) or status >= 500


SERVICE = Service(
    kind="jumpcloud",
    streams=(
        Stream(
            name="directory_insights",
            habits=jumpcloud_events.HABITS,
            render=jumpcloud_events.render,
            identify=itemgetter("id"),
            time="timestamp",
            keeps=_RETENTION,
            delay=_delay,
        ),
    ),
    routes=routes,
    settings=settings,
    refusal=refusal,
    console=Console(
        kind="jumpcloud",
        stream="directory_insights",
        event=_event_type,
        body=lambda records: records[0].raw,
        patience=Patience(pauses=(1.0, 2.0, 4.0), again=_again),
    ),
)
