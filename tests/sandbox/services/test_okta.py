"""Okta's System Log over real sockets: pages, cursors, limits and sign-in."""

from __future__ import annotations

import hashlib
import json
import secrets
from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sandbox import server, tokens
from sandbox.server import Options, Running
from sandbox.services import okta
from tests.sandbox.okta_reader import (
    LOGS,
    SINCE,
    assertion,
    everything,
    hashes,
    iso,
    ledger,
    okta_client,
    published,
    read_with,
    request_token,
    walk,
)
from tests.sandbox.setups import ANCHOR, SMALL, Clock


@pytest.mark.parametrize("limit", [1000, 97])
def test_polling_returns_every_record_once_in_order_of_arrival(box: Running, limit: int) -> None:
    with okta_client(box) as client:
        records = everything(client, since=SINCE, limit=limit)
    assert hashes(records) == [entry.sha256 for entry in ledger(box)]
    assert len(records) > 1000


def test_an_empty_page_of_a_polling_query_repeats_its_cursor(box: Running) -> None:
    with okta_client(box) as client:
        first = client.get(LOGS, params={"since": iso(ANCHOR), "limit": 5})
        second = client.get(first.links["next"]["url"])
    assert first.json() == second.json() == []
    assert first.links["next"]["url"] == second.links["next"]["url"]


def test_links_are_two_headers_with_next_last_and_keep_prefix_and_host(box: Running) -> None:
    with okta_client(box) as client:
        response = client.get(LOGS, params={"since": SINCE, "limit": 2, "q": "login"})
    own_url, following = response.headers.get_list("link")
    assert own_url == f'<{response.url}>; rel="self"'
    assert following.endswith('>; rel="next"')
    target = httpx.URL(response.links["next"]["url"])
    assert str(target).startswith(f"{box.base_url}/okta/api/v1/logs?")
    assert set(target.params) == {"limit", "q", "after"}
    assert target.params["after"].replace("_", "").isdigit()


def test_a_polling_cursor_survives_a_restart_and_returns_new_records(
    own: Running, clock: Clock
) -> None:
    with okta_client(own) as client:
        response = client.get(LOGS, params={"since": SINCE, "limit": 1000})
        while response.json():
            response = client.get(response.links["next"]["url"])
        place = httpx.URL(response.links["next"]["url"]).params["after"]
    with server.running(SMALL, clock) as again, okta_client(again) as client:
        assert client.get(LOGS, params={"after": place}).json() == []
        clock.pass_by(seconds=1)
        again.sandbox.append("okta", "system_log", [b'{"uuid": "late",  "published": null}'])
        response = client.get(LOGS, params={"after": place})
        assert response.content == b'[{"uuid": "late",  "published": null}]'


@pytest.mark.parametrize("order", ["ASCENDING", "DESCENDING"])
def test_a_bounded_query_returns_each_record_once_in_order_of_time(
    box: Running, order: str
) -> None:
    with okta_client(box) as client:
        params = {"since": SINCE, "until": iso(ANCHOR), "sortOrder": order, "limit": 211}
        records = everything(client, **params)
    expected = [entry.sha256 for entry in ledger(box)]
    times = published(records)
    assert sorted(hashes(records)) == sorted(expected)
    assert times == sorted(times, reverse=order == "DESCENDING")


def test_a_descending_query_is_not_disturbed_by_new_records(own: Running) -> None:
    before = len(ledger(own))
    with okta_client(own) as client:
        pages = walk(client, since=SINCE, sortOrder="DESCENDING", limit=400)
        seen = next(pages)
        early = iso(ANCHOR - timedelta(days=15))
        raw = json.dumps({"uuid": "in the middle", "published": early}).encode()
        own.sandbox.append("okta", "system_log", [raw])
        seen += [record for page in pages for record in page]
    assert len(seen) == len(set(hashes(seen))) == before + 1
    assert raw in seen


def test_the_last_page_of_a_bounded_query_has_no_next_link(box: Running) -> None:
    with okta_client(box) as client:
        params = {"since": SINCE, "until": iso(ANCHOR), "limit": 10, "filter": 'eventType eq "x"'}
        response = client.get(LOGS, params=params)
    assert response.json() == []
    assert "next" not in response.links


def test_records_older_than_the_retention_are_hidden() -> None:
    options = Options(seed=7, days=100, per_day=20, rate=0, anchor=ANCHOR)
    with server.running(options, Clock()) as box, okta_client(box) as client:
        since = iso(ANCHOR - timedelta(days=170))
        polled = everything(client, since=since, limit=1000)
        bounded = everything(client, since=since, until=iso(ANCHOR), limit=1000)
        everywhere = len(ledger(box))
    oldest = iso(ANCHOR - timedelta(days=90))
    assert min(published(bounded)) >= oldest
    assert len(bounded) <= len(polled) < everywhere


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"until": "yesterday"}, "E0000001"),
        ({"since": "2026-13-01T00:00:00Z"}, "E0000001"),
        ({"limit": "1001"}, "E0000001"),
        ({"limit": "-1"}, "E0000001"),
        ({"sortOrder": "UPWARD"}, "E0000001"),
        ({"after": "made-up"}, "E0000001"),
        ({"after": "made-up", "sortOrder": "DESCENDING"}, "E0000001"),
        ({"q": " ".join("abcdefghijk")}, "E0000001"),
        ({"since": iso(ANCHOR - timedelta(days=181))}, "E0000053"),
        ({"filter": 'eventType eqq "a"'}, "E0000053"),
        ({"filter": 'published gt "2026-01-01"'}, "E0000053"),
        ({"filter": 'debugContext.debugData.url co "a"'}, "E0000031"),
    ],
)
def test_an_invalid_query_gets_oktas_error(box: Running, params: dict[str, str], code: str) -> None:
    with okta_client(box) as client:
        response = client.get(LOGS, params=params)
    assert response.status_code == 400
    assert response.json()["errorCode"] == code
    assert response.headers["X-Okta-Request-Id"]


