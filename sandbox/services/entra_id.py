"""Microsoft Graph's audit log reports, simulated: v1.0 and beta of `/auditLogs`, and the sign-in.

https://learn.microsoft.com/graph/api/resources/azure-ad-auditlog-overview
Pages are newest first and link to the next by an opaque `$skiptoken`, good for the same question
only. Of a sign-in that was published again the newest version is served.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any
from urllib.parse import quote, urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sandbox import microsoft
from sandbox.service import (
    Key,
    Limiter,
    Micros,
    Record,
    Service,
    Site,
    Stream,
    at,
    decoded,
    micros,
    page,
)
from sandbox.services import entra_id_events as events

GRAPH = "https://graph.microsoft.com"
ROLES = ("AuditLog.Read.All", "Directory.Read.All", "ProvisioningLog.Read.All")
NO_ROLES_CLIENT_ID = microsoft.guid("an app without permissions")
UNLICENSED_CLIENT_ID = microsoft.guid("an app of a tenant without P1")

_APPS = {
    microsoft.CLIENT_ID: (*ROLES, "premium"),
    NO_ROLES_CLIENT_ID: ("premium",),
    UNLICENSED_CLIENT_ID: ROLES,
}
_KEEPS = timedelta(days=30)
_PLENTY = 100_000  # when limits are off
_CONTENT_TYPE = (
    "application/json;odata.metadata=minimal;odata.streaming=true;"
    "IEEE754Compatible=false;charset=utf-8"
)
_KINDS = {
    "interactiveUser": "sign_ins",
    "nonInteractiveUser": "non_interactive_sign_ins",
    "servicePrincipal": "service_principal_sign_ins",
    "managedIdentity": "managed_identity_sign_ins",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """One of the three collections below /auditLogs."""

    name: str
    time: str
    role: str = "AuditLog.Read.All"
    size: int = 1000


_REPORTS = {
    "signins": _Report(name="signIns", time="createdDateTime"),
    "directoryaudits": _Report(name="directoryAudits", time="activityDateTime"),
    "provisioning": _Report(
        name="provisioning", time="activityDateTime", role="ProvisioningLog.Read.All", size=200
    ),
}


def settings(base_url: str) -> dict[str, Any]:
    return {
        "base_url": base_url,
        "authority_url": f"{base_url}/login",
        **microsoft.identity(),
    }


def settings_with_certificate(base_url: str) -> dict[str, Any]:
    keys = {k: v for k, v in settings(base_url).items() if k != "client_secret"}
    return {**keys, "certificate": microsoft.certificate_pem()}


def routes(site: Site) -> Sequence[BaseRoute]:
    limiter = Limiter(count=5 if site.limits else _PLENTY, seconds=10)

    def report(request: Request) -> Response:
        now = site.clock()
        try:
            found = _asked_for(request)
            _admit(site, request, found, limiter, now)
            if "id" in request.path_params:
                return _single(site, request, found)
            return _page(site, request, found, now)
        except _Refusal as refusal:
            return refusal.response(now)

    def unknown(_request: Request) -> Response:
        refusal = _Refusal(404, "ResourceNotFound", "Resource not found for the segment.")
        return refusal.response(site.clock())

    return [
        *microsoft.sign_in(site, GRAPH, _APPS),
        Route("/{version:str}/{root}/{report}", report, methods=["GET"]),
        Route("/{version:str}/{root}/{report}/{id}", report, methods=["GET"]),
        Route("/{path:path}", unknown, methods=["GET", "POST", "PUT", "DELETE", "PATCH"]),
    ]


class _Refusal(Exception):
    """An error in Graph's words."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self._status, self._code, self._message = status, code, message
        self._headers = headers or {}

    def response(self, now: datetime) -> Response:
        headers = {**_headers(), **self._headers}
        inner = {
            "date": f"{now:%Y-%m-%dT%H:%M:%S}",
            "request-id": headers["request-id"],
            "client-request-id": headers["request-id"],
        }
        body = {"error": {"code": self._code, "message": self._message, "innerError": inner}}
        return JSONResponse(body, self._status, headers)


