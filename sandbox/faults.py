"""Injected faults between a vendor and its client, on the real socket."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Literal
from urllib.parse import unquote

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Failure = Literal[
    "status",
    "reset",
    "truncate",
    "garbage",
    "slow",
    "trickle",
    "expire_token",
    "answer",
    "heavy",
    "old",
    "inflate",
]

_PIECES = 10
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d)?")
_UNIX = re.compile(r"(?<!\d)1\d{12}(?!\d)")


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault to inject, and the requests of a service it applies to.

    status: return the vendor's own error, with `status` and `retry_after`; reset: reset the
    connection mid-body; truncate: close it before Content-Length is reached; garbage: cut the JSON
    in half, with a matching Content-Length; slow: wait `seconds` first; trickle: send the body in
    pieces over `seconds`; expire_token: revoke all tokens issued so far; answer: return `status`,
    `media_type` and `body` in the vendor's place, such as the page of a captive proxy; heavy: the
    same, for queries of more than `seconds`; old: for queries that start more than `seconds` ago;
    inflate: a JSON array that unpacks to `megabytes` of gzip.
    """

    kind: str
    fault: Failure
    at: list[int] = []
    """Indexes of requests, from 0 since the faults were set; empty means every request."""
    every: bool = False
    """Apply to every request, ignoring `at`."""
    path: str = ""
    """Apply only to requests whose path contains this."""
    count: int | None = None
    """Maximum number of times the fault is injected."""
    status: int = 503
    retry_after: float = 1.0
    seconds: float = 1.0
    megabytes: int = 256
    media_type: str = "application/json"
    body: str = ""


class Mishap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fractions of a service's pushes to lose, duplicate and delay, drawn from a seed.

    Lost pushes are never sent; late ones wait up to `seconds`, so that newer ones overtake them; a
    duplicate is sent within `seconds`.
    """

    kind: str
    lost: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    seconds: float = 1.0
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A served request and its status; never its query, headers or body."""

    method: str
    path: str
    status: int
    fault: Failure | None


@dataclass(slots=True, kw_only=True)
class Trouble:
    """The faults set for a service, and the requests it has served."""

    refuse: Callable[[int, float], Response]
    """(status, retry_after) -> the vendor's error response."""
    expire: Callable[[], None]
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    asked: deque[Asked] = field(default_factory=lambda: deque(maxlen=10_000))
    requests: int = 0
    _faults: list[Fault] = field(default_factory=list)
    _used: list[int] = field(default_factory=list)
    _index: int = 0

    def order(self, faults: list[Fault]) -> None:
        """Replace the faults, and count requests from 0 again."""
        self._faults, self._used, self._index = faults, [0] * len(faults), 0

    def next(self, path: str) -> Fault | None:
        """Count a request, and return the fault to inject into it, if any."""
        index = self._index
        self._index += 1
        self.requests += 1
        for number, fault in enumerate(self._faults):
            wanted = fault.every or not fault.at or index in fault.at
            left = fault.count is None or self._used[number] < fault.count
            if wanted and left and fault.path in path:
                self._used[number] += 1
                return fault
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Buffered:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def troubled(app: ASGIApp, trouble: Trouble) -> ASGIApp:
    """Return `app` with the faults injected and every request recorded."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        fault = trouble.next(scope["path"])
        status = 0
        if fault and fault.fault in ("heavy", "old"):
            scope_body = await _body(receive)
            receive = _replayed(scope_body, receive)
            asked = asked_span(scope["query_string"], scope_body)
            fault = fault if _concerns(fault, asked, trouble.clock()) else None

        async def record_status(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            if fault and fault.fault in ("reset", "truncate"):
                buffered = await _buffered(app, scope, receive)
                status = buffered.status
                await _break_off(buffered, scope, receive, reset=fault.fault == "reset")
            else:
                await (await _prepared(app, trouble, fault))(scope, receive, record_status)
        finally:
            trouble.asked.append(
                Asked(
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    fault=fault.fault if fault else None,
                )
            )

    return answer


async def _prepared(app: ASGIApp, trouble: Trouble, fault: Fault | None) -> ASGIApp:
    """Return the app that serves this request, after any delay."""
    if fault is None:
        return app
    match fault.fault:
        case "status" | "answer" | "heavy" | "old" | "inflate":
            return _instead(trouble, fault)
        case "slow":
            await asyncio.sleep(fault.seconds)
        case "expire_token":
            trouble.expire()
        case "garbage":
            return _halved(app)
        case "trickle":
            return _trickling(app, fault.seconds)
    return app


def asked_span(query: bytes, body: bytes) -> tuple[datetime, datetime] | None:
    """Return the first and the last of the times in a query, whatever their parameters."""
    text = unquote(f"{query.decode()} {body.decode()}")
    times = [datetime.fromisoformat(found) for found in _ISO.findall(text)]
    times += [datetime.fromtimestamp(int(found) / 1000, UTC) for found in _UNIX.findall(text)]
    times = [time if time.tzinfo else time.replace(tzinfo=UTC) for time in times]
    return (min(times), max(times)) if times else None


def _concerns(fault: Fault, asked: tuple[datetime, datetime] | None, now: datetime) -> bool:
    if asked is None:
        return False
    since, until = asked
    length = until - since if fault.fault == "heavy" else now - since
    return length.total_seconds() > fault.seconds


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that starts with a body that was read before."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


def _instead(trouble: Trouble, fault: Fault) -> Response:
    """Return the response that is sent instead of the vendor's."""
    match fault.fault:
        case "status":
            return trouble.refuse(fault.status, fault.retry_after)
        case "inflate":
            headers = {"Content-Encoding": "gzip"}
            return Response(_inflating(fault.megabytes), 200, headers, "application/json")
    return Response(fault.body, fault.status, media_type=fault.media_type)


