"""The receiver: checks webhook deliveries, writes them to disk and acknowledges them.

Checks run from cheap to expensive: path, headers, secret, rate, announced size and type, size while
reading, decompressed size, content. A refused request gets a short answer and leaves nothing
behind. A delivery that cannot be stored right now is answered with 503, so that vendors retry.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pipelines.clock import Clock, utc_now
from pipelines.sdk.contract import Source
from pipelines.sdk.push import Headers, Push
from pipelines.settings.browser_guard import from_browser
from pipelines.webhooks import delivery
from pipelines.webhooks.spool import Full, Spool

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
_DRAIN_BYTES, _DRAIN_SECONDS = 2**20, 0.2
_MAX_ADDRESSES = 10_000
_LOG_EVERY = 60.0
_MAX_CHALLENGE = 1024
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The resources that senders may use."""

    body: int = 16 * 2**20
    head: int = 16 * 2**10
    head_seconds: float = 10.0
    body_seconds: float = 20.0
    connections: int = 256
    heads_per_address: int = 64
    """Connections of one peer without a complete head; not for trusted proxies."""
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Trusted proxies, whose X-Forwarded-For names the sender."""
    per_second: float = 200.0
    """Deliveries to one integration; a burst may have five times as many."""
    wrong_per_second: float = 5.0
    """Requests from one address with a missing or wrong secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An integration that accepts deliveries at /<name>."""

    source: Source
    push: Push
    secret: str = field(repr=False)


class Refusal(Exception):
    """The request is answered with `status` and the reason, and discarded."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(slots=True)
class Bucket:
    """A leaky bucket: `rate` per second, with bursts of five times as many."""

    rate: float
    clock: Callable[[], float] = time.monotonic
    _level: float = 0.0
    _at: float = 0.0

    def take(self) -> bool:
        """Return True, and count it, if the rate allows one more now."""
        now = self.clock()
        self._level = max(0.0, self._level - (now - self._at) * self.rate)
        self._at = now
        if self._level + 1 > max(1.0, 5 * self.rate):
            return False
        self._level += 1
        return True


