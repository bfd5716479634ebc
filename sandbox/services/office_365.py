"""The Office 365 Management Activity API, simulated: subscriptions, listed content, blobs.

https://learn.microsoft.com/office/office-365-management-api/office-365-management-activity-api-reference
Records become available in blobs, packed at the latest when content is listed. Simulated quirks:
shuffled pages, a NextPageUri of another path and case, events that occur twice in a blob or again
in a later one.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sandbox import microsoft
from sandbox.rate_limit import Limiter
from sandbox.service import Log, Record, Service, Site, Stream, iso, moment, page
from sandbox.services import office_365_events as events
from sandbox.services import office_365_webhooks
from sandbox.services.office_365_refusals import HEADERS, Refusal
from sandbox.services.office_365_webhooks import Notice, Webhook

ROOT = "https://manage.office.com"
NO_ROLES_CLIENT_ID = microsoft.guid("an app without permissions")
CONTENT_TYPES = {
    "Audit.AzureActiveDirectory": "azure_active_directory",
    "Audit.Exchange": "exchange",
    "Audit.SharePoint": "sharepoint",
    "Audit.General": "general",
    "DLP.All": "dlp",
}

_APPS: Mapping[str, Sequence[str]] = {
    microsoft.CLIENT_ID: ("ActivityFeed.Read", "ActivityFeed.ReadDlp"),
    NO_ROLES_CLIENT_ID: (),
}
_KEEPS = timedelta(days=7)
_SLACK = timedelta(hours=1)
_PER_MINUTE, _PLENTY = 2000, 1_000_000
_PER_BLOB, _PER_PAGE = 40, 20
_HOUR = 3_600_000_000
_FEED = "/api/{version}/{tenant}/activity/feed"


def settings(base_url: str) -> dict[str, Any]:
    return {"base_url": base_url, "authority_url": f"{base_url}/login", **microsoft.identity()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blob:
    """The records of a log from one position up to another."""

    id: str
    created: datetime
    first: int
    until: int


@dataclass(slots=True, kw_only=True)
class _BlobStore:
    """The blobs of a content type; records that have arrived are packed on every refresh."""

    name: str
    log: Log
    blobs: list[_Blob] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def refresh(self) -> list[_Blob]:
        """Pack the records that have arrived, by hour of arrival, and return all blobs."""
        with self.lock:
            records = self.log.visible()
            packed = self.blobs[-1].until if self.blobs else 0
            for _, group in groupby(
                range(packed, len(records)), key=lambda at: records[at].arrival // _HOUR
            ):
                places = list(group)
                for first in places[::_PER_BLOB]:
                    self._pack(records, first, min(first + _PER_BLOB, places[-1] + 1))
            return list(self.blobs)

    def _pack(self, records: list[Record], first: int, until: int) -> None:
        created = moment(records[until - 1].arrival)
        digits = f"{created:%Y%m%d%H%M%S}{created.microsecond:06d}"
        kind = f"{self.name}${self.name.title()}"
        name = f"{digits}{first:05d}${digits}{until:05d}$audit_{kind}$emea0036"
        self.blobs.append(_Blob(id=name, created=created, first=first, until=until))

    def records(self, blob: _Blob) -> list[Record]:
        return self.log.visible()[blob.first : blob.until]

    def content(self, blob: _Blob) -> bytes:
        """Return a blob's events, shuffled, some twice, some again from an older blob."""
        records = self.log.visible()
        found = self.records(blob)
        # Seeded by the blob: it has the same content on every fetch.
        rng = Random(blob.id)
        if rng.random() < 0.3:
            found.append(rng.choice(found))
        if blob.first and rng.random() < 0.2:
            found.append(records[rng.randrange(blob.first)])
        rng.shuffle(found)
        return page(found)


@dataclass(slots=True, kw_only=True)
class _Office:
    """The state of a tenant: its subscriptions and its blobs."""

    site: Site
    stores: Mapping[str, _BlobStore]
    limiter: Limiter
    enabled: dict[str, Webhook | None] = field(default_factory=dict)


def routes(site: Site) -> Sequence[BaseRoute]:
    office = _Office(
        site=site,
        stores={
            kind: _BlobStore(name=name, log=site.logs[name]) for kind, name in CONTENT_TYPES.items()
        },
        limiter=Limiter(count=_PER_MINUTE if site.limits else _PLENTY, seconds=60),
    )
    operations = {
        ("POST", "stop"): _stop,
        ("GET", "list"): _subscriptions,
        ("GET", "content"): _content,
        ("GET", "notifications"): _notifications,
    }

    async def subscriptions(request: Request) -> Response:
        body = await request.body()
        return await run_in_threadpool(operate, request, body)

    def operate(request: Request, body: bytes) -> Response:
        route = request.method, request.path_params["operation"]
        try:
            if route == ("POST", "start"):
                _admit(office, request)
                return _start(office, request, body)
            if (operation := operations.get(route)) is None:
                return _not_found()
            _admit(office, request)
            return operation(office, request)
        except Refusal as refusal:
            return refusal.response()

    def blob(request: Request) -> Response:
        try:
            _admit(office, request)
            return _fetch(office, request)
        except Refusal as refusal:
            return refusal.response()

    def unknown(_request: Request) -> Response:
        return _not_found()

    return [
        *microsoft.sign_in(site, ROOT, _APPS),
        Route(f"{_FEED}/subscriptions/{{operation}}", subscriptions, methods=["GET", "POST"]),
        Route(f"{_FEED}/audit/{{id}}", blob, methods=["GET"]),
        Route("/{path:path}", unknown, methods=["GET", "POST", "PUT", "DELETE"]),
    ]


