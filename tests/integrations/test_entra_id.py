"""Entra ID's peculiarities: four kinds of sign-ins, changed records, page links, clouds."""

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import polars as pl
import pytest
from pydantic import SecretStr

from pipelines import registry
from pipelines.errors import ConfigurationError, ForeignLink, Refused, Unavailable
from pipelines.extraction import client as service_client
from pipelines.extraction import rounds
from pipelines.extraction.client import RetryPolicy
from pipelines.integrations import entra_id
from pipelines.lake import spans
from pipelines.mapping import normalise
from pipelines.sdk import auth
from pipelines.sdk import microsoft as microsoft_identity
from pipelines.sdk.contract import Source
from pipelines.sdk.pages import Span
from sandbox import microsoft, tokens
from sandbox.faults import Fault
from sandbox.server import Options, running
from sandbox.services import entra_id as sandbox

NOW = datetime(2026, 6, 1, tzinfo=UTC)
STREAMS = {stream.name: stream for stream in entra_id.STREAMS}
KEYS = {"tenant_id": "t", "client_id": "c", "client_secret": "s3cret-of-the-app"}


def played(answer, attempts=1, **keys):
    """A client that is given a token, and whose every other request is answered by `answer`.

    It asks in a name of its own, as the requests of one name wait for each other.
    """

    def handle(request):
        if request.url.path.endswith("/token"):
            return httpx.Response(200, json={"access_token": "token", "expires_in": "3599"})
        return answer(request)

    settings = entra_id.Settings(**{**KEYS, "client_id": uuid4().hex, **keys})
    source = Source(name="entra_id", integration=entra_id.INTEGRATION, settings=settings)
    transport = httpx.MockTransport(handle)
    return service_client.connect(
        source, transport=transport, retry_policy=RetryPolicy(attempts=attempts)
    )


def logs(*times, link=None, field="activityDateTime"):
    body = {"value": [{"id": time, field: time} for time in times]}
    return httpx.Response(200, json=body | ({"@odata.nextLink": link} if link else {}))


def asked(request):
    return {name: value for name, (value, *_) in parse_qs(urlsplit(str(request.url)).query).items()}


def walk(stream, answer, since=NOW - timedelta(hours=1)):
    """Return the ids of the records read from `since`, and the requests."""
    seen = []

    def noting(request):
        seen.append(request)
        return answer(request)

    found = STREAMS[stream]
    pages = list(found.pages(played(noting), found.begin(since, NOW), NOW))
    return [json.loads(record)["id"] for page in pages for record in page.records], seen


def read_at(world, source, now):
    """Run one round of each of the source's streams at a given time."""
    with service_client.connect(source) as client:
        for stream in source.streams():
            this = rounds.Round(
                lake=world.lake, source=source, stream=stream, client=client, clock=lambda: now
            )
            assert rounds.extract(this).error is None


def test_a_certificate_signs_in(still_world):
    base_url = f"{still_world.running.base_url}/entra_id"
    source = registry.source("entra_id", sandbox.settings_with_certificate(base_url))
    with service_client.connect(source) as client:
        assert client.get("/v1.0/auditLogs/directoryAudits?$top=1").status_code == 200


def test_an_expired_token_at_any_request_is_renewed(still_world):
    fault = Fault(kind="entra_id", fault="expire_token", at=list(range(2, 60, 3)))
    still_world.disorder(fault)
    with service_client.connect(still_world.source("entra_id")) as client:
        for _ in range(10):
            assert client.get("/v1.0/auditLogs/signIns?$top=1").status_code == 200


@pytest.mark.parametrize(
    ("keys", "advice"),
    [
        ({"client_secret": "wrong"}, "secret's value, not its ID"),
        ({"client_id": "9a6b3c1e-0000-4000-8000-000000000000"}, "check client_id and tenant_id"),
        ({"tenant_id": "9a6b3c1e-0000-4000-8000-000000000000"}, "tenant_id does not exist"),
    ],
)
def test_a_refused_sign_in_explains_what_to_correct(still_world, keys, advice):
    with (
        service_client.connect(still_world.source("entra_id", **keys)) as client,
        pytest.raises(Refused, match=advice),
    ):
        client.get("/v1.0/auditLogs/signIns")


