"""The simulated services over real sockets: the behaviour readers rely on, and faults."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import replay, scim, server, service, tokens
from sandbox.faults import Fault
from sandbox.server import Entry, Options, Running
from sandbox.services import cloudflare, okta

ANCHOR = datetime(2026, 11, 18, 15, 0, tzinfo=UTC)
SMALL = Options(seed=7, days=20, per_day=60, rate=0, anchor=ANCHOR)
LOGS = "/api/v1/logs"


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime = ANCHOR

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **span: float) -> None:
        self.now += timedelta(**span)


@pytest.fixture(scope="module")
def box() -> Iterator[Running]:
    """For tests that change nothing."""
    with server.running(SMALL, Clock()) as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def own(clock: Clock) -> Iterator[Running]:
    """For tests that change something."""
    with server.running(SMALL, clock) as running:
        yield running


def signed_in(box: Running) -> httpx.Client:
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


def ledger(box: Running) -> list[Entry]:
    return box.sandbox.ledger("okta", "system_log")


def iso(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def published(records: list[bytes]) -> list[str]:
    return [msgspec.json.decode(record)["published"] for record in records]


SINCE = iso(ANCHOR - timedelta(days=30))


@pytest.mark.parametrize("limit", [1000, 97])
def test_polling_returns_every_record_once_in_order_of_arrival(box: Running, limit: int) -> None:
    with signed_in(box) as client:
        records = everything(client, since=SINCE, limit=limit)
    assert hashes(records) == [entry.sha256 for entry in ledger(box)]
    assert len(records) > 1000


def test_an_empty_page_of_a_polling_query_repeats_its_cursor(box: Running) -> None:
    with signed_in(box) as client:
        first = client.get(LOGS, params={"since": iso(ANCHOR), "limit": 5})
        second = client.get(first.links["next"]["url"])
    assert first.json() == second.json() == []
    assert first.links["next"]["url"] == second.links["next"]["url"]


def test_links_are_two_headers_with_next_last_and_keep_prefix_and_host(box: Running) -> None:
    with signed_in(box) as client:
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
    with signed_in(own) as client:
        response = client.get(LOGS, params={"since": SINCE, "limit": 1000})
        while response.json():
            response = client.get(response.links["next"]["url"])
        place = httpx.URL(response.links["next"]["url"]).params["after"]
    with server.running(SMALL, clock) as again, signed_in(again) as client:
        assert client.get(LOGS, params={"after": place}).json() == []
        clock.pass_by(seconds=1)
        again.sandbox.append("okta", "system_log", [b'{"uuid": "late",  "published": null}'])
        response = client.get(LOGS, params={"after": place})
        assert response.content == b'[{"uuid": "late",  "published": null}]'


@pytest.mark.parametrize("order", ["ASCENDING", "DESCENDING"])
def test_a_bounded_query_returns_each_record_once_in_order_of_time(
    box: Running, order: str
) -> None:
    with signed_in(box) as client:
        params = {"since": SINCE, "until": iso(ANCHOR), "sortOrder": order, "limit": 211}
        records = everything(client, **params)
    expected = [entry.sha256 for entry in ledger(box)]
    times = published(records)
    assert sorted(hashes(records)) == sorted(expected)
    assert times == sorted(times, reverse=order == "DESCENDING")


def test_a_descending_query_is_not_disturbed_by_new_records(own: Running) -> None:
    before = len(ledger(own))
    with signed_in(own) as client:
        pages = walk(client, since=SINCE, sortOrder="DESCENDING", limit=400)
        seen = next(pages)
        early = iso(ANCHOR - timedelta(days=15))
        raw = json.dumps({"uuid": "in the middle", "published": early}).encode()
        own.sandbox.append("okta", "system_log", [raw])
        seen += [record for page in pages for record in page]
    assert len(seen) == len(set(hashes(seen))) == before + 1
    assert raw in seen


def test_the_last_page_of_a_bounded_query_has_no_next_link(box: Running) -> None:
    with signed_in(box) as client:
        params = {"since": SINCE, "until": iso(ANCHOR), "limit": 10, "filter": 'eventType eq "x"'}
        response = client.get(LOGS, params=params)
    assert response.json() == []
    assert "next" not in response.links


def test_the_same_options_give_the_same_bytes_and_another_seed_does_not(box: Running) -> None:
    assert ledger(box) == server.Sandbox(SMALL, Clock()).ledger("okta", "system_log")
    other = server.Sandbox(Options(seed=8, days=20, per_day=60, anchor=ANCHOR), Clock())
    mine = {entry.sha256 for entry in ledger(box)}
    assert not mine & {entry.sha256 for entry in other.ledger("okta", "system_log")}


def test_live_records_do_not_depend_on_when_they_are_read() -> None:
    options = Options(seed=7, days=1, per_day=10, rate=2, anchor=ANCHOR)
    often, once = Clock(), Clock()
    watched, unwatched = server.Sandbox(options, often), server.Sandbox(options, once)
    for _ in range(40):
        often.pass_by(seconds=15)
        watched.log("okta", "system_log").visible()
    once.pass_by(seconds=600)
    found = unwatched.ledger("okta", "system_log")
    assert watched.ledger("okta", "system_log") == found
    live = [entry for entry in found if entry.time >= ANCHOR.isoformat()]
    # The stream gets its share of the rate, and records of the last seconds have yet to arrive.
    assert 0 < len(live) <= 1250


def test_late_records_arrive_after_newer_ones_and_none_before_its_event() -> None:
    clock = Clock()
    box = server.Sandbox(Options(seed=3, days=30, per_day=400, rate=0, anchor=ANCHOR), clock)
    log = box.log("okta", "system_log")
    waits = [record.arrival - record.time for record in log.visible()]
    late = [wait for wait in waits if wait > 60_000_000]
    assert min(waits) > 0
    assert 0 < len(late) < len(waits) / 50
    assert max(waits) < 3_600_000_000
    times = [record.time for record in log.visible()]
    assert times != sorted(times)
    assert [r.arrival for r in log.visible()] == sorted(r.arrival for r in log.visible())


def test_a_record_is_not_visible_before_it_arrives() -> None:
    clock = Clock(ANCHOR - timedelta(days=1))
    log = server.Sandbox(SMALL, clock).log("okta", "system_log")
    before = len(log.visible())
    clock.pass_by(days=1)
    after = log.visible()
    assert before < len(after)
    assert all(r.arrival <= service.micros(ANCHOR - timedelta(days=1)) for r in after[:before])
    assert all(r.arrival > service.micros(ANCHOR - timedelta(days=1)) for r in after[before:])


def test_records_older_than_the_retention_are_hidden() -> None:
    options = Options(seed=7, days=100, per_day=20, rate=0, anchor=ANCHOR)
    with server.running(options, Clock()) as box, signed_in(box) as client:
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
    with signed_in(box) as client:
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
    with signed_in(box) as client:
        missing, wrong = client.get("/api/v1/nothing"), client.post(LOGS)
    assert (missing.status_code, missing.json()["errorCode"]) == (404, "E0000008")
    assert (wrong.status_code, wrong.json()["errorCode"]) == (405, "E0000022")


def test_filter_and_keywords_select_records(box: Running) -> None:
    with signed_in(box) as client:
        query = 'eventType eq "user.session.start" and outcome.result eq "FAILURE"'
        records = everything(client, since=SINCE, filter=query, limit=50)
        words = everything(client, since=SINCE, q="panama INVALID_CREDENTIALS", limit=1000)
    found = [msgspec.json.decode(record) for record in records]
    assert len(found) > 180
    assert {(r["eventType"], r["outcome"]["result"]) for r in found} == {
        ("user.session.start", "FAILURE")
    }
    assert len(words) == 180


def test_rate_limits_count_per_minute_and_return_their_reset(clock: Clock) -> None:
    options = Options(seed=7, days=1, per_day=10, rate=0, anchor=ANCHOR, limits=True)
    with server.running(options, clock) as box, signed_in(box) as client:
        left = [client.get(LOGS).headers["X-Rate-Limit-Remaining"] for _ in range(60)]
        refused = client.get(LOGS)
        clock.pass_by(seconds=60)
        welcome = client.get(LOGS)
    assert left == [str(number) for number in range(59, -1, -1)]
    assert (refused.status_code, refused.json()["errorCode"]) == (429, "E0000047")
    assert refused.headers["X-Rate-Limit-Reset"] == str(int(clock.now.timestamp()))
    assert refused.headers["Date"] == "Wed, 18 Nov 2026 15:00:00 GMT"
    assert welcome.status_code == 200


# Signing in as a service app.


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


# Ledger, appended records, injected faults.


def test_the_ledger_is_served_as_one_line_per_record(box: Running) -> None:
    answer = httpx.get(f"{box.base_url}/_sandbox/ledger/okta/system_log")
    lines = [msgspec.json.decode(line, type=Entry) for line in answer.content.splitlines()]
    assert lines == ledger(box)
    assert len({entry.id for entry in lines}) == len(lines)
    assert httpx.get(f"{box.base_url}/_sandbox/ledger/okta/nothing").status_code == 404


def test_records_are_appended_verbatim(own: Running) -> None:
    lines = b'{"uuid":"a", "odd" : [1,2 ]}\n\n{"uuid":"b"}\n'
    url = f"{own.base_url}/_sandbox/records/okta/system_log"
    answer = httpx.post(url, content=lines, params={"time": "2026-11-17T00:00:00Z"})
    assert answer.json() == {"appended": 2}
    first, second = ledger(own)[-2:]
    assert (first.id, second.id) == ("a", "b")
    assert first.sha256 == hashlib.sha256(b'{"uuid":"a", "odd" : [1,2 ]}').hexdigest()
    assert first.time == "2026-11-17T00:00:00+00:00"
    assert first.arrival == ANCHOR.isoformat()


def order(box: Running, *faults: dict[str, Any]) -> None:
    body = [{"kind": "okta", **fault} for fault in faults]
    assert httpx.post(f"{box.base_url}/_sandbox/faults", json=body).status_code == 204


def test_a_status_fault_is_the_vendors_error_at_the_given_requests(own: Running) -> None:
    with signed_in(own) as client:
        client.get(LOGS)
        order(own, {"fault": "status", "at": [1, 2], "status": 429, "retry_after": 7})
        answers = [client.get(LOGS) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 429, 429, 200]
    assert answers[1].headers["X-Rate-Limit-Reset"] == str(int(ANCHOR.timestamp()) + 7)
    assert answers[1].json()["errorCode"] == "E0000047"


def test_a_fault_may_be_limited_by_count_and_path_and_removed(own: Running) -> None:
    with signed_in(own) as client:
        order(own, {"fault": "status", "every": True, "count": 2, "path": LOGS})
        assert client.get("/elsewhere").status_code == 404
        assert [client.get(LOGS).status_code for _ in range(3)] == [503, 503, 200]
        order(own, {"fault": "status", "every": True})
        assert client.get(LOGS).status_code == 503
        httpx.delete(f"{own.base_url}/_sandbox/faults")
        assert client.get(LOGS).status_code == 200


def test_a_connection_is_reset_in_mid_body(own: Running) -> None:
    order(own, {"fault": "reset", "at": [0]})
    with signed_in(own) as client:
        with pytest.raises(httpx.ReadError):
            client.get(LOGS, params={"since": SINCE, "limit": 1000})
        assert client.get(LOGS).status_code == 200


def test_a_body_may_be_shorter_than_its_content_length(own: Running) -> None:
    order(own, {"fault": "truncate", "at": [0]})
    with signed_in(own) as client:
        with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):
            client.get(LOGS, params={"since": SINCE, "limit": 1000})
        assert client.get(LOGS).status_code == 200


def test_json_may_end_in_the_middle_with_a_matching_length(own: Running) -> None:
    order(own, {"fault": "garbage", "at": [0]})
    with signed_in(own) as client:
        answer = client.get(LOGS, params={"since": SINCE, "limit": 3})
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_a_response_may_be_slow(own: Running) -> None:
    order(own, {"fault": "slow", "at": [0], "seconds": 0.5})
    with signed_in(own) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.get(LOGS, timeout=0.1)
        assert client.get(LOGS).status_code == 200


def test_tokens_may_expire_early(own: Running) -> None:
    bearer = f"Bearer {request_token(own, assertion(own)).json()['access_token']}"
    assert read_with(own, bearer).status_code == 200
    order(own, {"fault": "expire_token", "at": [0]})
    assert read_with(own, bearer).status_code == 401


def test_an_unknown_fault_or_kind_is_refused(own: Running) -> None:
    url = f"{own.base_url}/_sandbox/faults"
    assert httpx.post(url, json=[{"kind": "okta", "fault": "flood"}]).status_code == 400
    assert httpx.post(url, json=[{"kind": "nobody", "fault": "reset"}]).status_code == 400
    own.sandbox.order([Fault(kind="okta", fault="reset", count=0)])


def test_requests_are_recorded_without_credentials(own: Running) -> None:
    order(own, {"fault": "garbage", "at": [1]})
    with signed_in(own) as client:
        client.get(LOGS, params={"q": "secret"})
        client.get(LOGS)
    answer = httpx.get(f"{own.base_url}/_sandbox/requests/okta")
    assert answer.json() == {
        "count": 2,
        "requests": [
            {"method": "GET", "path": "/okta/api/v1/logs", "status": 200, "fault": None},
            {"method": "GET", "path": "/okta/api/v1/logs", "status": 200, "fault": "garbage"},
        ],
    }


# Contents of the events.


def test_the_history_is_rich_quiet_at_weekends_and_in_oktas_shape(box: Running) -> None:
    records = [record.raw for record in box.sandbox.log("okta", "system_log").visible()]
    events = [msgspec.json.decode(record) for record in records]
    assert len({event["eventType"] for event in events}) >= 40
    usual = [event["published"] for event in events if "POSITIVE" not in str(event)]
    days = Counter(datetime.fromisoformat(time).weekday() for time in usual)
    assert max(days[5], days[6]) < min(days[day] for day in range(5)) / 2
    jobs = [event for event in events if event["transaction"]["type"] == "JOB"]
    assert jobs
    assert not any(value for event in jobs for value in event["client"].values())
    assert {event["version"] for event in events} == {"0"}
    assert all(len(event) == 17 for event in events)


def test_the_takeover_can_be_followed_from_stuffing_to_export(box: Running) -> None:
    records = [record.raw for record in box.sandbox.log("okta", "system_log").visible()]
    events = [msgspec.json.decode(raw) for raw in records if b'"Panama"' in raw]
    abroad = [e for e in events if e["client"]["ipAddress"].startswith("203.0.113.")]
    opened = [e for e in abroad if e["outcome"]["result"] == "SUCCESS"]
    assert len({e["actor"]["alternateId"] for e in abroad}) > 40
    victims = {e["actor"]["alternateId"] for e in opened}
    assert len(victims) == 1
    types = [e["eventType"] for e in sorted(opened, key=lambda e: e["published"])]
    assert types[:4] == [
        "user.session.start",
        "user.mfa.factor.reset_all",
        "user.mfa.factor.activate",
        "user.authentication.sso",
    ]
    assert types[-2:] == ["analytics.reports.export.download", "system.api_token.create"]


def test_every_service_has_settings_that_connect_auditlake_to_it() -> None:
    found = server.settings("http://127.0.0.1:8700")
    assert found.keys() == server.services().keys()
    for kind, keys in found.items():
        assert keys["base_url"].startswith(f"http://127.0.0.1:8700/{kind}")


# Replay of recorded records.


def recording(folder: Path, *records: dict[str, Any] | bytes) -> Options:
    lines = [
        record if isinstance(record, bytes) else json.dumps(record).encode() for record in records
    ]
    folder.joinpath("okta.ndjson").write_bytes(b"\n".join(lines))
    return Options(anchor=ANCHOR, events=folder)


def test_recorded_records_are_moved_to_the_present_and_nothing_else_changes(tmp_path: Path) -> None:
    old = (
        b'{ "published":"2020-02-14T20:18:57.718Z","uuid" : "a", "note":"2020-02-14T20:18:57.718Z"}'
    )
    envelope = b'{"kind":"okta","stream":"system_log","raw":%s,"expected":1}' % old
    newer = {"uuid": "b", "published": "2020-02-14T21:18:57.718Z"}
    options = recording(tmp_path, envelope, newer, b"", {"uuid": "timeless"})
    with server.running(options, Clock()) as box, signed_in(box) as client:
        first, second, third = everything(client, since=SINCE)
    new = b'"published":"2026-11-18T13:59:58.718Z"'
    assert first == old.replace(b'"published":"2020-02-14T20:18:57.718Z"', new)
    assert published([second]) == ["2026-11-18T14:59:58.718Z"]
    assert third == b'{"uuid": "timeless"}'


def test_a_recording_of_years_is_compressed_into_the_retention(tmp_path: Path) -> None:
    start = datetime(2019, 3, 1, tzinfo=UTC)
    times = [start + timedelta(days=40 * number) for number in range(20)]
    options = recording(
        tmp_path, *({"uuid": str(n), "published": iso(time)} for n, time in enumerate(times))
    )
    with server.running(options, Clock()) as box, signed_in(box) as client:
        records = everything(client, since=iso(ANCHOR - timedelta(days=90)))
    assert [msgspec.json.decode(record)["uuid"] for record in records] == [
        str(n) for n in range(20)
    ]
    assert published(records) == sorted(published(records))
    assert min(published(records)) > iso(ANCHOR - timedelta(days=90))


@given(
    st.lists(st.datetimes(datetime(1990, 1, 1), datetime(2050, 1, 1)), min_size=1),  # noqa: DTZ001
    st.sampled_from(["milliseconds", "seconds", "microseconds"]),
    st.sampled_from(["Z", "+00:00", "-05:30", ""]),
)
@settings(max_examples=60, deadline=None)
def test_replay_keeps_order_format_and_every_record_within_reach(
    times: list[datetime], precision: str, zone: str
) -> None:
    stream = okta.SERVICE.streams[0]
    texts = [time.isoformat(timespec=precision) + zone for time in sorted(times)]
    lines = [b'{"published":"%s","n":%d}' % (t.encode(), n) for n, t in enumerate(texts)]
    moved = replay.moved(lines, stream, ANCHOR)
    assert [msgspec.json.decode(record.raw)["n"] for record in moved] == list(range(len(lines)))
    oldest = service.micros(ANCHOR - stream.keeps)
    for record, line in zip(moved, lines, strict=True):
        assert len(record.raw) == len(line)
        assert oldest < record.time < service.micros(ANCHOR)
        assert replay.time_of(msgspec.json.decode(record.raw)["published"]) == record.time


@pytest.mark.parametrize("parts", [1, 10**3, 10**6, 10**9])
def test_a_recorded_push_moves_like_the_same_record_that_was_polled(parts: int) -> None:
    lines = [
        b'{"id":"a","when":"2021-11-30T20:19:48Z"}',
        b'{"ID":"a","When":%d}' % (1638303588 * parts),
    ]
    polled, pushed = replay.moved(lines, cloudflare.SERVICE.streams[0], ANCHOR)
    assert pushed.time == polled.time
    assert msgspec.json.decode(pushed.raw)["When"] == polled.time * parts // 10**6


@pytest.mark.parametrize(
    ("expression", "passes"),
    [
        ('a.b eq "X"', True),
        ('a.b ne "x"', False),
        ('not (a.b eq "x") or list.id sw "se"', True),
        ("list.id pr and a.b pr", True),
        ("nothing pr", False),
        ('a.b co "x" and n gt "2"', True),
        ('a.b eq "y" or a.b eq "x" and n eq "4"', False),
        ("flag eq true", True),
    ],
)
def test_filters_follow_scim(expression: str, passes: bool) -> None:
    record = {"a": {"b": "x"}, "list": [{"id": "first"}, {"id": "second"}], "n": 3, "flag": True}
    predicate, _ = scim.parse(expression)
    assert predicate(record) is passes


@pytest.mark.parametrize(
    "expression", ["", "a", "a eq", 'a eq "b', '(a eq "b"', 'a eq "b")', "a is b"]
)
def test_an_invalid_filter_is_refused(expression: str) -> None:
    with pytest.raises(scim.Malformed):
        scim.parse(expression)
