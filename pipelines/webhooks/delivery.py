"""The content of one delivery: unpacked within limits, and parsed by the connector."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from pipelines.sdk.contract import Source
from pipelines.sdk.push import Content, Delivery, Push

INFLATED = 64 * 2**20
"""The most bytes a packed body may have."""
_MEMBERS = 100


class TooLarge(ValueError):
    """Unpacked it would be larger than anything a vendor sends."""


def unpacked(headers: Mapping[str, str], body: bytes) -> bytes:
    """The body without its gzip, if it has one. Raises TooLarge or another ValueError."""
    if headers.get("content-encoding", "").strip().lower() not in ("gzip", "x-gzip"):
        return body
    parts, size = list[bytes](), 0
    try:
        while body:
            if len(parts) == _MEMBERS:
                raise TooLarge
            inflating = zlib.decompressobj(wbits=31)
            parts.append(inflating.decompress(body, INFLATED + 1 - size))
            size += len(parts[-1])
            if size > INFLATED:
                raise TooLarge
            if not inflating.eof:
                raise ValueError("the gzip is cut short")
            body = inflating.unused_data
    except zlib.error as error:
        raise ValueError("not gzip") from error
    return b"".join(parts)


def content(source: Source, push: Push, headers: Mapping[str, str], body: bytes) -> list[Content]:
    """What a delivery holds of the streams that are wanted. Raises ValueError."""
    delivery = Delivery(headers=headers, body=unpacked(headers, body))
    wanted = {stream.name for stream in source.streams()}
    return [each for each in push.read(source.settings, delivery) if each.stream in wanted]
