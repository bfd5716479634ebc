"""Compressed deliveries are read within limits."""

import gzip
import io
import json
import resource
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.webhooks import delivery
from tests.webhooks.conftest import source
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


LINE = b'{"ID":"1","When":"2026-01-01T00:00:00Z"}'


def read(body, encoding="gzip", **keys):
    """Return (stream, number of records) per item of a Logpush delivery."""
    cloudflare = source("cloudflare", **keys)
    headers = {"content-encoding": encoding, "content-type": "application/octet-stream"}
    items = delivery.content(cloudflare, cloudflare.integration.push, headers, body)
    return [(item.stream, len(item.records)) for item in items]


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", " GZIP "])
def test_a_body_of_several_gzip_members_is_one_body(encoding):
    lines = [LINE + b"\n", LINE, b"\n" + LINE]
    assert read(b"".join(map(gzip.compress, lines)), encoding) == [("audit_logs", 3)]


@pytest.mark.parametrize("encoding", ["", "identity", "br"])
def test_a_body_that_is_not_gzip_is_read_as_it_is(encoding):
    assert read(LINE, encoding) == [("audit_logs", 1)]


def test_as_many_members_as_allowed_are_read_and_no_more():
    allowed = gzip.compress(LINE + b"\n") * delivery._MAX_MEMBERS
    assert read(allowed) == [("audit_logs", delivery._MAX_MEMBERS)]
    with pytest.raises(delivery.TooLarge):
        read(allowed + gzip.compress(b"\n"))


@pytest.mark.parametrize("members", [1, 2, 7])
def test_the_limit_of_the_size_holds_for_all_members_together(monkeypatch, members):
    part = LINE + b"\n"
    monkeypatch.setattr(delivery, "_MAX_SIZE", len(part) * 7)
    split = [part * (7 // members)] * (members - 1)
    split.append(part * (7 - len(split) * (7 // members)))
    assert read(b"".join(map(gzip.compress, split))) == [("audit_logs", 7)]
    with pytest.raises(delivery.TooLarge):
        read(b"".join(map(gzip.compress, [*split, b"\n"])))


@given(st.integers(0, 200))
def test_a_body_cut_off_anywhere_is_refused(end):
    packed = gzip.compress(LINE + b"\n", mtime=0) + gzip.compress(LINE, mtime=0)
    whole = (0, len(gzip.compress(LINE + b"\n", mtime=0)), len(packed))
    cut = packed[:end]
    if len(cut) in whole:
        assert read(cut) == ([("audit_logs", whole.index(len(cut)))] if cut else [])
    else:
        with pytest.raises(ValueError, match="gzip"):
            read(cut)


def test_bytes_after_the_last_member_are_refused():
    with pytest.raises(ValueError, match="not gzip"):
        read(gzip.compress(LINE) + b"more")


def test_records_of_streams_that_are_not_selected_are_left_out():
    body = gzip.compress(LINE + b'\n{"AuditLogID":"2"}\n')
    assert read(body) == [("audit_logs", 1), ("audit_logs_v2", 1)]
    assert read(body, streams=["audit_logs_v2"]) == [("audit_logs_v2", 1)]


@pytest.mark.parametrize("odd", [["Audit.Exchange"], {"a": 1}, 7, None])
def test_a_notification_with_a_value_of_another_type_names_no_content(odd):
    office = source("office_365")
    told = {"tenantId": "tenant", "contentType": "Audit.Exchange", "contentId": "1"}
    body = json.dumps([{**told, "contentType": odd}, {**told, "tenantId": odd}, odd, told]).encode()
    (item,) = delivery.content(office, office.integration.push, {}, body)
    assert json.loads(item.item) == told


def test_a_deeply_nested_record_is_read_like_any_other():
    deep = b'{"AuditLogID":' + b"[" * 5_000 + b"]" * 5_000 + b"}"
    assert read(deep, "identity") == [("audit_logs_v2", 1)]
