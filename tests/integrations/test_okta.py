"""Okta's peculiarities: OAuth and DPoP, next links, refused cursors, newest first."""

import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import SecretStr

from pipelines import registry
from pipelines.errors import ConfigurationError, CursorRefused, ForeignLink
from pipelines.extraction import client as service_client
from pipelines.extraction.client import RetryPolicy
from pipelines.integrations import okta
from pipelines.sdk import auth, json_records
from pipelines.sdk.contract import Source
from sandbox.faults import Fault
from sandbox.services import okta as sandbox
from tests.mapping import rows

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def played(answer, **keys):
    """A client whose every request is answered by `answer`."""
    settings = okta.Settings(
        base_url="https://acme.okta.com", **(keys or {"api_token": SecretStr("token")})
    )
    source = Source(name="okta", integration=okta.INTEGRATION, settings=settings)
    return service_client.connect(
        source, transport=httpx.MockTransport(answer), retry_policy=RetryPolicy(attempts=1)
    )


def logs(*published, link=None):
    body = [{"uuid": p, "published": p} for p in published]
    headers = {"Link": f'<{link}>; rel="next"'} if link else {}
    return httpx.Response(200, json=body, headers=headers)


@pytest.mark.parametrize("client_id", [sandbox.CLIENT_ID, sandbox.DPOP_CLIENT_ID])
def test_oauth_uses_a_private_key_and_dpop_if_required(still_world, client_id):
    keys = sandbox.settings_with_key(f"{still_world.running.base_url}/okta", client_id)
    source = registry.source("okta", keys)
    with service_client.connect(source) as client:
        assert client.get("/api/v1/logs").status_code == 200


@pytest.mark.parametrize("client_id", [sandbox.CLIENT_ID, sandbox.DPOP_CLIENT_ID])
def test_an_expired_token_at_any_request_is_renewed(still_world, client_id):
    keys = sandbox.settings_with_key(f"{still_world.running.base_url}/okta", client_id)
    still_world.disorder(Fault(kind="okta", fault="expire_token", at=list(range(2, 60, 3))))
    with service_client.connect(registry.source("okta", keys)) as client:
        for _ in range(10):
            assert client.get("/api/v1/logs?limit=1").status_code == 200


def test_a_wrong_key_is_reported_with_a_fix(still_world):
    keys = sandbox.settings_with_key(f"{still_world.running.base_url}/okta", sandbox.CLIENT_ID)
    source = registry.source("okta", {**keys, "client_id": "somebody-else"})
    with (
        service_client.connect(source) as client,
        pytest.raises(Exception, match="client_id, private_key"),
    ):
        client.get("/api/v1/logs")


def test_an_invalid_key_is_a_configuration_error():
    with pytest.raises(ConfigurationError, match="private_key") as error:
        auth.private_key(SecretStr("-----BEGIN s3cret"), "okta: private_key")
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example.net/api/v1/logs?after=1",
        "https://acme.okta.com.evil.example.net/api/v1/logs?after=1",
        "http://acme.okta.com/api/v1/logs?after=1",
        "//evil.example.net/api/v1/logs",
        "https://acme.okta.com:444/api/v1/logs?after=1",
    ],
)
def test_a_next_link_to_another_host_is_refused(link):
    client = played(lambda request: logs("2026-05-31T23:00:00.000Z", link=link))
    with pytest.raises(ForeignLink, match="credential"):
        list(okta.pages(client, okta.begin(NOW - timedelta(hours=1), NOW), NOW))


def test_the_newest_events_come_first_and_history_reaches_back_ninety_days(still_world):
    source = still_world.source("okta")
    now = datetime.now(UTC)
    with service_client.connect(source) as client:
        cursor = okta.begin(now - timedelta(days=90), now)
        pages = list(okta.pages(client, cursor, now))
    newest = [
        max(json_records.load(r)["published"] for r in page.records)
        for page in pages
        if page.records
    ]
    assert newest[0] == max(newest)
    history = newest[1:]
    assert history == sorted(history, reverse=True)
    assert min(page.covers.since for page in pages if page.covers) == now.replace(
        microsecond=now.microsecond // 1000 * 1000
    ) - timedelta(days=90)