def test_an_unregistered_certificate_is_reported_with_a_fix(still_world):
    other = tokens.pem(tokens.rsa_key("somebody else"))
    shown = microsoft.certificate_pem().partition("-----BEGIN PRIVATE")[0]
    source = still_world.source("entra_id", client_secret=None, certificate=shown + other)
    with (
        service_client.connect(source) as client,
        pytest.raises(Refused, match="does not know this cert"),
    ):
        client.get("/v1.0/auditLogs/signIns")


@pytest.mark.parametrize("pem", [tokens.pem(tokens.rsa_key("microsoft")), "s3cret"])
def test_a_certificate_without_its_parts_is_a_configuration_error(pem):
    with pytest.raises(ConfigurationError, match="entra_id: certificate") as error:
        auth.microsoft(
            authority_url="https://login.microsoftonline.com",
            tenant_id="t",
            client_id="c",
            scope="s",
            client_secret=None,
            certificate=SecretStr(pem),
            where="entra_id: certificate",
        )
    assert "s3cret" not in str(error.value)


def test_neither_secret_nor_certificate_is_a_configuration_error():
    with pytest.raises(ConfigurationError, match="set client_secret or certificate"):
        registry.source("entra_id", {"tenant_id": "t", "client_id": "c"})


@pytest.mark.parametrize(
    ("base_url", "login", "scope"),
    [
        ("https://graph.microsoft.com", "login.microsoftonline.com", "https://graph.microsoft.com"),
        ("https://graph.microsoft.us", "login.microsoftonline.us", "https://graph.microsoft.us"),
        (
            "https://microsoftgraph.chinacloudapi.cn",
            "login.chinacloudapi.cn",
            "https://microsoftgraph.chinacloudapi.cn",
        ),
        ("http://127.0.0.1:8700/entra_id", "login.microsoftonline.com", entra_id._GRAPH),
    ],
)
def test_each_cloud_has_its_own_sign_in(base_url, login, scope):
    settings = entra_id.Settings(base_url=base_url, **KEYS)
    flow = entra_id.INTEGRATION.auth(settings).auth_flow(httpx.Request("GET", base_url))
    request = next(flow)
    assert (request.url.host, request.url.path) == (login, "/t/oauth2/v2.0/token")
    assert parse_qs(request.content.decode())["scope"] == [f"{scope}/.default"]


@pytest.mark.parametrize(
    ("stream", "path", "kind"),
    [
        ("sign_ins", "/v1.0/auditLogs/signIns", None),
        ("non_interactive_sign_ins", "/beta/auditLogs/signIns", "nonInteractiveUser"),
        ("service_principal_sign_ins", "/beta/auditLogs/signIns", "servicePrincipal"),
        ("managed_identity_sign_ins", "/beta/auditLogs/signIns", "managedIdentity"),
    ],
)
def test_beta_is_used_only_where_v1_lacks_the_records(stream, path, kind):
    _, requests = walk(stream, lambda _: logs())
    assert {request.url.path for request in requests} == {path}
    assert {request.headers["Prefer"] for request in requests} == {"include-unknown-enum-members"}
    chosen = f" and signInEventTypes/any(t: t eq '{kind}')" if kind else ""
    assert all(asked(request)["$filter"].endswith(f"Z{chosen}") for request in requests)


def test_provisioning_is_queried_with_its_documented_operators():
    _, (request, *_) = walk("provisioning", lambda _: logs())
    assert asked(request) == {
        "$filter": "activityDateTime gt 2026-05-31T22:44:59Z and "
        "activityDateTime lt 2026-06-01T00:00:01Z"
    }


def test_a_page_link_is_followed_to_the_letter():
    query = "$filter=createdDateTime%20ge%202026-05-01T00%3A00%3A00Z&$skiptoken=9f+a%2Bb'c%27$_1"
    link = f"https://graph.microsoft.com/v1.0/auditLogs/directoryAudits?{query}"

    def answer(request):
        return (
            logs() if b"skiptoken" in request.url.query else logs("2026-05-31T23:30:00Z", link=link)
        )

    _, requests = walk("directory_audits", answer)
    assert requests[1].url.raw_path.decode() == f"/v1.0/auditLogs/directoryAudits?{query}"


@pytest.mark.parametrize(
    "link",
    [
        "https://graph.example.net/v1.0/auditLogs/directoryAudits?$skiptoken=1",
        "https://graph.microsoft.com.example.net/v1.0/auditLogs/directoryAudits",
        "http://graph.microsoft.com/v1.0/auditLogs/directoryAudits?$skiptoken=1",
    ],
)
def test_a_page_link_to_another_host_is_refused(link):
    with pytest.raises(ForeignLink, match="credential"):
        walk("directory_audits", lambda _: logs("2026-05-31T23:30:00Z", link=link))


