"""Unauthenticated and malformed requests get a short answer and cost little."""

import asyncio
import errno
import gzip
import socket
from types import SimpleNamespace

import httpx
import pytest
from starlette.requests import Request

from pipelines.webhooks import delivery
from pipelines.webhooks import receiver as receiving
from pipelines.webhooks.receiver import (
    Bucket,
    Limits,
    Receiver,
    Refusal,
    _drain_request,
    _headers,
    neighbourhood,
)
from tests.integrity import matrix
from tests.webhooks.conftest import SECRET, served
from tests.webhooks.requests import GOOD, HOOK, drip, head, post


def test_a_valid_delivery_is_stored_and_acknowledged(receiver):
    answer = post(receiver)
    assert (answer.status_code, answer.content, receiver.taken) == (200, b"", ["okta"])
    assert receiver.bodies("okta") == [HOOK]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": SECRET[:-1]}, 401),
        ({"Authorization": SECRET + "0"}, 401),
        ({"Authorization": f"Digest {SECRET}"}, 401),
        ({"Authorization": "Basic !!!"}, 401),
        ({"Authorization": b"Bearer \xff\xfe"}, 401),
        ({"Content-Type": "text/html"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Encoding": "br"}, 415),
        ({"Content-Encoding": "gzip, gzip"}, 415),
    ],
)
def test_wrong_headers_are_refused_with_a_short_answer(receiver, headers, status):
    answer = post(receiver, **headers)
    assert (answer.status_code, len(answer.content) < 100) == (status, True)
    assert answer.headers["connection"] == "close"
    assert (receiver.files(), receiver.taken) == ([], [])


@pytest.mark.parametrize("kind", ["okta", "cloudflare", "atlassian", "jumpcloud", "opsgenie"])
def test_a_delivery_without_a_secret_is_unauthorised(receiver, kind):
    assert httpx.post(f"{receiver.url}/{kind}", content=HOOK).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{}", b"not json", b'{"data":', b'{"data":{"events":{}}}',
        b'{"data":{"events":[}}', b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", HOOK[:-1],
        HOOK + b"}",
    ],
)  # fmt: skip
def test_a_malformed_body_is_refused_and_leaves_nothing(receiver, body):
    assert post(receiver, body=body).status_code == 400
    assert (receiver.files(), receiver.taken) == ([], [])


def test_a_repeated_delivery_is_accepted_each_time(receiver):
    assert [post(receiver).status_code for _ in range(3)] == [200, 200, 200]
    assert receiver.bodies("okta") == [HOOK] * 3


def test_a_hundred_megabytes_are_refused_by_their_content_length(receiver):
    answer = receiver.raw(head(length=100 * 2**20), b"x" * 2**16)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert receiver.files() == []


def test_a_hundred_megabytes_in_chunks_are_cut_off(receiver):
    chunk = b"10000\r\n" + b" " * 2**16 + b"\r\n"
    sent = 0

    def chunks():
        nonlocal sent
        for _ in range(1600):
            sent += 1
            yield chunk

    start = head(extra="Transfer-Encoding: chunked\r\n").replace(b"Content-Length: 69\r\n", b"")
    answer = receiver.raw(start, *chunks())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert receiver.files() == []


def test_a_body_may_be_as_large_as_the_limit_and_no_byte_larger(receiver):
    whole = HOOK.ljust(2**20)
    sent = [whole, iter([whole]), whole + b" ", iter([whole, b" "])]
    assert [post(receiver, body=body).status_code for body in sent] == [200, 200, 413, 413]
    assert receiver.bodies("okta") == [whole] * 2


def test_a_body_that_unpacks_to_too_much_is_refused_and_not_acknowledged(receiver, monkeypatch):
    monkeypatch.setattr(delivery, "_MAX_SIZE", 1_000)
    packed = {"Content-Encoding": "gzip"}
    assert post(receiver, "cloudflare", gzip.compress(b"{}"), **packed).status_code == 200
    answer = post(receiver, "cloudflare", gzip.compress(b"{}".ljust(1_001)), **packed)
    assert (answer.status_code, answer.text) == (413, "body too large when decompressed\n")
    assert len(receiver.taken) == len(receiver.bodies("cloudflare")) == 1


