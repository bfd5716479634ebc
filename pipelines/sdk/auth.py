"""httpx.Auth flows shared by several services; a flow is a generator of requests.

Tokens are kept in memory only. They are renewed before they expire, and once more after a 401.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import threading
import uuid
from collections.abc import Callable, Generator
from typing import Any

import httpx
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import SecretStr

from pipelines.clock import unix_time
from pipelines.errors import ConfigurationError, SignInRefused, Unavailable
from pipelines.sdk import answers
from pipelines.sdk.headers import sent_at

Flow = Generator[httpx.Request, httpx.Response, None]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_SAME_TIME = 60.0
_HOUR = 3600.0
_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----\n?", re.DOTALL)


class Header(httpx.Auth):
    """A fixed header: Header("Authorization", "Bearer", token)."""

    def __init__(self, name: str, scheme: str, secret: SecretStr) -> None:
        self._name = name
        self._scheme = scheme
        self._secret = secret

    def auth_flow(self, request: httpx.Request) -> Flow:
        request.headers[self._name] = f"{self._scheme} {self._secret.get_secret_value()}".strip()
        yield request


def scheme(request: httpx.Request) -> str:
    """Return the kind of credential that was sent, such as "Bearer" or "SSWS", or ""."""
    sent: str = request.headers.get("Authorization", "")
    return sent.partition(" ")[0]


class Token(httpx.Auth):
    """OAuth 2.0: fetch an access token, then send it with every request.

    `token_request` builds a new token request for a Unix time, since assertions are single use;
    `advice` returns how to fix a refused sign-in. If the server requires DPoP (RFC 9449), or its
    clock differs from ours, the flow adapts and retries.
    """

    requires_response_body = True

    def __init__(
        self,
        token_request: Callable[[float], httpx.Request],
        advice: Callable[[httpx.Response], str],
        clock: Callable[[], float] = unix_time,
    ) -> None:
        self._token_request = token_request
        self._advice = advice
        self._clock = clock
        self._token = ""
        self._renew_at = 0.0
        self._ahead = 0.0
        self._dpop: _DPoP | None = None
        self._lock = threading.Lock()

    def auth_flow(self, request: httpx.Request) -> Flow:
        if self._clock() >= self._renew_at:
            yield from self._sign_in(self._token)
        self._sign(request)
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            # Pass on the rejected token: another thread may have replaced it already.
            yield from self._sign_in(request.headers["Authorization"].partition(" ")[2])
            self._sign(request)
            yield request

    def _sign(self, request: httpx.Request) -> None:
        request.headers["Authorization"] = f"{'DPoP' if self._dpop else 'Bearer'} {self._token}"
        if self._dpop:
            request.headers["DPoP"] = self._dpop.proof(
                request, self._server_time(), token=self._token
            )

    def _sign_in(self, stale: str) -> Flow:
        """Fetch a new token, unless another thread has just replaced the `stale` one."""
        with self._lock:
            if self._token and self._token != stale and self._clock() < self._renew_at:
                return
            for _ in range(4):  # plain, by the server's clock, with a DPoP proof, with its nonce
                request = self._token_request(self._server_time())
                if self._dpop:
                    request.headers["DPoP"] = self._dpop.proof(request, self._server_time())
                response = yield request
                if answers.is_page(response):
                    raise answers.page_error(response)
                if response.is_success:
                    return self._keep(response)
                if not (self._adopt_clock(response) or self._adopt_dpop(response)):
                    break
            raise SignInRefused(
                f"sign-in at {request.url.host}{request.url.path} answered "
                f"{response.status_code}: {self._advice(response)}{answers.quoted(response)}",
                status=response.status_code,
                body=response.content,
            )

    def _keep(self, response: httpx.Response) -> None:
        """Keep the token of a response. Raises Unavailable if it has none."""
        answer = answers.members(response.content)
        token, life = answer.get("access_token"), _life(answer.get("expires_in"))
        if (
            not isinstance(token, str)
            or not token.isascii()
            or not token.isprintable()
            or not token
        ):
            raise Unavailable(
                f"sign-in at {response.request.url.host}{response.request.url.path} answered "
                f"{response.status_code} without an access token{answers.quoted(response)}; "
                "the next round retries"
            )
        self._token = token
        self._renew_at = self._clock() + life - min(300.0, life / 2)

    def _server_time(self) -> float:
        return self._clock() - self._ahead

    def _adopt_clock(self, response: httpx.Response) -> bool:
        """Adopt the server's clock; return whether it differed from our estimate."""
        sent = sent_at(response)
        if sent is None or abs(self._server_time() - sent.timestamp()) < _SAME_TIME:
            return False
        self._ahead = self._clock() - sent.timestamp()
        return True

    def _adopt_dpop(self, response: httpx.Response) -> bool:
        """Start to send DPoP proofs, or adopt a new nonce; return whether to retry."""
        error = oauth_error(response)
        if error not in ("invalid_dpop_proof", "use_dpop_nonce"):
            return False
        self._dpop = self._dpop or _DPoP()
        self._dpop.nonce = response.headers.get("dpop-nonce", self._dpop.nonce)
        return True