def test_a_refused_page_link_is_replaced_by_a_new_query():
    link = "https://graph.microsoft.com/v1.0/auditLogs/directoryAudits?$skiptoken=stale_1"
    error = {"error": {"code": "BadRequest", "message": "Invalid Skip Token"}}

    def answer(request):
        if b"skiptoken" in request.url.query:
            return httpx.Response(400, json=error)
        if "le 2026-06-01" in asked(request)["$filter"]:
            return logs("2026-05-31T23:40:00.1234567Z", "2026-05-31T23:30:00.7654321Z", link=link)
        return logs("2026-05-31T23:30:00.7654321Z", "2026-05-31T23:10:00Z")

    found, requests = walk("directory_audits", answer)
    assert "le 2026-05-31T23:30:00.766432Z" in asked(requests[2])["$filter"]
    assert found[0].startswith("2026-05-31T23:40") and found[-1] == "2026-05-31T23:10:00Z"


def test_a_repeatedly_refused_page_link_ends_the_round():
    link = "https://graph.microsoft.com/v1.0/auditLogs/directoryAudits?$skiptoken=stale_1"

    def answer(request):
        if b"skiptoken" in request.url.query:
            return httpx.Response(400)
        return logs("2026-05-31T23:30:00Z", link=link)

    with pytest.raises(Refused):
        walk("directory_audits", answer)


def test_a_query_that_times_out_is_split_into_parts_newest_first():
    here = {"base_url": "http://127.0.0.1:9", "authority_url": "http://127.0.0.1:9"}
    answered = []

    def answer(request):
        words = asked(request)["$filter"].split()
        since, until = (datetime.fromisoformat(words[n + 1]) for n in (1, 5))
        if until - since > timedelta(hours=1):
            return httpx.Response(504)
        answered.append(Span(since=since, until=until))
        return logs(since.isoformat())

    stream, day = STREAMS["directory_audits"], Span(since=NOW - timedelta(days=1), until=NOW)
    pages = list(stream.pages(played(answer, **here), stream.between(day, NOW), NOW))
    assert spans.union(answered) == (day,)
    assert [span.until for span in answered] == sorted((s.until for s in answered), reverse=True)
    assert spans.union(page.covers for page in pages if page.covers) == (day,)


def test_history_resumes_at_the_page_where_it_was_interrupted(still_world):
    stream = STREAMS["non_interactive_sign_ins"]
    small = entra_id._Query(
        path="/beta/auditLogs/signIns",
        time="createdDateTime",
        also=" and signInEventTypes/any(t: t eq 'nonInteractiveUser')",
        size=50,
    )
    now = datetime.now(UTC)
    cursor, ends, seen, spans = stream.begin(now - timedelta(days=30), now), [], set(), []
    with service_client.connect(still_world.source("entra_id")) as client:
        for _ in range(60):
            for page in entra_id._resumable(small, client, cursor, now):
                seen |= {normalise.digest(record) for record in page.records}
                spans += [page.covers] if page.covers else []
                if page.cursor != cursor:
                    break
            else:
                break
            cursor = page.cursor
            history = json.loads(cursor)["history"]
            ends += [history[1]] if history else []
    assert seen == set(still_world.issued("entra_id", "non_interactive_sign_ins"))
    assert len(ends) > 5
    assert ends == sorted(ends, reverse=True)
    assert min(span.since for span in spans) < now - timedelta(days=29)


def test_the_newest_events_come_first(still_world):
    stream, now = STREAMS["sign_ins"], datetime.now(UTC)
    with service_client.connect(still_world.source("entra_id")) as client:
        pages = list(stream.pages(client, stream.begin(now - timedelta(days=30), now), now))
    times = [json.loads(r)["createdDateTime"] for page in pages for r in page.records]
    assert times[0] == max(times)
    assert times[-1] == min(times)


