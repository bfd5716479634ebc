"""Tokens that services issue, and assertions that clients sign, verified for real."""

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
_BY_OUR_CLOCK: Options = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What an access token stands for."""

    client: str
    scopes: frozenset[str]
    expires: datetime
    key: str | None = None
    """The thumbprint of the key the token is bound to."""


@dataclass(slots=True)
class Tokens:
    """The access tokens of a service that are still good, and the identities already used."""

    _grants: dict[str, Grant] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)

    def issue(self, grant: Grant) -> str:
        token = secrets.token_urlsafe(32)
        self._grants[token] = grant
        return token

    def find(self, token: str, now: datetime) -> Grant | None:
        grant = self._grants.get(token)
        return grant if grant and now < grant.expires else None

    def expire(self) -> None:
        """No token issued so far is good any longer."""
        self._grants.clear()

    def first_use(self, identity: str) -> bool:
        """Whether a single-use identity, such as a jti, is new; it is used from now on."""
        new = identity not in self._used
        self._used.add(identity)
        return new


class Rejected(ValueError):
    """An assertion that does not hold; says why."""


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
    """The claims of an assertion that is signed, meant for us and alive. Raises Rejected."""
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
    """The claims of an assertion as they are said, to find whose it is. Raises Rejected."""
    try:
        claims: dict[str, Any] = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        raise Rejected(str(error)) from None
    return claims


def thumbprint(jwk: dict[str, Any]) -> str:
    """RFC 7638, of an RSA or an EC key."""
    names = ("crv", "kty", "x", "y") if jwk.get("kty") == "EC" else ("e", "kty", "n")
    members = json.dumps({name: jwk.get(name) for name in names}, separators=(",", ":"))
    return base64url(hashlib.sha256(members.encode()).digest())


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def proof(text: str, *, method: str, url: str, now: datetime) -> tuple[dict[str, Any], str]:
    """The claims of a DPoP proof (RFC 9449), and its key's thumbprint. Raises Rejected."""
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
    """Raises Rejected."""
    try:
        return dict(jwt.get_unverified_header(assertion))
    except jwt.PyJWTError as error:
        raise Rejected(str(error)) from None


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """A key made from a name alone, so that every process of the sandbox agrees on it.

    Anybody can make it again: it opens nothing but the sandbox.
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
    """1024 bits, both upper ones set; Fermat's test errs on random numbers about never."""
    while True:
        candidate = rng.getrandbits(1024) | 3 << 1022 | 1
        if gcd(candidate, _SMALL) == 1 and (candidate - 1) % 65537 and _fermat(candidate):
            return candidate


def _fermat(candidate: int) -> bool:
    return all(pow(base, candidate - 1, candidate) == 1 for base in (2, 3))
