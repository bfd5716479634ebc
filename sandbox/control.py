"""Shared by the routes of the control API: bodies, and the answer for unknown names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request

Ordered = TypeVar("Ordered")


async def read(request: Request, type_: type[Ordered]) -> Ordered:
    """Return the decoded body of a control request. Raises HTTPException."""
    try:
        return msgspec.json.decode(await request.body(), type=type_)
    except msgspec.DecodeError as error:
        raise HTTPException(400, str(error)) from None


@contextmanager
def known(request: Request) -> Iterator[None]:
    """Answer 404 if the block raises KeyError."""
    try:
        yield
    except KeyError:
        raise HTTPException(404, f"{request.url.path}: unknown kind, stream or webhook") from None
