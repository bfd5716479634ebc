"""Targets for the receiver: the head of a request, and the body of each vendor's deliveries."""

from __future__ import annotations

import asyncio
import atexit
import gzip
import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import h11
from uvicorn.server import ServerState

from pipelines.sdk.contract import Source
from pipelines.sdk.push import Hint, Records, Reference
from pipelines.webhooks import delivery, server
from pipelines.webhooks.receiver import Endpoint, Limits, Receiver
from pipelines.webhooks.spool import Spool
from tests.fuzz.spoiling import Choices, spoiled
from tests.webhooks.conftest import KINDS, SECRET, source
from tests.webhooks.requests import HOOK, head

_LIMITS = Limits(body=2**16, per_second=1e9, wrong_per_second=1e9)
_ANSWERS = {200, 400, 401, 403, 404, 405, 408, 413, 415, 431}
_BODIES: dict[str, list[Any]] = {
    "okta": [json.loads(HOOK)],
    "cloudflare": [{"id": "1", "when": "2026-01-01T00:00:00Z"}, {"AuditLogID": "2"}],
    "atlassian": [{"data": [{"id": "1"}]}, {"events": {"id": "1"}}, [{"id": "1"}], {"id": "1"}],
    "jumpcloud": [{"id": "1", "event_type": "user_login"}],
    "opsgenie": [{"action": "Create", "alert": {"alertId": "1"}}],
    "office_365": [
        [
            {
                "tenantId": "tenant",
                "contentType": "Audit.Exchange",
                "contentId": "1",
                "contentUri": "https://manage.office.com/api/v1.0/tenant/activity/feed/audit/1",
                "contentCreated": "2026-01-01T00:00:00Z",
            }
        ]
    ],
    "google_workspace": [{"kind": "admin#reports#activity", "id": {"uniqueQualifier": "1"}}],
}
_URI = "https://admin.googleapis.com/admin/reports/v1/activity/users/all/applications/login"


@cache
def _source(kind: str) -> Source:
    return source(kind)


def bodies(kind: str) -> Callable[[bytes], None]:
    """Return the target for the deliveries of a vendor."""

    def body(data: bytes) -> None:
        """A body is a ValueError, or contains items of known streams, byte for byte."""
        given = _source(kind)
        push = given.integration.push
        assert push is not None
        headers = {"x-goog-resource-uri": _URI, "x-goog-resource-state": "create"}
        kept = {name: headers[name] for name in push.keeps if name in headers}
        with suppress(ValueError):
            for item in delivery.content(given, push, kept, data):
                assert item.stream in {stream.name for stream in given.streams()}
                match item:
                    case Records() | Hint():
                        assert all(record in data for record in item.records)
                    case Reference():
                        assert item.item in data

    return body


def spoiled_body(data: bytes) -> None:
    """A delivery with a value spoiled, too, is a ValueError or contains items byte for byte."""
    choices = Choices(data)
    kind = choices.one_of(KINDS)
    bodies(kind)(spoiled(choices.one_of(_BODIES[kind]), choices))


def body_seeds(kind: str) -> Callable[[], list[bytes]]:
    return lambda: [json.dumps(each).encode() for each in _BODIES[kind]]


def packed(data: bytes) -> None:
    """Compressed bytes are a ValueError, or unpack to at most the limit."""
    with suppress(ValueError):
        unpacked = delivery._decompressed({"content-encoding": "gzip"}, data)
        assert len(unpacked) <= delivery._MAX_SIZE


def packed_seeds() -> list[bytes]:
    one = gzip.compress(b'{"id":"1"}', mtime=0)
    return [one, one + one, gzip.compress(bytes(200_000), mtime=0)]


def secret(data: bytes) -> None:
    """Headers of any content authenticate nobody without the secret, and raise nothing."""
    choices = Choices(data)
    kind = choices.one_of(KINDS)
    push = _source(kind).integration.push
    assert push is not None
    names = ("authorization", "webhook-authid", "x-goog-channel-token", "x-goog-resource-uri")
    scheme = choices.one_of(("", "Basic ", "Bearer ", "basic  ", "Bearer Basic "))
    text = scheme + choices.rest().decode("latin-1")
    headers = dict.fromkeys(names, text)
    assert SECRET in text or not push.authentic(headers, SECRET)
    if push.challenge:
        answer = push.challenge({"x-okta-verification-challenge": text})
        assert answer is None or list(json.loads(answer)) == ["verification"]


