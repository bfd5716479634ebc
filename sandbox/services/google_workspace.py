"""Google Workspace's Reports API, simulated: newest first, delayed, several events per activity.

As with Google, a response without activities has no `items`, an exhausted quota is a 403 with a
reason, and a user without the Reports privilege gets a token, and then a 401 for every list.
https://developers.google.com/workspace/admin/reports/reference/rest/v1/activities/list
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sandbox import tokens
from sandbox.cast import DOMAIN
from sandbox.rate_limit import Limiter
from sandbox.service import (
    Keep,
    Key,
    Log,
    Service,
    Site,
    decoded,
    form,
    micros,
    page,
    secret,
)
from sandbox.services import google_workspace_channels
from sandbox.services.google_workspace_events import CUSTOMER, KEEPS, STREAMS
from sandbox.tokens import Grant, Rejected

CLIENT = f"auditlake@{DOMAIN.partition('.')[0]}.iam.gserviceaccount.example"
SUBJECT = f"reports@{DOMAIN}"
UNPRIVILEGED = f"somebody@{DOMAIN}"
"""A user whom the service account may impersonate, without the Reports privilege."""
_KEY_ID = secret("google key")
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_AUDIENCE = "https://oauth2.googleapis.com/token"
_SCOPE = "https://www.googleapis.com/auth/admin.reports.audit.readonly"
_PER_MINUTE = 2400
_PAGE = 1000
_LONGEST_FOR_GMAIL = timedelta(days=30)
_FILTERS = ("eventName", "actorIpAddress", "customerId")
_PARAMETERS = frozenset({"startTime", "endTime", "maxResults", "pageToken", *_FILTERS})
_SYSTEM_PARAMETERS = frozenset({"alt", "fields", "prettyPrint", "quotaUser"})
_ACCESS_DENIED = "Access denied. You are not authorized to read activity records."
_QUOTA = (
    "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute per user' of service "
    "'admin.googleapis.com' for consumer 'project_number:1'."
)
_DELEGATION = (
    "Client is unauthorized to retrieve access tokens using this method, or client not authorized "
    "for any of the scopes requested."
)


def routes(site: Site) -> Sequence[BaseRoute]:
    limiter = Limiter(count=_PER_MINUTE if site.limits else 10**9, seconds=60)

    def refused(request: Request, now: datetime) -> Response | None:
        grant = site.tokens.find(
            request.headers.get("Authorization", "").removeprefix("Bearer "), now
        )
        if grant is None:
            return _error(401, "authError", "Invalid Credentials")
        if not limiter.take(grant.client, now).allowed:
            return _error(403, "rateLimitExceeded", _QUOTA)
        if grant.client != SUBJECT:
            return _error(401, "authError", _ACCESS_DENIED)
        return None

    def activities(request: Request) -> Response:
        now = site.clock()
        if answer := refused(request, now):
            return answer
        try:
            return _list(site, request, now)
        except ValueError as error:
            return _error(400, "invalidParameter", str(error))

    async def token(request: Request) -> Response:
        return _granted(site, await form(request), site.clock())

    return [
        Route("/admin/reports/v1/activity/users/{user}/applications/{application}", activities),
        Route("/token", token, methods=["POST"]),
        *google_workspace_channels.routes(site, refused, _chosen, _error),
    ]


def _granted(site: Site, fields: dict[str, str], now: datetime) -> Response:
    """Return a token for a signed assertion, whose audience is Google's whatever the token_uri."""
    try:
        claims = _claims(fields, now)
    except Rejected as error:
        return _refused(400, "invalid_grant", str(error))
    if _SCOPE not in str(claims.get("scope", "")).split():
        return _refused(401, "unauthorized_client", _DELEGATION)
    grant = Grant(
        client=claims["sub"], scopes=frozenset({_SCOPE}), expires=now + timedelta(hours=1)
    )
    body = {"access_token": site.tokens.issue(grant), "expires_in": 3599, "token_type": "Bearer"}
    return JSONResponse(body)


def _claims(fields: dict[str, str], now: datetime) -> dict[str, Any]:
    """Return the claims of a valid assertion. Raises Rejected."""
    if fields.get("grant_type") != _GRANT:
        raise Rejected("Invalid grant_type.")
    try:
        claims = tokens.verified(
            fields.get("assertion", ""),
            tokens.rsa_key("google_workspace").public_key(),
            issuer=CLIENT,
            subject=None,
            audiences=[_AUDIENCE],
            now=now,
            longest=3700,
        )
    except Rejected as error:
        reason = "Invalid JWT Signature." if "Signature" in str(error) else f"Invalid JWT: {error}"
        raise Rejected(reason) from None
    if claims["sub"] not in (SUBJECT, UNPRIVILEGED):
        raise Rejected("Invalid email or User ID")
    return claims


