"""Opsgenie's logs API, simulated, and the operations logs of Jira Service Management and Compass.

https://docs.opsgenie.com/docs/logs-api
Lines that arrive in the same minute form a file, named after the start of its collection two
minutes earlier. A file is listed from its first line on and grows until its minute is over. Files
are downloaded from a separate store, which accepts signed URLs and rejects the API key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from sandbox.pushes import Patience
from sandbox.rate_limit import Limiter
from sandbox.service import (
    Console,
    Key,
    Log,
    Record,
    Service,
    Site,
    Stream,
    decoded,
    micros,
    moment,
    promptly,
    secret,
)
from sandbox.services import opsgenie_events

API_KEY = str(uuid.UUID(secret("opsgenie/api_key")[:32]))
TEAM_KEY = str(uuid.UUID(secret("opsgenie/team_key")[:32]))
STANDARD_PLAN_KEY = str(uuid.UUID(secret("opsgenie/standard_key")[:32]))
EMAIL = "greta.hallstrom@larkfield.example"
API_TOKEN = f"ATATT3x{secret('opsgenie/api_token')}"
CLOUD_ID = str(uuid.UUID(secret("opsgenie/cloud")[:32]))

_KEPT = timedelta(days=365)
_OPERATIONS_KEPT = timedelta(days=180)
_COLLECTING = timedelta(minutes=2, seconds=5)
_LINK_LIFE = 300
_MOST, _OPERATIONS_PAGE = 1000, 100
_PER_MINUTE, _PLENTY = 300, 100_000
_ACCOUNT = secret("opsgenie/account")[:24]
_SIGNING = secret("opsgenie/signing").encode()
_MARKER = "%Y-%m-%d-%H-%M-%S"


def settings(base_url: str) -> dict[str, Any]:
    return {
        "base_url": base_url,
        "api_key": API_KEY,
        "operations_url": f"{base_url}/atlassian",
        "operations": ["jira_service_management", "compass"],
        "cloud_id": CLOUD_ID,
        "email": EMAIL,
        "api_token": API_TOKEN,
    }


def routes(site: Site) -> Sequence[BaseRoute]:
    limiter = Limiter(count=_PER_MINUTE if site.limits else _PLENTY, seconds=60)

    def genie(request: Request) -> Response:
        now = site.clock()
        try:
            allowance = limiter.take(_genie_key(request), now)
            if not allowance.allowed:
                return refusal(429, now, 60)
            response = _answer(site.logs["logs"], request, now)
        except _Refusal as error:
            response = error.response()
        return _stamped(response)

    def stored(request: Request) -> Response:
        return _stored(site.logs["logs"], request, site.clock())

    def operations(request: Request) -> Response:
        now = site.clock()
        try:
            return _operations(site, request, now)
        except _Refusal as error:
            return error.response()

    return [
        Route("/v2/logs/list/{marker}", genie),
        Route("/v2/logs/download/{filename}", genie),
        Route("/v2/account", genie),
        Route("/s3/{account}/{filename}", stored),
        Route("/atlassian/jsm/ops/api/{cloud}/v1/logs", operations),
        Route("/atlassian/compass/cloud/{cloud}/ops/v1/logs", operations),
    ]


class _Refusal(Exception):
    """An error response of Opsgenie."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self._status, self._more = status, more

    def response(self) -> Response:
        body = {**self._more, "message": str(self), "took": 0.005, "requestId": str(uuid.uuid4())}
        return JSONResponse(body, self._status)


def refusal(status: int, _now: datetime, retry_after: float) -> Response:
    """Return Opsgenie's error response for a status; a 429 has a period, no Retry-After."""
    message = {
        401: "Could not authenticate",
        402: "Your plan does not allow this action",
        403: "You are not authorized to access this resource",
        404: "Log file does not exist",
        429: "You are making too many requests!",
    }.get(status, "Service Unavailable")
    response = _stamped(_Refusal(status, message).response())
    if status == 429:
        response.headers["X-RateLimit-State"] = "THROTTLED"
        response.headers["X-RateLimit-Reason"] = "ACCOUNT"
        response.headers["X-RateLimit-Period-In-Sec"] = str(int(retry_after))
    return response


def _stamped(response: Response) -> Response:
    response.headers["X-Request-Id"] = str(uuid.uuid4())
    response.headers["X-Response-Time"] = "0.005"
    response.headers["X-RateLimit-State"] = "OK"
    return response