def test_a_sender_without_the_secret_is_answered_before_it_sends_the_body(receiver):
    answer = receiver.raw(head(length=100 * 2**20, secret="wrong"))
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert receiver.files() == []


@pytest.mark.parametrize("length", ["-1", "+69", "0x45", "69, 70", "6 9", "69abc", "\xb2", ""])
def test_an_invalid_content_length_is_refused(receiver, length):
    answer = receiver.raw(head(length=length), HOOK)
    assert answer.split(b" ")[1] in (b"400", b"413")
    assert receiver.files() == []


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity", "chunked, chunked", "\x0bchunked"])
def test_other_transfer_encodings_are_refused(receiver, coding):
    start = head(extra=f"Transfer-Encoding: {coding}\r\n").replace(b"Content-Length: 69\r\n", b"")
    answer = receiver.raw(start, b"0\r\n\r\n")
    assert answer.split(b" ")[1] in (b"400", b"501")
    assert receiver.files() == []


def test_a_request_after_a_refused_one_is_not_served(receiver):
    answer = receiver.raw(head(secret="wrong") + HOOK + head() + HOOK)
    assert (answer.count(b"HTTP/1.1 "), answer.startswith(b"HTTP/1.1 401 ")) == (1, True)
    assert receiver.files() == []


def test_content_length_with_transfer_encoding_is_refused(receiver):
    answer = receiver.raw(head(extra="Transfer-Encoding: chunked\r\n"), b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("header", ["Authorization: x", "Content-Type: text/plain"])
def test_a_duplicate_header_is_refused(receiver, header):
    answer = receiver.raw(head(extra=f"{header}\r\n"), HOOK)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert receiver.files() == []


@pytest.mark.parametrize(
    "path",
    [
        "/", "//okta", "/okta/", "/okta/..", "/./okta", "/OKTA", "/okta%00", "/%6fkta", "/okta;x",
        "/okta%0a", "/%0d%0aokta", "/../../etc/passwd", "/..%2f..%2fokta", "/okta/../../x",
        "/unknown", "http://x/okta", "?okta", "?/okta", "http://x", "okta",
        "/.subscriptions", "/-/", "*",
    ],
)  # fmt: skip
def test_no_other_path_is_an_endpoint(receiver, path):
    answer = receiver.raw(head(path), HOOK)
    assert answer.split(b" ")[1] in (b"404", b"400")
    assert b"connection: close" in answer.lower()
    assert b"location:" not in answer.lower()
    assert receiver.files() == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "GET", "TRACE"])
def test_other_methods_are_refused(receiver, method):
    answer = receiver.raw(head("/atlassian", method=method, extra="Connection: close\r\n"), HOOK)
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert receiver.files() == []


def test_no_text_of_a_sender_becomes_a_response_header(receiver):
    given = "v\\r\\nSet-Cookie: a=b"
    request = {"X-Okta-Verification-Challenge": given}
    answer = httpx.get(f"{receiver.url}/okta", headers=request)
    assert answer.json() == {"verification": given}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in answer.headers
    broken = receiver.raw(b"GET /okta HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n")
    assert broken.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "given",
    [
        b"v\rSet-Cookie: a=b", b"v\nSet-Cookie: a=b", b"v\r\n Set-Cookie: a=b",
        b"v\x0bSet-Cookie: a=b", b"v\xe2\x80\xa8Set-Cookie: a=b", b"v\x00Set-Cookie: a=b",
    ],
)  # fmt: skip
def test_no_line_break_of_a_sender_starts_a_response_header(receiver, given):
    request = b"GET /okta HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    answer = receiver.raw(request + b"X-Okta-Verification-Challenge: " + given + b"\r\n\r\n")
    assert answer.split(b" ")[1] in (b"200", b"400")
    ours, _, _ = answer.partition(b"\r\n\r\n")
    assert b"set-cookie" not in ours.lower()


