"""Each check passes or shows how to fix its subject, and no failure hides another."""

import re
from datetime import UTC, datetime
from functools import partial

import httpx
import pytest

from pipelines import registry
from pipelines.cli import doctor
from pipelines.errors import ConfigurationError
from pipelines.extraction import client
from pipelines.extraction.client import RetryPolicy
from pipelines.integrity import cosignatures
from pipelines.lake.tables import Lake
from pipelines.settings import Settings, Witness
from tests.integrity.conftest import _filled, signed
from tests.integrity.witnessing import serving, submitted, witnessed
from tests.tiers import crossed
from tests.webhooks.conftest import source

__all__ = ["_filled", "signed"]

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ONCE = RetryPolicy(attempts=1)


def examined(lake, sources, respond):
    """Return subject -> fault, with vendors that respond by `respond`."""

    def connect(chosen):
        vendor = httpx.MockTransport(partial(respond, chosen))
        return client.connect(chosen, transport=vendor, retry_policy=ONCE)

    return {check.subject: check.fault for check in doctor.examine(lake, sources, NOW, connect)}


def nothing_new(_source, _request):
    return httpx.Response(200, json=[])


def test_a_healthy_deployment_passes_and_nothing_is_left_behind(lake):
    found = examined(lake, [source("okta"), source("jumpcloud")], nothing_new)
    assert found == {"lake": None, "okta system_log": None, "jumpcloud directory_insights": None}
    assert list(lake.local.iterdir()) == []


def test_a_refused_credential_is_named_and_the_other_integrations_are_checked(lake):
    def respond(chosen, _request):
        return httpx.Response(401 if chosen.name == "okta" else 200, json=[])

    found = examined(lake, [source("okta"), source("jumpcloud")], respond)
    assert "create a new API token" in found["okta system_log"]
    assert found["jumpcloud directory_insights"] is None


def test_a_credential_that_cannot_be_used_is_one_check_of_its_integration(lake):
    def connect(chosen):
        if chosen.name == "okta":
            raise ConfigurationError("okta: private_key is not a PEM key")
        return client.connect(chosen, transport=httpx.MockTransport(partial(nothing_new, chosen)))

    checks = list(doctor.examine(lake, [source("okta"), source("jumpcloud")], NOW, connect))
    assert [(check.subject, check.fault) for check in checks] == [
        ("lake", None),
        ("okta", "okta: private_key is not a PEM key"),
        ("jumpcloud directory_insights", None),
    ]


@pytest.mark.parametrize("place", ["file", "file/lake"])
def test_a_lake_that_cannot_be_written_fails_with_the_setting_to_change(tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    found = examined(Lake(str(tmp_path / place)), [source("okta")], nothing_new)
    assert "set lake.root to a folder" in found["lake"]
    assert "\n" not in found["lake"]
    assert found["okta system_log"] is None


def test_only_the_first_page_of_the_last_hour_is_requested(lake):
    requested = []

    def respond(_source, request):
        requested.append(request.url)
        link = f'<{request.url.copy_with(query=b"after=1")}>; rel="next"'
        return httpx.Response(200, json=[{"uuid": "1"}], headers={"Link": link})

    assert examined(lake, [source("okta")], respond)["okta system_log"] is None
    (url,) = requested
    assert url.params["since"].startswith("2026-03-01T11:00:00")


@pytest.mark.parametrize(
    ("kind", "status"), crossed(sorted(registry.kinds()), [413, 500, 503, 504], count=8)
)
def test_no_stream_of_a_service_that_only_fails_passes(lake, kind, status):
    def respond(_source, request):
        if "token" in request.url.path:
            return httpx.Response(200, json={"access_token": "t", "expires_in": 3600})
        return httpx.Response(status, text="broken")

    entra = {"tenant_id": "tenant", "client_id": "client", "client_secret": "x" * 20}
    one = registry.source(kind, entra) if kind == "entra_id" else source(kind)
    found = examined(lake, [one], respond)
    assert found.pop("lake") is None
    assert found
    assert [subject for subject, fault in found.items() if fault is None] == []


def test_a_missing_variable_stops_its_own_integration_only(lake):
    keys = {"base_url": "https://acme.okta.com", "api_token": {"env": "NOT_SET_AT_ALL"}}
    chosen = Settings(integrations={"okta": keys, "jumpcloud": {"api_key": "x" * 20}})
    found = examined(lake, registry.judged(chosen), nothing_new)
    assert "NOT_SET_AT_ALL is not set" in found.pop("okta")
    assert found == {"lake": None, "jumpcloud directory_insights": None}


@pytest.mark.parametrize("path", ["/token", "/applications/"])
def test_one_refusal_of_all_streams_is_described_once(lake, path):
    asked = []

    def respond(_source, request):
        asked.append(request.url.path)
        if path in request.url.path:
            return httpx.Response(401, json={"error": "invalid_grant"})
        return httpx.Response(200, json={"access_token": "t", "kind": "x"})

    found = examined(lake, [source("google_workspace")], respond)
    described = [fault for fault in found.values() if fault and not fault.startswith("as ")]
    assert len(described) == 1
    assert found["google_workspace login"].startswith("as google_workspace")
    assert len([each for each in asked if path in each]) <= (2 if path == "/token" else 24)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[Errno -2] Name or service not known", "its name cannot be resolved"),
        ("[Errno 111] Connection refused", "(Connection refused)"),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed (_ssl.c:1006)",
            "network.ca_bundle",
        ),
    ],
)
def test_a_failed_connection_is_described_without_a_librarys_internals(lake, text, said):
    def respond(_source, _request):
        raise httpx.ConnectError(text)

    fault = examined(lake, [source("okta")], respond)["okta system_log"]
    assert said in fault
    assert not re.search(r"Errno|_ssl|SSL:", fault)


def ending(chosen, request):
    if request.url.path.endswith("/tokens/verify"):
        return httpx.Response(200, json={"result": {"expires_on": "2026-03-11T12:00:00Z"}})
    return httpx.Response(200, json={"success": chosen.name != "refused", "result": []})


def test_a_credential_that_ends_soon_is_a_warning_of_its_integration(lake):
    def connect(chosen):
        return client.connect(chosen, transport=httpx.MockTransport(partial(ending, chosen)))

    checks = list(doctor.examine(lake, [source("cloudflare")], NOW, connect))
    assert [check.fault for check in checks] == [None] * 4
    assert (checks[-1].subject, checks[-1].note) == ("cloudflare", None)
    assert checks[-1].warning.startswith("the API token ends on 2026-03-11, in 10 days: roll it")


def test_each_witness_is_a_check(tmp_path, signed):
    with serving(tmp_path / "seen", signed.vkeys()) as witness:
        away = Witness(url="http://127.0.0.1:1", key=cosignatures.new_key("away/w2").vkey)
        witnessed(signed, witness, away)
        assert len(submitted(signed)) == 1
        lake, trailing, gone = doctor.examine(signed.lake, [], NOW)
    assert lake.fault is None
    assert trailing.subject == "witness witness.example/w1"
    assert (trailing.fault, trailing.note[:11]) == (None, "1 of 1 logs")
    assert "does not answer" in gone.fault
