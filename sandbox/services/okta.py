"""Okta's System Log API, simulated: `GET /api/v1/logs`, polling and bounded, and OAuth sign-in.

https://developer.okta.com/docs/reference/system-log-query/
Pages link to the next by an opaque `after`. A polling query uses <ms>_<n>, the n-th record that
arrived in that millisecond, which survives a restart; a bounded query uses a UUID that hides the
last record's place by event time.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sandbox import tokens
from sandbox.rate_limit import Limiter
from sandbox.service import (
    Key,
    Log,
    Record,
    Service,
    Site,
    Stream,
    form,
    micros,
    page,
    secret,
)
from sandbox.services import okta_events, okta_hooks
from sandbox.services.okta_query import Query, invalid, read
from sandbox.services.okta_refusals import Refusal
from sandbox.tokens import Grant, Rejected

API_TOKEN = f"00{secret('okta/api_token')}"
CLIENT_ID = "0oasandboxservice1d7"
DPOP_CLIENT_ID = "0oasandboxdpopapp1d7"
KEY_ID = "sandbox-key-1"

_RETENTION = timedelta(days=90)
_TOKEN_LIFE = timedelta(hours=1)
_PER_MINUTE, _PLENTY = 60, 100_000  # half of an organisation's 120 per client; limits off
_READ_LOGS = "okta.logs.read"
_SCOPES = frozenset({_READ_LOGS, "okta.users.read"}) | okta_hooks.SCOPES
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_TOO_MANY = "API call exceeded rate limit due to too many requests."
_WRONG_METHOD = "The endpoint does not support the provided HTTP method"
_MASK = int(hashlib.sha256(b"after").hexdigest()[:32], 16)


def settings(base_url: str) -> dict[str, Any]:
    return {"base_url": base_url, "api_token": API_TOKEN}


def settings_with_key(base_url: str, client_id: str = CLIENT_ID) -> dict[str, Any]:
    """Return settings that sign in as a service app; DPOP_CLIENT_ID also requires DPoP."""
    key = tokens.pem(tokens.rsa_key("okta"))
    return {"base_url": base_url, "client_id": client_id, "private_key": key, "key_id": KEY_ID}


def routes(site: Site) -> Sequence[BaseRoute]:
    limiter = Limiter(count=_PER_MINUTE if site.limits else _PLENTY, seconds=60)

    def logs(request: Request) -> Response:
        now = site.clock()
        headers = {"X-Okta-Request-Id": uuid.uuid4().hex}
        try:
            headers |= _admitted(limiter, _client(site, request, now, _READ_LOGS), now)
            return _events(site.logs["system_log"], request, now, headers)
        except Refusal as refusal:
            return refusal.response(headers)

    def admit(request: Request, scope: str) -> dict[str, str]:
        now = site.clock()
        return _admitted(limiter, _client(site, request, now, scope), now)

    async def token(request: Request) -> Response:
        now = site.clock()
        try:
            return JSONResponse(_grant(site, request, await form(request), now))
        except _OAuthRefusal as refusal:
            return refusal.response(now)

    def unknown(request: Request) -> Response:
        if request.url.path.endswith(("/api/v1/logs", "/oauth2/v1/token")):
            return Refusal(405, "E0000022", _WRONG_METHOD).response({})
        return Refusal(404, "E0000008", "The requested path was not found").response({})

    return [
        Route("/api/v1/logs", logs, methods=["GET"]),
        Route("/oauth2/v1/token", token, methods=["POST"]),
        *okta_hooks.routes(site, admit),
        Route("/{path:path}", unknown, methods=["GET", "POST", "PUT", "DELETE", "PATCH"]),
    ]


class _OAuthRefusal(Exception):
    """An OAuth error response."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self._status, self._error, self._description = status, error, description

    def response(self, now: datetime) -> Response:
        headers = {"dpop-nonce": _nonce(now)} if self._error == "use_dpop_nonce" else {}
        body = {"error": self._error, "error_description": self._description}
        return JSONResponse(body, self._status, headers)


def refusal(status: int, now: datetime, retry_after: float) -> Response:
    """Return Okta's error response for a status; a 429 has a reset time, no Retry-After."""
    code, summary = {
        401: ("E0000011", "Invalid token provided"),
        403: ("E0000006", "You do not have permission to perform the requested action"),
        404: ("E0000007", "Not found: Resource not found"),
        429: ("E0000047", _TOO_MANY),
    }.get(status, ("E0000009", "Internal Server Error"))
    headers = {"X-Okta-Request-Id": uuid.uuid4().hex}
    if status == 429:
        headers |= _rate_headers(_PER_MINUTE, 0, now + timedelta(seconds=retry_after))
    return Refusal(status, code, summary).response(headers)


