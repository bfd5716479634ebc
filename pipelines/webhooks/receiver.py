"""The receiver: vendors' pushes come in here, are checked, kept on the disk, and acknowledged.

In this order: the address, the rate, the secret, the size while it is read, the packing, the shape;
whoever fails is answered in a few words, and nothing of it is kept. What is refused for want of
room is answered with 503, after which every vendor tries again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pipelines.clock import utc_now
from pipelines.sdk.contract import Source
from pipelines.sdk.push import Headers, Push
from pipelines.webhooks import delivery
from pipelines.webhooks.spool import Full, Spool

_ALWAYS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
_LINGER_BYTES, _LINGER_SECONDS = 2**20, 0.2
_STRANGERS = 10_000
_SAID_AGAIN = 60.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a sender may cost."""

    body: int = 16 * 2**20
    head: int = 16 * 2**10
    head_seconds: float = 10.0
    body_seconds: float = 20.0
    connections: int = 256
    per_second: float = 200.0
    """Deliveries of one integration; five times as many may come at once."""
    wrong_per_second: float = 5.0
    """Requests without the secret from one address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An integration that may be pushed to, at /<name>."""

    source: Source
    push: Push
    secret: str = field(repr=False)


class Refusal(Exception):
    """An answer that is not "taken"."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


@dataclass(slots=True)
class Bucket:
    """A rate: so many a second, and a few times as many at once."""

    rate: float
    clock: Callable[[], float] = time.monotonic
    _level: float = 0.0
    _at: float = 0.0

    def take(self) -> bool:
        """Is there one left?"""
        now = self.clock()
        self._level = max(0.0, self._level - (now - self._at) * self.rate)
        self._at = now
        if self._level + 1 > max(1.0, 5 * self.rate):
            return False
        self._level += 1
        return True


class Receiver:
    """The ASGI application; `taken` is told for which integration something waits now."""

    def __init__(
        self,
        doors: Sequence[Endpoint],
        spool: Spool,
        taken: Callable[[str], None],
        limits: Limits | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._doors = {door.source.name: door for door in doors}
        self._spool = spool
        self._taken = taken
        self._limits = limits or Limits()
        self._clock = clock
        self._rates = {name: Bucket(self._limits.per_second) for name in self._doors}
        self._strangers: OrderedDict[str, Bucket] = OrderedDict()
        self._said: dict[tuple[str, str], float] = {}
        methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "CONNECT"]
        self.app = Starlette(
            routes=[Route("/{path:path}", self._answer, methods=methods)],
            exception_handlers={404: _nowhere, 500: _broken},
        )

    async def _answer(self, request: Request) -> Response:
        try:
            return await self._welcome(request)
        except Refusal as refusal:
            self._tell(request, refusal)
            await _linger(request)
            return _refused(refusal)

    async def _welcome(self, request: Request) -> Response:
        """What is asked of a request, in the order of what it costs. Raises Refusal."""
        if request.scope["raw_path"] == b"/-/health":
            return _short(200)
        door = self._door(request)
        headers = _headers(request, self._limits)
        if request.method == "GET" and door.push.challenge:
            return self._challenge(door, headers)
        if request.method != "POST":
            raise Refusal(405, "POST only")
        if not door.push.authentic(headers, door.secret):
            raise self._stranger(request)
        if not self._rates[door.source.name].take():
            raise Refusal(503, "too many deliveries; send it again later")
        _acceptable(door.push, headers, self._limits)
        body = await self._body(request)
        await run_in_threadpool(self._keep, door, headers, body)
        return _short(200)

    def _door(self, request: Request) -> Endpoint:
        """By the path as it was sent: one name, nothing to be decoded or resolved."""
        path = request.scope["raw_path"].decode("ascii", "replace")
        door = self._doors.get(path.removeprefix("/"))
        if door is None or path != f"/{door.source.name}":
            raise Refusal(404, "nothing is received here")
        return door

    def _challenge(self, door: Endpoint, headers: Headers) -> Response:
        assert door.push.challenge  # noqa: S101 the caller looked
        answer = door.push.challenge(headers)
        if answer is None or len(answer) > 1024:
            raise Refusal(405, "POST only")
        return _short(200, answer, "application/json")

    def _stranger(self, request: Request) -> Refusal:
        """Whoever has no secret may not try many."""
        address = request.client.host if request.client else ""
        bucket = self._strangers.setdefault(address, Bucket(self._limits.wrong_per_second))
        self._strangers.move_to_end(address)
        if len(self._strangers) > _STRANGERS:
            self._strangers.popitem(last=False)
        if bucket.take():
            return Refusal(401, "the secret is missing or wrong")
        return Refusal(429, "too many wrong secrets")

    async def _body(self, request: Request) -> bytes:
        """No larger and no slower than allowed, whatever was announced."""
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for part in request.stream():
                    size += len(part)
                    if size > self._limits.body:
                        raise Refusal(413, "too large")
                    parts.append(part)
        except TimeoutError:
            raise Refusal(408, "too slow") from None
        except ClientDisconnect:
            raise Refusal(400, "cut short") from None
        return b"".join(parts)

    def _keep(self, door: Endpoint, headers: Headers, body: bytes) -> None:
        """Onto the disk, once it is known to be what the vendor sends. Raises Refusal."""
        names = ("content-type", "content-encoding", *door.push.keeps)
        kept = {name: headers[name] for name in names if name in headers}
        try:
            if delivery.content(door.source, door.push, kept, body):
                self._spool.put(door.source.name, kept, body, self._clock())
                self._taken(door.source.name)
        except delivery.TooLarge:
            raise Refusal(413, "too large when unpacked") from None
        except ValueError:
            raise Refusal(400, "not what this vendor sends") from None
        except Full:
            raise Refusal(503, "no room; send it again later") from None
        except OSError as error:
            _log.error("the spool cannot be written: %s", error.strerror)
            raise Refusal(503, "not now; send it again later") from None

    def _tell(self, request: Request, refusal: Refusal) -> None:
        """A line now and then, without anything that the sender chose but a known name."""
        path = request.scope["raw_path"].decode("ascii", "replace").removeprefix("/")
        name = path if path in self._doors else "(unknown address)"
        key, now = (name, str(refusal)), time.monotonic()
        if now - self._said.get(key, -_SAID_AGAIN) >= _SAID_AGAIN:
            self._said[key] = now
            _log.warning("%s: refused with %d: %s", name, refusal.status, refusal)


async def _linger(request: Request) -> None:
    """Take in a little of what is being sent: a sender that is cut off may not see the answer."""
    if "expect" in request.headers:
        return
    size = 0
    with suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(_LINGER_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > _LINGER_BYTES:
                    return


def _headers(request: Request, limits: Limits) -> Headers:
    """Raises Refusal where a name comes twice: proxies and we might read different ones."""
    if sum(len(name) + len(value) for name, value in request.scope["headers"]) > limits.head:
        raise Refusal(431, "too many headers")
    found: dict[str, str] = {}
    for name, value in request.scope["headers"]:
        text = name.decode("latin-1").lower()
        if text in found and text not in ("accept", "via", "x-forwarded-for", "forwarded"):
            raise Refusal(400, "a header comes twice")
        found[text] = value.decode("latin-1")
    if "transfer-encoding" in found and "content-length" in found:
        raise Refusal(400, "two lengths")
    return found


def _acceptable(push: Push, headers: Headers, limits: Limits) -> None:
    """What can be told from the headers. Raises Refusal."""
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > limits.body:
        raise Refusal(413, "too large")
    empty = length == "0" and "transfer-encoding" not in headers
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in push.media_types and not empty:
        raise Refusal(415, "not the type of content this vendor sends")
    packing = headers.get("content-encoding", "identity").strip().lower()
    if packing not in (("identity", "gzip", "x-gzip") if push.packed else ("identity",)):
        raise Refusal(415, "not the encoding this vendor uses")


def _short(status: int, body: bytes = b"", media: str = "text/plain") -> Response:
    return Response(body, status, headers=_ALWAYS, media_type=media)


def _refused(refusal: Refusal) -> Response:
    """The connection ends with it: whatever else was being sent is not read."""
    later = {"Retry-After": "30"} if refusal.status in (429, 503) else {}
    headers = {**_ALWAYS, **later, "Connection": "close"}
    return Response(f"{refusal}\n", refusal.status, headers=headers, media_type="text/plain")


async def _nowhere(_request: Request, _error: Exception) -> Response:
    """A path with a line's end in it is none of any route."""
    return _refused(Refusal(404, "nothing is received here"))


async def _broken(_request: Request, _error: Exception) -> Response:
    return _refused(Refusal(500, "an error; send it again later"))
