"""Okta's own client reads the simulated Okta without complaint."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from sandbox import server, tokens
from sandbox.faults import Fault
from sandbox.server import Options, Running
from sandbox.services import okta
from tests.sandbox.receivers import receiving

pytest.importorskip("okta", reason="make test-clients installs it")

from okta.client import Client
from okta.models import EventHook

pytestmark = pytest.mark.clients


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("OKTA_TESTING_TESTINGDISABLEHTTPSCHECK", "true")
    with server.running(Options(seed=5, days=12, per_day=30, rate=0)) as running:
        yield running


def connect(box: Running, **options: Any) -> Client:
    return Client({"orgUrl": f"{box.base_url}/okta", **options})


async def read(client: Client, limit: int = 100) -> list[str]:
    """Return the ids of all events of the last 20 days, page by page."""
    since = (datetime.now(UTC) - timedelta(days=20)).isoformat()
    found: list[str] = []
    page, response, error = await client.list_log_events(since=since, limit=limit)
    while error is None and page:
        found += [event.uuid for event in page]
        link = response.headers["Link"]
        assert 'rel="next"' in link
        after = parse_qs(urlsplit(link[1 : link.index(">")]).query)["after"][0]
        page, response, error = await client.list_log_events(after=after, limit=limit)
    assert error is None
    return found


def visible(box: Running) -> list[str]:
    return [entry.id for entry in box.sandbox.ledger("okta", "system_log")]


def test_the_client_pages_through_every_event(box: Running) -> None:
    assert asyncio.run(read(connect(box, token=okta.API_TOKEN))) == visible(box)


def test_the_client_waits_for_the_reset_after_a_429(box: Running) -> None:
    box.sandbox.order([Fault(kind="okta", fault="status", at=[0], status=429, retry_after=0)])
    client = connect(box, token=okta.API_TOKEN)
    assert asyncio.run(read(client, limit=1000)) == visible(box)
    assert [asked.status for asked in box.sandbox.requests("okta")[1]][:2] == [429, 200]


def test_the_client_parses_an_error(box: Running) -> None:
    client = connect(box, token=okta.API_TOKEN)
    _, _, error = asyncio.run(client.list_log_events(until="yesterday"))
    assert (error.status, error.error_code) == (400, "E0000001")


@pytest.mark.parametrize(
    ("client_id", "dpop"), [(okta.CLIENT_ID, False), (okta.DPOP_CLIENT_ID, True)]
)
def test_the_client_signs_in_with_a_private_key(box: Running, client_id: str, dpop: bool) -> None:
    key = jwt.algorithms.RSAAlgorithm.to_jwk(tokens.rsa_key("okta"), as_dict=True)
    key = {name: value for name, value in key.items() if isinstance(value, str)}
    client = connect(
        box,
        authorizationMode="PrivateKey",
        clientId=client_id,
        scopes=["okta.logs.read"],
        privateKey=json.dumps(key),
        kid=okta.KEY_ID,
        dpopEnabled=dpop,
    )
    assert asyncio.run(read(client, limit=1000)) == visible(box)


async def hooked(client: Client, uri: str) -> Any:
    """Create, verify and list an event hook with the client, and return it."""
    config = {
        "uri": uri,
        "authScheme": {"type": "HEADER", "key": "Authorization", "value": "a-shared-secret"},
    }
    wanted = EventHook.from_dict(
        {
            "name": "auditlake",
            "events": {"type": "EVENT_TYPE", "items": ["user.session.start"]},
            "channel": {"type": "HTTP", "version": "1.0.0", "config": config},
        }
    )
    made, _, error = await client.create_event_hook(wanted)
    assert error is None
    verified, _, error = await client.verify_event_hook(made.id)
    assert error is None
    assert verified.verification_status == "VERIFIED"
    found, _, _ = await client.list_event_hooks()
    assert [hook.id for hook in found] == [made.id]
    return verified


def test_the_client_creates_verifies_and_deletes_an_event_hook(box: Running) -> None:
    async def through(client: Client, uri: str) -> None:
        hook = await hooked(client, uri)
        assert hook.channel.config.auth_scheme.value is None
        *_, error = await client.delete_event_hook(hook.id)
        assert error.status == 400  # an active one
        ended, _, _ = await client.deactivate_event_hook(hook.id)
        assert ended.status == "INACTIVE"
        await client.delete_event_hook(hook.id)
        assert (await client.list_event_hooks())[0] == []

    with receiving() as receiver:
        asyncio.run(through(connect(box, token=okta.API_TOKEN), receiver.url))
        assert [got.method for got in receiver.got] == ["GET"]