class _DPoP:
    """Proofs of possession of the key that the access token is bound to (RFC 9449)."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._jwk = jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        self._jwk.pop("key_ops", None)
        self.nonce: str | None = None

    def proof(self, request: httpx.Request, now: float, token: str | None = None) -> str:
        claims: dict[str, Any] = {
            "htm": request.method,
            "htu": str(request.url.copy_with(query=None, fragment=None)),
            "iat": int(now),
            "jti": str(uuid.uuid4()),
        }
        if token:
            claims["ath"] = _base64url(hashlib.sha256(token.encode()).digest())
        elif self.nonce:
            claims["nonce"] = self.nonce
        headers = {"typ": "dpop+jwt", "jwk": self._jwk}
        return jwt.encode(claims, self._key, algorithm="RS256", headers=headers)


def oauth_error(response: httpx.Response) -> str:
    """Return the `error` of an OAuth error body, or ""."""
    error = answers.members(response.content).get("error")
    return error if isinstance(error, str) else ""


def _life(seconds: Any) -> float:
    """Return a token's lifetime in seconds; an hour where the service gives none that is one."""
    try:
        life = float(seconds)
    except (TypeError, ValueError):
        return _HOUR
    return life if 0 < life < math.inf else _HOUR


def private_key(secret: SecretStr, where: str) -> PrivateKey:
    """Return the private key in a PEM or JWK.

    Raises ConfigurationError, which names `where` and never shows the key.
    """
    text = secret.get_secret_value().strip()
    try:
        if text.startswith("{"):
            key = jwt.PyJWK(json.loads(text)).key
        else:
            key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, jwt.PyJWTError):
        key = None
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        return key
    raise ConfigurationError(
        f"{where}: not a valid key: give an unencrypted RSA or EC private key as PEM or JWK"
    )


def assertion(
    key: PrivateKey,
    claims: dict[str, Any],
    *,
    algorithm: str | None = None,
    headers: dict[str, Any] | None = None,
    now: float,
    life: int = 300,
) -> str:
    """Return a signed JWT with `iat`, `exp` and a random `jti` added to `claims`."""
    stamped = {"iat": int(now), "exp": int(now) + life, "jti": str(uuid.uuid4()), **claims}
    return jwt.encode(stamped, key, algorithm=algorithm or _algorithm(key), headers=headers)


def microsoft(
    *,
    authority_url: str,
    tenant_id: str,
    client_id: str,
    scope: str,
    client_secret: SecretStr | None,
    certificate: SecretStr | None,
    where: str,
) -> Token:
    """Return the client-credentials flow of Microsoft, with a secret or a certificate.

    `certificate` is a PEM with both the certificate and its private key.
    https://learn.microsoft.com/entra/identity-platform/certificate-credentials
    """
    url = f"{authority_url}/{tenant_id}/oauth2/v2.0/token"
    sign = _certified(certificate, url, client_id, where) if certificate else None

    def token_request(now: float) -> httpx.Request:
        form = {"grant_type": "client_credentials", "client_id": client_id, "scope": scope}
        if sign:
            form["client_assertion_type"] = _ASSERTION_TYPE
            form["client_assertion"] = sign(now)
        elif client_secret:
            form["client_secret"] = client_secret.get_secret_value()
        return httpx.Request("POST", url, data=form, headers={"Accept": "application/json"})

    return Token(token_request, _microsoft_advice)


def _certified(pem: SecretStr, url: str, client_id: str, where: str) -> Callable[[float], str]:
    """Return a function that signs assertions with the certificate's key.

    Raises ConfigurationError, which never shows the key.
    """
    blocks = [found[0] for found in _PEM.finditer(pem.get_secret_value())]
    key = private_key(SecretStr("".join(b for b in blocks if "PRIVATE KEY" in b[:40])), where)
    try:
        shown = x509.load_pem_x509_certificate(
            next(block for block in blocks if "CERTIFICATE" in block[:40]).encode()
        )
    except (StopIteration, ValueError):
        raise ConfigurationError(
            f"{where}: no certificate found: put it in the same PEM as its private key"
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigurationError(
            f"{where}: not an RSA key: Microsoft accepts only certificates with RSA keys"
        )
    digest = shown.fingerprint(hashes.SHA256())
    claims = {"aud": url, "iss": client_id, "sub": client_id}
    head = {"x5t#S256": _base64url(digest)}
    return lambda now: assertion(
        key, {**claims, "nbf": int(now)}, algorithm="PS256", headers=head, now=now
    )


_MICROSOFT_ADVICE = {
    7000215: "client_secret is wrong: set the secret's value, not its ID",
    7000222: "client_secret has expired: create a new one for the app registration",
    700027: "the app registration does not know this certificate, or it has expired: upload it",
    700016: "client_id is not an app of this tenant: check client_id and tenant_id",
    90002: "tenant_id does not exist in this cloud: check tenant_id and authority_url",
    900023: "tenant_id does not exist in this cloud: check tenant_id and authority_url",
    500011: "base_url and authority_url belong to different clouds: correct one of them",
    70011: "base_url and authority_url belong to different clouds: correct one of them",
    53003: "a Conditional Access policy blocks the app: exclude it from that policy",
}


def _microsoft_advice(response: httpx.Response) -> str:
    codes = answers.members(response.content).get("error_codes")
    known = next(
        (_MICROSOFT_ADVICE[code] for code in _list(codes) if code in _MICROSOFT_ADVICE), None
    )
    return known or oauth_error(response) or "check authority_url and tenant_id"


def _list(value: Any) -> list[int]:
    return [each for each in value if isinstance(each, int)] if isinstance(value, list) else []


def _algorithm(key: PrivateKey) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return {256: "ES256", 384: "ES384", 521: "ES512"}[key.curve.key_size]
    return "RS256"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