def test_both_versions_of_a_changed_sign_in_are_kept_and_the_newest_is_shown(still_world):
    source, now = still_world.source("entra_id", streams=["sign_ins"]), datetime.now(UTC)
    first = {"id": "changing", "createdDateTime": f"{now:%Y-%m-%dT%H:%M:%SZ}", "userId": "u"}
    changed = first | {"riskLevelDuringSignIn": "high", "riskState": "atRisk"}
    log = ("entra_id", "sign_ins")
    for minutes, version in enumerate((first, changed)):
        still_world.running.sandbox.append(*log, [json.dumps(version).encode()])
        read_at(still_world, source, now + timedelta(minutes=minutes))
    ours = pl.col("event_id").str.starts_with("changing@")
    stored = still_world.stored(*log).filter(ours)["raw"]
    assert [json.loads(raw) for raw in stored] == [first, changed]
    assert still_world.events(*log).filter(ours)["severity"].to_list() == ["high"]


def test_a_missing_licence_stops_only_the_sign_ins(still_world):
    source = still_world.source("entra_id", client_id=sandbox.UNLICENSED_CLIENT_ID)
    with service_client.connect(source) as client:
        assert client.get("/v1.0/auditLogs/directoryAudits?$top=1").status_code == 200
        assert client.get("/v1.0/auditLogs/provisioning").status_code == 200
        with pytest.raises(Refused, match="P1 or P2"):
            client.get("/v1.0/auditLogs/signIns?$top=1")


@pytest.mark.parametrize(
    ("path", "permissions"),
    [
        ("/v1.0/auditLogs/signIns", "AuditLog.Read.All and Directory.Read.All"),
        ("/v1.0/auditLogs/provisioning", "ProvisioningLog.Read.All"),
    ],
)
def test_a_missing_permission_is_named(still_world, path, permissions):
    source = still_world.source("entra_id", client_id=sandbox.NO_ROLES_CLIENT_ID)
    with service_client.connect(source) as client, pytest.raises(Refused, match=permissions):
        client.get(path)


def test_the_sixth_request_within_ten_seconds_is_throttled():
    with running(Options(days=1, per_day=10, rate=0, limits=True)) as server:
        source = registry.source("entra_id", server.settings()["entra_id"])
        with service_client.connect(source, retry_policy=RetryPolicy(attempts=1)) as client:
            for _ in range(5):
                client.get("/v1.0/auditLogs/provisioning")
            with pytest.raises(Unavailable, match="429"):
                client.get("/v1.0/auditLogs/provisioning")


@pytest.mark.parametrize("body", [{}, {"value": None}, {"error": {"code": "UnknownError"}}])
def test_a_response_without_a_list_is_not_an_empty_log(body):
    with pytest.raises(Unavailable, match="without records"):
        walk("sign_ins", lambda _: httpx.Response(200, json=body))


def test_records_sorted_oldest_first_do_not_move_the_cursor():
    stream = STREAMS["sign_ins"]
    times = ["2026-05-10T00:00:00Z", "2026-05-20T00:00:00Z"]
    client = played(lambda _: logs(*times, field="createdDateTime"))
    begin = stream.begin(NOW - timedelta(days=30), NOW)
    ends = [
        json.loads(page.cursor)["history"][1]
        for page in stream.pages(client, begin, NOW)
        if page.records
    ]
    assert ends == [(NOW - timedelta(days=1)).isoformat()] * 2


def test_a_span_of_history_is_fetched_alone():
    stream, seen = STREAMS["sign_ins"], []

    def answer(request):
        seen.append(asked(request)["$filter"])
        return logs()

    span = Span(since=NOW - timedelta(days=9), until=NOW - timedelta(days=2))
    pages = list(stream.pages(played(answer), stream.between(span, NOW), NOW))
    assert seen == [
        "createdDateTime ge 2026-05-23T00:00:00Z and createdDateTime le 2026-05-30T00:00:00Z"
    ]
    assert pages[-1].covers == span


@pytest.mark.parametrize(
    ("upn", "email"),
    [
        ("Ann@Larkfield.example", "Ann@Larkfield.example"),
        ("ann_lee_fabrikam.example#EXT#@larkfield.example", "ann_lee@fabrikam.example"),
        ("Sync account", None),
        (None, None),
    ],
)
def test_a_guest_has_the_address_of_the_home_tenant(upn, email):
    assert microsoft_identity.email(upn) == email


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(0, "success"), ("0", "success"), (50126, "failure"), (50140, "unknown"), (None, "unknown")],
)
def test_an_interrupted_sign_in_is_neither_success_nor_failure(code, outcome):
    assert entra_id._sign_in_outcome(code) == outcome