def _refused(status: int, error: str, description: str) -> Response:
    return JSONResponse({"error": error, "error_description": description}, status)


def _list(site: Site, request: Request, now: datetime) -> Response:
    """Return a page, newest first; an empty one has no `items`. Raises ValueError."""
    params, application = request.query_params, request.path_params["application"]
    log = site.logs.get(application)
    if log is None:
        raise ValueError(f"Invalid value '{application}' for applicationName")
    if unknown := set(params) - _PARAMETERS - _SYSTEM_PARAMETERS:
        raise ValueError(f"Unknown parameter: {unknown.pop()}")
    if params.get("customerId", CUSTOMER) not in (CUSTOMER, "my_customer"):
        raise ValueError("Invalid customerId")
    keep = _keep(request.path_params["user"], params)
    return _page(log, _window(params, application, now), params, keep)


def _page(
    log: Log, window: tuple[datetime, datetime], params: QueryParams, keep: Keep | None
) -> Response:
    count = int(params.get("maxResults", _PAGE))
    if not 1 <= count <= _PAGE:
        raise ValueError("maxResults must be between 1 and 1000")
    after = _opened(params["pageToken"]) if params.get("pageToken") else None
    since, until = map(micros, window)
    found = log.window(since, until, count, after=after, newest_first=True, keep=keep)
    body = b'{"kind":"admin#reports#activities","etag":"\\"page\\""'
    if found.more:
        body += b',"nextPageToken":' + msgspec.json.encode(_closed(found.keys[-1]))
    if found.records:
        body += b',"items":' + page(found.records)
    return Response(body + b"}", media_type="application/json")


def _window(params: QueryParams, application: str, now: datetime) -> tuple[datetime, datetime]:
    """Return the start and the end of the query. Raises ValueError."""
    # Gmail is the only application that requires both ends, at most 30 days apart.
    if application == "gmail" and not {"startTime", "endTime"} <= set(params):
        raise ValueError("gmail: startTime and endTime are required")
    oldest = now - KEEPS
    since = max(_time(params["startTime"]), oldest) if "startTime" in params else oldest
    until = _time(params["endTime"]) if "endTime" in params else now
    if since >= until or since > now:
        raise ValueError("Start time must be before end time and in the past")
    if application == "gmail" and until - since > _LONGEST_FOR_GMAIL:
        raise ValueError("gmail: at most 30 days")
    return since, until


def _keep(user: str, params: QueryParams) -> Keep | None:
    """Return a filter by user, event and address, or None if every activity matches."""
    name, address = params.get("eventName"), params.get("actorIpAddress")
    if user == "all" and not name and not address:
        return None

    def keep(raw: bytes) -> bool:
        record = decoded(raw)
        actor = record.get("actor", {})
        return (
            (user in ("all", actor.get("email"), actor.get("profileId")))
            and (not name or any(event.get("name") == name for event in record["events"]))
            and (not address or record.get("ipAddress") == address)
        )

    return keep


def _chosen(request: Request) -> Keep | None:
    return _keep(request.path_params["user"], request.query_params)


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _closed(key: Key) -> str:
    return "A:" + base64.urlsafe_b64encode(f"{key[0]}:{key[1]}".encode()).decode()


def _opened(token: str) -> Key:
    """Decode a page token. Raises ValueError."""
    time, _, number = base64.urlsafe_b64decode(token.removeprefix("A:")).decode().partition(":")
    return int(time), int(number)


def _error(
    status: int, reason: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    domain = "usageLimits" if reason.endswith("LimitExceeded") else "global"
    error = {
        "code": status,
        "message": message,
        "errors": [{"message": message, "domain": domain, "reason": reason}],
    }
    return JSONResponse({"error": error}, status, headers)


def refusal(status: int, _now: datetime, retry_after: float) -> Response:
    """Return Google's error response for a status."""
    reason, message = {
        401: ("authError", "Invalid Credentials"),
        403: ("forbidden", "Not Authorized to access this resource/api"),
        404: ("notFound", "Not Found"),
        429: ("rateLimitExceeded", _QUOTA),
    }.get(status, ("backendError", "Backend Error"))
    headers = {"Retry-After": str(-int(-retry_after // 1))} if status == 429 else None
    return _error(status, reason, message, headers)


def settings(base_url: str) -> dict[str, Any]:
    """Return the settings; the credentials are the text of the key file, not its path."""
    key = {
        "type": "service_account",
        "private_key_id": _KEY_ID,
        "private_key": tokens.pem(tokens.rsa_key("google_workspace")),
        "client_email": CLIENT,
        "token_uri": f"{base_url}/token",
    }
    return {"base_url": base_url, "credentials": json.dumps(key), "subject": SUBJECT}


SERVICE = Service(
    kind="google_workspace",
    streams=STREAMS,
    routes=routes,
    settings=settings,
    refusal=refusal,
    pushes=True,
)
