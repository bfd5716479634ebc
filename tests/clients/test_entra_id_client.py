"""Microsoft's own clients read the simulated Graph and sign in to it without complaint."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.applications import Starlette

from sandbox import microsoft, server
from sandbox.faults import Fault
from sandbox.server import Options, Running
from sandbox.service import Site
from sandbox.services import entra_id

pytest.importorskip("msgraph", reason="make test-clients installs it")

import httpx
import msal
import requests
from azure.core.credentials import AccessToken
from kiota_abstractions.base_request_configuration import RequestConfiguration
from kiota_authentication_azure.azure_identity_authentication_provider import (
    AzureIdentityAuthenticationProvider,
)
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.models.o_data_errors.o_data_error import ODataError

pytestmark = pytest.mark.clients

SHOWN, _, _private = microsoft.certificate_pem().partition("-----BEGIN PRIVATE KEY")
PRIVATE = f"-----BEGIN PRIVATE KEY{_private}"
THUMBPRINT = microsoft.certificate().fingerprint(hashes.SHA1()).hex()  # noqa: S303 as MSAL wants it
SCOPE = f"{entra_id.GRAPH}/.default"


@pytest.fixture
def box() -> Iterator[Running]:
    with server.running(Options(seed=5, days=3, per_day=120, rate=0)) as running:
        yield running


class Credential:
    """A token from the sandbox's own sign-in."""

    def __init__(self, box: Running, client_id: str = microsoft.CLIENT_ID) -> None:
        self._url = f"{box.base_url}/entra_id/login/{microsoft.TENANT_ID}/oauth2/v2.0/token"
        self._client_id = client_id

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": microsoft.CLIENT_SECRET,
            "scope": scopes[0],
        }
        answer = httpx.post(self._url, data=form).json()
        return AccessToken(answer["access_token"], 2**31)


def connect(box: Running, **options: Any) -> GraphServiceClient:
    provider = AzureIdentityAuthenticationProvider(Credential(box, **options), scopes=[SCOPE])
    adapter = GraphRequestAdapter(provider)
    adapter.base_url = f"{box.base_url}/entra_id/v1.0"
    return GraphServiceClient(request_adapter=adapter)


async def read(logs: Any, builder: Any, **query: Any) -> list[str]:
    """Return the ids of all records, page by page."""
    parameters = getattr(builder, f"{builder.__name__}GetQueryParameters")(**query)
    page = await logs.get(request_configuration=RequestConfiguration(query_parameters=parameters))
    found = [record.id for record in page.value]
    while page.odata_next_link:
        page = await logs.with_url(page.odata_next_link).get()
        found += [record.id for record in page.value]
    return found


def visible(box: Running, stream: str) -> list[str]:
    return sorted(entry.id for entry in box.sandbox.ledger("entra_id", stream))


@pytest.mark.parametrize(
    ("collection", "stream"),
    [
        ("directory_audits", "directory_audits"),
        ("sign_ins", "sign_ins"),
        ("provisioning", "provisioning"),
    ],
)
def test_the_client_pages_through_every_record(box: Running, collection: str, stream: str) -> None:
    time = "createdDateTime" if collection == "sign_ins" else "activityDateTime"
    operator = "gt" if collection == "provisioning" else "ge"
    since = (datetime.now(UTC) - timedelta(days=20)).strftime("%Y-%m-%dT%H:%M:%SZ")

    async def all_of_it() -> list[str]:
        logs = getattr(connect(box).audit_logs, collection)
        return await read(logs, type(logs), filter=f"{time} {operator} {since}", top=40)

    assert sorted(asyncio.run(all_of_it())) == visible(box, stream)


def test_the_client_obeys_the_retry_after_of_a_429(box: Running) -> None:
    fault = Fault(kind="entra_id", fault="status", at=[1], status=429, retry_after=1)
    box.sandbox.order([fault])
    asyncio.run(connect(box).audit_logs.sign_ins.get())
    assert [asked.status for asked in box.sandbox.requests("entra_id")[1]] == [200, 429, 200]


def test_the_client_parses_an_error(box: Running) -> None:
    client = connect(box, client_id=entra_id.UNLICENSED_CLIENT_ID)
    with pytest.raises(ODataError) as refused:
        asyncio.run(client.audit_logs.sign_ins.get())
    assert refused.value.error is not None
    assert refused.value.error.code == "Authentication_RequestFromNonPremiumTenantOrB2CTenant"


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Yield the base URL of the sign-in over TLS, and its certificate authority's file."""
    authority = tmp_path / "authority.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    chain = _issued(key, authority)
    site = Site(logs={}, clock=lambda: datetime.now(UTC), limits=False)
    roles = {microsoft.CLIENT_ID: entra_id.ROLES}
    app = Starlette(routes=microsoft.sign_in(site, entra_id.GRAPH, roles, prefix=""))
    with _serving(app, chain) as port:
        yield f"https://localhost:{port}", str(authority)


def _issued(key: ec.EllipticCurvePrivateKey, authority: Path) -> Path:
    """Create a self-signed certificate for this machine, and return the file with its key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    shown = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority.write_bytes(shown.public_bytes(serialization.Encoding.PEM))
    chain = authority.with_name("chain.pem")
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    chain.write_bytes(authority.read_bytes() + private)
    return chain


@contextmanager
def _serving(app: Starlette, chain: Path) -> Iterator[int]:
    config = uvicorn.Config(
        app, log_level="warning", lifespan="off", ssl_certfile=str(chain), ssl_keyfile=str(chain)
    )
    running = uvicorn.Server(config)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=running.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join()


def certificate(**more: str) -> dict[str, str]:
    return {"private_key": PRIVATE, **more}


@pytest.mark.parametrize(
    "credential",
    [
        microsoft.CLIENT_SECRET,
        certificate(public_certificate=SHOWN),
        certificate(thumbprint=THUMBPRINT),
    ],
    ids=["secret", "PS256 and x5t#S256", "RS256 and x5t"],
)
def test_msal_gets_a_token(secure: tuple[str, str], credential: Any) -> None:
    base_url, authority = secure
    with requests.Session() as session:
        session.verify, session.trust_env = authority, False
        app = msal.ConfidentialClientApplication(
            microsoft.CLIENT_ID,
            client_credential=credential,
            authority=f"{base_url}/{microsoft.TENANT_ID}",
            instance_discovery=False,
            http_client=session,
        )
        answer = app.acquire_token_for_client([SCOPE])
    assert answer.get("token_type") == "Bearer", answer