def _not_found() -> Response:
    """Return a 404 without a body, as observed for content."""
    return Response(status_code=404, headers=HEADERS)


def refusal(status: int, _now: datetime, retry_after: float) -> Response:
    """Return the API's error response for a status."""
    if status == 401:
        body = {"Message": "Authorization has been denied for this request."}
        return JSONResponse(body, 401, HEADERS)
    if status == 404:
        return _not_found()
    code, message = {
        403: ("AF10001", "The permission set () sent in the request does not include the "
              "expected permission ActivityFeed.Read."),
        429: ("AF429", "Too many requests. Method=GetBlob, PublisherId="
              "00000000-0000-0000-0000-000000000000"),
    }.get(status, ("AF50000", "An internal error occurred. Retry the request."))  # fmt: skip
    headers = {"Retry-After": f"{retry_after:.0f}"} if status == 429 else {}
    return Refusal(status, code, message).response(headers)


def _admit(office: _Office, request: Request) -> None:
    """Check token, tenant, permission and rate limit. Raises Refusal."""
    now = office.site.clock()
    grant = microsoft.bearer(office.site, request, now)
    if grant is None:
        raise Refusal(401, "AF10000", "The access token is missing or expired.")
    tenant = request.path_params["tenant"]
    try:
        uuid.UUID(tenant)
    except ValueError:
        raise Refusal(400, "AF20013", f"The tenant ID ({tenant}) is not a GUID.") from None
    if tenant != microsoft.TENANT_ID:
        raise Refusal(400, "AF20010", f"The tenant ID ({tenant}) does not match the token.")
    if "ActivityFeed.Read" not in grant.scopes:
        raise Refusal(403, "AF10001", "The permission ActivityFeed.Read is missing.")
    publisher = _param(request, "PublisherIdentifier") or str(uuid.UUID(int=0))
    if not office.limiter.take(publisher, now).allowed:
        method = "GetBlob" if "id" in request.path_params else "ListContent"
        raise Refusal(403, "AF429", f"Too many requests. Method={method}, PublisherId={publisher}")


def _param(request: Request, name: str) -> str | None:
    """Return a query parameter; names are case-insensitive."""
    given = {key.lower(): value for key, value in request.query_params.items()}
    return given.get(name.lower())


def _content_type(request: Request) -> str:
    kind = _param(request, "contentType")
    if kind is None:
        raise Refusal(400, "AF20001", "Missing parameter: contentType.")
    if kind not in CONTENT_TYPES:
        raise Refusal(400, "AF20020", f"The specified content type ({kind}) is not valid.")
    return kind


def _start(office: _Office, request: Request, body: bytes) -> Response:
    """Start a subscription; its webhook is validated first and replaces the former one."""
    kind = _content_type(request)
    wanted = office_365_webhooks.read(body, office.site.clock())
    former = office.enabled.get(kind)
    if kind in office.enabled and office_365_webhooks.same(former, wanted):
        raise Refusal(400, "AF20024", "The subscription is already enabled. No property change.")
    if wanted:
        office_365_webhooks.validate(office.site, wanted)
    if former:
        former.leave(office.site)
    office.enabled[kind] = wanted
    if wanted:
        wanted.follow(office.site, _notices(office, kind, request))
    return JSONResponse(_subscription(kind, wanted), headers=HEADERS)


def _notices(office: _Office, kind: str, request: Request) -> Callable[[], list[Notice]]:
    """Return a function that returns a notice for each blob packed since its last call."""
    store, root = office.stores[kind], _root(request)
    place = len(store.refresh())

    def notices() -> list[Notice]:
        nonlocal place
        blobs = store.refresh()
        fresh, place = blobs[place:], len(blobs)
        return [
            Notice(
                item=_item(root, kind, blob),
                carries=office.site.carried(store.name, store.records(blob)),
            )
            for blob in fresh
        ]

    return notices


def _stop(office: _Office, request: Request) -> Response:
    webhook = office.enabled.pop(_content_type(request), None)
    if webhook:
        webhook.leave(office.site)
    return Response(headers=HEADERS)


def _subscriptions(office: _Office, _request: Request) -> Response:
    found = [_subscription(kind, hook) for kind, hook in sorted(office.enabled.items())]
    return JSONResponse(found, headers=HEADERS)


def _subscription(kind: str, webhook: Webhook | None) -> dict[str, Any]:
    shown = webhook and webhook.shown()
    return {"contentType": kind, "status": "enabled", "webhook": shown}


