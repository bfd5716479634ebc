"""Bodies are unpacked piece by piece, within limits of size and time."""

import gzip
import random
import zlib

import httpx
import pytest

from pipelines.errors import TooLarge
from pipelines.extraction import body

MEGABYTE = 2**20


class Stream(httpx.SyncByteStream):
    def __init__(self, parts):
        self.parts = parts

    def __iter__(self):
        return iter(self.parts)


def read(parts, encoding=None, megabytes=1):
    headers = {"Content-Encoding": encoding} if encoding else {}
    request = httpx.Request("GET", "https://vendor.example/logs?after=abc")
    response = httpx.Response(200, headers=headers, stream=Stream(parts), request=request)
    body.limit(response, megabytes, 60.0)
    return response.read()


def pieces(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("encoding", [None, "identity", "gzip", "x-gzip", "deflate", " GZIP "])
@pytest.mark.parametrize("size", [1, 7, 4096, 10**9])
def test_any_body_is_unpacked_exactly_however_it_arrives(encoding, size):
    rng = random.Random(size)
    text = b"".join(b"%d," % rng.randrange(10 ** rng.randrange(1, 9)) for _ in range(3000))
    text += b" " * MEGABYTE
    pack = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}
    packed = pack.get((encoding or "").strip().lower(), bytes)(text)
    assert read(pieces(packed, max(size, len(packed) // 5000)), encoding, 2) == text
    assert read([], encoding) == b""


def test_a_body_of_exactly_the_limit_is_read_and_one_byte_more_is_not():
    assert len(read([gzip.compress(b"x" * MEGABYTE)], "gzip")) == MEGABYTE
    for parts, encoding in (
        ([gzip.compress(b"x" * (MEGABYTE + 1))], "gzip"),
        ([b"x" * MEGABYTE, b"x"], None),
    ):
        with pytest.raises(TooLarge, match=r"more than 1 MB.* page_megabytes") as error:
            read(parts, encoding)
        assert "abc" not in str(error.value)


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [(b"no gzip", "gzip"), (b"x", "br"), (gzip.compress(gzip.compress(b"x")), "gzip, gzip")],
    ids=["text", "unknown", "twice"],
)
def test_a_body_that_cannot_be_unpacked_is_an_error_of_httpx_that_is_retried(packed, encoding):
    with pytest.raises(httpx.DecodingError):
        read([packed], encoding)