class Receiver:
    """The ASGI application; calls `on_delivery` with the integration's name after storing one."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        spool: Spool,
        on_delivery: Callable[[str], None],
        limits: Limits | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._endpoints = {each.source.name: each for each in endpoints}
        self._spool = spool
        self._on_delivery = on_delivery
        self._limits = limits or Limits()
        self._clock = clock
        self._rates = {name: Bucket(self._limits.per_second) for name in self._endpoints}
        self._wrong_secrets: OrderedDict[str, Bucket] = OrderedDict()
        self._logged_at: dict[tuple[str, str], float] = {}
        methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "CONNECT"]
        self.app = Starlette(
            routes=[Route("/{path:path}", self._respond, methods=methods)],
            exception_handlers={404: _not_found, 500: _server_error},
        )
        # Starlette would send a request for `?okta` to the host that the request names.
        self.app.router.redirect_slashes = False

    async def _respond(self, request: Request) -> Response:
        try:
            return await self._handle(request)
        except Refusal as refusal:
            self._log_refusal(request, refusal)
            await _drain_request(request)
            return _refusal_response(refusal)

    async def _handle(self, request: Request) -> Response:
        """Check a request, cheapest checks first, and store its delivery. Raises Refusal."""
        if request.scope["raw_path"] == b"/-/health":
            return _closing(_response(200))
        endpoint = self._endpoint(request)
        headers = _headers(request, self._limits)
        if from_browser(headers):
            raise Refusal(403, "not for browsers")
        if request.method == "GET" and (challenge := endpoint.push.challenge):
            return _closing(_challenge_response(challenge(headers)))
        if request.method != "POST":
            raise Refusal(405, "POST only")
        if not endpoint.push.authentic(headers, endpoint.secret):
            raise self._unauthorised(request)
        # After the secret: a stranger must not be able to use up the vendor's rate.
        if not self._rates[endpoint.source.name].take():
            raise Refusal(503, "too many deliveries; retry later")
        _check_headers(endpoint.push, headers, self._limits)
        body = await self._read_body(request)
        # In a thread: parsing and fsync would block all other requests.
        await run_in_threadpool(self._store, endpoint, headers, body)
        return _response(200)

    def _endpoint(self, request: Request) -> Endpoint:
        """Return the endpoint of the path. Raises Refusal."""
        # The path as sent: decoding or resolving it would give an endpoint a second address.
        path = request.scope["raw_path"].decode("ascii", "replace")
        endpoint = self._endpoints.get(path.removeprefix("/"))
        if endpoint is None or path != f"/{endpoint.source.name}":
            raise Refusal(404, "no webhook endpoint here")
        return endpoint

    def _unauthorised(self, request: Request) -> Refusal:
        """Return 401, or 429 for an address that sends many wrong secrets."""
        address = _sender(request, self._limits)
        bucket = self._wrong_secrets.setdefault(address, Bucket(self._limits.wrong_per_second))
        # Bounded, because an attacker may have any number of addresses.
        self._wrong_secrets.move_to_end(address)
        if len(self._wrong_secrets) > _MAX_ADDRESSES:
            self._wrong_secrets.popitem(last=False)
        if bucket.take():
            return Refusal(401, "missing or wrong secret")
        return Refusal(429, "too many requests without a valid secret")

    async def _read_body(self, request: Request) -> bytes:
        """Return the body. Raises Refusal if it is too large or too slow."""
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for part in request.stream():
                    # Counted as it arrives: a chunked body announces no length.
                    size += len(part)
                    if size > self._limits.body:
                        raise Refusal(413, "body too large")
                    parts.append(part)
        except TimeoutError:
            raise Refusal(408, "body too slow") from None
        except ClientDisconnect:
            raise Refusal(400, "body incomplete") from None
        return b"".join(parts)

    def _store(self, endpoint: Endpoint, headers: Headers, body: bytes) -> None:
        """Write a delivery to the spool if its connector can read it. Raises Refusal."""
        names = ("content-type", "content-encoding", *endpoint.push.keeps)
        kept = {name: headers[name] for name in names if name in headers}
        try:
            # Parsed before it is acknowledged: afterwards the vendor would not send it again.
            if delivery.content(endpoint.source, endpoint.push, kept, body):
                self._spool.put(endpoint.source.name, kept, body, self._clock())
                self._on_delivery(endpoint.source.name)
        except delivery.TooLarge:
            raise Refusal(413, "body too large when decompressed") from None
        except ValueError:
            raise Refusal(400, "not a valid delivery of this vendor") from None
        except Full:
            raise Refusal(503, "spool full; retry later") from None
        except OSError as error:
            _log.error("cannot write to the spool %s: %s", self._spool.root, error.strerror)
            raise Refusal(503, "cannot store deliveries now; retry later") from None

    def _log_refusal(self, request: Request, refusal: Refusal) -> None:
        """Log each kind of refusal at most once per minute."""
        # Only known names: an unauthenticated sender must not write to the log.
        path = request.scope["raw_path"].decode("ascii", "replace").removeprefix("/")
        name = path if path in self._endpoints else "(unknown address)"
        key, now = (name, str(refusal)), time.monotonic()
        if now - self._logged_at.get(key, -_LOG_EVERY) >= _LOG_EVERY:
            self._logged_at[key] = now
            _log.warning("%s: refused with %d: %s", name, refusal.status, refusal)


async def _drain_request(request: Request) -> None:
    """Read a little more of a refused request, so that its sender sees the answer."""
    # A sender that waits for 100 Continue has sent nothing yet.
    if "expect" in request.headers:
        return
    size = 0
    # Closing with unread data resets the connection, which may discard the answer on its way.
    with suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > _DRAIN_BYTES:
                    return


def _headers(request: Request, limits: Limits) -> Headers:
    """Return the headers by lower-case name. Raises Refusal if they are ambiguous."""
    if sum(len(name) + len(value) for name, value in request.scope["headers"]) > limits.head:
        raise Refusal(431, "headers too large")
    found: dict[str, str] = {}
    for name, value in request.scope["headers"]:
        text = name.decode("latin-1").lower()
        # Of a duplicate, a proxy may have checked one value and we would read the other.
        if text in found and text not in ("accept", "via", "x-forwarded-for", "forwarded"):
            raise Refusal(400, "duplicate header")
        found[text] = value.decode("latin-1")
    # The classic ambiguity of request smuggling.
    if "transfer-encoding" in found and "content-length" in found:
        raise Refusal(400, "both Content-Length and Transfer-Encoding")
    return found


def _check_headers(push: Push, headers: Headers, limits: Limits) -> None:
    """Check size, type and encoding as announced. Raises Refusal."""
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > limits.body:
        raise Refusal(413, "body too large")
    empty = length == "0" and "transfer-encoding" not in headers
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in push.media_types and not empty:
        raise Refusal(415, "unexpected Content-Type")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in (("identity", "gzip", "x-gzip") if push.packed else ("identity",)):
        raise Refusal(415, "unexpected Content-Encoding")


def of_proxy(address: str, limits: Limits) -> bool:
    """Return True if the address is that of a trusted proxy."""
    try:
        return any(ip_address(address) in network for network in limits.proxies)
    except ValueError:
        return False


def neighbourhood(address: str) -> str:
    """Return the addresses of one sender: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        if isinstance(ip_address(address), IPv6Address):
            return str(ip_network(f"{address}/64", strict=False))
    except ValueError:
        pass
    return address


def _sender(request: Request, limits: Limits) -> str:
    peer = request.client.host if request.client else ""
    if of_proxy(peer, limits):
        # From the right: the sender itself may have written the entries on the left.
        forwarded = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
        others = (entry.strip() for entry in reversed(forwarded))
        peer = next((one for one in others if one and not of_proxy(one, limits)), peer)
    return neighbourhood(peer[:64])


def _challenge_response(answer: bytes | None) -> Response:
    """Return the answer by which a vendor verifies the address. Raises Refusal without one."""
    if answer is None or len(answer) > _MAX_CHALLENGE:
        raise Refusal(405, "POST only")
    return _response(200, answer, "application/json")


def _response(status: int, body: bytes = b"", media: str = "text/plain") -> Response:
    return Response(body, status, headers=_HEADERS, media_type=media)


def _closing(response: Response) -> Response:
    """Close the connection after a response to a request without a secret."""
    response.headers["Connection"] = "close"
    return response


def _refusal_response(refusal: Refusal) -> Response:
    """Return a short answer that closes the connection, so that the rest is never parsed."""
    later = {"Retry-After": "30"} if refusal.status in (429, 503) else {}
    headers = {**_HEADERS, **later, "Connection": "close"}
    return Response(f"{refusal}\n", refusal.status, headers=headers, media_type="text/plain")


async def _not_found(_request: Request, _error: Exception) -> Response:
    """Answer a path that contains a newline, which no Starlette route matches."""
    return _refusal_response(Refusal(404, "no webhook endpoint here"))


async def _server_error(_request: Request, _error: Exception) -> Response:
    return _refusal_response(Refusal(500, "internal error; retry later"))