def _notifications(office: _Office, request: Request) -> Response:
    """Return the notifications sent in a time range, unpaged, unlike the real API."""
    kind = _content_type(request)
    webhook = office.enabled.get(kind)
    since, until = _window(request, office.site.clock())
    notifications = webhook.told if webhook else []
    found = [item for sent, item in notifications if since <= sent < until]
    return JSONResponse(found, headers=HEADERS)


def _content(office: _Office, request: Request) -> Response:
    kind, now = _content_type(request), office.site.clock()
    if kind not in office.enabled:
        raise Refusal(400, "AF20022", "No subscription found for the specified content type.")
    since, until = _window(request, now)
    found = [
        blob
        for blob in office.stores[kind].refresh()
        if since <= blob.created < until and blob.created + _KEEPS > now
    ]
    start = _page_start(request, found)
    shown = found[start : start + _PER_PAGE]
    headers = dict(HEADERS)
    if start + _PER_PAGE < len(found):
        headers["nextpageuri"] = _next_page(request, kind, since, until, shown[-1])
    items = [_item(_root(request), kind, blob) for blob in shown]
    Random(f"{kind}{since}{start}").shuffle(items)
    return JSONResponse(items, headers=headers)


def _window(request: Request, now: datetime) -> tuple[datetime, datetime]:
    """Return the start and the end of the query. Raises Refusal."""
    given = _param(request, "startTime"), _param(request, "endTime")
    match given:
        case None, None:
            return now - timedelta(days=1), now
        case str(start), str(end):
            since, until = _time(start), _time(end)
            fine = since <= until <= since + timedelta(days=1)
            if fine and since >= now - _KEEPS - _SLACK:
                return since, until
    raise Refusal(
        400,
        "AF20055",
        "Start time and end time must both be specified (or both omitted) and must be less than "
        "or equal to 24 hours apart, with the start time prior to end time and start time no "
        "more than 7 days in the past.",
    )


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(400, "AF20002", f"Invalid parameter type: {text}.") from None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _page_start(request: Request, found: Sequence[_Blob]) -> int:
    """Return the index after the previous page's last blob. Raises Refusal."""
    token = _param(request, "nextPage")
    if token is None:
        return 0
    for place, blob in enumerate(found):
        if _token(blob) == token:
            return place + 1
    raise Refusal(400, "AF20031", f"Invalid nextPage Input: {token}.")


def _token(blob: _Blob) -> str:
    return f"{blob.created:%Y%m%d%H}R{hashlib.sha256(blob.id.encode()).hexdigest()[:12]}"


def _next_page(request: Request, kind: str, since: datetime, until: datetime, last: _Blob) -> str:
    """Return the next page's URL: version v1, `endtime` in lower case, no publisher."""
    query = {
        "contentType": kind,
        "startTime": f"{since:%Y-%m-%dT%H:%M:%S}",
        "endtime": f"{until:%Y-%m-%dT%H:%M:%S}",
        "nextPage": _token(last),
    }
    path = request.url.path.replace("/api/v1.0/", "/api/v1/")
    return str(request.url.replace(path=path, query=urlencode(query, safe=":")))


def _root(request: Request) -> str:
    """Return the feed's URL, with the usual version v1.0."""
    root = str(request.url.replace(query="")).partition("/subscriptions/")[0]
    return root.replace("/api/v1/", "/api/v1.0/")


def _item(root: str, kind: str, blob: _Blob) -> dict[str, str]:
    return {
        "contentUri": f"{root}/audit/{quote(blob.id, safe='$')}",
        "contentId": blob.id,
        "contentType": kind,
        "contentCreated": iso(blob.created),
        "contentExpiration": iso(blob.created + _KEEPS),
    }


def _fetch(office: _Office, request: Request) -> Response:
    wanted, now = request.path_params["id"], office.site.clock()
    for store in office.stores.values():
        for blob in store.blobs:
            if blob.id == wanted:
                if blob.created + _KEEPS <= now:
                    raise Refusal(404, "AF20051", f"Content {wanted} has already expired.")
                body = store.content(blob)
                return Response(body, media_type="application/json; charset=utf-8", headers=HEADERS)
    raise Refusal(404, "AF20050", f"The specified content ({wanted}) does not exist.")


def _stream(name: str, share: float) -> Stream:
    return Stream(
        name=name,
        habits=events.HABITS[name],
        render=events.RENDER[name],
        identify=_incident if name == "dlp" else itemgetter("Id"),
        time="CreationTime",
        keeps=_KEEPS,
        share=share,
    )


def _incident(record: Any) -> str:
    return f"{record['Id']}/{record['Operation']}"


SERVICE = Service(
    kind="office_365",
    streams=(
        _stream("azure_active_directory", 0.5),
        _stream("exchange", 0.6),
        _stream("sharepoint", 0.8),
        _stream("general", 0.3),
        _stream("dlp", 0.1),
    ),
    routes=routes,
    settings=settings,
    refusal=refusal,
    pushes=True,
)
