"""Reads the simulated Okta as a client does, signs in to it, and sets its faults."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import jwt
import msgspec

from sandbox import tokens
from sandbox.server import Entry, Running
from sandbox.services import okta
from tests.sandbox.setups import ANCHOR

LOGS = "/api/v1/logs"


def iso(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def okta_client(box: Running) -> httpx.Client:
    return httpx.Client(
        base_url=f"{box.base_url}/okta", headers={"Authorization": f"SSWS {okta.API_TOKEN}"}
    )


def split(response: httpx.Response) -> list[bytes]:
    return [bytes(raw) for raw in msgspec.json.decode(response.content, type=list[msgspec.Raw])]


def walk(client: httpx.Client, **params: Any) -> Iterator[list[bytes]]:
    """Yield pages up to the first empty or the last one."""
    response = client.get(LOGS, params=params).raise_for_status()
    while records := split(response):
        yield records
        if "next" not in response.links:
            return
        response = client.get(response.links["next"]["url"]).raise_for_status()


def everything(client: httpx.Client, **params: Any) -> list[bytes]:
    return [record for page in walk(client, **params) for record in page]


def hashes(records: list[bytes]) -> list[str]:
    return [hashlib.sha256(record).hexdigest() for record in records]


def published(records: list[bytes]) -> list[str]:
    return [msgspec.json.decode(record)["published"] for record in records]


def ledger(box: Running) -> list[Entry]:
    return box.sandbox.ledger("okta", "system_log")


SINCE = iso(ANCHOR - timedelta(days=30))


def assertion(box: Running, client: str = okta.CLIENT_ID, **changes: Any) -> str:
    """Return a client assertion as Okta requires it, with changes; None removes a claim."""
    now = int(ANCHOR.timestamp())
    url = f"{box.base_url}/okta/oauth2/v1/token"
    kid, key = changes.pop("kid", okta.KEY_ID), changes.pop("key", tokens.rsa_key("okta"))
    claims = {"iss": client, "sub": client, "aud": url, "exp": now + 300, "iat": now}
    claims |= {"jti": secrets.token_hex(8)} | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid})


def request_token(
    box: Running, signed: str, scope: str = "okta.logs.read", **headers: str
) -> httpx.Response:
    fields = {
        "grant_type": "client_credentials",
        "scope": scope,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": signed,
    }
    return httpx.post(f"{box.base_url}/okta/oauth2/v1/token", data=fields, headers=headers)


def read_with(box: Running, authorization: str, **headers: str) -> httpx.Response:
    return httpx.get(
        f"{box.base_url}/okta{LOGS}?limit=1", headers={"Authorization": authorization, **headers}
    )


def order(box: Running, *faults: dict[str, Any]) -> None:
    body = [{"kind": "okta", **fault} for fault in faults]
    assert httpx.post(f"{box.base_url}/_sandbox/faults", json=body).status_code == 204
