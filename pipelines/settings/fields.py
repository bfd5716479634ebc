"""The types of settings: secrets, durations and addresses, each with its check."""

from __future__ import annotations

import ipaddress
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SecretStr,
    ValidationInfo,
)

_SHARED = re.compile(r"[A-Za-z0-9._~+/=-]{16,128}")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def is_loopback(host: str) -> bool:
    """Return True if `host` can be reached from this machine only."""
    name = host.strip("[]").lower()
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


UNREAD = "unread".ljust(32, "0")
"""Stands for a secret outside the file that a command does without; valid in any of them."""


def _indirect(value: Any, info: ValidationInfo) -> Any:
    """Return the text of a secret given in place, as {env = "VARIABLE"} or {file = "path"}."""
    match value:
        case {"env": str()} | {"file": str()} if info.context == UNREAD:
            return UNREAD
        case {"env": str(name), **rest} if not rest:
            if not os.environ.get(name):
                raise ValueError(f"the environment variable {name} is not set")
            return os.environ[name]
        case {"file": str(name), **rest} if not rest:
            try:
                return Path(name).expanduser().read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"cannot read {name}: {reason(error)}") from None
        case dict():
            raise ValueError('give it as text, as {env = "VARIABLE"} or as {file = "path"}')
    return value


def _file_or_text(value: Any, info: ValidationInfo) -> Any:
    """Return the text of a secret, where bare text is the path of a file."""
    return _indirect({"file": value} if isinstance(value, str) else value, info)


def _duration(value: Any) -> Any:
    """Return "90s", "5m" or "30d" as a timedelta."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", value)
    if not found:
        raise ValueError('give a number and a unit, such as "30s", "5m", "12h" or "30d"')
    return timedelta(**{_UNITS[found[2]]: float(found[1])})


def reason(error: Exception) -> str:
    return error.strerror or "?" if isinstance(error, OSError) else "it is not UTF-8 text"


Secret = Annotated[SecretStr, BeforeValidator(_indirect)]
"""Never shown: not in reprs, logs or errors."""
SecretFile = Annotated[SecretStr, BeforeValidator(_file_or_text)]
"""The contents of a file named by its path."""
Duration = Annotated[timedelta, BeforeValidator(_duration)]
_BARE_HOST = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}(?:/.*)?")


def address(value: Any) -> str:
    """Check that it is https, or http on loopback, because a credential is sent to it.

    Return it with scheme and host in lower case and without a slash at its end.
    """
    checked = _url(value)
    url = httpx.URL(checked)
    if url.scheme == "http" and not is_loopback(url.host):
        raise ValueError("plain http is allowed for loopback addresses only: use https")
    return checked


def _url(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("give it as text")  # noqa: TRY004 pydantic reports only ValueErrors
    value = value.strip()
    try:
        url = httpx.URL(f"https://{value}" if _BARE_HOST.fullmatch(value) else value)
    except httpx.InvalidURL:
        raise ValueError("not a valid address: give one such as https://example.com") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("not a valid address: give one such as https://example.com")
    if url.userinfo or url.query or url.fragment:
        raise ValueError("remove the user, query or fragment from the address")
    return f"{url.scheme}://{url.netloc.decode()}{url.raw_path.decode()}".rstrip("/")


Address = Annotated[str, BeforeValidator(address)]
Url = Annotated[str, BeforeValidator(_url)]
"""An address that may be plain http, since no credential is sent to it."""


def _long_enough(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not _SHARED.fullmatch(value.get_secret_value()):
        raise ValueError(
            "give 16 to 128 letters, digits or any of . _ ~ + / = -, such as `openssl rand -hex 32`"
        )
    return value


def _proxy(value: SecretStr | None) -> SecretStr | None:
    text = value.get_secret_value().strip() if value else ""
    if not text:
        return None
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("give the proxy's address, such as http://proxy.example.com:3128")
    return SecretStr(text)


Proxy = Annotated[Secret | None, AfterValidator(_proxy)]
"""The address of a proxy, which may contain a password; "" is none."""


def _verified(options: dict[str, SecretStr]) -> dict[str, SecretStr]:
    if any(key.lower().endswith("allow_invalid_certificates") for key in options):
        raise ValueError("allow_invalid_certificates: use root_certificate: TLS is always verified")
    return options


StorageOptions = Annotated[dict[str, Secret], AfterValidator(_verified)]
SharedSecret = Annotated[Secret | None, AfterValidator(_long_enough)]
"""The secret a vendor sends with each push; valid in any header without escaping."""


class Section(BaseModel):
    """A part of the configuration; its values appear in no error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
