"""What answers mean, and what is not followed or read to the end."""

import httpx
import pytest

from pipelines.detections.alerts.receivers import exchange
from pipelines.detections.alerts.receivers.exchange import NoAnswer
from tests.detections.alerts.receivers.hostile import WAY
from tests.detections.alerts.world import receiving


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (200, "sent"),
        (202, "sent"),
        (204, "sent"),
        (301, "later"),
        (400, "never"),
        (401, "later"),
        (404, "later"),
        (410, "never"),
        (422, "never"),
        (429, "later"),
        (500, "later"),
        (503, "later"),
    ],
)
def test_each_status_has_a_meaning(status, result):
    answer = httpx.Response(status, headers={"Retry-After": "7"}, content=b"<html>")
    outcome = exchange.judged(answer)
    assert outcome.result == result
    assert outcome.receipt.startswith(str(status))


def test_a_redirect_is_not_followed():
    with receiving() as inner:
        target = {"Location": f"{inner.url}/internal"}
        with receiving(lambda _: (307, target, b"")) as server:
            answer = exchange.send(WAY, "POST", server.url, {"a": 1})
    assert answer.status_code == 307
    assert inner.got == []


def test_of_a_long_answer_only_the_beginning_is_kept():
    with receiving(lambda _: (500, {}, b"x" * 1_000_000)) as server:
        answer = exchange.send(WAY, "POST", server.url, {})
    assert len(answer.content) == 65_536


def test_an_answer_that_cannot_be_unpacked_still_has_a_status():
    with receiving(lambda _: (200, {"Content-Encoding": "gzip"}, b"no gzip")) as server:
        assert exchange.send(WAY, "POST", server.url, {}).status_code == 200


def test_an_untrusted_certificate_is_refused_and_not_a_doubt():
    with receiving() as server, pytest.raises(NoAnswer) as raised:
        exchange.send(WAY, "POST", server.url.replace("http://", "https://"), {})
    assert raised.value.outcome.result == "later"
    assert server.got == []


def test_an_error_does_not_show_the_address():
    with pytest.raises(NoAnswer) as raised:
        exchange.send(WAY, "POST", "http://127.0.0.1:9/secret", {})
    assert raised.value.outcome.receipt == "ConnectError"
