"""httpx.Auth flows that several services share; a flow is a generator of requests.

A token lives in memory only. It is renewed early, and once more when the vendor says 401.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Generator
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import SecretStr

from pipelines.errors import ConfigurationError, Refused

Flow = Generator[httpx.Request, httpx.Response, None]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Header(httpx.Auth):
    """A fixed header: Header("Authorization", "Bearer", token)."""

    def __init__(self, name: str, scheme: str, secret: SecretStr) -> None:
        self._name = name
        self._scheme = scheme
        self._secret = secret

    def auth_flow(self, request: httpx.Request) -> Flow:
        request.headers[self._name] = f"{self._scheme} {self._secret.get_secret_value()}".strip()
        yield request


class Token(httpx.Auth):
    """OAuth 2.0: a request of ours is exchanged for an access token, which signs the rest.

    `ask` makes a fresh token request each time (assertions are single use); `advice` says what
    to do about a refusal. Where the server demands DPoP (RFC 9449), the flow takes to it by itself.
    """

    requires_response_body = True

    def __init__(
        self,
        ask: Callable[[], httpx.Request],
        advice: Callable[[httpx.Response], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ask = ask
        self._advice = advice
        self._clock = clock
        self._token = ""
        self._renew_at = 0.0
        self._dpop: _DPoP | None = None
        self._lock = threading.Lock()

    def auth_flow(self, request: httpx.Request) -> Flow:
        if self._clock() >= self._renew_at:
            yield from self._sign_in(self._token)
        self._sign(request)
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            yield from self._sign_in(request.headers["Authorization"].partition(" ")[2])
            self._sign(request)
            yield request

    def _sign(self, request: httpx.Request) -> None:
        request.headers["Authorization"] = f"{'DPoP' if self._dpop else 'Bearer'} {self._token}"
        if self._dpop:
            request.headers["DPoP"] = self._dpop.proof(request, self._clock(), token=self._token)

    def _sign_in(self, stale: str) -> Flow:
        """A new token, unless another thread has just fetched one."""
        with self._lock:
            if self._token and self._token != stale and self._clock() < self._renew_at:
                return
            for _ in range(3):  # plain, with a DPoP proof, with the server's nonce
                request = self._ask()
                if self._dpop:
                    request.headers["DPoP"] = self._dpop.proof(request, self._clock())
                response = yield request
                if response.is_success:
                    return self._keep(response)
                if not self._take_to_dpop(response):
                    break
            raise Refused(
                f"sign-in at {request.url.host}{request.url.path} answered "
                f"{response.status_code}: {self._advice(response)}",
                status=response.status_code,
                body=response.content,
            )

    def _keep(self, response: httpx.Response) -> None:
        answer = response.json()
        life = float(answer.get("expires_in", 3600))
        self._token = str(answer["access_token"])
        self._renew_at = self._clock() + life - min(300.0, life / 2)

    def _take_to_dpop(self, response: httpx.Response) -> bool:
        error = oauth_error(response)
        if error not in ("invalid_dpop_proof", "use_dpop_nonce"):
            return False
        self._dpop = self._dpop or _DPoP()
        self._dpop.nonce = response.headers.get("dpop-nonce", self._dpop.nonce)
        return True


class _DPoP:
    """Proofs that we hold the key the access token is bound to (RFC 9449)."""

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
    """The `error` of an OAuth error body, or ""."""
    try:
        return str(response.json().get("error", ""))
    except (ValueError, AttributeError):
        return ""


def private_key(secret: SecretStr, where: str) -> PrivateKey:
    """A PEM or JWK private key. Raises ConfigurationError that names `where`, never the key."""
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
    raise ConfigurationError(f"{where}: not an unencrypted RSA or EC private key in PEM or JWK")


def assertion(
    key: PrivateKey,
    claims: dict[str, Any],
    *,
    algorithm: str | None = None,
    headers: dict[str, Any] | None = None,
    life: int = 300,
) -> str:
    """A signed JWT with `iat`, `exp` and a fresh `jti` added to `claims`."""
    now = int(time.time())
    stamped = {"iat": now, "exp": now + life, "jti": str(uuid.uuid4()), **claims}
    return jwt.encode(stamped, key, algorithm=algorithm or _algorithm(key), headers=headers)


def _algorithm(key: PrivateKey) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return {256: "ES256", 384: "ES384", 521: "ES512"}[key.curve.key_size]
    return "RS256"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
