"""Compressed deliveries are read within limits."""

import gzip
import io
import resource
import zlib

import pytest

from tests.webhooks.requests import post


def test_a_gzip_bomb_is_refused_without_filling_memory(receiver):
    packer = zlib.compressobj(1, wbits=31)
    zeros = b" " * 2**20
    bomb = b"".join(packer.compress(zeros) for _ in range(80)) + packer.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = post(receiver, "cloudflare", bomb, **{"Content-Encoding": "gzip"})
    assert (answer.status_code, receiver.files()) == (413, [])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


def test_many_gzip_members_in_one_body_are_refused(receiver):
    body = gzip.compress(b"\n") * 20_000
    assert post(receiver, "cloudflare", body, **{"Content-Encoding": "gzip"}).status_code == 413


@pytest.mark.parametrize(
    "body", [b"plain", gzip.compress(b'{"ID":"1"}', mtime=0)[:-4], b"\x1f\x8b"]
)
def test_incomplete_gzip_data_is_refused(receiver, body):
    answer = post(receiver, "cloudflare", body, **{"Content-Encoding": "gzip"})
    assert (answer.status_code, receiver.files()) == (400, [])


def test_gzip_is_accepted_from_a_vendor_that_compresses(receiver):
    line = b'{"ID":"1","When":"2026-01-01T00:00:00Z"}'
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as file:
        file.write(line + b"\n" + line)
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/octet-stream"}
    assert post(receiver, "cloudflare", packed.getvalue(), **headers).status_code == 200
    assert receiver.bodies("cloudflare") == [packed.getvalue()]