def refusal(status: int, now: datetime, retry_after: float) -> Response:
    """Any status as Graph words it, for faults."""
    code, message = {
        401: ("InvalidAuthenticationToken", "Lifetime validation failed, the token is expired."),
        403: ("Authorization_RequestDenied", "Insufficient privileges to complete the operation."),
        404: ("ResourceNotFound", "Resource not found."),
        429: ("TooManyRequests", _THROTTLED),
    }.get(status, ("UnknownError", ""))
    headers = {"Retry-After": f"{retry_after:.0f}"} if status == 429 else {}
    return _Refusal(status, code, message, headers).response(now)


_THROTTLED = "This request is throttled. Please try again after some time."


def _headers() -> dict[str, str]:
    request_id = str(uuid.uuid4())
    diagnostic = {"ServerInfo": {"DataCenter": "West Europe", "Slice": "E", "Ring": "5"}}
    return {
        "request-id": request_id,
        "client-request-id": request_id,
        "x-ms-ags-diagnostic": json.dumps(diagnostic),
    }


def _asked_for(request: Request) -> _Report:
    """Paths are case-insensitive. Raises _Refusal."""
    found = _REPORTS.get(request.path_params["report"].lower())
    if found is None or request.path_params["root"].lower() != "auditlogs":
        raise _Refusal(404, "ResourceNotFound", "Resource not found for the segment.")
    return found


