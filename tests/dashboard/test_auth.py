"""Access control: by the claims of a sign-in alone, and nobody without a rule."""

from __future__ import annotations

import getpass
import secrets
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import auth
from dashboard.auth import Exposed, NotSignedIn, Refused, Rules

AUTH: dict[str, Any] = {"auth": {"client_id": "x"}}
GUARDED = {**AUTH, "auditlake": {"allowed_groups": ["sec"], "allowed_domains": ["Acme.example"]}}


def user(**claims: Any) -> dict[str, Any]:
    return {"is_logged_in": True, "sub": "17", **claims}


def test_on_loopback_the_user_is_the_local_account() -> None:
    assert auth.admitted({}, {}, "127.0.0.1") == getpass.getuser()


@pytest.mark.parametrize("address", ["0.0.0.0", "10.0.0.5", "", None])
def test_beyond_loopback_sign_in_is_required(address: str | None) -> None:
    assert auth.exposed({}, address)
    with pytest.raises(Exposed):
        auth.admitted({}, user(groups=["sec"]), address)


def test_a_user_who_has_not_signed_in_is_not_admitted() -> None:
    with pytest.raises(NotSignedIn):
        auth.admitted(GUARDED, {"is_logged_in": False, "groups": ["sec"]}, "127.0.0.1")


@pytest.mark.parametrize(
    "claims",
    [
        {"groups": ["sec", "all"], "email": "ada@acme.example"},
        {"groups": "sec", "email": "ada@acme.example"},
        {"email": "ada@ACME.example", "email_verified": True},
    ],
)
def test_a_group_or_a_verified_address_is_admitted(claims: dict[str, Any]) -> None:
    admitted = auth.admitted(GUARDED, user(iss="https://id.example", **claims), "0.0.0.0")
    assert admitted == f"{claims['email']} (17 at https://id.example)"


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        (
            {"email": "a@x.example", "sub": "17", "iss": "https://i"},
            "a@x.example (17 at https://i)",
        ),
        ({"sub": "17", "iss": "https://i"}, "17 at https://i"),
        ({"email": "a@x.example"}, "a@x.example"),
        ({}, "unnamed"),
    ],
)
def test_a_user_is_named_by_address_subject_and_issuer(claims: dict[str, Any], name: str) -> None:
    assert auth.name(claims) == name


@pytest.mark.parametrize(
    "secret",
    ["changeme", "x" * 31, "x" * 64, "abcdefghijkl" * 4, "changeme-0123456789-abcdefghijkl"],
)
def test_a_cookie_secret_that_can_be_guessed_is_weak(secret: str) -> None:
    weak = {"auth": {"cookie_secret": secret}}
    assert auth.weakness(weak)
    assert "token_urlsafe" in str(auth.refusal(weak, "127.0.0.1"))


def test_a_random_cookie_secret_is_not_weak() -> None:
    for _ in range(200):
        secret = secrets.token_urlsafe(48)
        assert auth.weakness({"auth": {"cookie_secret": secret}}) is None
    assert auth.weakness({}) is None


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"groups": ["Sec", "section"]},
        {"email": "ada@acme.example"},
        {"email": "ada@acme.example", "email_verified": "true"},
        {"email": "ada@acme.example.evil.example", "email_verified": True},
        {"email": "acme.example", "email_verified": True},
        {"email": "ada@acme.example", "email_verified": False},
        {"roles": ["sec"]},
    ],
)
def test_other_claims_are_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        auth.admitted(GUARDED, user(**claims), "127.0.0.1")


@given(st.dictionaries(st.sampled_from(["groups", "email", "email_verified"]), st.text()))
def test_without_a_rule_nobody_is_authorised(claims: dict[str, Any]) -> None:
    assert not auth.belongs(claims, Rules())
    with pytest.raises(Refused):
        auth.admitted(AUTH, user(**claims), "127.0.0.1")
