"""Refuse requests that a page of another site makes through the browser of a visitor.

A server on loopback is within reach of every page that a local browser shows: by a host name of
the attacker that resolves to 127.0.0.1 (DNS rebinding), by an image or a form, or by a WebSocket.
Programs send none of the headers checked here but `Host`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from pipelines.settings import is_loopback

_OWN = frozenset({"same-origin", "none"})
_POLICY_VIOLATION = 1008
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_log = logging.getLogger(__name__)


class BrowserGuard:
    """ASGI middleware for HTTP and WebSockets.

    `names`: the hosts, with their ports if not 80 or 443, by which browsers may reach the server
    in addition to those of loopback. An unspecified address, as 0.0.0.0, stands for all addresses,
    since only names can be made to resolve elsewhere.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] = ()) -> None:
        self._app = app
        names = [_bracketed(name) for name in names]
        self._authorities = frozenset(map(_authority, names))
        self._hosts = frozenset(map(_host, names)) - {""}
        self._any_address = any(
            address.is_unspecified for host in self._hosts if (address := _address(host))
        )
        self._logged: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = None if scope["type"] == "lifespan" else self._fault(scope)
        if fault is None:
            await self._app(scope, receive, send)
            return
        self._log(fault)
        if scope["type"] == "websocket":
            await WebSocketClose(_POLICY_VIOLATION, fault)(scope, receive, send)
        else:
            await PlainTextResponse(f"refused: {fault}\n", 403, _HEADERS)(scope, receive, send)

    def _fault(self, scope: Scope) -> str | None:
        """Return the reason to refuse a request, or None."""
        headers = Headers(scope=scope)
        host = headers.get("host")
        # HTTP/1.0 needs no Host, which no browser speaks.
        if host is not None and not self._is_ours(_host(host)):
            return "this host name is not among allowed_hosts in auditlake.toml"
        origin = headers.get("origin")
        if origin is not None and not self._is_own(origin, host or ""):
            return "a page of another origin sent this request"
        if headers.get("sec-fetch-site", "none") not in _OWN and not _opens_page(scope, headers):
            return "a page of another site sent this request"
        return None

    def _is_ours(self, host: str) -> bool:
        if is_loopback(host) or host in self._hosts:
            return True
        return self._any_address and _address(host) is not None

    def _is_own(self, origin: str, host: str) -> bool:
        """Return whether the origin is this server; a proxy may have changed `Host`."""
        try:
            authority = _authority(urlsplit(origin).netloc)
        except ValueError:
            return False
        return bool(authority) and authority in {_authority(host), *self._authorities}

    def _log(self, fault: str) -> None:
        """Log each reason once; pages can send any number of requests."""
        if fault not in self._logged:
            self._logged.add(fault)
            _log.warning("refused a request: %s", fault)


def from_browser(headers: Mapping[str, str]) -> bool:
    """Return whether headers, by lower-case names, are those that browsers add for pages."""
    return "origin" in headers or any(name.startswith("sec-fetch-") for name in headers)


def _opens_page(scope: Scope, headers: Headers) -> bool:
    """Return whether a link was followed: the page that had it sees nothing of the response."""
    return (
        scope["type"] == "http"
        and scope["method"] in ("GET", "HEAD")
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


def _bracketed(name: str) -> str:
    """Return a name as in an address, where an IPv6 address is in brackets."""
    return f"[{name}]" if name.count(":") > 1 and "[" not in name else name


def _authority(text: str) -> str:
    """Return host and port in lower case, without the default port."""
    return text.lower().removesuffix(":443").removesuffix(":80")


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _host(text: str) -> str:
    """Return the host of `HOST[:PORT]` in lower case, or "" if it is malformed."""
    try:
        parts = urlsplit(f"//{text}")
    except ValueError:
        return ""
    return parts.hostname or "" if parts.username is None else ""
