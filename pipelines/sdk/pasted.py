"""Tokens, ids and addresses as people paste them: mended where clear, else refused at load.

A refusal names the right form and never repeats the value, which may be a secret in the wrong
place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Annotated, Any

import httpx
from pydantic import AfterValidator, BeforeValidator, SecretStr

from pipelines.settings import Secret, is_loopback

UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LABEL = re.compile(r"(?:authorization|x-api-key|api[ _-]?key|token)\s*[:=]\s*", re.IGNORECASE)
_SCHEME = re.compile(r"(?:bearer|ssws|geniekey|basic)(?:\s+|$)|token\s+", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")
_PERSON = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+")
_OF_OTHERS = {
    # How the secrets of some services begin -> their name, and where they belong.
    "ATATT": "the API token of an Atlassian account",
    "ATCTT": "the API key of an Atlassian organization",
    "jca_": "a JumpCloud API key",
    "ghp_": "a GitHub token",
    "xoxb-": "a Slack token",
    "eyJ": "an access token, which expires within the hour",
    "-----BEGIN": "a private key or a certificate",
}


def _token(own: str, value: SecretStr | None) -> SecretStr | None:
    """Return a token without quotes, header name and scheme. Raises ValueError."""
    if value is None:
        return None
    text = value.get_secret_value().strip().strip("'\"").strip()
    for prefix in (_LABEL, _SCHEME):
        if found := prefix.match(text):
            text = text[found.end() :]
    if not text:
        raise ValueError("empty: set it, or remove the key")
    for begins, name in _OF_OTHERS.items():
        if text.startswith(begins) and begins != own:
            raise ValueError(f"this is {name}: create the credential that is documented for it")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("it contains spaces or line breaks: paste the token alone")
    return SecretStr(text)


Token = Annotated[Secret, AfterValidator(partial(_token, ""))]
"""A secret that is sent in a header; "Bearer x" and the like are accepted."""
OrganizationKey = Annotated[Secret, AfterValidator(partial(_token, "ATCTT"))]
AccountToken = Annotated[Secret, AfterValidator(partial(_token, "ATATT"))]
JumpCloudKey = Annotated[Secret, AfterValidator(partial(_token, "jca_"))]


def identifier(within: re.Pattern[str], form: str) -> Callable[[Any], Any]:
    """Return a validator of ids, which takes the one id out of an address that contains it.

    `form` is the right form, such as "the organisation's id".
    """

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        text = value.strip().strip("'\"").strip()
        if not text:
            raise ValueError(f"empty: give {form}")
        if _PLAIN.fullmatch(text):
            return text
        found = set(within.findall(text))
        if len(found) != 1:
            raise ValueError(f"not an id: give {form}")
        return found.pop()

    return read


def _person(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip().removeprefix("mailto:")
    if not _PERSON.fullmatch(text):
        raise ValueError("give an e-mail address, such as reports@example.com")
    return text


Person = Annotated[str, BeforeValidator(_person)]
"""An e-mail address."""


def _tenant(value: Any) -> Any:
    found = _TENANT(value)
    if str(found).lower() in ("common", "organizations", "consumers"):
        raise ValueError("this stands for any directory: give the ID of yours")
    return found


_TENANT = identifier(UUID, "the directory's ID, such as its GUID in the portal")
ClientId = Annotated[str, BeforeValidator(identifier(UUID, "the application's client ID"))]
TenantId = Annotated[str, BeforeValidator(_tenant)]


def checked_cloud(base_url: str, authority_url: str, logins: Mapping[str, str]) -> None:
    """Raise ValueError unless an API and a sign-in belong to the same cloud, as far as known.

    `logins` is the API's address -> that of its sign-in. A guess would send the secret of one
    national cloud to another.
    """
    if not authority_url:
        raise ValueError(
            "authority_url: missing: base_url is not an address of Microsoft's, so set the address "
            "of the sign-in of the same cloud, such as https://login.microsoftonline.com"
        )
    known = logins.get(base_url)
    if known and authority_url in set(logins.values()) - {known}:
        raise ValueError(
            f"base_url and authority_url belong to different clouds: set authority_url to {known}, "
            "or remove it"
        )


def root(value: str, roots: Iterable[str]) -> str:
    """Return the one of `roots` with the host of an address, or else the address itself.

    So a trailing path, such as that of a console or of one endpoint, is dropped.
    """
    host = httpx.URL(value).host
    return next((each for each in roots if httpx.URL(each).host == host), value)


def is_below(value: str, *domains: str) -> bool:
    """Return whether the host of an address is one of these domains or below one."""
    host = httpx.URL(value).host
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)


def login(base_url: str, logins: Mapping[str, str]) -> str:
    """Return the sign-in that belongs to an API, or "" where it is not known.

    One on this machine is a test's, and has that of the first of `logins`.
    """
    known = logins.get(base_url, "")
    return known or (next(iter(logins.values())) if is_loopback(httpx.URL(base_url).host) else "")
