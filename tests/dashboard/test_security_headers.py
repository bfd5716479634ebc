"""The headers of the running server's responses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Scope

from dashboard.security_headers import Policy
from tests.dashboard.conftest import free_port, serving


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the app over an empty lake."""
    root = tmp_path_factory.mktemp("empty")
    with serving(root, root, free_port()) as address, httpx.Client(base_url=address) as client:
        yield client


def directives(response: httpx.Response) -> dict[str, list[str]]:
    parts = response.headers["content-security-policy"].split(";")
    return {name: sources for name, *sources in (part.split() for part in parts)}


@pytest.mark.parametrize(
    "path",
    ["/", "/sources", "/_stcore/health", "/exports/made-up.csv", "/exports/..%2f..%2fetc.csv"],
)
def test_every_response_has_the_policy(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert len(response.headers.get_list("content-security-policy")) == 1
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-content-type-options"] == "nosniff"


def test_a_page_may_load_nothing_from_another_host_and_not_be_framed(client: httpx.Client) -> None:
    found = directives(client.get("/"))
    assert found["default-src"] == ["'self'"]
    assert found["frame-ancestors"] == found["object-src"] == ["'none'"]
    assert found["base-uri"] == found["form-action"] == ["'self'"]
    sources = {source for listed in found.values() for source in listed}
    assert not {source for source in sources if "*" in source or "//" in source}
    assert not {"http:", "https:"} & sources


def sent(scope: Scope) -> list[Message]:
    """Return the messages of an app behind the middleware."""
    messages: list[Message] = []

    async def app(scope: Scope, receive: object, send: object) -> None:
        if scope["type"] == "http":
            response = PlainTextResponse("ok", headers={"Referrer-Policy": "unsafe-url"})
            await response(scope, receive, send)  # type: ignore[arg-type]
        else:
            await send({"type": "websocket.accept", "headers": []})  # type: ignore[operator]

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        messages.append(message)

    asyncio.run(Policy(app)(scope, receive, send))
    return messages


def test_a_header_of_the_app_itself_is_replaced() -> None:
    start = sent({"type": "http", "method": "GET", "headers": []})[0]
    policies = [value for name, value in start["headers"] if name == b"referrer-policy"]
    assert policies == [b"no-referrer"]


def test_websockets_pass_unchanged() -> None:
    assert sent({"type": "websocket"}) == [{"type": "websocket.accept", "headers": []}]