def _admit(site: Site, request: Request, report: _Report, limiter: Limiter, now: datetime) -> None:
    """Raises _Refusal."""
    grant = microsoft.bearer(site, request, now)
    if grant is None:
        raise _Refusal(401, "InvalidAuthenticationToken", "Access token is empty or expired.")
    allowance = limiter.take(grant.client, now)
    if not allowance.allowed:
        wait = max(1, round((allowance.reset - now).total_seconds()))
        raise _Refusal(429, "TooManyRequests", _THROTTLED, {"Retry-After": str(wait)})
    if report.role not in grant.scopes:
        raise _Refusal(
            403,
            "Authentication_MSGraphPermissionMissing",
            "The principal does not have required Microsoft Graph permission(s): "
            f"{report.role} to call this API.",
        )
    if report.name == "signIns" and "premium" not in grant.scopes:
        raise _Refusal(
            403,
            "Authentication_RequestFromNonPremiumTenantOrB2CTenant",
            "Neither tenant is B2C or tenant doesn't have premium license",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Query:
    """What is asked for."""

    since: datetime
    until: datetime
    count: int
    descending: bool
    streams: tuple[str, ...]
    passes: tuple[Callable[[Any], bool], ...]

    def keep(self, raw: bytes) -> bool:
        value = decoded(raw)
        return all(passes(value) for passes in self.passes)


def _page(site: Site, request: Request, report: _Report, now: datetime) -> Response:
    query = _read(request, report, now)
    records, following = _newest(site, query, _after(request.query_params))
    version, name = request.path_params["version"], report.name
    context = f"{GRAPH}/{version}/$metadata#auditLogs/{name}"
    members = [b'"@odata.context":' + json.dumps(context).encode()]
    if following is not None:
        link = json.dumps(_link(request, following), ensure_ascii=False)
        members.append(b'"@odata.nextLink":' + link.encode())
    body = b"{" + b",".join([*members, b'"value":' + page(records)]) + b"}"
    headers = _headers()
    if version == "beta" and name == "signIns":
        headers["Link"] = f'<{GRAPH}/beta/$metadata>;rel="deprecation";type="text/html"'
    return Response(body, media_type=_CONTENT_TYPE, headers=headers)


def _single(site: Site, request: Request, report: _Report) -> Response:
    names = _KINDS.values() if report.name == "signIns" else [_log_name(report)]
    for name in names:
        for record in reversed(site.logs[name].visible()):
            if decoded(record.raw).get("id") == request.path_params["id"]:
                return Response(record.raw, media_type=_CONTENT_TYPE, headers=_headers())
    raise _Refusal(404, "ResourceNotFound", "Resource not found.")


def _log_name(report: _Report) -> str:
    return "provisioning" if report.name == "provisioning" else "directory_audits"


Places = Mapping[str, Key]
"""Stream -> the key of its last record that was served."""


def _newest(site: Site, query: _Query, after: Places) -> tuple[list[Record], dict[str, Key] | None]:
    """A page over one or several logs, and the places after it while there is more."""
    found: list[tuple[Key, str, Record]] = []
    more = False
    for name in query.streams:
        part = site.logs[name].window(
            micros(query.since),
            micros(query.until),
            query.count,
            after=after.get(name),
            newest_first=query.descending,
            keep=query.keep if query.passes else None,
        )
        more |= part.more
        found += [(key, name, r) for key, r in zip(part.keys, part.records, strict=True)]
    found.sort(key=itemgetter(0), reverse=query.descending)
    more |= len(found) > query.count
    served = found[: query.count]
    places = {**after, **{name: key for key, name, _ in served}}
    return _last_versions([record for _, _, record in served]), places if more else None


def _last_versions(records: list[Record]) -> list[Record]:
    """Of a record that came again later, changed, only that; what came at once is all shown."""
    names = [at("id")(decoded(record.raw)) for record in records]
    newest: dict[object, Micros] = {}
    for name, record in zip(names, records, strict=True):
        newest[name] = max(record.arrival, newest.get(name, record.arrival))
    return [
        record
        for name, record in zip(names, records, strict=True)
        if name is None or record.arrival == newest[name]
    ]


def _read(request: Request, report: _Report, now: datetime) -> _Query:
    """Raises _Refusal."""
    params = request.query_params
    if unknown := [n for n in params if n not in ("$filter", "$top", "$orderby", "$skiptoken")]:
        raise _bad(f"Query option '{unknown[0]}' is not allowed.")
    bounds, kinds, passes = _filter(params.get("$filter", ""), report, request)
    streams = tuple(_KINDS[kind] for kind in kinds or ("interactiveUser",))
    return _Query(
        since=max(bounds[0], now - _KEEPS),
        until=min(bounds[1], now + timedelta(days=1)),
        count=_count(params.get("$top"), report),
        descending=_descending(params.get("$orderby", f"{report.time} desc"), report),
        streams=streams if report.name == "signIns" else (_log_name(report),),
        passes=tuple(passes),
    )


def _count(top: str | None, report: _Report) -> int:
    if top is None:
        return report.size
    if not top.isdecimal() or not 1 <= int(top) <= 1000:
        raise _bad(f"Invalid page size specified: '{top}'. Must be between 1 and 1000 inclusive.")
    return int(top)


def _descending(orderby: str, report: _Report) -> bool:
    field, _, direction = orderby.partition(" ")
    if field != report.time or direction not in ("", "asc", "desc"):
        raise _bad(f"Invalid orderby clause: {orderby}")
    return direction == "desc"


_ANY = re.compile(r"signInEventTypes/any\(\s*t\s*:\s*(.+)\)", re.DOTALL)
_ONE = re.compile(r"t\s+eq\s+'(\w+)'")
_CLAUSE = re.compile(r"([\w/]+)\s+(eq|ge|le|gt|lt)\s+('(?:[^']|'')*'|[\w:.+-]+)")
_STARTS = re.compile(r"startswith\(\s*([\w/]+)\s*,\s*'((?:[^']|'')*)'\s*\)", re.IGNORECASE)
_TICK = timedelta(microseconds=1)


def _filter(
    text: str, report: _Report, request: Request
) -> tuple[tuple[datetime, datetime], tuple[str, ...], list[Callable[[Any], bool]]]:
    """(since, until), kinds of sign-ins, and what else a record has to pass. Raises _Refusal."""
    since, until = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    kinds: tuple[str, ...] = ()
    passes: list[Callable[[Any], bool]] = []
    for clause in _clauses(text):
        if found := _ANY.fullmatch(clause):
            kinds = _event_types(found[1], report, request)
        elif found := _STARTS.fullmatch(clause):
            passes.append(_starting(found[1], _unquoted(found[2])))
        elif not (found := _CLAUSE.fullmatch(clause)):
            raise _bad(f"Invalid filter clause: Syntax error in '{clause}'.")
        elif found[1] == report.time:
            lower, upper = _bounds(found[2], found[3], report)
            since, until = max(since, lower or since), min(until, upper or until)
        elif found[2] == "eq":
            passes.append(_equal(found[1], _unquoted(found[3].strip("'"))))
        else:
            raise _bad(f"Invalid filter clause: operator {found[2]} is not supported here.")
    return (since, until), kinds, passes


def _clauses(text: str) -> list[str]:
    """The parts of a conjunction; `and` inside parentheses belongs to its part."""
    parts: list[str] = []
    depth, open_part = 0, ""
    for word in re.split(r"(\s+and\s+)", text.strip()):
        if word.strip() == "and" and depth == 0:
            parts.append(open_part)
            open_part = ""
            continue
        open_part += word
        depth += word.count("(") - word.count(")")
    parts = [part.strip() for part in [*parts, open_part] if part.strip()]
    return [p[1:-1] if p[0] == "(" and p[-1] == ")" else p for p in parts]


def _bounds(
    operator: str, literal: str, report: _Report
) -> tuple[datetime | None, datetime | None]:
    """(first time that is meant, first that is not any more)."""
    allowed = ("eq", "gt", "lt") if report.name == "provisioning" else ("eq", "ge", "le")
    if operator not in allowed:
        raise _bad(f"Invalid filter clause: operator {operator} is not supported for the time.")
    try:
        time = datetime.fromisoformat(literal)
    except ValueError:
        raise _bad(f"Invalid filter clause: '{literal}' is not a date.") from None
    if time.tzinfo is None:
        raise _bad(f"Invalid filter clause: '{literal}' has no time zone.")
    match operator:
        case "ge":
            return time, None
        case "gt":
            return time + _TICK, None
        case "le":
            return None, time + _TICK
        case "lt":
            return None, time
    return time, time + _TICK


def _event_types(text: str, report: _Report, request: Request) -> tuple[str, ...]:
    """Only beta knows them."""
    if report.name != "signIns" or request.path_params["version"] != "beta":
        raise _bad("Invalid filter clause: Could not find a property named 'signInEventTypes'.")
    kinds = tuple(_ONE.findall(text))
    if not kinds or any(kind not in _KINDS for kind in kinds):
        raise _bad("Invalid filter clause: unknown sign-in event type.")
    return kinds


def _equal(path: str, wanted: str) -> Callable[[Any], bool]:
    pick = at(path.replace("/", "."))
    return lambda value: str(pick(value)) == wanted


def _starting(path: str, wanted: str) -> Callable[[Any], bool]:
    pick = at(path.replace("/", "."))
    return lambda value: str(pick(value) or "").lower().startswith(wanted.lower())


def _unquoted(text: str) -> str:
    return text.replace("''", "'")


def _bad(message: str) -> _Refusal:
    return _Refusal(400, "BadRequest", message)


def _link(request: Request, places: Mapping[str, Key]) -> str:
    """The same question with a token; `$` and quotes as Graph writes them."""
    kept = {k: v for k, v in request.query_params.items() if k != "$skiptoken"}
    query = {**kept, "$skiptoken": _token(kept, places)}
    return str(request.url.replace(query=urlencode(query, quote_via=quote, safe="$':()/")))


def _token(query: Mapping[str, str], places: Mapping[str, Key]) -> str:
    """Opaque: places by stream, and a digest of the question they belong to."""
    return json.dumps({"for": _digest(query), "places": places}).encode().hex() + "_1"


def _after(params: QueryParams) -> Places:
    token = params.get("$skiptoken")
    if token is None:
        return {}
    question = {k: v for k, v in params.items() if k != "$skiptoken"}
    try:
        said = json.loads(bytes.fromhex(token.removesuffix("_1")))
        if said["for"] != _digest(question):
            raise _bad("Invalid Skip Token, it belongs to another query.")
        return {name: (key[0], key[1]) for name, key in said["places"].items()}
    except (ValueError, KeyError, TypeError):
        raise _bad("Invalid Skip Token, skip token is null") from None


def _digest(query: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(query), sort_keys=True).encode()).hexdigest()[:12]


def _stream(name: str, share: float, report: str = "signins") -> Stream:
    return Stream(
        name=name,
        habits=events.HABITS[name],
        render=events.RENDER[name],
        identify=itemgetter("id"),
        time=_REPORTS[report].time,
        keeps=_KEEPS,
        share=share,
    )


SERVICE = Service(
    kind="entra_id",
    streams=(
        _stream("directory_audits", 0.3, "directoryaudits"),
        _stream("sign_ins", 0.6),
        _stream("non_interactive_sign_ins", 1.0),
        _stream("service_principal_sign_ins", 0.4),
        _stream("managed_identity_sign_ins", 0.2),
        _stream("provisioning", 0.2, "provisioning"),
    ),
    routes=routes,
    settings=settings,
    refusal=refusal,
)