def test_a_refused_live_cursor_has_its_own_error():
    def answer(request):
        return httpx.Response(400) if "after=" in str(request.url) else logs()

    place = json.loads(okta.begin(NOW, NOW)) | {"live": "/api/v1/logs?after=gone"}
    with pytest.raises(CursorRefused):
        list(okta.pages(played(answer), json.dumps(place), NOW))


def test_a_refused_history_cursor_resumes_by_time():
    asked = []

    def answer(request):
        url = httpx.URL(request.url)
        asked.append(dict(url.params))
        if "after" in url.params:
            return httpx.Response(400)
        return logs()

    place = json.loads(okta.begin(NOW - timedelta(days=9), NOW)) | {
        "history": "/api/v1/logs?after=gone",
        "history_until": "2026-05-28T00:00:00.000Z",
    }
    pages = list(okta.pages(played(answer), json.dumps(place), NOW))
    assert {"until": "2026-05-28T00:00:00.000Z"}.items() <= asked[2].items()
    assert pages[-2].milestone or pages[-1].milestone


def test_a_lost_live_cursor_is_recovered(still_world):
    still_world.poll("okta")
    fault = Fault(kind="okta", fault="status", status=400, at=[0], count=1)
    still_world.disorder(fault)
    (report,) = still_world.poll("okta")
    assert (report.error, report.rows) == (None, 0)


VPN = {"operator": "NORD_VPN", "type": "VPN", "anonymous": True}


@pytest.mark.parametrize(
    "more",
    [
        {"securityContext": {"ipDetails": [VPN, None]}},
        {"securityContext": {"ipDetails": VPN}},
        {"securityContext": {"ipDetails": {"isAnonymous": True, "services": [VPN]}}},
        {"request": {"ipChain": [{"ip": "203.0.113.7", "ipDetails": [VPN]}]}},
        {"client": {"ipChain": [None, {"ip": "203.0.113.7", "ipDetails": [VPN]}]}},
        {"debugContext": {"debugData": {"tunnels": json.dumps([VPN])}}},
    ],
    ids=lambda more: json.dumps(more)[:40],
)
def test_the_operator_of_a_vpn_is_found_among_the_targets(more):
    row = rows.row("okta", "system_log", {"eventType": "user.session.start", **more})
    assert ("NORD_VPN", "VPN") in {(target["name"], target["type"]) for target in row["targets"]}


@pytest.mark.parametrize(
    ("details", "targets"),
    [
        ([], []),
        (None, []),
        ("x", []),
        ([{"operator": None, "type": "TOR", "anonymous": True}], [("TOR", "TOR")]),
        ([{"isAnonymous": True}], [("Anonymizer", "Anonymizer")]),
        ([{"isAnonymous": False}], []),
        ([VPN, VPN], [("NORD_VPN", "VPN")]),
    ],
)
def test_an_address_without_details_adds_no_target(details, targets):
    record = {
        "eventType": "user.session.start",
        "securityContext": {"ipDetails": details},
        "request": {"ipChain": [{"ip": "203.0.113.7", "ipDetails": details}]},
    }
    events, faults = rows.normalised("okta", "system_log", [record])
    assert faults == {}
    found = events.row(0, named=True)
    assert [(target["name"], target["type"]) for target in found["targets"]] == targets
    assert found["source_ip"] == "203.0.113.7"


def test_the_main_target_is_what_was_acted_on_and_not_the_network():
    target = [{"id": "1", "type": "AppInstance", "displayName": "Payroll"}]
    record = {"target": target, "securityContext": {"ipDetails": [VPN]}}
    assert rows.row("okta", "system_log", record)["target_name"] == "Payroll"
