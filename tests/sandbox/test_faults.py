"""Injected faults on the real socket."""

from __future__ import annotations

import json

import httpx
import pytest

from sandbox.server import Running
from tests.sandbox.okta_reader import (
    LOGS,
    SINCE,
    assertion,
    okta_client,
    order,
    read_with,
    request_token,
)
from tests.sandbox.setups import ANCHOR


def test_a_status_fault_is_the_vendors_error_at_the_given_requests(own: Running) -> None:
    with okta_client(own) as client:
        client.get(LOGS)
        order(own, {"fault": "status", "at": [1, 2], "status": 429, "retry_after": 7})
        answers = [client.get(LOGS) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 429, 429, 200]
    assert answers[1].headers["X-Rate-Limit-Reset"] == str(int(ANCHOR.timestamp()) + 7)
    assert answers[1].json()["errorCode"] == "E0000047"


def test_a_fault_may_be_limited_by_count_and_path_and_removed(own: Running) -> None:
    with okta_client(own) as client:
        order(own, {"fault": "status", "every": True, "count": 2, "path": LOGS})
        assert client.get("/elsewhere").status_code == 404
        assert [client.get(LOGS).status_code for _ in range(3)] == [503, 503, 200]
        order(own, {"fault": "status", "every": True})
        assert client.get(LOGS).status_code == 503
        httpx.delete(f"{own.base_url}/_sandbox/faults")
        assert client.get(LOGS).status_code == 200


def test_a_connection_is_reset_in_mid_body(own: Running) -> None:
    order(own, {"fault": "reset", "at": [0]})
    with okta_client(own) as client:
        with pytest.raises(httpx.ReadError):
            client.get(LOGS, params={"since": SINCE, "limit": 1000})
        assert client.get(LOGS).status_code == 200


def test_a_body_may_be_shorter_than_its_content_length(own: Running) -> None:
    order(own, {"fault": "truncate", "at": [0]})
    with okta_client(own) as client:
        with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):
            client.get(LOGS, params={"since": SINCE, "limit": 1000})
        assert client.get(LOGS).status_code == 200


def test_json_may_end_in_the_middle_with_a_matching_length(own: Running) -> None:
    order(own, {"fault": "garbage", "at": [0]})
    with okta_client(own) as client:
        answer = client.get(LOGS, params={"since": SINCE, "limit": 3})
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_a_response_may_be_slow(own: Running) -> None:
    order(own, {"fault": "slow", "at": [0], "seconds": 0.5})
    with okta_client(own) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.get(LOGS, timeout=0.1)
        assert client.get(LOGS).status_code == 200


def test_any_answer_may_be_sent_in_the_vendors_place(own: Running) -> None:
    page = {"status": 403, "media_type": "text/html", "body": "<title>Wi-Fi</title>"}
    order(own, {"fault": "answer", "at": [0], **page})
    with okta_client(own) as client:
        answer = client.get(LOGS)
        assert (answer.status_code, answer.text) == (403, "<title>Wi-Fi</title>")
        assert answer.headers["Content-Type"].startswith("text/html")
        assert client.get(LOGS).status_code == 200


def test_tokens_may_expire_early(own: Running) -> None:
    bearer = f"Bearer {request_token(own, assertion(own)).json()['access_token']}"
    assert read_with(own, bearer).status_code == 200
    order(own, {"fault": "expire_token", "at": [0]})
    assert read_with(own, bearer).status_code == 401
