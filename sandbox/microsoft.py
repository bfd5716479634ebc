"""Microsoft's token endpoints, simulated: app-only tokens for a client secret or a certificate.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
Assertions are accepted in every form that libraries send: PS256 or RS256, x5t#S256 or x5t, whole
or fractional times, with or without nbf; client credentials in the form or as HTTP Basic.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import unquote_plus

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sandbox import tokens
from sandbox.cast import DOMAIN
from sandbox.service import Site, form, secret
from sandbox.tokens import Grant, Rejected

TENANT_ID = "5e7a1d3c-9b24-4f60-8a17-c2d3e4f50617"
CLIENT_ID = "c1e0a9d4-3f52-4b7e-9d68-1f2a3b4c5d6e"
CLIENT_SECRET = f"Lf8Q~{secret('microsoft/client_secret')[:34]}"

_LIFE = 3599
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@cache
def certificate() -> x509.Certificate:
    """Return the app registration's certificate, the same in every process."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"auditlake.{DOMAIN}")])
    key = tokens.rsa_key("microsoft")
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(8700)
        .not_valid_before(datetime(2025, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2045, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )


def certificate_pem() -> str:
    """Return the certificate and its private key."""
    shown = certificate().public_bytes(serialization.Encoding.PEM).decode()
    return shown + tokens.pem(tokens.rsa_key("microsoft"))


def identity() -> dict[str, Any]:
    """Return the configuration keys for signing in with the client secret."""
    return {"tenant_id": TENANT_ID, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


def guid(name: str) -> str:
    """Return the GUID of a name, the same in every service."""
    return str(uuid.uuid5(uuid.UUID(TENANT_ID), name))


def sign_in(
    site: Site, resource: str, roles: Mapping[str, Sequence[str]], prefix: str = "/login"
) -> list[BaseRoute]:
    """Return the routes of both token endpoints; `roles` lists the granted roles by client id."""

    async def token(request: Request) -> Response:
        now = site.clock()
        try:
            fields = {**_basic(request), **await form(request)}
            _check_tenant(request)
            _check_resource(fields, resource)
            client = _client(site, request, fields, roles, now)
        except _Refusal as refusal:
            return refusal.response(now)
        grant = Grant(
            client=client,
            scopes=frozenset(roles[client]),
            expires=now + timedelta(seconds=_LIFE),
        )
        old = "resource" in fields
        return JSONResponse(_answer(site.tokens.issue(grant), fields, now, old=old))

    def configuration(request: Request) -> Response:
        base = str(request.url).partition("/v2.0/")[0]
        return JSONResponse(
            {
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "issuer": f"{base}/v2.0",
                "tenant_region_scope": "EU",
            }
        )

    tenant = f"{prefix}/{{tenant}}"
    return [
        Route(f"{tenant}/oauth2/v2.0/token", token, methods=["POST"]),
        Route(f"{tenant}/oauth2/token", token, methods=["POST"]),
        Route(f"{tenant}/v2.0/.well-known/openid-configuration", configuration),
    ]


def bearer(site: Site, request: Request, now: datetime) -> Grant | None:
    """Return the grant behind the request's bearer token, or None if it is not valid."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return site.tokens.find(token, now) if scheme == "Bearer" else None


class _Refusal(Exception):
    """An error response of Microsoft's token endpoint."""

    def __init__(self, status: int, error: str, code: int, message: str) -> None:
        super().__init__(message)
        self._status, self._error, self._code, self._message = status, error, code, message

    def response(self, now: datetime) -> Response:
        trace, correlation, time = str(uuid.uuid4()), str(uuid.uuid4()), f"{now:%Y-%m-%d %H:%M:%SZ}"
        description = (
            f"AADSTS{self._code}: {self._message} Trace ID: {trace} Correlation ID: {correlation} "
            f"Timestamp: {time}"
        )
        body = {
            "error": self._error,
            "error_description": description,
            "error_codes": [self._code],
            "timestamp": time,
            "trace_id": trace,
            "correlation_id": correlation,
        }
        return JSONResponse(body, self._status)


def _answer(token: str, fields: dict[str, str], now: datetime, *, old: bool) -> dict[str, Any]:
    """Return the body of a token response; the v1 endpoint returns numbers as strings."""
    if not old:
        return {
            "token_type": "Bearer",
            "expires_in": _LIFE,
            "ext_expires_in": _LIFE,
            "access_token": token,
        }
    seconds = int(now.timestamp())
    return {
        "token_type": "Bearer",
        "expires_in": str(_LIFE),
        "ext_expires_in": str(_LIFE),
        "expires_on": str(seconds + _LIFE),
        "not_before": str(seconds - 300),
        "resource": fields["resource"],
        "access_token": token,
    }


def _basic(request: Request) -> dict[str, str]:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Basic":
        return {}
    name, _, password = base64.b64decode(given).decode().partition(":")
    return {"client_id": unquote_plus(name), "client_secret": unquote_plus(password)}


def _check_tenant(request: Request) -> None:
    if request.path_params["tenant"] != TENANT_ID:
        raise _Refusal(400, "invalid_request", 90002, "Tenant not found.")


def _check_resource(fields: dict[str, str], resource: str) -> None:
    if fields.get("grant_type") != "client_credentials":
        raise _Refusal(400, "unsupported_grant_type", 70003, "The grant type is not supported.")
    if "resource" in fields:
        if fields["resource"].rstrip("/") != resource:
            raise _Refusal(400, "invalid_resource", 500011, "The resource principal was not found.")
    elif fields.get("scope") != f"{resource}/.default":
        raise _Refusal(
            400,
            "invalid_scope",
            70011,
            "The provided value for the input parameter 'scope' is not valid.",
        )


def _client(
    site: Site, request: Request, fields: dict[str, str], known: Mapping[str, Any], now: datetime
) -> str:
    """Authenticate the app and return its client id. Raises _Refusal."""
    client = fields.get("client_id", "")
    if client not in known:
        raise _Refusal(400, "unauthorized_client", 700016, "Application was not found.")
    if "client_assertion" in fields:
        _check_assertion(site, request, fields, now)
    elif fields.get("client_secret") != CLIENT_SECRET:
        raise _Refusal(401, "invalid_client", 7000215, "Invalid client secret provided.")
    return client


def _check_assertion(site: Site, request: Request, fields: dict[str, str], now: datetime) -> None:
    assertion = fields["client_assertion"]
    if fields.get("client_assertion_type") != _ASSERTION_TYPE:
        raise _Refusal(400, "invalid_request", 900144, "The client_assertion_type is wrong.")
    try:
        _check_thumbprint(tokens.header(assertion))
        claims = tokens.verified(
            assertion,
            tokens.rsa_key("microsoft").public_key(),
            issuer=fields["client_id"],
            subject=fields["client_id"],
            audiences=[str(request.url)],
            now=now,
            longest=3600,
        )
    except Rejected as error:
        raise _Refusal(401, "invalid_client", 700027, str(error)) from None
    if not site.tokens.first_use(f"assertion/{claims.get('jti')}"):
        raise _Refusal(401, "invalid_client", 7000214, "The assertion was used before.")


def _check_thumbprint(head: dict[str, Any]) -> None:
    shown = certificate()
    thumbprints = {
        "x5t#S256": tokens.base64url(shown.fingerprint(hashes.SHA256())),
        "x5t": tokens.base64url(shown.fingerprint(hashes.SHA1())),  # noqa: S303 as old libraries do
    }
    # Some libraries keep the padding of base64.
    named = [name for name in thumbprints if name in head]
    if not named or any(head[name].rstrip("=") != thumbprints[name] for name in named):
        raise Rejected("The certificate with the given thumbprint is not registered.")
