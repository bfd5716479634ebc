"""Bodies of responses within limits of size and time.

A few hundred kilobytes of gzip may unpack to gigabytes, so bodies are unpacked here, piece by
piece, and not by httpx, which unpacks whatever arrives.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator

import httpx

from pipelines.errors import TooLarge
from pipelines.sdk import answers

ENCODINGS = "gzip, deflate"
_PIECE = 2**20
_EITHER = zlib.MAX_WBITS | 32  # gzip or zlib, by its header


def limit(response: httpx.Response, megabytes: int, seconds: float) -> None:
    """Limit the body of a response that has not been read yet.

    Reading it raises TooLarge above `megabytes`, unpacked, and httpx.ReadTimeout after `seconds`.
    """
    packed = response.stream
    if isinstance(packed, httpx.SyncByteStream) and not response.is_stream_consumed:
        encoding = response.headers.pop("Content-Encoding", "identity").strip().lower()
        place = answers.place(response.request)
        response.stream = _Body(packed, encoding, place, megabytes, seconds)


class _Body(httpx.SyncByteStream):
    """An unpacked body with limits."""

    def __init__(
        self,
        packed: httpx.SyncByteStream,
        encoding: str,
        place: str,
        megabytes: int,
        seconds: float,
    ) -> None:
        self._inner = packed
        self._place = place
        self._encoding = encoding
        self._megabytes = megabytes
        self._until = time.monotonic() + seconds

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for piece in _unpacked(self._inner, self._encoding):
            size += len(piece)
            if size > self._megabytes * 2**20:
                raise TooLarge(
                    f"{self._place} answered with more than {self._megabytes} MB, which is not "
                    "read and not skipped: set page_megabytes of the integration to a larger number"
                )
            yield piece
            if time.monotonic() > self._until:
                raise httpx.ReadTimeout("the response body exceeded its deadline")

    def close(self) -> None:
        self._inner.close()


def _unpacked(packed: httpx.SyncByteStream, encoding: str) -> Iterator[bytes]:
    """Yield the unpacked pieces of a body. Raises httpx.DecodingError."""
    if encoding in ("identity", ""):
        yield from packed
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise httpx.DecodingError(f"the body has an encoding that was not offered: {encoding[:20]}")
    decoder = zlib.decompressobj(_EITHER)
    try:
        for part in packed:
            while part:
                yield decoder.decompress(part, _PIECE)
                part = decoder.unconsumed_tail  # noqa: PLW2901 the rest of the same part
        yield decoder.flush()
    except zlib.error:
        raise httpx.DecodingError("the body is not valid gzip") from None
