"""Cloudflare's audit logs over real sockets: version 1 by page, version 2 by cursor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from sandbox import server
from sandbox.server import Running
from sandbox.services import cloudflare
from tests.sandbox.setups import SMALL, Clock

WINDOW = {"since": "2026-10-01", "before": "2026-12-01"}


def client_of(box: Running, token: str = cloudflare.API_TOKEN) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=f"{box.base_url}/cloudflare/client/v4", headers=headers)


@pytest.fixture(scope="module")
def api(box: Running) -> Iterator[httpx.Client]:
    with client_of(box) as client:
        yield client


def path(version: str, account: str = cloudflare.ACCOUNT_ID) -> str:
    return f"/accounts/{account}/{version}"


def code(response: httpx.Response) -> tuple[int, int]:
    assert response.json()["success"] is False
    return response.status_code, response.json()["errors"][0]["code"]


def test_pages_of_version_1_return_every_record_once(box: Running, api: httpx.Client) -> None:
    found: list[str] = []
    for number in range(1, 100):
        params = {"page": number, "per_page": 30, "direction": "asc"}
        page = api.get(path("audit_logs"), params=params).json()["result"]
        found += [record["id"] for record in page]
        if not page:
            break
    issued = [entry.id for entry in box.sandbox.ledger("cloudflare", "audit_logs")]
    assert sorted(found) == sorted(issued)
    assert len(found) > 60


@pytest.mark.parametrize(
    ("account", "members"),
    [
        (cloudflare.ACCOUNT_ID, {"cursor", "cursors"}),
        (cloudflare.ACCOUNT_WITH_CURSOR, {"cursor"}),
        (cloudflare.ACCOUNT_WITH_CURSORS, {"cursors"}),
    ],
)
def test_cursors_of_version_2_return_every_record_once(
    box: Running, api: httpx.Client, account: str, members: set[str]
) -> None:
    found: list[str] = []
    params: dict[str, Any] = {**WINDOW, "limit": 30}
    while True:
        page = api.get(path("logs/audit", account), params=params).json()
        found += [record["id"] for record in page["result"]]
        info = page["result_info"]
        cursor = info.get("cursor") or info.get("cursors", {}).get("after")
        if not cursor:
            break
        assert info.keys() - {"count"} == members
        params["cursor"] = cursor
    issued = [entry.id for entry in box.sandbox.ledger("cloudflare", "audit_logs_v2")]
    assert sorted(found) == sorted(issued)


@pytest.mark.parametrize(
    ("version", "params"),
    [
        ("audit_logs", {"page": 0}),
        ("audit_logs", {"per_page": 1001}),
        ("audit_logs", {"since": "yesterday"}),
        ("logs/audit", {}),
        ("logs/audit", {"since": "2026-11-01"}),
        ("logs/audit", {**WINDOW, "limit": 0}),
        ("logs/audit", {**WINDOW, "cursor": "made-up"}),
    ],
)
def test_an_invalid_query_is_error_1004(
    api: httpx.Client, version: str, params: dict[str, Any]
) -> None:
    assert code(api.get(path(version), params=params)) == (400, 1004)


@pytest.mark.parametrize(("token", "expected"), [("", (400, 6003)), ("wrong", (401, 1000))])
def test_a_request_without_a_valid_token_is_refused(
    box: Running, token: str, expected: tuple[int, int]
) -> None:
    with client_of(box, token) as client:
        assert code(client.get(path("audit_logs"))) == expected


def test_an_unknown_account_is_not_found(api: httpx.Client) -> None:
    assert code(api.get(path("audit_logs", "0" * 32))) == (404, 7003)


def test_exceeding_the_limit_blocks_for_five_minutes(clock: Clock) -> None:
    options = replace(SMALL, days=1, limits=True)
    with server.running(options, clock) as box, client_of(box) as client:
        query = {"per_page": 1}
        statuses = {client.get(path("audit_logs"), params=query).status_code for _ in range(1200)}
        blocked = client.get(path("audit_logs"), params=query)
        clock.pass_by(seconds=299)
        still = client.get(path("audit_logs"), params=query)
        clock.pass_by(seconds=1)
        again = client.get(path("audit_logs"), params=query)
    assert statuses == {200}
    assert code(blocked) == (429, 971)
    assert blocked.headers["retry-after"] == "300"
    assert still.headers["retry-after"] == "1"
    assert again.status_code == 200
    assert again.headers["x-ratelimit-remaining"] == "1199"
