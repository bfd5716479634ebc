"""The ends of credentials: queried once an hour, kept for `status`, and never an error."""

import json
from datetime import UTC, datetime, timedelta
from functools import partial

import httpx
import pytest

from pipelines import registry
from pipelines.extraction import client, expiry, rate_limit
from pipelines.lake.lease import Lease
from pipelines.sdk.contract import RequestPolicy
from tests.sdk.test_endings import certificate
from tests.webhooks.conftest import source

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SOON, LATE = NOW + timedelta(days=29), NOW + timedelta(days=31)
ENTRA = {"tenant_id": "t", "client_id": "app", "client_secret": "abc-the-secret"}


def connected(respond, chosen):
    return client.connect(
        chosen,
        transport=httpx.MockTransport(respond),
        retry_policy=client.RetryPolicy(attempts=1),
        rate_limiter=rate_limit.RateLimiter(RequestPolicy()),
    )


def due(lake, chosen, respond):
    expiry.refresh(lake, [chosen], NOW, partial(connected, respond))
    return [(each.what, each.at) for each in expiry.due(lake, chosen, NOW)]


def cloudflare(expires, refused=()):
    def respond(request):
        if any(part in request.url.path for part in refused):
            return httpx.Response(401, json={"success": False, "errors": [{"code": 1000}]})
        return httpx.Response(200, json={"success": True, "result": {"expires_on": expires}})

    return respond


def graph(*secrets):
    def respond(request):
        if request.url.path.endswith("/token"):
            return httpx.Response(200, json={"access_token": "t", "expires_in": 3600})
        assert request.url.path == "/v1.0/applications(appId='app')"
        return httpx.Response(200, json={"passwordCredentials": list(secrets)})

    return respond


def keys(*found):
    headers = {"Date": "Sun, 29 Nov 2026 12:00:00 GMT"}
    return lambda _: httpx.Response(200, json={"data": list(found)}, headers=headers)


@pytest.mark.parametrize(
    ("chosen", "respond", "expected"),
    [
        (source("cloudflare"), cloudflare(SOON.isoformat()), ("the API token", SOON)),
        (source("cloudflare"), cloudflare(SOON.isoformat(), ["/user/"]), ("the API token", SOON)),
        (source("cloudflare"), cloudflare(LATE.isoformat()), None),
        (source("cloudflare"), cloudflare(None), None),
        (source("cloudflare"), cloudflare(SOON.isoformat(), ["/"]), None),
        (source("atlassian"), keys({"label": "a", "expiresAt": SOON.isoformat()}),
         ("the API key", SOON)),
        (source("atlassian"), keys({"label": "a", "expiresAt": SOON.isoformat()},
                                   {"label": "b", "expiresAt": "2025-01-01T00:00:00Z"}),
         ("the API key", SOON)),
        (source("atlassian"), keys({"label": "a", "expiresAt": SOON.isoformat()},
                                   {"label": "b", "expiresAt": LATE.isoformat()}), None),
        (source("atlassian", api_key_name="a"),
         keys({"label": "a", "expiresAt": SOON.isoformat()},
              {"label": "b", "expiresAt": LATE.isoformat()}), ("the API key", SOON)),
        (source("atlassian", api_key_name="b"),
         keys({"label": "a", "expiresAt": SOON.isoformat()},
              {"label": "b", "expiresAt": LATE.isoformat()}), None),
        (registry.source("entra_id", ENTRA),
         graph({"hint": "abc", "endDateTime": SOON.isoformat()},
               {"hint": "xyz", "endDateTime": NOW.isoformat()}), ("the client secret", SOON)),
        (registry.source("entra_id", ENTRA),
         graph({"hint": "abc", "endDateTime": SOON.isoformat()},
               {"hint": "abc", "endDateTime": LATE.isoformat()}), None),
    ],
)  # fmt: skip
def test_a_credential_that_a_service_reports_to_end_soon_is_due(lake, chosen, respond, expected):
    assert due(lake, chosen, respond) == ([expected] if expected else [])