def _inflating(megabytes: int) -> bytes:
    """Return a JSON array, mostly of blanks, as gzip."""
    packer, blanks = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16), b" " * 2**20
    parts = [packer.compress(b"["), *(packer.compress(blanks) for _ in range(megabytes))]
    return b"".join([*parts, packer.compress(b"]"), packer.flush()])


def _halved(app: ASGIApp) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        buffered = await _buffered(app, scope, receive)
        body = buffered.body[: len(buffered.body) // 2]
        headers = [(name, value) for name, value in buffered.headers if name != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": buffered.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


def _trickling(app: ASGIApp, seconds: float) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        buffered = await _buffered(app, scope, receive)
        start = {
            "type": "http.response.start",
            "status": buffered.status,
            "headers": buffered.headers,
        }
        await send(start)
        size = len(buffered.body) // _PIECES + 1
        for at in range(0, size * _PIECES, size):
            await asyncio.sleep(seconds / _PIECES)
            piece, more = buffered.body[at : at + size], at + size < size * _PIECES
            await send({"type": "http.response.body", "body": piece, "more_body": more})

    return answer


async def _buffered(app: ASGIApp, scope: Scope, receive: Receive) -> _Buffered:
    """Run `app` and return its complete response."""
    started: Message = {}
    body: list[bytes] = []

    async def collect(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
        else:
            body.append(message.get("body", b""))

    await app(scope, receive, collect)
    return _Buffered(
        status=started["status"], headers=list(started["headers"]), body=b"".join(body)
    )


async def _break_off(answer: _Buffered, scope: Scope, receive: Receive, *, reset: bool) -> None:
    """Send half of a response and drop the connection, bypassing HTTP."""
    transport: asyncio.Transport = scope["transport"]
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}".encode()]
    lines += [name + b": " + value for name, value in answer.headers]
    transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + answer.body[: len(answer.body) // 2])
    if reset:
        connection = transport.get_extra_info("socket")
        # Lingering for 0 s makes the close send RST instead of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()
    # uvicorn sends a 500 for an app that returns before it has noticed the disconnect.
    while (await receive())["type"] != "http.disconnect":
        pass