def request(data: bytes) -> None:
    """Any bytes get complete answers of the receiver's own, without a redirect or a traceback."""
    answers, problems = _exchange(data or b"\n")  # no bytes at all would be the end of input
    assert problems == []
    for status, headers in answers:
        assert status in _ANSWERS
        assert b"location" not in headers


def requests() -> list[bytes]:
    okta = head().replace(b"Authorization: ", b"Authorization: Bearer ") + HOOK
    chunked = head(extra="Transfer-Encoding: chunked\r\n").replace(b"Content-Length", b"X-Length")
    return [
        okta,
        okta + okta,
        head(method="HEAD") + b"\0",
        head(path="?okta") + HOOK,
        head(path="/-/health", method="GET", length=0),
        chunked + b"5\r\nhello\r\n0\r\n\r\n",
        head(method="HEAD", extra="Expect: 100-continue\r\n"),
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT okta:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://okta/okta HTTP/1.0\r\n\r\n",
    ]


class _Transport(asyncio.Transport):
    """A connection in memory that collects what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 9), "sockname": ("127.0.0.1", 1)})
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class _Problems(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


@cache
def _app() -> tuple[Any, asyncio.AbstractEventLoop, _Problems]:
    folder = Path(tempfile.mkdtemp(prefix="auditlake-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    endpoints = []
    for kind in KINDS:
        push = _source(kind).integration.push
        assert push is not None
        endpoints.append(Endpoint(source=_source(kind), push=push, secret=SECRET))
    spool = Spool(folder / "spool", limit=2**40)
    spool.open().__enter__()
    receiver = Receiver(endpoints, spool, lambda _: None, _LIMITS, lambda: datetime.now(UTC))
    made = server.config(receiver, _LIMITS, host="127.0.0.1", port=0)
    made.load()
    loop, problems = asyncio.new_event_loop(), _Problems()
    loop.set_exception_handler(lambda _, context: problems.found.append(repr(context)))
    return made, loop, problems


def _exchange(data: bytes) -> tuple[list[tuple[int, dict[bytes, bytes]]], list[str]]:
    """Return the answers to these bytes, status and headers, and what was logged as an error."""
    made, loop, problems = _app()
    problems.found.clear()
    transport = _Transport()

    async def talk() -> None:
        state = ServerState()
        protocol = made.http_protocol_class(config=made, server_state=state, app_state={})
        protocol.connection_made(transport)
        protocol.data_received(data)
        for _ in range(3):
            await asyncio.sleep(0)
        protocol.eof_received()
        transport.closed = True
        protocol.connection_lost(None)
        while state.tasks:
            await asyncio.wait(state.tasks)

    loggers = [logging.getLogger(name) for name in ("", "uvicorn.error")]
    for logger in loggers:
        logger.addHandler(problems)
    loop.run_until_complete(talk())
    for logger in loggers:
        logger.removeHandler(problems)
    return _answers(bytes(transport.written), data), list(problems.found)


def _answers(written: bytes, sent: bytes) -> list[tuple[int, dict[bytes, bytes]]]:
    """Parse the answers as a client does; an answer that no request called for is an error."""
    found = []
    while written:
        client = h11.Connection(h11.CLIENT)
        is_head = sent.startswith(b"HEAD ") and not found
        client.send(
            h11.Request(method="HEAD" if is_head else "GET", target="/", headers=[("Host", "x")])
        )
        client.send(h11.EndOfMessage())
        client.receive_data(written)
        event = client.next_event()
        if isinstance(event, h11.InformationalResponse):
            event = client.next_event()
        if not isinstance(event, h11.Response):
            break
        found.append((event.status_code, dict(event.headers.raw_items())))
        while isinstance(client.next_event(), h11.Data):
            pass
        written = client.trailing_data[0]
    return found
