"""GraphQL is accepted as JSON in the body of a POST; nothing else reaches it."""

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse

from pipelines.orchestration.json_only import JsonOnly

MUTATION = {"query": "mutation { stopSensor { __typename } }"}


def answer(method, path, **options):
    """The response of an app behind the middleware, which serves every path."""

    async def send():
        transport = httpx.ASGITransport(JsonOnly(PlainTextResponse("served")))
        async with httpx.AsyncClient(transport=transport, base_url="http://dagster") as client:
            return await client.request(method, path, **options)

    return asyncio.run(send())


@pytest.mark.parametrize("path", ["/graphql", "/prefix/graphql", "/graphql/", "/%67raphql"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT"])
def test_no_query_in_an_address_is_executed(method, path):
    refused = answer(method, path, params=MUTATION, headers={"Accept": "text/html"})
    assert refused.status_code == 403
    typed = answer(method, path, params=MUTATION, json={"query": "{ version }"})
    assert typed.status_code == 403


@pytest.mark.parametrize(
    "kind",
    [
        *("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"),
        *("application/graphql", "text/plain; application/json", "application/json-seq", ""),
    ],
)
def test_a_body_of_another_type_is_refused(kind):
    body = b'{"query": "{ version }"}'
    refused = answer("POST", "/graphql", content=body, headers={"Content-Type": kind})
    assert refused.status_code == 403
    assert "application/json" in refused.text


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"]
)
def test_json_in_a_body_passes(kind):
    passed = answer("POST", "/graphql", content=b"{}", headers={"Content-Type": kind})
    assert passed.text == "served"


def test_the_page_of_the_editor_and_other_paths_pass():
    assert answer("GET", "/graphql").text == "served"
    assert answer("GET", "/other", params=MUTATION).text == "served"
    assert answer("POST", "/other", content=b"x").text == "served"


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_websockets_and_the_start_of_the_server_pass(kind):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    scope = {"type": kind, "path": "/graphql", "query_string": b"query=x", "headers": []}
    asyncio.run(JsonOnly(app)(scope, None, None))
    assert seen == [kind]