def _rate_headers(limit: int, remaining: int, reset: datetime) -> dict[str, str]:
    return {
        "X-Rate-Limit-Limit": str(limit),
        "X-Rate-Limit-Remaining": str(remaining),
        "X-Rate-Limit-Reset": str(int(reset.timestamp())),
    }


def _admitted(limiter: Limiter, client: str, now: datetime) -> dict[str, str]:
    """Count a request, and return its rate-limit headers. Raises Refusal."""
    allowance = limiter.take(client, now)
    headers = _rate_headers(allowance.limit, allowance.remaining, allowance.reset)
    if not allowance.allowed:
        raise Refusal(429, "E0000047", _TOO_MANY, headers=headers)
    return headers


def _client(site: Site, request: Request, now: datetime, scope: str) -> str:
    """Authenticate a request and return its client. Raises Refusal."""
    authorization = request.headers.get("Authorization", "")
    # Okta's own Python client omits the space.
    if authorization in (f"SSWS {API_TOKEN}", f"SSWS{API_TOKEN}"):
        return "api_token"
    scheme, _, credential = authorization.partition(" ")
    grant = site.tokens.find(credential, now) if scheme in ("Bearer", "DPoP") else None
    if grant is None or (scheme == "DPoP") != (grant.key is not None):
        raise Refusal(401, "E0000011", "Invalid token provided")
    if grant.key is not None:
        _check_proof(site, request, grant, credential, now)
    if scope not in grant.scopes:
        raise Refusal(403, "E0000006", "You do not have permission to perform the requested action")
    return grant.client


def _check_proof(site: Site, request: Request, grant: Grant, token: str, now: datetime) -> None:
    """Check that an unused proof by the token's key covers this request. Raises Refusal."""
    url = str(request.url.replace(query=""))
    try:
        claims, key = tokens.proof(
            request.headers.get("DPoP", ""), method=request.method, url=url, now=now
        )
    except Rejected as error:
        raise Refusal(401, "E0000011", f"Invalid token provided: {error}") from None
    expected = tokens.base64url(hashlib.sha256(token.encode()).digest())
    if key != grant.key or claims.get("ath") != expected or not _fresh(site, claims):
        raise Refusal(401, "E0000011", "Invalid token provided: the DPoP proof is not for it")


def _fresh(site: Site, claims: dict[str, Any]) -> bool:
    return bool(claims.get("jti")) and site.tokens.first_use(f"dpop/{claims['jti']}")


def _grant(site: Site, request: Request, fields: dict[str, str], now: datetime) -> dict[str, Any]:
    """Return a token response. Raises _OAuthRefusal."""
    if fields.get("grant_type") != "client_credentials":
        raise _OAuthRefusal(400, "unsupported_grant_type", "The grant type is not supported.")
    client = _asserted(request, fields, now)
    key = _proven(site, request, client, now)
    # After the nonce check: a client retries with the same assertion and the nonce it was given.
    if (jti := client.get("jti")) and not site.tokens.first_use(f"assertion/{jti}"):
        raise _OAuthRefusal(
            401, "invalid_client", "The client_assertion token has already been used."
        )
    scopes = frozenset(fields.get("scope", "").split())
    if not scopes or scopes - _SCOPES:
        raise _OAuthRefusal(
            400, "invalid_scope", "One or more scopes are not configured for the application."
        )
    grant = Grant(client=client["iss"], scopes=scopes, expires=now + _TOKEN_LIFE, key=key)
    return {
        "token_type": "DPoP" if key else "Bearer",
        "expires_in": int(_TOKEN_LIFE.total_seconds()),
        "access_token": site.tokens.issue(grant),
        "scope": " ".join(sorted(scopes)),
    }


def _asserted(request: Request, fields: dict[str, str], now: datetime) -> dict[str, Any]:
    """Return the verified claims of the client's assertion. Raises _OAuthRefusal."""
    assertion = fields.get("client_assertion", "")
    try:
        client = _issuer(assertion, fields.get("client_assertion_type"))
        return tokens.verified(
            assertion,
            tokens.rsa_key("okta").public_key(),
            issuer=client,
            subject=client,
            audiences=[str(request.url)],
            now=now,
            longest=3600,
        )
    except Rejected as error:
        raise _OAuthRefusal(401, "invalid_client", str(error)) from None


def _issuer(assertion: str, assertion_type: str | None) -> str:
    """Return the client that an unverified assertion names as issuer. Raises Rejected."""
    if assertion_type != _ASSERTION_TYPE:
        raise Rejected("Client authentication with a signed client_assertion is required.")
    if tokens.header(assertion).get("kid", KEY_ID) != KEY_ID:
        raise Rejected("The client_assertion's key id is not known.")
    client = str(tokens.unverified(assertion).get("iss"))
    if client not in (CLIENT_ID, DPOP_CLIENT_ID):
        raise Rejected("Invalid value for 'client_id' parameter.")
    return client