def test_no_text_of_a_sender_is_logged(receiver, caplog):
    receiver.receiver._logged_at.clear()
    receiver.raw(head("/okta%202026-01-01:%20all%20is%20well", secret="chosen-by-me"), HOOK)
    receiver.raw(head(secret="chosen-by-me"), HOOK)
    post(receiver, body=b"chosen by me")
    assert [record.getMessage() for record in caplog.records] == [
        "(unknown address): refused with 404: no webhook endpoint here",
        "okta: refused with 401: missing or wrong secret",
        "okta: refused with 400: not a valid delivery of this vendor",
    ]


def test_a_kind_of_refusal_is_logged_once_a_minute(receiver, monkeypatch, caplog):
    receiver.receiver._logged_at.clear()
    request = Request({"type": "http", "raw_path": b"/okta", "headers": []})
    for now, reason in ((100.0, "a"), (100.0, "b"), (159.9, "a"), (160.0, "a")):
        monkeypatch.setattr(receiving, "time", SimpleNamespace(monotonic=lambda now=now: now))
        receiver.receiver._log_refusal(request, Refusal(400, reason))
    assert [record.getMessage()[-1] for record in caplog.records] == ["a", "b", "a"]


def test_a_challenge_that_is_too_long_is_refused(receiver):
    request = {"X-Okta-Verification-Challenge": "v" * 5000}
    assert httpx.get(f"{receiver.url}/okta", headers=request).status_code == 405


def test_headers_of_almost_16_kib_are_accepted(receiver):
    assert post(receiver, **{"X": "y" * 15_000}).status_code == 200


def test_headers_have_16_kib_in_all():
    def taken(size):
        headers = [(b"a", b"1"), (b"b", b"2" * (size - 3))]
        return _headers(Request({"type": "http", "headers": headers}), Limits())

    assert len(taken(2**14)["b"]) == 2**14 - 3
    with pytest.raises(Refusal, match="headers too large"):
        taken(2**14 + 1)


def test_headers_that_are_too_large_are_refused(receiver):
    answer = receiver.raw(head(extra=f"X: {'y' * 2**15}\r\n"), HOOK)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert receiver.files() == []


def test_a_body_that_arrives_slowly_is_cut_off(tmp_path):
    with served(tmp_path / "spool", Limits(body_seconds=1.0), "okta") as impatient:
        took, answer = drip(impatient, head(length=10**6), 60)
        assert took < 60
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert impatient.files() == []


def test_a_delivery_that_cannot_be_stored_is_deferred(receiver, monkeypatch, caplog):
    def fail(*_delivery):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(receiver.spool), "put", fail)
    answer = post(receiver)
    assert (answer.status_code, answer.headers["retry-after"], receiver.taken) == (503, "30", [])
    assert "No space left on device" in caplog.text


def test_a_body_that_ends_too_early_is_incomplete(receiver):
    async def leave():
        return {"type": "http.disconnect"}

    with pytest.raises(Refusal, match="body incomplete") as refused:
        asyncio.run(receiver.receiver._read_body(Request({"type": "http"}, leave)))
    assert refused.value.status == 400


def test_a_sender_that_disconnects_leaves_nothing(receiver):
    with socket.create_connection(("127.0.0.1", receiver.port)) as peer:
        peer.sendall(head() + HOOK[:10])
    assert post(receiver).status_code == 200
    assert receiver.bodies("okta") == [HOOK]


def test_deliveries_and_wrong_secrets_above_the_rate_are_refused(tmp_path):
    limits = Limits(per_second=0.001, wrong_per_second=0.001)
    with served(tmp_path / "spool", limits, "okta") as few:
        got = [post(few) for _ in range(4)]
        assert [answer.status_code for answer in got] == [200, 503, 503, 503]
        assert got[-1].headers["retry-after"]
        guesses = [post(few, Authorization="x") for _ in range(4)]
        assert [answer.status_code for answer in guesses] == [401, 429, 429, 429]
        assert ["retry-after" in answer.headers for answer in guesses[:2]] == [False, True]
        assert len(few.bodies("okta")) == 1


