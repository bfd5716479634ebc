"""The content of one delivery: decompressed within limits, and parsed by the connector."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from pipelines.sdk.contract import Source
from pipelines.sdk.push import Content, Delivery, Push

_MAX_SIZE = 64 * 2**20
_MAX_MEMBERS = 100


class TooLarge(ValueError):
    """Decompressed, the body is larger than anything a vendor sends."""


def content(source: Source, push: Push, headers: Mapping[str, str], body: bytes) -> list[Content]:
    """Return the items of a delivery that belong to selected streams. Raises ValueError."""
    delivery = Delivery(headers=headers, body=_decompressed(headers, body))
    selected = {stream.name for stream in source.streams()}
    return [item for item in push.read(source.settings, delivery) if item.stream in selected]


def _decompressed(headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the body, decompressed if it is gzip. Raises TooLarge or another ValueError."""
    if headers.get("content-encoding", "").strip().lower() not in ("gzip", "x-gzip"):
        return body
    parts, size = list[bytes](), 0
    try:
        # A gzip file may consist of several members, each with its own header.
        while body:
            if len(parts) == _MAX_MEMBERS:
                raise TooLarge
            decompressor = zlib.decompressobj(wbits=31)
            # One byte more than allowed: enough to see that a gzip bomb exceeds the limit.
            parts.append(decompressor.decompress(body, _MAX_SIZE + 1 - size))
            size += len(parts[-1])
            if size > _MAX_SIZE:
                raise TooLarge
            if not decompressor.eof:
                raise ValueError("the gzip data is incomplete")
            body = decompressor.unused_data
    except zlib.error as error:
        raise ValueError("not gzip") from error
    return b"".join(parts)
