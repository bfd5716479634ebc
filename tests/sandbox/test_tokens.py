"""Access tokens, assertions and keys."""

from __future__ import annotations

import hmac
import json
import subprocess
import sys
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sandbox import tokens
from sandbox.tokens import Grant, Rejected, Tokens
from tests.sandbox.setups import ANCHOR

NOW = int(ANCHOR.timestamp())
KEY = tokens.rsa_key("okta")


def grant(minutes: float = 60) -> Grant:
    return Grant(
        client="c", scopes=frozenset({"read"}), expires=ANCHOR + timedelta(minutes=minutes)
    )


def test_a_token_is_valid_until_the_moment_it_expires() -> None:
    issued = Tokens()
    token = issued.issue(grant())
    last = ANCHOR + timedelta(minutes=60)
    assert issued.find(token, last - timedelta(microseconds=1)) == grant()
    assert issued.find(token, last) is None


@pytest.mark.parametrize("token", ["", "made-up", "\N{SNOWMAN}"])
def test_an_unknown_token_grants_nothing(token: str) -> None:
    issued = Tokens()
    issued.issue(grant())
    assert issued.find(token, ANCHOR) is None


def test_revoking_ends_all_tokens_and_later_ones_are_valid() -> None:
    issued = Tokens()
    before = issued.issue(grant())
    issued.expire()
    after = issued.issue(grant())
    assert issued.find(before, ANCHOR) is None
    assert issued.find(after, ANCHOR) == grant()


def test_an_identifier_is_new_only_once() -> None:
    issued = Tokens()
    assert [issued.first_use(name) for name in ("a", "a", "b", "")] == [True, False, True, True]


def signed(**changes: Any) -> str:
    claims = {"iss": "me", "sub": "me", "aud": "you", "exp": NOW + 300, **changes}
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, KEY, algorithm="RS256")


def verified(assertion: str, key: Any = None) -> dict[str, Any]:
    return tokens.verified(
        assertion,
        key or KEY.public_key(),
        issuer="me",
        subject="me",
        audiences=["you", "yours"],
        now=ANCHOR,
        longest=3600,
    )


def test_a_valid_assertion_returns_its_claims() -> None:
    assert verified(signed(extra=1))["extra"] == 1
    assert verified(signed(aud="yours"))["aud"] == "yours"
    # Google's libraries send fractions of seconds.
    assert verified(signed(exp=NOW + 0.5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exp": NOW}, "expired"),
        ({"exp": NOW + 3601}, "too far"),
        ({"exp": None}, "exp"),
        ({"aud": "them"}, "[Aa]udience"),
        ({"iss": "them"}, "[Ii]ssuer"),
        ({"sub": "them"}, "[Ss]ubject"),
    ],
)
def test_a_defective_assertion_is_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Rejected, match=message):
        verified(signed(**changes))


def test_an_unsigned_or_foreign_assertion_is_rejected() -> None:
    claims = {"iss": "me", "sub": "me", "aud": "you", "exp": NOW + 300}
    unsigned = jwt.encode(claims, None, algorithm="none")
    for assertion, key in (
        (unsigned, None),
        (signed(), tokens.rsa_key("microsoft").public_key()),
        ("not.a.token", None),
        ("", None),
    ):
        with pytest.raises(Rejected):
            verified(assertion, key)


def test_a_public_key_cannot_be_used_as_a_shared_secret() -> None:
    public = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    claims = {"iss": "me", "sub": "me", "aud": "you", "exp": NOW + 300}
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    text = ".".join(tokens.base64url(part) for part in parts)
    signature = hmac.digest(public, text.encode(), "sha256")
    with pytest.raises(Rejected):
        verified(f"{text}.{tokens.base64url(signature)}")


def test_the_issuer_can_be_read_before_the_signature_is_checked() -> None:
    assert tokens.unverified(signed(iss="other"))["iss"] == "other"
    for read in (tokens.unverified, tokens.header):
        with pytest.raises(Rejected):
            read("no token")


def test_the_thumbprint_is_that_of_rfc_7638() -> None:
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_"
        "BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_"
        "FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4"
        "vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert tokens.thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def proof(head: dict[str, Any] | None = None, **changes: Any) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    claims = {"htm": "GET", "htu": "https://a.example/x", "iat": NOW, **changes}
    headers = {"typ": "dpop+jwt", "jwk": jwk, **(head or {})}
    return jwt.encode(claims, key, algorithm="ES256", headers=headers)


def test_a_proof_returns_its_claims_and_the_thumbprint_of_its_key() -> None:
    claims, thumb = tokens.proof(proof(), method="GET", url="https://a.example/x", now=ANCHOR)
    assert claims["htm"] == "GET"
    assert len(thumb) == 43


@pytest.mark.parametrize(
    ("head", "changes", "message"),
    [
        ({"typ": "JWT"}, {}, "header"),
        ({"jwk": None}, {}, "header"),
        ({"jwk": {"kty": "EC", "d": "private"}}, {}, "header"),
        ({"jwk": {"kty": "EC"}}, {}, "not valid"),
        ({}, {"htm": "POST"}, "another request"),
        ({}, {"htu": "https://b.example/x"}, "another request"),
        ({}, {"iat": NOW - 301}, "too long ago"),
        ({}, {"iat": NOW + 301}, "in the future"),
        ({}, {"iat": "now"}, "not a number|not valid"),
    ],
)
def test_a_defective_proof_is_rejected(
    head: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(Rejected, match=message):
        tokens.proof(proof(head, **changes), method="GET", url="https://a.example/x", now=ANCHOR)


def test_another_process_derives_the_same_key() -> None:
    program = "from sandbox import tokens; print(tokens.pem(tokens.rsa_key('okta')), end='')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == tokens.pem(KEY)
    assert KEY.key_size == 2048
    assert tokens.pem(tokens.rsa_key("google")) != done.stdout
