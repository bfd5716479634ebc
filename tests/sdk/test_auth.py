"""Sign-in flows: tokens are reused, renewed in time and once after a 401, and never shown."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import SecretStr

from pipelines.errors import ConfigurationError, Refused, SignInRefused, Unavailable
from pipelines.sdk import auth

NOW = 1_772_000_000.0
URL = "https://vendor.example/token"


class Vendor:
    """A service that issues numbered tokens; its responses may be replaced."""

    def __init__(self, *, expires_in=3600, ahead=0.0):
        self.now = NOW
        self.ahead = ahead
        self.expires_in = expires_in
        self.valid = None
        self.signed_in, self.sent = [], []
        self.refusals = []

    def __call__(self, request):
        return self.token(request) if str(request.url) == URL else self.resource(request)

    def token(self, request):
        self.signed_in.append(request)
        if self.refusals:
            return self.refusals.pop(0)
        self.valid = f"token-{len(self.signed_in)}"
        return httpx.Response(200, json={"access_token": self.valid, "expires_in": self.expires_in})

    def resource(self, request):
        self.sent.append(request.headers["Authorization"])
        token = self.sent[-1].partition(" ")[2]
        return httpx.Response(200 if token == self.valid else 401)

    def refused(self, error, **headers):
        date = {"Date": formatdate(self.now + self.ahead, usegmt=True)}
        return httpx.Response(400, json={"error": error}, headers={**date, **headers})

    def client(self):
        self.times = []

        def token_request(now):
            self.times.append(now)
            return httpx.Request("POST", URL)

        flow = auth.Token(token_request, lambda _: "check the secret", clock=lambda: self.now)
        transport = httpx.MockTransport(self)
        return httpx.Client(transport=transport, auth=flow, base_url="https://vendor.example")


def test_one_token_serves_many_requests():
    vendor = Vendor()
    with vendor.client() as client:
        assert [client.get("/logs").status_code for _ in range(5)] == [200] * 5
    assert vendor.sent == ["Bearer token-1"] * 5


@pytest.mark.parametrize(("life", "margin"), [(3600, 300), (100, 50)])
def test_a_token_is_renewed_before_it_expires(life, margin):
    vendor = Vendor(expires_in=life)
    with vendor.client() as client:
        client.get("/logs")
        vendor.now += life - margin - 1
        client.get("/logs")
        vendor.now += 1
        client.get("/logs")
    assert vendor.sent == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


def test_a_revoked_token_is_replaced_within_the_same_request():
    vendor = Vendor()
    with vendor.client() as client:
        client.get("/logs")
        vendor.valid = None
        assert client.get("/logs").status_code == 200
    assert vendor.sent == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


def test_a_second_401_is_returned_instead_of_signing_in_for_ever():
    vendor = Vendor()
    vendor.resource = lambda _: httpx.Response(401)
    with vendor.client() as client:
        assert client.get("/logs").status_code == 401
    assert len(vendor.signed_in) == 2


def test_threads_that_start_at_once_sign_in_once():
    vendor, together = Vendor(), threading.Barrier(8)

    def fetch(client):
        together.wait()
        return client.get("/logs").status_code

    with vendor.client() as client, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(fetch, [client] * 8)) == [200] * 8
    assert len(vendor.signed_in) == 1


def test_a_refused_sign_in_gives_advice_and_keeps_the_response_out_of_the_message():
    vendor = Vendor()
    vendor.refusals = [httpx.Response(403, text="s3cret body")]
    with vendor.client() as client, pytest.raises(Refused) as error:
        client.get("/logs")
    assert str(error.value) == ("sign-in at vendor.example/token answered 403: check the secret")
    assert (error.value.status, error.value.body) == (403, b"s3cret body")
    assert vendor.sent == []


@pytest.mark.parametrize("ahead", [-86_400.0, 3600.0])
def test_the_servers_clock_is_adopted_where_ours_is_wrong(ahead):
    vendor = Vendor(ahead=ahead)
    vendor.refusals = [vendor.refused("invalid_client")]
    with vendor.client() as client:
        assert client.get("/logs").status_code == 200
    assert vendor.times == [NOW, NOW + ahead]


def test_a_server_that_always_refuses_receives_four_requests_at_most():
    vendor = Vendor()
    vendor.refusals = [vendor.refused("use_dpop_nonce", **{"DPoP-Nonce": str(n)}) for n in range(9)]
    with vendor.client() as client, pytest.raises(Refused):
        client.get("/logs")
    assert len(vendor.signed_in) == 4


def test_proofs_of_possession_are_bound_to_method_address_nonce_and_token():
    vendor = Vendor()
    vendor.refusals = [
        vendor.refused("invalid_dpop_proof"),
        vendor.refused("use_dpop_nonce", **{"DPoP-Nonce": "n-1"}),
    ]
    proofs = []
    vendor.resource = lambda request: proofs.append(request.headers["DPoP"]) or httpx.Response(200)
    with vendor.client() as client:
        client.get("/logs", params={"after": "7"})
        client.get("/logs")
    first, second, third = vendor.signed_in
    assert "DPoP" not in first.headers
    assert "nonce" not in claims(second.headers["DPoP"])
    assert claims(third.headers["DPoP"])["nonce"] == "n-1"
    used = [claims(proof) for proof in proofs]
    assert {(each["htm"], each["htu"]) for each in used} == {("GET", "https://vendor.example/logs")}
    assert all("ath" in each and "nonce" not in each for each in used)
    assert used[0]["jti"] != used[1]["jti"], "a proof is valid once"


def claims(proof):
    """Return the claims of a proof, whose signature must match the key in its header."""
    header = jwt.get_unverified_header(proof)
    assert "d" not in header["jwk"], "the private part stays here"
    return jwt.decode(
        proof, jwt.PyJWK(header["jwk"], algorithm="RS256").key, ["RS256"],
        options={"verify_iat": False},
    )  # fmt: skip


def test_a_fixed_header_has_a_scheme_or_none():
    for scheme, expected in (("SSWS", "SSWS s3cret"), ("", "s3cret")):
        flow = auth.Header("Authorization", scheme, SecretStr("s3cret"))
        (request,) = flow.auth_flow(httpx.Request("GET", "https://vendor.example"))
        assert request.headers["Authorization"] == expected


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (httpx.Response(400, json={"error": "invalid_scope"}), "invalid_scope"),
        (httpx.Response(400, json={}), ""),
        (httpx.Response(400, json=["error"]), ""),
        (httpx.Response(502, text="<html>"), ""),
    ],
)
def test_the_error_of_any_body_is_text(response, error):
    assert auth.oauth_error(response) == error


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def pem(key, encryption=None):
    encryption = encryption or NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (pem(RSA), RSA),
        (f"\n  {pem(EC)}\n", EC),
        (json.dumps(jwt.algorithms.RSAAlgorithm.to_jwk(RSA, as_dict=True)), RSA),
        (json.dumps(jwt.algorithms.ECAlgorithm.to_jwk(EC, as_dict=True)), EC),
    ],
    ids=["RSA PEM", "EC PEM", "RSA JWK", "EC JWK"],
)
def test_a_private_key_is_read_from_pem_and_jwk(text, key):
    found = auth.private_key(SecretStr(text), "okta: private_key")
    assert found.private_numbers() == key.private_numbers()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "{not json",
        pem(RSA)[:200],
        pem(RSA, BestAvailableEncryption(b"password")),
        pem(ed25519.Ed25519PrivateKey.generate()),
        RSA.public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode(),
        json.dumps(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True)),
        '{"kty": "oct", "k": "c2VjcmV0"}',
    ],
    ids=["empty", "no JWK", "no JSON", "cut", "encrypted", "Ed25519", "public PEM", "public JWK",
         "symmetric"],
)  # fmt: skip
def test_any_other_key_is_refused_without_being_shown(text):
    with pytest.raises(ConfigurationError, match="not a valid key") as error:
        auth.private_key(SecretStr(text), "okta: private_key")
    advice = "give an unencrypted RSA or EC private key as PEM or JWK"
    assert str(error.value) == f"okta: private_key: not a valid key: {advice}"
    assert error.value.__suppress_context__ or error.value.__context__ is None


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (RSA, "RS256"),
        (EC, "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ec.generate_private_key(ec.SECP521R1()), "ES512"),
    ],
)
def test_an_assertion_is_signed_by_its_key_short_lived_and_used_once(key, algorithm):
    first, second = (auth.assertion(key, {"iss": "me"}, now=NOW) for _ in range(2))
    assert jwt.get_unverified_header(first)["alg"] == algorithm
    options = {"verify_exp": False, "verify_iat": False}
    found = jwt.decode(first, key.public_key(), [algorithm], options=options)
    assert (found["iss"], found["iat"], found["exp"]) == ("me", int(NOW), int(NOW) + 300)
    again = jwt.decode(second, key.public_key(), [algorithm], options=options)
    assert found["jti"] != again["jti"]


@pytest.mark.parametrize(
    ("body", "advice"),
    [
        ({"error": "invalid_client", "error_codes": [7000215]}, "not its ID"),
        ({"error": "invalid_client", "error_codes": [1, 7000222]}, "has expired"),
        ({"error": "unauthorized_client", "error_codes": [1]}, "unauthorized_client"),
        ({"error_codes": "?"}, "check authority_url and tenant_id"),
        ({"error_codes": None}, "check authority_url and tenant_id"),
        ([], "check authority_url and tenant_id"),
    ],
)
def test_microsofts_error_codes_become_advice(body, advice):
    flow = auth.microsoft(
        authority_url="https://login.example",
        tenant_id="tenant",
        client_id="client",
        scope="https://graph.example/.default",
        client_secret=SecretStr("s3cret"),
        certificate=None,
        where="entra_id",
    )
    transport = httpx.MockTransport(lambda _: httpx.Response(401, json=body))
    with httpx.Client(transport=transport, auth=flow) as client, pytest.raises(Refused) as error:
        client.get("https://graph.example/v1.0/auditLogs")
    assert advice in str(error.value)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "answer",
    [
        {"json": {}},
        {"json": []},
        {"json": {"access_token": None}},
        {"json": {"access_token": 5}},
        {"json": {"access_token": "", "expires_in": 3600}},
        {"json": {"access_token": "a\r\nX-Forged: b"}},
        {"json": {"error": {"message": "out of order"}}},
        {"content": b"{" * 9000},
        {"content": b""},
        {"content": b"\xff"},
    ],
    ids=str,
)
def test_an_answer_without_a_token_is_an_error_that_the_next_request_recovers_from(answer):
    vendor = Vendor()
    vendor.refusals = [httpx.Response(200, **answer)]
    with vendor.client() as client:
        with pytest.raises(Unavailable, match="answered 200 without an access token"):
            client.get("/logs")
        assert client.get("/logs").status_code == 200


@pytest.mark.parametrize("status", [200, 403])
def test_a_page_in_the_place_of_a_token_is_named(status):
    vendor = Vendor()
    vendor.refusals = [httpx.Response(status, html="<title>Wi-Fi</title>")]
    with vendor.client() as client, pytest.raises(Unavailable, match=r"a web page \(Wi-Fi\)"):
        client.get("/logs")


@pytest.mark.parametrize("life", [None, "soon", "3600", -1, float("nan"), float("inf"), []])
def test_a_strange_lifetime_counts_as_an_hour(life):
    vendor = Vendor()
    vendor.refusals = [
        httpx.Response(200, content=json.dumps({"access_token": "t", "expires_in": life}))
    ]
    vendor.valid = "t"
    with vendor.client() as client:
        client.get("/logs")
        vendor.now += 3200
        client.get("/logs")
        assert len(vendor.signed_in) == 1
        vendor.now += 200
        client.get("/logs")
    assert len(vendor.signed_in) == 2


def test_the_services_own_error_is_shown_without_the_secret():
    vendor = Vendor()
    body = {"error": "invalid_client", "error_description": "AADSTS7000215: Bearer s3cret is wrong"}
    vendor.refusals = [httpx.Response(401, json=body)]
    with vendor.client() as client, pytest.raises(SignInRefused) as error:
        client.get("/logs")
    assert "check the secret" in str(error.value)
    assert "AADSTS7000215: Bearer *** is wrong" in str(error.value)