def _genie_key(request: Request) -> str:
    """Return the key of a request, if it may read the logs. Raises _Refusal."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme != "GenieKey" or key not in (API_KEY, TEAM_KEY, STANDARD_PLAN_KEY):
        raise _Refusal(401, "Could not authenticate")
    if key == TEAM_KEY:
        raise _Refusal(403, "You are not authorized to access this resource", code=40301)
    if key == STANDARD_PLAN_KEY and "/logs/" in request.url.path:
        raise _Refusal(402, "Your plan does not allow this action")
    return key


def _answer(log: Log, request: Request, now: datetime) -> Response:
    if "marker" in request.path_params:
        return _list(log, request, now)
    if "filename" in request.path_params:
        return _link(log, request, now)
    plan = {"maxUserCount": 100, "name": "Enterprise", "isYearly": True}
    data = {"name": "larkfield", "userCount": 63, "plan": plan}
    return JSONResponse({"data": data, "took": 0.084, "requestId": str(uuid.uuid4())})


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    minute: datetime
    """The minute in which its lines became visible."""
    lines: list[Record]

    @property
    def marker(self) -> str:
        return _name(self.minute)

    @property
    def body(self) -> bytes:
        return b"".join(record.raw + b"\n" for record in self.lines)


def _name(minute: datetime) -> str:
    """Return the marker of a file; one in ten has the old format, without milliseconds."""
    marker = (minute - _COLLECTING).strftime(_MARKER)
    luck = int(secret(marker)[:6], 16)
    return marker if luck % 10 == 0 else f"{marker}_{luck % 1000:03d}"


def _files(log: Log, since: datetime) -> Iterator[_File]:
    """Yield all files whose minute is `since` or later."""
    records, _ = log.follow(log.position(micros(since)), 10**9)
    for minute, lines in itertools.groupby(records, key=lambda record: _minute(record.arrival)):
        yield _File(minute=minute, lines=list(lines))


def _minute(arrival: int) -> datetime:
    return moment(arrival - arrival % 60_000_000)


def _begun(marker: str) -> datetime:
    """Return the minute of a marker. Raises _Refusal."""
    try:
        begun = datetime.strptime(marker.partition("_")[0], _MARKER).replace(tzinfo=UTC)
    except ValueError:
        raise _Refusal(
            422,
            "Request body is not processable. Please check the errors.",
            errors={"marker": "Marker is not in the right format"},
        ) from None
    return begun + _COLLECTING


def _list(log: Log, request: Request, now: datetime) -> Response:
    """Return the files after a marker, by name; the last page has neither files nor a marker."""
    marker = request.path_params["marker"]
    limit = request.query_params.get("limit", "0")
    if not limit.isdecimal() or int(limit) > _MOST:
        raise _Refusal(422, "limit is not valid", errors={"limit": "must be between 1 and 1000"})
    # A minute early: the first group may be cut by `since`, and must fall before the marker.
    since = max(_begun(marker) - timedelta(minutes=1), now - _KEPT)
    files = (file for file in _files(log, since) if file.marker > marker)
    found = list(itertools.islice(files, int(limit) or _MOST))
    body: dict[str, Any] = {
        "data": [
            {
                "filename": f"{file.marker}.json",
                "date": int(file.minute.timestamp() * 1000),
                "size": len(file.body),
            }
            for file in found
        ],
        "took": 0.281,
        "requestId": str(uuid.uuid4()),
    }
    return JSONResponse(body | ({"marker": found[-1].marker} if found else {}))


def _find(log: Log, filename: str) -> _File | None:
    marker = filename.removesuffix(".json")
    found = next(_files(log, _begun(marker)), None)
    return found if found and found.marker == marker else None


def _link(log: Log, request: Request, now: datetime) -> Response:
    """Return a signed URL, as plain text."""
    filename = request.path_params["filename"]
    if _find(log, filename) is None:
        raise _Refusal(404, "Log file does not exist")
    base = str(request.url).partition("/v2/")[0]
    date = now.strftime("%Y%m%dT%H%M%SZ")
    signature = _signature(filename, date)
    query = (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={date}&X-Amz-Expires={_LINK_LIFE}"
        f"&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}"
    )
    return PlainTextResponse(f"{base}/s3/{_ACCOUNT}/{filename}?{query}\n")


def _signature(filename: str, date: str) -> str:
    return hmac.new(_SIGNING, f"{filename}/{date}".encode(), hashlib.sha256).hexdigest()


def _stored(log: Log, request: Request, now: datetime) -> Response:
    """Return a file for a signed URL; the store's errors are XML."""
    filename, query = request.path_params["filename"], request.query_params
    date = query.get("X-Amz-Date", "")
    if "Authorization" in request.headers:
        return _xml(400, "InvalidArgument", "Only one auth mechanism allowed")
    if query.get("X-Amz-Signature") != _signature(filename, date):
        return _xml(403, "SignatureDoesNotMatch", "The signature does not match")
    signed = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if now - signed > timedelta(seconds=_LINK_LIFE):
        return _xml(403, "AccessDenied", "Request has expired")
    file = _find(log, filename)
    if file is None:
        return _xml(404, "NoSuchKey", "The specified key does not exist.")
    return Response(file.body, media_type="application/octet-stream")