def test_a_request_without_valid_credentials_is_refused(box: Running) -> None:
    for header in ({}, {"Authorization": "SSWS wrong"}, {"Authorization": f"Bearer {'x' * 9}"}):
        response = httpx.get(f"{box.base_url}/okta{LOGS}", headers=header)
        assert response.status_code == 401
        assert response.json()["errorCode"] == "E0000011"


def test_unknown_paths_and_methods_have_oktas_error_codes(box: Running) -> None:
    with okta_client(box) as client:
        missing, wrong = client.get("/api/v1/nothing"), client.post(LOGS)
    assert (missing.status_code, missing.json()["errorCode"]) == (404, "E0000008")
    assert (wrong.status_code, wrong.json()["errorCode"]) == (405, "E0000022")


def test_rate_limits_count_per_minute_and_return_their_reset(clock: Clock) -> None:
    options = Options(seed=7, days=1, per_day=10, rate=0, anchor=ANCHOR, limits=True)
    with server.running(options, clock) as box, okta_client(box) as client:
        left = [client.get(LOGS).headers["X-Rate-Limit-Remaining"] for _ in range(60)]
        refused = client.get(LOGS)
        clock.pass_by(seconds=60)
        welcome = client.get(LOGS)
    assert left == [str(number) for number in range(59, -1, -1)]
    assert (refused.status_code, refused.json()["errorCode"]) == (429, "E0000047")
    assert refused.headers["X-Rate-Limit-Reset"] == str(int(clock.now.timestamp()))
    assert refused.headers["Date"] == "Wed, 18 Nov 2026 15:00:00 GMT"
    assert welcome.status_code == 200


def test_a_signed_assertion_returns_a_token_valid_for_an_hour(own: Running, clock: Clock) -> None:
    answer = request_token(own, assertion(own))
    assert answer.status_code == 200
    assert answer.json().keys() == {"token_type", "expires_in", "access_token", "scope"}
    bearer = f"Bearer {answer.json()['access_token']}"
    assert read_with(own, bearer).status_code == 200
    clock.pass_by(minutes=60)
    assert read_with(own, bearer).status_code == 401


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://elsewhere.example/oauth2/v1/token"},
        {"exp": int(ANCHOR.timestamp()) - 1},
        {"exp": int(ANCHOR.timestamp()) + 3700},
        {"exp": None},
        {"iss": "0oasomebodyelse"},
        {"sub": "0oasomebodyelse"},
        {"kid": "another"},
        {"key": rsa.generate_private_key(public_exponent=65537, key_size=2048)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_defective_assertion_is_refused(box: Running, changes: dict[str, Any]) -> None:
    answer = request_token(box, assertion(box, **changes))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_an_assertion_is_valid_once(box: Running) -> None:
    signed = assertion(box)
    assert request_token(box, signed).status_code == 200
    assert request_token(box, signed).json() == {
        "error": "invalid_client",
        "error_description": "The client_assertion token has already been used.",
    }


def test_scopes_are_enforced(box: Running) -> None:
    unknown = request_token(box, assertion(box), scope="okta.everything")
    assert (unknown.status_code, unknown.json()["error"]) == (400, "invalid_scope")
    other = request_token(box, assertion(box), scope="okta.users.read").json()["access_token"]
    assert read_with(box, f"Bearer {other}").status_code == 403


def proof(key: ec.EllipticCurvePrivateKey, method: str, url: str, **claims: Any) -> str:
    public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    payload = {
        "htm": method,
        "htu": url,
        "iat": int(ANCHOR.timestamp()),
        "jti": secrets.token_hex(8),
        **claims,
    }
    return jwt.encode(payload, key, algorithm="ES256", headers={"typ": "dpop+jwt", "jwk": public})


def test_dpop_requires_a_nonce_and_binds_the_token_to_its_key(box: Running) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    url = f"{box.base_url}/okta/oauth2/v1/token"
    bare = request_token(box, assertion(box, okta.DPOP_CLIENT_ID))
    assert bare.json()["error"] == "invalid_dpop_proof"
    signed = assertion(box, okta.DPOP_CLIENT_ID)
    first = request_token(box, signed, DPoP=proof(key, "POST", url))
    assert (first.status_code, first.json()["error"]) == (400, "use_dpop_nonce")
    nonce = first.headers["dpop-nonce"]
    answer = request_token(box, signed, DPoP=proof(key, "POST", url, nonce=nonce))
    assert answer.json()["token_type"] == "DPoP"

    token = answer.json()["access_token"]
    bound = {"ath": tokens.base64url(hashlib.sha256(token.encode()).digest())}
    logs, other = f"{box.base_url}/okta{LOGS}", ec.generate_private_key(ec.SECP256R1())
    good = proof(key, "GET", logs, **bound)
    assert read_with(box, f"DPoP {token}", DPoP=good).status_code == 200
    for wrong in (
        good,
        proof(other, "GET", logs, **bound),
        proof(key, "POST", logs, **bound),
        proof(key, "GET", url, **bound),
        proof(key, "GET", logs),
        "nonsense",
    ):
        assert read_with(box, f"DPoP {token}", DPoP=wrong).status_code == 401
    assert read_with(box, f"Bearer {token}").status_code == 401