def _proven(site: Site, request: Request, client: dict[str, Any], now: datetime) -> str | None:
    """Return the thumbprint of the key to bind a token to, if any. Raises _OAuthRefusal."""
    text = request.headers.get("DPoP")
    if text is None:
        if client["iss"] == DPOP_CLIENT_ID:
            raise _OAuthRefusal(400, "invalid_dpop_proof", "The DPoP proof JWT header is missing.")
        return None
    try:
        claims, key = tokens.proof(text, method="POST", url=str(request.url), now=now)
    except Rejected as error:
        raise _OAuthRefusal(400, "invalid_dpop_proof", str(error)) from None
    if claims.get("nonce") not in [_nonce(now - timedelta(days=age)) for age in range(4)]:
        raise _OAuthRefusal(
            400, "use_dpop_nonce", "Authorization server requires nonce in DPoP proof."
        )
    if not _fresh(site, claims):
        raise _OAuthRefusal(
            400, "invalid_dpop_proof", "The DPoP proof JWT has no jti or was used before."
        )
    return key


def _nonce(now: datetime) -> str:
    """Return the nonce of the day; those of the last three days are still accepted."""
    return secret(f"okta/nonce/{now:%Y-%m-%d}")


def _events(log: Log, request: Request, now: datetime, headers: dict[str, str]) -> Response:
    query = read(request.query_params, now)
    records, after = _poll(log, query, now) if query.polling else _search(log, query, now)
    response = Response(page(records), media_type="application/json", headers=headers)
    response.headers.append("Link", f'<{request.url}>; rel="self"')
    if after is not None:
        url = request.url.replace(query=_following(request.query_params, query, after))
        response.headers.append("Link", f'<{url}>; rel="next"')
    return response


def _following(params: QueryParams, query: Query, after: str) -> str:
    """Return the query of the next page; polling drops `since`."""
    dropped = {"after", "since"} if query.polling else {"after"}
    kept = [(name, value) for name, value in params.multi_items() if name not in dropped]
    return urlencode([*kept, ("after", after)])


def _poll(log: Log, query: Query, now: datetime) -> tuple[list[Record], str]:
    """Return records in order of arrival, and the `after` of the next page: there is always one."""
    oldest = now - _RETENTION
    start = log.position(micros(max(oldest, query.since) if query.after is None else oldest))
    if query.after is not None:
        start = max(start, _position(log, query.after))
    records, position = log.follow(start, query.limit, query.keep)
    # No record was read: an empty page repeats its `after`.
    if position == start:
        return records, query.after or f"{micros(query.since) // 1000}_0"
    return records, _place(log, position)


def _place(log: Log, position: int) -> str:
    """Return the `after` that continues at a position."""
    millisecond = log.arrival(position - 1) // 1000
    return f"{millisecond}_{position - log.position(millisecond * 1000)}"


def _position(log: Log, after: str) -> int:
    millisecond, _, number = after.partition("_")
    if not (millisecond.isdecimal() and number.isdecimal()):
        raise invalid("after", "The after parameter is not valid.")
    start = int(millisecond) * 1000
    # Never beyond the records of that millisecond.
    return min(log.position(start) + int(number), log.position(start + 1000))


def _search(log: Log, query: Query, now: datetime) -> tuple[list[Record], str | None]:
    """Return records by event time, and the `after` of the next page, if any."""
    found = log.window(
        micros(max(query.since, now - _RETENTION)),
        micros(query.until or now),
        query.limit,
        after=None if query.after is None else _key(query.after),
        newest_first=query.descending,
        keep=query.keep,
    )
    return found.records, _hidden(found.keys[-1]) if found.more and found.keys else None


def _hidden(key: Key) -> str:
    return str(uuid.UUID(int=(key[0] << 64 | key[1]) ^ _MASK))


def _key(after: str) -> Key:
    try:
        hidden = uuid.UUID(after).int ^ _MASK
    except ValueError:
        raise invalid("after", "The after parameter is not valid.") from None
    return hidden >> 64, hidden & (1 << 64) - 1


SERVICE = Service(
    kind="okta",
    streams=(
        Stream(
            name="system_log",
            habits=okta_events.HABITS,
            render=okta_events.render,
            identify=itemgetter("uuid"),
            time="published",
            keeps=_RETENTION,
        ),
    ),
    routes=routes,
    settings=settings,
    refusal=refusal,
    pushes=True,
)
