"""Faults on order: what goes wrong between a vendor and its client, on the real socket."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Failure = Literal["status", "reset", "truncate", "garbage", "slow", "trickle", "expire_token"]

_PIECES = 10


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What goes wrong, and at which requests of a service.

    status: the vendor's own refusal, with `status` and `retry_after`; reset: the connection is
    reset in mid-body; truncate: it is closed before Content-Length is reached; garbage: the JSON
    ends in the middle, and Content-Length agrees; slow: `seconds` pass first; trickle: the body
    comes in pieces over `seconds`; expire_token: the tokens issued so far are no longer good.
    """

    kind: str
    fault: Failure
    at: list[int] = []
    """Requests of the service since the faults were ordered, from 0; if none is named: all."""
    every: bool = False
    """All of them, whatever `at` says."""
    path: str = ""
    """Only requests whose path contains this."""
    count: int | None = None
    """At most so many times."""
    status: int = 503
    retry_after: float = 1.0
    seconds: float = 1.0


class Mishap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of a service's pushes: shares of all, drawn from a seed.

    Lost ones are never sent; late ones are held back for up to `seconds`, so that later ones pass
    them; the second of a pair comes within `seconds` of the first.
    """

    kind: str
    lost: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    seconds: float = 1.0
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as it was answered; never its query, headers or body."""

    method: str
    path: str
    status: int
    fault: Failure | None


@dataclass(slots=True, kw_only=True)
class Trouble:
    """The faults ordered for a service, and the requests it has seen."""

    refuse: Callable[[int, float], Response]
    """(status, retry_after) -> the vendor's answer."""
    expire: Callable[[], None]
    asked: deque[Asked] = field(default_factory=lambda: deque(maxlen=10_000))
    requests: int = 0
    _orders: list[Fault] = field(default_factory=list)
    _spent: list[int] = field(default_factory=list)
    _index: int = 0

    def order(self, faults: list[Fault]) -> None:
        """These faults instead of the former ones; requests are counted from 0 again."""
        self._orders, self._spent, self._index = faults, [0] * len(faults), 0

    def next(self, path: str) -> Fault | None:
        """What goes wrong with the request that comes now."""
        index = self._index
        self._index += 1
        self.requests += 1
        for number, fault in enumerate(self._orders):
            wanted = fault.every or not fault.at or index in fault.at
            left = fault.count is None or self._spent[number] < fault.count
            if wanted and left and fault.path in path:
                self._spent[number] += 1
                return fault
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def troubled(app: ASGIApp, trouble: Trouble) -> ASGIApp:
    """`app`, with the trouble that was ordered, and a note of every request."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        fault = trouble.next(scope["path"])
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            if fault and fault.fault in ("reset", "truncate"):
                whole = await _answer(app, scope, receive)
                status = whole.status
                await _break_off(whole, scope, receive, reset=fault.fault == "reset")
            else:
                await (await _prepared(app, trouble, fault))(scope, receive, noting)
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
    """What answers this request in place of `app`."""
    if fault is None:
        return app
    match fault.fault:
        case "status":
            return trouble.refuse(fault.status, fault.retry_after)
        case "slow":
            await asyncio.sleep(fault.seconds)
        case "expire_token":
            trouble.expire()
        case "garbage":
            return _halved(app)
        case "trickle":
            return _trickling(app, fault.seconds)
    return app


def _halved(app: ASGIApp) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        whole = await _answer(app, scope, receive)
        body = whole.body[: len(whole.body) // 2]
        headers = [(name, value) for name, value in whole.headers if name != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": whole.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


def _trickling(app: ASGIApp, seconds: float) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        whole = await _answer(app, scope, receive)
        start = {"type": "http.response.start", "status": whole.status, "headers": whole.headers}
        await send(start)
        size = len(whole.body) // _PIECES + 1
        for at in range(0, size * _PIECES, size):
            await asyncio.sleep(seconds / _PIECES)
            piece, more = whole.body[at : at + size], at + size < size * _PIECES
            await send({"type": "http.response.body", "body": piece, "more_body": more})

    return answer


async def _answer(app: ASGIApp, scope: Scope, receive: Receive) -> _Answer:
    """The answer of `app`, whole."""
    started: Message = {}
    body: list[bytes] = []

    async def collect(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
        else:
            body.append(message.get("body", b""))

    await app(scope, receive, collect)
    return _Answer(status=started["status"], headers=list(started["headers"]), body=b"".join(body))


async def _break_off(answer: _Answer, scope: Scope, receive: Receive, *, reset: bool) -> None:
    """Sends half of an answer and ends the connection, beneath HTTP."""
    transport: asyncio.Transport = scope["transport"]
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}".encode()]
    lines += [name + b": " + value for name, value in answer.headers]
    transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + answer.body[: len(answer.body) // 2])
    if reset:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass
