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
from dashboard.sight import EVERYTHING
from pipelines.errors import ConfigurationError

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


STRONG = "01234567890246813579036925814708"


@pytest.mark.parametrize(
    ("secret", "weak"),
    [
        (STRONG, None),
        (STRONG[1:], "it has 31 characters, fewer than 32"),
        (STRONG.replace("9", "0"), "it repeats itself"),
    ],
)
def test_a_cookie_secret_needs_32_characters_and_10_different_ones(
    secret: str, weak: str | None
) -> None:
    assert (len(STRONG), len(set(STRONG))) == (32, 10)
    assert auth.weakness({"auth": {"cookie_secret": secret}}) == weak


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


ROLES = {"helpdesk": ["okta", "jumpcloud"], "cloud": ["cloudflare"], "audit": ["*"], "none": []}
WITH_ROLES: dict[str, Any] = {**AUTH, "auditlake": {"allowed_groups": [*ROLES], "roles": ROLES}}


@pytest.mark.parametrize(
    ("groups", "integrations"),
    [
        (["helpdesk"], {"okta", "jumpcloud"}),
        ("helpdesk", {"okta", "jumpcloud"}),
        (["helpdesk", "cloud", "others"], {"okta", "jumpcloud", "cloudflare"}),
        (["helpdesk", "audit"], None),
        (["none"], set()),
        (["Helpdesk"], set()),
        ([], set()),
    ],
)
def test_a_visitor_sees_the_integrations_of_all_their_groups(
    groups: Any, integrations: set[str] | None
) -> None:
    found = auth.sight(WITH_ROLES, user(groups=groups))
    assert found.integrations == integrations


def test_a_visitor_without_a_role_is_refused_where_there_are_roles() -> None:
    assert auth.admitted(WITH_ROLES, user(groups=["cloud"]), "127.0.0.1")
    by_address = {**AUTH, "auditlake": {"allowed_domains": ["acme.example"], "roles": ROLES}}
    claims = user(groups=["others"], email="ada@acme.example", email_verified=True)
    for secrets_, who in ((WITH_ROLES, user(groups=["none"])), (by_address, claims)):
        with pytest.raises(Refused):
            auth.admitted(secrets_, who, "127.0.0.1")


def test_without_roles_everyone_who_is_admitted_sees_everything() -> None:
    assert auth.sight(GUARDED, user(groups=["sec"])) == EVERYTHING
    # Users of this machine have no groups, and read the lake's files anyway.
    assert auth.sight({"auditlake": {"roles": ROLES}}, {}) == EVERYTHING


def test_the_roles_use_the_claim_of_the_rules() -> None:
    section = {"allowed_groups": ["cloud"], "groups_claim": "teams", "roles": ROLES}
    found = auth.sight({**AUTH, "auditlake": section}, user(teams=["cloud"], groups=["audit"]))
    assert found.integrations == {"cloudflare"}


@pytest.mark.parametrize("roles", ["*", ["okta"], {"helpdesk": "okta"}, {"helpdesk": [1]}])
def test_roles_that_are_not_understood_are_refused(roles: Any) -> None:
    wrong = {**AUTH, "auditlake": {"allowed_groups": ["helpdesk"], "roles": roles}}
    assert "auditlake.roles" in str(auth.refusal(wrong, "127.0.0.1"))
    with pytest.raises(ConfigurationError):
        auth.admitted(wrong, user(groups=["helpdesk"]), "127.0.0.1")


def test_roles_without_sign_in_are_refused() -> None:
    assert "needs sign-in" in str(auth.refusal({"auditlake": {"roles": ROLES}}, "127.0.0.1"))
    assert auth.refusal(WITH_ROLES, "127.0.0.1") is None