@pytest.mark.parametrize("kind", ["atlassian", "cloudflare", "entra_id"])
def test_the_sandbox_reports_ends_as_its_services_do(still_world, kind):
    chosen, now = still_world.source(kind), datetime.now(UTC)
    with client.connect(chosen) as connection:
        expiry.query(still_world.lake, chosen, connection, now)
    assert list(expiry.due(still_world.lake, chosen, now)) == []
    assert len(list(expiry.due(still_world.lake, chosen, now + timedelta(days=280)))) == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(403, json={"message": "Forbidden"}),
        httpx.Response(200, text="<html><title>Sign in</title></html>"),
        httpx.Response(200, json=[1]),
        httpx.Response(200, json={"result": 5, "data": {"a": 1}, "passwordCredentials": [None]}),
        httpx.Response(503),
    ],
)
@pytest.mark.parametrize("kind", ["cloudflare", "atlassian"])
def test_an_odd_answer_means_that_no_end_is_known(lake, kind, answer):
    assert due(lake, source(kind), lambda _: answer) == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://www.googleapis.com/robot/v1/metadata/x509/a", "the service account's key"),
        ("https://elsewhere.example/robot/v1/metadata/x509/a", None),
        (None, None),
    ],
)
def test_the_key_of_a_service_account_ends_with_its_public_certificate(lake, url, expected):
    given = json.loads(source("google_workspace").settings.credentials.get_secret_value())
    key = {**given, "private_key_id": "k", **({"client_x509_cert_url": url} if url else {})}
    chosen = source("google_workspace", credentials=json.dumps(key))

    def respond(request):
        assert (str(request.url), "Authorization" in request.headers) == (url, False)
        return httpx.Response(200, json={"other": "x", "k": certificate(SOON)})

    expected_ends = [(expected, SOON)] if expected else []
    assert due(lake, chosen, respond) == expected_ends


def test_a_service_is_not_queried_while_another_machine_polls_it(lake, monkeypatch):
    answer = cloudflare("2026-12-01T00:00:00Z")
    with monkeypatch.context() as patched:
        patched.setattr(Lease, "claim", lambda _: False)
        assert due(lake, source("cloudflare"), answer) == []
    assert len(due(lake, source("cloudflare"), answer)) == 1


def test_a_service_is_queried_once_an_hour(lake):
    asked = []

    def respond(request):
        asked.append(request.url.path)
        return httpx.Response(200, json={"result": {"expires_on": SOON.isoformat()}})

    connect, chosen = partial(connected, respond), source("cloudflare")
    for minutes in (0, 59, 60, 61, -30):
        expiry.refresh(lake, [chosen], NOW + timedelta(minutes=minutes), connect)
    assert len(asked) == 3  # at first, an hour later, and after the clock was set back


def test_a_renewed_credential_is_due_no_longer(lake):
    chosen = source("cloudflare")
    assert due(lake, chosen, cloudflare(SOON.isoformat()))
    with connected(cloudflare(LATE.isoformat()), chosen) as renewed:
        expiry.query(lake, chosen, renewed, NOW)
    assert list(expiry.due(lake, chosen, NOW)) == []


def test_only_services_that_report_ends_are_connected_to(lake):
    def connect(chosen):
        raise AssertionError(chosen.name)

    expiry.refresh(lake, [source("okta"), source("jumpcloud"), source("opsgenie")], NOW, connect)


def test_what_is_kept_contains_no_secret(lake):
    chosen = source("cloudflare")
    due(lake, chosen, cloudflare(SOON.isoformat()))
    kept = expiry._file(lake, chosen).read_text()
    assert chosen.settings.api_token.get_secret_value() not in kept
    assert json.loads(kept)["endings"][0]["what"] == "the API token"


@pytest.mark.parametrize(
    ("keys", "end"),
    [
        ({}, datetime(2027, 4, 5, tzinfo=UTC)),
        ({"migrated_on": "2026-10-01"}, datetime(2027, 1, 29, tzinfo=UTC)),
        ({"migrated_on": "2027-03-01"}, datetime(2027, 4, 5, tzinfo=UTC)),
        ({"base_url": "http://127.0.0.1:1"}, None),
    ],
)
def test_opsgenie_ends_on_the_announced_day_or_120_days_after_a_migration(lake, keys, end):
    found = [each.at for each in expiry.due(lake, source("opsgenie", **keys), NOW)]
    assert found == ([end] if end else [])
