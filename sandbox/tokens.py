"""Access tokens issued by services, and client assertions, verified cryptographically."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from math import gcd, lcm, prod
from random import Random
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.types import Options

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512"]
_PROOF_AGE = 300
# Times are compared with the sandbox's clock instead of the system's.
_BY_OUR_CLOCK: Options = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The rights behind an access token."""

    client: str
    scopes: frozenset[str]
    expires: datetime
    key: str | None = None
    """The thumbprint of the key that the token is bound to by DPoP."""


@dataclass(slots=True)
class Tokens:
    """A service's access tokens, and the single-use identifiers already seen."""

    _grants: dict[str, Grant] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)

    def issue(self, grant: Grant) -> str:
        token = secrets.token_urlsafe(32)
        self._grants[token] = grant
        return token

    def find(self, token: str, now: datetime) -> Grant | None:
        """Return the grant of a token, or None if it is unknown, revoked or expired."""
        grant = self._grants.get(token)
        return grant if grant and now < grant.expires else None

    def expire(self) -> None:
        """Revoke every token issued so far."""
        self._grants.clear()

    def first_use(self, identity: str) -> bool:
        """Return True the first time a single-use identifier, such as a jti, is seen."""
        new = identity not in self._used
        self._used.add(identity)
        return new


class Rejected(ValueError):
    """The assertion is invalid; the message gives the reason."""


def verified(
    assertion: str,
    key: Any,
    *,
    issuer: str,
    subject: str | None,
    audiences: Iterable[str],
    now: datetime,
    longest: float,
) -> dict[str, Any]:
    """Return the claims after checking signature, audience and expiry. Raises Rejected."""
    try:
        claims: dict[str, Any] = jwt.decode(
            assertion,
            key,
            algorithms=_ALGORITHMS,
            issuer=issuer,
            subject=subject,
            audience=list(audiences),
            options={"require": ["exp", "iss", "sub", "aud"], **_BY_OUR_CLOCK},
        )
    except jwt.PyJWTError as error:
        raise Rejected(str(error)) from None
    left = _seconds(claims, "exp") - now.timestamp()
    if left <= 0:
        raise Rejected("The client_assertion token is expired.")
    if left > longest:
        raise Rejected("The client_assertion token has an expiration too far into the future.")
    return claims


def _seconds(claims: dict[str, Any], name: str) -> float:
    match claims.get(name):
        case int() | float() as seconds:
            return float(seconds)
    raise Rejected(f"The {name} claim is missing or not a number.")


def unverified(assertion: str) -> dict[str, Any]:
    """Return the claims without checking the signature, to find the issuer. Raises Rejected."""
    try:
        claims: dict[str, Any] = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        raise Rejected(str(error)) from None
    return claims


def thumbprint(jwk: dict[str, Any]) -> str:
    """Return the RFC 7638 thumbprint of an RSA or EC key."""
    names = ("crv", "kty", "x", "y") if jwk.get("kty") == "EC" else ("e", "kty", "n")
    members = json.dumps({name: jwk.get(name) for name in names}, separators=(",", ":"))
    return base64url(hashlib.sha256(members.encode()).digest())


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def proof(text: str, *, method: str, url: str, now: datetime) -> tuple[dict[str, Any], str]:
    """Return the claims of a DPoP proof (RFC 9449) and its key's thumbprint. Raises Rejected."""
    head = header(text)
    jwk = head.get("jwk")
    if head.get("typ") != "dpop+jwt" or not isinstance(jwk, dict) or "d" in jwk:
        raise Rejected("The DPoP proof JWT header is not valid.")
    try:
        key = jwt.PyJWK.from_dict(jwk, algorithm=head["alg"])
        claims: dict[str, Any] = jwt.decode(
            text, key, algorithms=_ALGORITHMS, options={**_BY_OUR_CLOCK}
        )
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise Rejected(f"The DPoP proof JWT is not valid: {error}") from None
    if claims.get("htm") != method or claims.get("htu") != url:
        raise Rejected("The DPoP proof JWT is for another request: htm or htu do not match.")
    if abs(now.timestamp() - _seconds(claims, "iat")) > _PROOF_AGE:
        raise Rejected("The DPoP proof JWT was issued too long ago or in the future.")
    return claims, thumbprint(jwk)


def header(assertion: str) -> dict[str, Any]:
    """Return the header without checking the signature. Raises Rejected."""
    try:
        return dict(jwt.get_unverified_header(assertion))
    except jwt.PyJWTError as error:
        raise Rejected(str(error)) from None


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """Return a key derived from a name alone, so that all processes of the sandbox share it.

    Anybody can derive it: never use it outside the sandbox.
    """
    rng = Random(name)
    p, q, e = _prime(rng), _prime(rng), 65537
    d = pow(e, -1, lcm(p - 1, q - 1))
    public = rsa.RSAPublicNumbers(e, p * q)
    return rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), rsa.rsa_crt_iqmp(p, q), public
    ).private_key()


def pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


_SMALL = prod(n for n in range(3, 2000, 2) if all(n % m for m in range(3, int(n**0.5) + 1, 2)))


def _prime(rng: Random) -> int:
    """Return a 1024-bit prime; Fermat's test is reliable enough for random candidates."""
    while True:
        # The top two bits are set, so that the product of two primes has 2048 bits.
        candidate = rng.getrandbits(1024) | 3 << 1022 | 1
        if gcd(candidate, _SMALL) == 1 and (candidate - 1) % 65537 and _fermat(candidate):
            return candidate


def _fermat(candidate: int) -> bool:
    return all(pow(base, candidate - 1, candidate) == 1 for base in (2, 3))
