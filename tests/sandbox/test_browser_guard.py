"""Web pages reach neither the simulated vendors nor the control API."""

from __future__ import annotations

import httpx
import pytest
from starlette.datastructures import Headers

from sandbox.browser_guard import fault
from sandbox.server import Running
from tests.integrity import matrix

LEDGER = "/_sandbox/ledger/okta/system_log"


@matrix.attack(
    "inject faults into the sandbox from a page",
    "403",
    f"{matrix.HOST}, {matrix.ORIGIN}, {matrix.SITE}",
)
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example"},
        {"Host": "127.0.0.1.rebound.example:8700"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"},
    ],
)
def test_a_request_of_a_page_is_refused(box: Running, headers: dict[str, str]) -> None:
    for path in (LEDGER, "/okta/api/v1/logs"):
        assert httpx.get(f"{box.base_url}{path}", headers=headers).status_code == 403
    faults = httpx.post(f"{box.base_url}/_sandbox/faults", json=[], headers=headers)
    assert faults.status_code == 403


def test_programs_and_an_opened_address_pass(box: Running) -> None:
    port = box.base_url.rpartition(":")[2]
    for headers in ({}, {"Host": f"localhost:{port}"}, {"Sec-Fetch-Site": "none"}):
        assert httpx.get(f"{box.base_url}{LEDGER}", headers=headers).status_code == 200


def test_other_names_have_to_be_allowed() -> None:
    for host in ("sandbox", "sandbox:8700", "Sandbox:1"):
        assert fault(Headers({"host": host}), ())
        assert fault(Headers({"host": host}), ("sandbox",)) is None
    assert fault(Headers({"host": "["}), ("sandbox",))
    assert fault(Headers({}), ()) is None
