"""The two addresses of a witness over HTTP, with limits on each request."""

from __future__ import annotations

import asyncio
import logging

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pipelines.integrity.witness.protocol import MAX_BYTES, Reply, Witness
from pipelines.settings.browser_guard import from_browser

_SECONDS = 10.0
_DRAIN_BYTES = 2**21
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_log = logging.getLogger(__name__)


def app(witness: Witness) -> Starlette:
    """Return the ASGI application of a witness."""

    async def add_checkpoint(request: Request) -> Response:
        body = await _body(request)
        if isinstance(body, Reply):
            return _response(body, "close")
        # In a thread: it waits for the disk.
        return _response(await run_in_threadpool(witness.add_checkpoint, body))

    async def checkpoint(request: Request) -> Response:
        name = request.path_params["name"]
        return _response(await run_in_threadpool(witness.checkpoint, name))

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/{name}/checkpoint", checkpoint, methods=["GET"]),
        ],
        exception_handlers={OSError: _no_storage},
    )


async def _body(request: Request) -> bytes | Reply:
    """Return the body of a request, or the reply to one that is refused."""
    if from_browser({name.lower(): value for name, value in request.headers.items()}):
        return Reply(status=403, body="not for browsers\n")
    read, size = bytearray(), 0
    try:
        async with asyncio.timeout(_SECONDS):
            async for part in request.stream():
                size += len(part)
                read += part[: MAX_BYTES + 1 - len(read)]
                # Closing with unread data may discard the answer on its way.
                if size > _DRAIN_BYTES:
                    break
    except TimeoutError:
        return Reply(status=408, body="body too slow\n")
    except ClientDisconnect:
        return Reply(status=400, body="body incomplete\n")
    return bytes(read) if size <= MAX_BYTES else Reply(status=413, body="body too large\n")


def _response(reply: Reply, connection: str = "keep-alive") -> Response:
    headers = {**_HEADERS, "Connection": connection}
    # The type of a size has no parameter, so the header is set here.
    kind = reply.media if reply.media != "text/plain" else "text/plain; charset=utf-8"
    return Response(reply.body, reply.status, headers={**headers, "Content-Type": kind})


async def _no_storage(_request: Request, error: Exception) -> Response:
    """Answer that nothing was cosigned, since it could not be stored."""
    _log.error("cannot store a checkpoint: %s", getattr(error, "strerror", error))
    return _response(Reply(status=503, body="cannot store checkpoints now; retry later\n"))
