"""Requests to the control API that cannot be read, or are about something unknown."""

from __future__ import annotations

import httpx
import pytest

from sandbox.server import Running


@pytest.mark.parametrize("body", [b"", b"{", b'{"kind": "okta"}', b"\xff"])
def test_a_body_that_cannot_be_read_is_a_bad_request(box: Running, body: bytes) -> None:
    answer = httpx.post(f"{box.base_url}/_sandbox/faults", content=body)
    assert answer.status_code == 400


@pytest.mark.parametrize("path", ["requests/nobody", "ledger/okta/nothing", "ledger/nobody/logs"])
def test_what_is_unknown_is_not_found(box: Running, path: str) -> None:
    answer = httpx.get(f"{box.base_url}/_sandbox/{path}")
    assert answer.status_code == 404
    assert "unknown kind" in answer.text
