"""The receiver: vendors' pushes come in here, are checked, kept on the disk, and acknowledged.

In this order: the address, the rate, the secret, the size while it is read, the packing, the shape;
whoever fails is answered in a few words, and nothing of it is kept. What is refused for want of
room is answered with 503, after which every vendor tries again.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from types import FrameType

import h11
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipelines import announcing, drain
from pipelines.clock import utc_now
from pipelines.drain import Drain
from pipelines.errors import ConfigurationError
from pipelines.lake.tables import Lake
from pipelines.sdk.contract import Source
from pipelines.sdk.push import Headers, Push
from pipelines.settings import LOOPBACK, Settings, WebhookSettings
from pipelines.spool import Full, Spool
from pipelines.subscriptions import Renewals

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
class Door:
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
        doors: Sequence[Door],
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

    def _door(self, request: Request) -> Door:
        """By the path as it was sent: one name, nothing to be decoded or resolved."""
        path = request.scope["raw_path"].decode("ascii", "replace")
        door = self._doors.get(path.removeprefix("/"))
        if door is None or path != f"/{door.source.name}":
            raise Refusal(404, "nothing is received here")
        return door

    def _challenge(self, door: Door, headers: Headers) -> Response:
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

    def _keep(self, door: Door, headers: Headers, body: bytes) -> None:
        """Onto the disk, once it is known to be what the vendor sends. Raises Refusal."""
        names = ("content-type", "content-encoding", *door.push.keeps)
        kept = {name: headers[name] for name in names if name in headers}
        try:
            if drain.held(door.source, door.push, kept, body):
                self._spool.put(door.source.name, kept, body, self._clock())
                self._taken(door.source.name)
        except drain.TooLarge:
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


class Guarded(H11Protocol):
    """HTTP/1.1 that waits only so long for a request's head, and ends in a way the other sees.

    uvicorn itself has no limit for a head that comes slowly, or never.
    """

    limits = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()
            return
        self._waiting_since = self.loop.time()
        self._look_again()

    def handle_events(self) -> None:
        super().handle_events()
        if self.conn.their_state is not h11.IDLE:
            self._waiting_since = self.loop.time()

    def _look_again(self) -> None:
        """A head that is overdue ends the connection."""
        if self.transport.is_closing():
            return
        if self.conn.their_state is not h11.IDLE:
            self._waiting_since = self.loop.time()
        left = self._waiting_since + self.limits.head_seconds - self.loop.time()
        if left <= 0:
            self.transport.abort()
        else:
            self.loop.call_later(min(left, 1.0) + 0.01, self._look_again)


def config(receiver: Receiver, limits: Limits, *, host: str, port: int) -> uvicorn.Config:
    protocol = type("Protocol", (Guarded,), {"limits": limits})
    return uvicorn.Config(
        receiver.app,
        host=host,
        port=port,
        log_level="error",
        access_log=False,
        server_header=False,
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        http=protocol,
        loop="asyncio",
        ws="none",
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=limits.head,
        backlog=512,
    )


def serve(
    chosen: Settings, lake: Lake, sources: Sequence[Source], say: Callable[[str], None]
) -> None:
    """Receive and drain until interrupted. Raises ConfigurationError."""
    listen = chosen.webhooks
    limits = Limits(per_second=listen.per_second)
    doors = _doors(sources, listen, say)
    spool = open_spool(chosen, lake)
    with spool.open(), announcing.announcer(chosen.dagster) as told:
        drains = {
            door.source.name: Drain(
                lake=lake, source=door.source, push=door.push, spool=spool, told=told.report
            )
            for door in doors
        }
        receiver = Receiver(doors, spool, lambda name: drains[name].wake(), limits)
        server = uvicorn.Server(config(receiver, limits, host=listen.host, port=listen.port))
        renewals = Renewals(chosen=chosen, root=spool.root, sources=sources, told=told.subscribed)
        with drain.working(list(drains.values())), renewals.going_on():
            say(f"receiving on http://{listen.host}:{listen.port} for {', '.join(drains)}")
            with suppress(KeyboardInterrupt):
                signal.signal(signal.SIGTERM, _ended)
                server.run()


def _ended(_number: int, _frame: FrameType | None) -> None:
    """uvicorn raises the signal that stopped it once more: what is under way is to be finished."""
    raise KeyboardInterrupt


def open_spool(chosen: Settings, lake: Lake) -> Spool:
    """The spool of the settings; nothing is made yet."""
    listen = chosen.webhooks
    beside = chosen.integrity.folder.expanduser() / "spool"
    root = listen.spool or (lake.local / "spool" if lake.local else beside)
    return Spool(
        root.absolute(),
        limit=listen.spool_megabytes * 2**20,
        spare=listen.spare_megabytes * 2**20,
    )


def _doors(
    sources: Sequence[Source], listen: WebhookSettings, say: Callable[[str], None]
) -> list[Door]:
    """What can be pushed to. Raises ConfigurationError."""
    pushing = [(source, source.integration.push) for source in sources]
    open_ones = [source.name for source, push in pushing if push and not _secret(source)]
    if open_ones and listen.host not in LOOPBACK:
        raise ConfigurationError(
            f"webhooks.host is {listen.host}, but {', '.join(open_ones)} would take pushes without "
            "a secret: set webhook_secret (`openssl rand -hex 32`), or name the integrations to "
            "receive for, or listen on 127.0.0.1"
        )
    for name in open_ones:
        say(f"{name}: has no webhook_secret, so nothing is received for it")
    doors = [
        Door(source=source, push=push, secret=_secret(source))
        for source, push in pushing
        if push and _secret(source)
    ]
    if not doors:
        raise ConfigurationError(
            "no integration has a webhook_secret: set one for each that is to be pushed to, "
            'such as { env = "OKTA_WEBHOOK_SECRET" }'
        )
    return doors


def _secret(source: Source) -> str:
    given = source.settings.webhook_secret
    return given.get_secret_value() if given else ""