def _xml(status: int, code: str, message: str) -> Response:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(body, status, media_type="application/xml")


def _operations(site: Site, request: Request, now: datetime) -> Response:
    """Return a page of a successor's log; the link to the next page lacks the API's path."""
    basic = base64.b64encode(f"{EMAIL}:{API_TOKEN}".encode()).decode()
    if request.headers.get("Authorization") != f"Basic {basic}":
        raise _Refusal(401, "Client must be authenticated to access this resource.")
    if request.path_params["cloud"] != CLOUD_ID:
        raise _Refusal(404, "No operations found for this site")
    product = "jira_service_management" if "/jsm/" in request.url.path else "compass"
    since = max(_instant(request, "startTime"), now - _OPERATIONS_KEPT)
    found = site.logs[f"{product}_operations"].window(
        micros(since),
        micros(_instant(request, "endTime")),
        _OPERATIONS_PAGE,
        after=_place(request.query_params.get("pageToken")),
    )
    values = b",".join(record.raw for record in found.records)
    count = str(len(found.records)).encode()
    links = b"{}"
    if found.more:
        kept = request.query_params.multi_items()
        query = [(name, value) for name, value in kept if name != "pageToken"]
        query.append(("pageToken", _token(found.keys[-1])))
        links = msgspec.json.encode({"next": f"/logs?{'&'.join(f'{n}={v}' for n, v in query)}"})
    body = b'{"values":[%b],"count":%b,"links":%b}' % (values, count, links)
    return Response(body, media_type="application/json")


def _instant(request: Request, name: str) -> datetime:
    try:
        time = datetime.fromisoformat(request.query_params[name])
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    except (KeyError, ValueError):
        raise _Refusal(400, f"{name} is required and has to be an ISO 8601 date") from None


def _token(key: Key) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def _place(token: str | None) -> Key | None:
    if token is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        return msgspec.json.decode(raw, type=tuple[int, int])
    except (ValueError, msgspec.DecodeError):
        raise _Refusal(400, "pageToken is not valid") from None


def _identity(record: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(record)).hexdigest()


def _delay(rng: Random) -> float:
    """Return the delay: a file appears about two minutes after its events."""
    return _COLLECTING.total_seconds() + promptly(rng)


SERVICE = Service(
    kind="opsgenie",
    streams=(
        Stream(
            name="logs",
            habits=opsgenie_events.HABITS,
            render=opsgenie_events.line,
            identify=_identity,
            time="created",
            keeps=_KEPT,
            share=0.2,
            delay=_delay,
        ),
        *(
            Stream(
                name=f"{product}_operations",
                habits=opsgenie_events.HABITS,
                render=opsgenie_events.entry,
                identify=_identity,
                time="created",
                keeps=_OPERATIONS_KEPT,
                share=0.1,
            )
            for product in ("jira_service_management", "compass")
        ),
    ),
    routes=routes,
    settings=settings,
    refusal=refusal,
    # Retries are undocumented; simulate the worst case: none.
    console=Console(
        kind="opsgenie",
        stream="logs",
        event=opsgenie_events.alert_action,
        body=lambda records: opsgenie_events.alert(decoded(records[0].raw)),
        patience=Patience(),
        early=True,
    ),
)
