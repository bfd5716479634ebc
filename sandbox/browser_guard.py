"""Refuse requests of web pages, which no client of a vendor's API makes."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def fault(headers: Headers, allowed: Collection[str]) -> str | None:
    """Return the reason to refuse a request, or None; `allowed` are hosts besides loopback."""
    if "origin" in headers or headers.get("sec-fetch-site", "none") != "none":
        return "a web page sent this request"
    host = headers.get("host")
    if host is not None and _name(host) not in _names(allowed):
        return "this host name is neither one of loopback nor given by --allowed-host"
    return None


def _names(allowed: Collection[str]) -> set[str]:
    return {*_LOOPBACK, *map(_name, allowed)} - {""}


def _name(host: str) -> str:
    """Return the host of `HOST[:PORT]` in lower case, or "" if it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
