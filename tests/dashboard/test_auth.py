"""Access control: by the claims of a sign-in alone, and nobody without a rule."""

from __future__ import annotations

import getpass
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
    assert auth.admitted(GUARDED, user(**claims), "0.0.0.0") == claims["email"]


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
