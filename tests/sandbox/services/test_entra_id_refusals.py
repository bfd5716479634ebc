"""Errors in the words of Microsoft Graph."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox.services.entra_id_refusals import THROTTLED, refusal
from tests.sandbox.setups import ANCHOR


def error(status: int, wait: float = 7.0) -> tuple[Any, dict[str, Any]]:
    response = refusal(status, ANCHOR, wait)
    assert response.status_code == status
    return response.headers, json.loads(response.body)["error"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "InvalidAuthenticationToken"),
        (403, "Authorization_RequestDenied"),
        (404, "ResourceNotFound"),
        (503, "UnknownError"),
    ],
)
def test_a_status_has_graphs_code_and_no_advice_to_wait(status: int, code: str) -> None:
    headers, body = error(status)
    assert body["code"] == code
    assert "retry-after" not in headers


def test_a_throttled_request_may_be_retried_after_whole_seconds() -> None:
    headers, body = error(429, 7.4)
    assert headers["retry-after"] == "7"
    assert body["message"] == THROTTLED


def test_an_error_carries_the_id_of_its_request() -> None:
    first, second = error(500), error(500)
    for headers, body in (first, second):
        assert body["innerError"]["request-id"] == headers["request-id"]
        assert body["innerError"]["date"] == "2026-11-18T15:00:00"
    assert first[0]["request-id"] != second[0]["request-id"]
