"""A receiver on a real socket, and sources that send no requests."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pipelines import registry
from pipelines.sdk.contract import Source
from pipelines.webhooks import server as webhooks_server
from pipelines.webhooks.receiver import Endpoint, Limits, Receiver
from pipelines.webhooks.spool import Spool

SECRET = "a-secret-that-is-shared-0123456789"
_KEYS = {
    "okta": {"base_url": "https://acme.okta.com", "api_token": "x" * 20},
    "cloudflare": {"account_id": "0" * 32, "api_token": "x" * 20},
    "atlassian": {"org_id": "org", "api_key": "x" * 20},
    "jumpcloud": {"api_key": "x" * 20},
    "opsgenie": {"api_key": "x" * 20},
    "office_365": {"tenant_id": "tenant", "client_id": "client", "client_secret": "x" * 20},
}
KINDS = (*_KEYS, "google_workspace")


def source(kind: str, **more: object) -> Source:
    keys = _KEYS.get(kind) or {"subject": "a@example.com", "credentials": _service_account()}
    return registry.source(kind, {**keys, "webhook_secret": SECRET, **more})


def _service_account() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return json.dumps(
        {
            "client_email": "auditlake@example.iam.gserviceaccount.com",
            "private_key": key.decode(),
            "token_uri": "https://oauth2.googleapis.com/token",
        }
    )


@dataclass(slots=True, kw_only=True)
class Served:
    """A running receiver without workers: accepted deliveries stay in the spool."""

    port: int
    spool: Spool
    receiver: Receiver
    server: uvicorn.Server
    taken: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bodies(self, name: str) -> list[bytes]:
        return [self.spool.load(path).body for path in self.spool.waiting(name)]

    def files(self) -> list[Path]:
        return [
            path for path in self.spool.root.rglob("*") if path.is_file() and path.name[0] != "."
        ]

    def raw(self, *parts: bytes, seconds: float = 60.0) -> bytes:
        """Send bytes and return the answer up to the end of the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as peer:
            for part in parts:
                try:
                    peer.sendall(part)
                except OSError:  # cut off by the receiver
                    break
            answer = b""
            while True:
                try:
                    more = peer.recv(65536)
                except OSError:
                    return answer
                if not more:
                    return answer
                answer += more


@contextmanager
def served(root: Path, limits: Limits, *names: str, room: int = 2**26) -> Iterator[Served]:
    spool = Spool(root, limit=room)
    sources = [source(name) for name in names or KINDS]
    endpoints = [Endpoint(source=s, push=s.integration.push, secret=SECRET) for s in sources]
    taken: list[str] = []
    receiver = Receiver(endpoints, spool, taken.append, limits, lambda: datetime.now(UTC))
    server = uvicorn.Server(webhooks_server.config(receiver, limits, host="127.0.0.1", port=0))
    with spool.open(), socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            port = listening.getsockname()[1]
            yield Served(port=port, spool=spool, receiver=receiver, server=server, taken=taken)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One receiver for many hostile senders."""
    limits = Limits(body=2**20, per_second=1e6, wrong_per_second=1e6)
    with served(tmp_path_factory.mktemp("spool"), limits) as running:
        yield running


@pytest.fixture
def receiver(strict: Served) -> Iterator[Served]:
    """The receiver, with an empty spool before and after each test."""
    for path in strict.files():
        strict.spool.remove([path])
    strict.taken.clear()
    yield strict
    for path in strict.files():
        strict.spool.remove([path])


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool", limit=2**24)
    with made.open():
        yield made