def test_a_burst_may_have_as_many_as_arrive_in_five_seconds():
    now = [100.0]
    bucket = Bucket(2.0, lambda: now[0])
    assert [bucket.take() for _ in range(11)] == [True] * 10 + [False]
    now[0] += 0.5
    assert [bucket.take(), bucket.take()] == [True, False]
    now[0] += 3_600
    assert [bucket.take() for _ in range(11)] == [True] * 10 + [False]
    rare = Bucket(0.001, lambda: now[0])
    assert [rare.take(), rare.take()] == [True, False]


def test_wrong_secrets_are_counted_of_the_addresses_that_came_last(spool, monkeypatch):
    monkeypatch.setattr(receiving, "_MAX_ADDRESSES", 2)
    guarded = Receiver((), spool, list[str]().append, Limits(wrong_per_second=0.001))

    def guess(number):
        client = (f"192.0.2.{number}", 1)
        request = Request({"type": "http", "client": client, "headers": []})
        return guarded._unauthorised(request).status

    assert [guess(number) for number in (1, 2, 1, 3, 1, 2)] == [401, 401, 429, 401, 429, 401]
    assert len(guarded._wrong_secrets) == 2


def test_deliveries_are_deferred_until_the_spool_has_room(tmp_path):
    with served(tmp_path / "spool", Limits(), "okta", room=20_000) as small:
        answers = [post(small).status_code for _ in range(8)]
        kept = answers.count(200)
        assert answers == [200] * kept + [503] * (8 - kept)
        assert 0 < kept == len(small.bodies("okta"))
        small.spool.remove(small.spool.waiting("okta"))
        assert post(small).status_code == 200


def test_the_health_check_needs_no_secret(receiver):
    answer = httpx.get(f"{receiver.url}/-/health")
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_connection_serves_many_deliveries(receiver):
    with httpx.Client(base_url=receiver.url, headers=GOOD) as client:
        assert {client.post("/okta", content=HOOK).status_code for _ in range(20)} == {200}
    assert len(receiver.bodies("okta")) == 20


@matrix.attack(
    "deliver a webhook from a page that knows the secret",
    "403",
    f"{matrix.ORIGIN}, `Sec-Fetch-*`",
)
@pytest.mark.parametrize(
    "sent",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Dest": "image"},
    ],
)
def test_a_browser_is_refused_even_with_the_secret(receiver, sent):
    answer = post(receiver, **sent)
    assert (answer.status_code, answer.headers["connection"]) == (403, "close")
    challenge = {"X-Okta-Verification-Challenge": "x", **sent}
    assert httpx.get(f"{receiver.url}/okta", headers=challenge).status_code == 403
    assert httpx.options(f"{receiver.url}/okta", headers=sent).status_code == 403
    assert (receiver.files(), receiver.taken) == ([], [])


@pytest.mark.parametrize("host", ["hooks.example.com", "10.0.0.5:8600", "rebound.example", "x"])
def test_a_delivery_with_the_secret_is_accepted_by_any_name(receiver, host):
    assert post(receiver, Host=host).status_code == 200


@pytest.mark.parametrize(
    ("address", "sender"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("unix", "unix"),
        ("192.0.2.7/24", "192.0.2.7/24"),
    ],
)
def test_an_ipv6_network_is_one_sender(address, sender):
    assert neighbourhood(address) == sender


@pytest.mark.parametrize(("sent", "taken"), [(3, 3), (2000, 1025)])
def test_of_a_refused_request_about_a_megabyte_is_read(sent, taken):
    parts = []

    async def receive():
        parts.append(1)
        return {"type": "http.request", "body": bytes(1024), "more_body": len(parts) < sent}

    request = Request({"type": "http", "headers": []}, receive)
    asyncio.run(_drain_request(request))
    assert len(parts) == taken


def test_a_sender_that_waits_for_100_continue_is_not_read_from():
    async def receive():
        raise AssertionError("it has sent nothing yet")

    request = Request({"type": "http", "headers": [(b"expect", b"100-continue")]}, receive)
    asyncio.run(_drain_request(request))
