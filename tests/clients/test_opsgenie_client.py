"""Opsgenie's own client reads the simulated Opsgenie without complaint.

The client has no logs API, so files are listed with its generic call. That call reads only JSON,
while the download URL of a file is plain text, so httpx fetches it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sandbox import server
from sandbox.faults import Fault
from sandbox.server import Options, Running
from sandbox.services import opsgenie

pytest.importorskip("opsgenie_sdk", reason="make test-clients installs it")

import opsgenie_sdk

pytestmark = pytest.mark.clients


@pytest.fixture
def box() -> Iterator[Running]:
    with server.running(Options(seed=5, days=12, per_day=60, rate=0)) as running:
        yield running


@pytest.fixture
def client(box: Running) -> Any:
    configuration = opsgenie_sdk.Configuration()
    configuration.host = f"{box.base_url}/opsgenie"
    configuration.api_key["Authorization"] = opsgenie.API_KEY
    configuration.retry_delay = 0.01
    configuration.retry_max_delay = 0.05
    return opsgenie_sdk.ApiClient(configuration)


def call(client: Any, path: str, **query: Any) -> Any:
    return client.call_api(
        path,
        "GET",
        query_params=list(query.items()),
        auth_settings=["GenieKey"],
        response_type="object",
        _return_http_data_only=True,
    )


def test_the_client_sees_the_plan(client: Any) -> None:
    assert opsgenie_sdk.AccountApi(client).get_info().data.plan.name == "Enterprise"


def test_the_client_follows_the_markers_and_downloads_every_line(box: Running, client: Any) -> None:
    marker, found = "2020-01-01-00-00-00", b""
    download = f"{box.base_url}/opsgenie/v2/logs/download"
    headers = {"Authorization": f"GenieKey {opsgenie.API_KEY}"}
    while True:
        page = call(client, f"/v2/logs/list/{marker}", limit=7)
        if not page["data"]:
            break
        for file in page["data"]:
            link = httpx.get(f"{download}/{file['filename']}", headers=headers).text
            body = httpx.get(link.strip()).content
            assert len(body) == file["size"]
            found += body
        marker = page["marker"]
    assert "marker" not in page
    issued = box.sandbox.log("opsgenie", "logs").visible()
    assert found.splitlines() == [record.raw for record in issued]


def test_the_client_retries_when_throttled(box: Running, client: Any) -> None:
    box.sandbox.order([Fault(kind="opsgenie", fault="status", status=429, at=[0])])
    assert call(client, "/v2/logs/list/2020-01-01-00-00-00")["data"]
    assert [asked.status for asked in box.sandbox.requests("opsgenie")[1]] == [429, 200]


def test_the_client_parses_an_error(client: Any) -> None:
    with pytest.raises(opsgenie_sdk.exceptions.ConfigurationException) as error:
        call(client, "/v2/logs/list/yesterday")
    assert error.value.status == 422
