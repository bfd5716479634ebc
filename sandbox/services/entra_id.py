"""Microsoft Graph's audit log reports and risk detections, simulated, and sign-in.

https://learn.microsoft.com/graph/api/resources/azure-ad-auditlog-overview
https://learn.microsoft.com/graph/api/resources/riskdetection
Pages are newest first and link to the next by an opaque `$skiptoken`, which is valid only for the
same query. Only the latest version of a republished sign-in is served.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any
from urllib.parse import quote, urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sandbox import microsoft
from sandbox.rate_limit import Limiter
from sandbox.service import (
    Key,
    Micros,
    Record,
    Service,
    Site,
    Stream,
    at,
    decoded,
    iso,
    micros,
    page,
)
from sandbox.services import entra_id_events as events
from sandbox.services import entra_id_risks
from sandbox.services.entra_id_query import (
    KEEPS,
    REPORTS,
    RISKS_KEEP,
    SIGN_INS,
    Query,
    Report,
    invalid,
    read,
)
from sandbox.services.entra_id_refusals import THROTTLED, Refusal, refusal, response_headers

GRAPH = "https://graph.microsoft.com"
ROLES = (
    "AuditLog.Read.All",
    "Directory.Read.All",
    "ProvisioningLog.Read.All",
    "IdentityRiskEvent.Read.All",
)
NO_ROLES_CLIENT_ID = microsoft.guid("an app without permissions")
UNLICENSED_CLIENT_ID = microsoft.guid("an app of a tenant without P1")

_APPS = {
    microsoft.CLIENT_ID: (*ROLES, "premium"),
    NO_ROLES_CLIENT_ID: ("premium",),
    UNLICENSED_CLIENT_ID: ROLES,
}
_SECRET_LIFE = timedelta(days=300)
_PLENTY = 100_000  # when limits are off
_CONTENT_TYPE = (
    "application/json;odata.metadata=minimal;odata.streaming=true;"
    "IEEE754Compatible=false;charset=utf-8"
)


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
            found = _find_report(request)
            _admit(site, request, found, limiter, now)
            if "id" in request.path_params:
                return _single(site, request, found)
            return _page(site, request, found, now)
        except Refusal as refusal:
            return refusal.response(now)

    def application(request: Request) -> Response:
        now = site.clock()
        grant = microsoft.bearer(site, request, now)
        if grant is None or "Directory.Read.All" not in grant.scopes:
            refusal = Refusal(403, "Authorization_RequestDenied", "Insufficient privileges.")
            return refusal.response(now)
        secret = {"hint": microsoft.CLIENT_SECRET[:3], "endDateTime": iso(now + _SECRET_LIFE)}
        return JSONResponse({"passwordCredentials": [secret]})

    def unknown(_request: Request) -> Response:
        refusal = Refusal(404, "ResourceNotFound", "Resource not found for the segment.")
        return refusal.response(site.clock())

    return [
        *microsoft.sign_in(site, GRAPH, _APPS),
        Route("/{version:str}/{root}/{report}", report, methods=["GET"]),
        Route("/{version:str}/{root}/{report}/{id}", report, methods=["GET"]),
        Route("/{version:str}/applications(appId='{app}')", application, methods=["GET"]),
        Route("/{path:path}", unknown, methods=["GET", "POST", "PUT", "DELETE", "PATCH"]),
    ]


def _find_report(request: Request) -> Report:
    """Return the report that the path names; paths are case-insensitive. Raises Refusal."""
    found = REPORTS.get(request.path_params["report"].lower())
    if found is None or request.path_params["root"].lower() != found.root.lower():
        raise Refusal(404, "ResourceNotFound", "Resource not found for the segment.")
    return found


def _admit(site: Site, request: Request, report: Report, limiter: Limiter, now: datetime) -> None:
    """Check token, rate limit, permission and licence. Raises Refusal."""
    grant = microsoft.bearer(site, request, now)
    if grant is None:
        raise Refusal(401, "InvalidAuthenticationToken", "Access token is empty or expired.")
    allowance = limiter.take(grant.client, now)
    if not allowance.allowed:
        wait = max(1, round((allowance.reset - now).total_seconds()))
        raise Refusal(429, "TooManyRequests", THROTTLED, {"Retry-After": str(wait)})
    if report.role not in grant.scopes:
        raise Refusal(
            403,
            "Authentication_MSGraphPermissionMissing",
            "The principal does not have required Microsoft Graph permission(s): "
            f"{report.role} to call this API.",
        )
    if report.root == "identityProtection" and "premium" not in grant.scopes:
        raise Refusal(403, "Forbidden", "Your tenant is not licensed for this feature.")
    if report.name == "signIns" and "premium" not in grant.scopes:
        raise Refusal(
            403,
            "Authentication_RequestFromNonPremiumTenantOrB2CTenant",
            "Neither tenant is B2C or tenant doesn't have premium license",
        )


def _page(site: Site, request: Request, report: Report, now: datetime) -> Response:
    query = read(request, report, now)
    records, following = _newest(site, query, _after(request.query_params))
    version, name = request.path_params["version"], report.name
    context = f"{GRAPH}/{version}/$metadata#{report.root}/{name}"
    members = [b'"@odata.context":' + json.dumps(context).encode()]
    if following is not None:
        link = json.dumps(_link(request, following), ensure_ascii=False)
        members.append(b'"@odata.nextLink":' + link.encode())
    body = b"{" + b",".join([*members, b'"value":' + page(records)]) + b"}"
    headers = response_headers()
    if version == "beta" and name == "signIns":
        headers["Link"] = f'<{GRAPH}/beta/$metadata>;rel="deprecation";type="text/html"'
    return Response(body, media_type=_CONTENT_TYPE, headers=headers)


def _single(site: Site, request: Request, report: Report) -> Response:
    names = SIGN_INS.values() if report.name == "signIns" else [report.log]
    for name in names:
        for record in reversed(site.logs[name].visible()):
            if decoded(record.raw).get("id") == request.path_params["id"]:
                return Response(record.raw, media_type=_CONTENT_TYPE, headers=response_headers())
    raise Refusal(404, "ResourceNotFound", "Resource not found.")


Places = Mapping[str, Key]
"""Stream -> the key of its last record served."""


def _newest(site: Site, query: Query, after: Places) -> tuple[list[Record], dict[str, Key] | None]:
    """Return a page merged from one or more logs, and the places after it if more follows."""
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
    # Logs without a record on this page keep their former place.
    places = {**after, **{name: key for key, name, _ in served}}
    return _last_versions([record for _, _, record in served]), places if more else None


def _last_versions(records: list[Record]) -> list[Record]:
    """Return the latest version of each record; versions that arrived together all stay."""
    names = [at("id")(decoded(record.raw)) for record in records]
    newest: dict[object, Micros] = {}
    for name, record in zip(names, records, strict=True):
        newest[name] = max(record.arrival, newest.get(name, record.arrival))
    return [
        record
        for name, record in zip(names, records, strict=True)
        if name is None or record.arrival == newest[name]
    ]


def _link(request: Request, places: Mapping[str, Key]) -> str:
    """Return the URL of the same query with a skip token, escaped as Graph escapes it."""
    kept = {k: v for k, v in request.query_params.items() if k != "$skiptoken"}
    query = {**kept, "$skiptoken": _token(kept, places)}
    return str(request.url.replace(query=urlencode(query, quote_via=quote, safe="$':()/")))


def _token(query: Mapping[str, str], places: Mapping[str, Key]) -> str:
    """Return an opaque token: the places by stream, and a digest of the query they belong to."""
    return json.dumps({"for": _digest(query), "places": places}).encode().hex() + "_1"


def _after(params: QueryParams) -> Places:
    token = params.get("$skiptoken")
    if token is None:
        return {}
    query = {k: v for k, v in params.items() if k != "$skiptoken"}
    try:
        token_content = json.loads(bytes.fromhex(token.removesuffix("_1")))
        if token_content["for"] != _digest(query):
            raise invalid("Invalid Skip Token, it belongs to another query.")
        return {name: (key[0], key[1]) for name, key in token_content["places"].items()}
    except (ValueError, KeyError, TypeError):
        raise invalid("Invalid Skip Token, skip token is null") from None


def _digest(query: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(query), sort_keys=True).encode()).hexdigest()[:12]


def _stream(name: str, share: float, report: str = "signins") -> Stream:
    return Stream(
        name=name,
        habits=events.HABITS[name],
        render=events.RENDER[name],
        identify=itemgetter("id"),
        time=REPORTS[report].time,
        keeps=KEEPS,
        share=share,
    )


_RISKS = Stream(
    name="risk_detections",
    habits=entra_id_risks.HABITS,
    render=entra_id_risks.render,
    identify=itemgetter("id"),
    time=REPORTS["riskdetections"].time,
    keeps=RISKS_KEEP,
    share=0.15,
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
        _RISKS,
    ),
    routes=routes,
    settings=settings,
    refusal=refusal,
)
