"""Microsoft's token endpoints: secrets, certificates, and errors in Microsoft's words."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from sandbox import microsoft, tokens
from sandbox.microsoft import CLIENT_ID, CLIENT_SECRET, TENANT_ID
from sandbox.server import Running
from sandbox.services.entra_id import GRAPH
from tests.sandbox.setups import ANCHOR

PAGE = "/v1.0/auditLogs/signIns?$top=1"
TOKEN = f"/login/{TENANT_ID}/oauth2/v2.0/token"
FIELDS = {
    "grant_type": "client_credentials",
    "client_id": CLIENT_ID,
    "client_secret": CLIENT_SECRET,
    "scope": f"{GRAPH}/.default",
}


@pytest.fixture
def client(box: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{box.base_url}/entra_id") as client:
        yield client


def post(client: httpx.Client, path: str = TOKEN, **changes: str | None) -> httpx.Response:
    fields = {**FIELDS, **changes}
    return client.post(path, data={k: v for k, v in fields.items() if v is not None})


def test_a_token_for_a_secret_is_accepted_as_a_bearer_only(client: httpx.Client) -> None:
    token = post(client).json()["access_token"]
    assert client.get(PAGE, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    for header in (f"bearer {token}", f"Basic {token}", "Bearer", f"Bearer {token}x", token):
        assert client.get(PAGE, headers={"Authorization": header}).status_code == 401


def test_the_first_version_of_the_endpoint_returns_numbers_as_strings(client: httpx.Client) -> None:
    path = f"/login/{TENANT_ID}/oauth2/token"
    found = post(client, path, scope=None, resource=f"{GRAPH}/").json()
    assert found["expires_in"] == "3599"
    assert found["expires_on"] == str(int(ANCHOR.timestamp()) + 3599)
    assert post(client).json()["expires_in"] == 3599


def test_credentials_may_be_sent_as_http_basic(client: httpx.Client) -> None:
    fields = {k: v for k, v in FIELDS.items() if not k.startswith("client_")}
    # RFC 6749 encodes both parts; the secret contains a tilde and no reserved character.
    found = client.post(TOKEN, data=fields, auth=(CLIENT_ID, CLIENT_SECRET.replace("~", "%7E")))
    assert found.status_code == 200


@pytest.mark.parametrize(
    ("changes", "status", "error", "code"),
    [
        ({"client_secret": "guess"}, 401, "invalid_client", 7000215),
        ({"client_secret": None}, 401, "invalid_client", 7000215),
        ({"client_id": "unknown"}, 400, "unauthorized_client", 700016),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
        ({"scope": "https://other.example/.default"}, 400, "invalid_scope", 70011),
        ({"resource": "https://other.example"}, 400, "invalid_resource", 500011),
    ],
)
def test_a_refusal_has_microsofts_code_and_trace(
    client: httpx.Client, changes: dict[str, str | None], status: int, error: str, code: int
) -> None:
    refused = post(client, **changes)
    body = refused.json()
    assert (refused.status_code, body["error"], body["error_codes"]) == (status, error, [code])
    assert body["error_description"].startswith(f"AADSTS{code}: ")
    assert body["trace_id"] in body["error_description"]
    assert body["timestamp"] == "2026-11-18 15:00:00Z"


def test_another_tenant_is_not_found(client: httpx.Client) -> None:
    refused = post(client, TOKEN.replace(TENANT_ID, "common"))
    assert refused.json()["error_codes"] == [90002]


def assertion(
    client: httpx.Client, head: dict[str, Any], algorithm: str = "PS256", **changes: Any
) -> str:
    claims = {
        "iss": CLIENT_ID,
        "sub": CLIENT_ID,
        "aud": address(client, TOKEN),
        "exp": ANCHOR.timestamp() + 300,
        "jti": secrets.token_hex(8),
        **changes,
    }
    return jwt.encode(claims, tokens.rsa_key("microsoft"), algorithm=algorithm, headers=head)


def thumbprint(algorithm: hashes.HashAlgorithm) -> str:
    return tokens.base64url(microsoft.certificate().fingerprint(algorithm))


def address(client: httpx.Client, path: str) -> str:
    return f"{str(client.base_url).rstrip('/')}{path}"


def assert_with(client: httpx.Client, signed: str, **changes: str | None) -> httpx.Response:
    return post(
        client,
        client_secret=None,
        client_assertion=signed,
        **{
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            **changes,
        },
    )


@pytest.mark.parametrize(
    ("name", "algorithm", "padding"),
    [("x5t#S256", hashes.SHA256(), ""), ("x5t", hashes.SHA1(), "=")],  # noqa: S303 as old libraries do
    ids=["new", "old"],
)
def test_both_thumbprints_of_the_certificate_are_accepted_once(
    client: httpx.Client, name: str, algorithm: hashes.HashAlgorithm, padding: str
) -> None:
    signed = assertion(
        client, {name: thumbprint(algorithm) + padding}, "RS256" if padding else "PS256"
    )
    assert assert_with(client, signed).status_code == 200
    again = assert_with(client, signed).json()
    assert again["error_codes"] == [7000214]


def test_a_defective_assertion_is_refused(client: httpx.Client) -> None:
    good = {"x5t#S256": thumbprint(hashes.SHA256())}
    for signed in (
        assertion(client, {}),
        assertion(client, {"x5t#S256": "other"}),
        assertion(client, {**good, "x5t": "other"}),
        assertion(client, good, aud="https://elsewhere.example"),
        assertion(client, good, exp=ANCHOR.timestamp() - 1),
        assertion(client, good, iss="somebody"),
        "nonsense",
    ):
        refused = assert_with(client, signed)
        assert (refused.status_code, refused.json()["error_codes"]) == (401, [700027])
    wrong_type = assert_with(client, assertion(client, good), client_assertion_type="other").json()
    assert wrong_type["error_codes"] == [900144]


def test_the_pem_contains_the_certificate_and_its_key() -> None:
    text = microsoft.certificate_pem().encode()
    certificate = x509.load_pem_x509_certificate(text)
    key = serialization.load_pem_private_key(text, None)
    assert certificate.public_key() == key.public_key()
    assert certificate.not_valid_before_utc < ANCHOR < certificate.not_valid_after_utc


def test_a_name_has_one_guid_in_every_service() -> None:
    assert microsoft.guid("app Slack") == microsoft.guid("app Slack") != microsoft.guid("app Zoom")


def test_metadata_names_the_endpoints_of_the_tenant(client: httpx.Client) -> None:
    base = f"/login/{TENANT_ID}"
    found = client.get(f"{base}/v2.0/.well-known/openid-configuration").json()
    assert found["token_endpoint"] == address(client, TOKEN)
    assert found["issuer"] == address(client, f"{base}/v2.0")
