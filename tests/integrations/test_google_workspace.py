"""Google's peculiarities: absent items, throttling by 403, several events per activity."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import httpx
import jwt
import polars as pl
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from pipelines import registry
from pipelines.errors import ConfigurationError, Refused, Unavailable
from pipelines.extraction import client as service_client
from pipelines.extraction import rate_limit, rounds
from pipelines.extraction.client import RetryPolicy
from pipelines.integrations import google_workspace
from pipelines.mapping import normalise
from sandbox import server, tokens
from sandbox.faults import Fault
from sandbox.server import Options
from sandbox.services import google_workspace as sandbox

KIND = "google_workspace"
NOW = datetime(2026, 5, 1, tzinfo=UTC)
BASE = "http://127.0.0.1:1/google_workspace"
HASTY = RetryPolicy(attempts=3, first=0.001, ceiling=0.01)
EMPTY = {"kind": "admin#reports#activities"}


def played(answer, **keys):
    """Return a source, and a client whose requests other than sign-ins `answer` answers."""

    def handle(request):
        if request.method == "POST":
            return httpx.Response(200, json={"access_token": "t", "expires_in": 3599})
        return answer(request)

    source = registry.source(KIND, {**sandbox.settings(BASE), **keys})
    ticks = iter(range(10**9))
    rate_limiter = rate_limit.RateLimiter(
        source.integration.request_policy, sleep=lambda _: None, clock=lambda: next(ticks)
    )
    transport = httpx.MockTransport(handle)
    return source, service_client.connect(
        source, transport=transport, retry_policy=HASTY, rate_limiter=rate_limiter
    )


def walked(*answers, application="login", days=5):
    """Return the records read and the requests sent; the last answer is repeated."""
    asked = []

    def answer(request):
        asked.append(request)
        found = answers[min(len(asked), len(answers)) - 1]
        return found if isinstance(found, httpx.Response) else httpx.Response(200, json=found)

    source, client = played(answer, applications=[application])
    (stream,) = source.streams()
    cursor = stream.begin(NOW - timedelta(days=days), NOW)
    return [r for page in stream.pages(client, cursor, NOW) for r in page.records], asked


@pytest.mark.parametrize("body", [{}, {"error": {"code": 500, "message": "broken"}, "items": []}])
def test_a_response_that_is_no_list_of_activities_is_an_error(body):
    with pytest.raises(Unavailable, match="without activities"):
        walked(body)


@pytest.mark.parametrize("body", [{"kind": "x"}, {"items": None}, {"items": []}])
def test_a_response_without_items_is_an_empty_page(body):
    found, asked = walked(body)
    assert (found, len(asked)) == ([], 1)


def test_every_window_is_closed_and_short_enough_for_gmail():
    _, asked = walked(EMPTY, application="gmail", days=180)
    assert len(asked) > 20
    for request in asked:
        since, until = (
            datetime.fromisoformat(request.url.params[name]) for name in ("startTime", "endTime")
        )
        assert timedelta(0) < until - since < timedelta(days=30)
        assert request.url.params["customerId"] == "my_customer"


def test_a_page_token_stays_in_its_window():
    page = {"nextPageToken": "A:1", "items": [{"id": {}}]}
    found, asked = walked(page, EMPTY, days=20)
    assert len(found) == 1
    assert [request.url.params.get("pageToken") for request in asked] == [None, "A:1", None, None]
    assert asked[0].url.params["endTime"] == asked[1].url.params["endTime"]


def test_the_cursor_moves_when_a_window_is_complete_and_holds_no_token():
    answers = iter([{"nextPageToken": "A:1", "items": [{"id": {}}]}, {"items": [{"id": {}}]}])
    source, client = played(lambda _: httpx.Response(200, json=next(answers)), streams=["login"])
    (stream,) = source.streams()
    cursor = stream.begin(NOW - timedelta(days=2), NOW)
    *within, last = stream.pages(client, cursor, NOW)
    assert [len(page.records) for page in within] == [1, 1]
    assert all(page.cursor == within[0].cursor for page in within)
    assert last.cursor != within[0].cursor
    assert last.covers
    assert "A:1" not in last.cursor


def test_a_page_that_links_to_itself_is_an_error_and_never_the_end():
    with pytest.raises(Refused, match="links to itself"):
        walked({**EMPTY, "nextPageToken": "A:1"})


def test_an_expired_page_token_restarts_the_window():
    with pytest.raises(Refused, match="the next round restarts the window"):
        walked(
            {**EMPTY, "nextPageToken": "A:1"}, httpx.Response(400, json={"error": {"code": 400}})
        )


def refusal(status, reason, state=None):
    error = {"code": status, "errors": [{"reason": reason}]} if reason else {"code": status}
    return httpx.Response(status, json={"error": {**error, "status": state}})


LATER = [
    refusal(403, "rateLimitExceeded"),
    refusal(403, "userRateLimitExceeded"),
    refusal(403, "quotaExceeded"),
    refusal(403, None, "RESOURCE_EXHAUSTED"),
    refusal(429, "rateLimitExceeded"),
    refusal(503, "backendError"),
]


@pytest.mark.parametrize("answer", LATER, ids=lambda answer: str(answer.status_code))
def test_a_throttled_request_is_retried(answer):
    found, asked = walked(answer, answer, {"items": [{"id": {}}]})
    assert (len(found), len(asked)) == (1, 3)


def test_an_exhausted_quota_is_left_to_the_next_round():
    with pytest.raises(Unavailable, match="403"):
        walked(refusal(403, "rateLimitExceeded"))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refusal(403, "forbidden"), "may not read this application's log"),
        (refusal(403, None), "may not read this application's log"),
        (refusal(403, "accessNotConfigured"), "enable the Admin SDK API"),
        (refusal(401, "authError"), "privilege Reports"),
        (refusal(400, "invalid"), "customer_id"),
    ],
)
def test_any_other_refusal_is_final_and_explains_what_to_do(answer, said):
    with pytest.raises(Refused, match=said):
        walked(answer)


def test_a_page_with_403_is_no_refusal_by_google():
    with pytest.raises(Unavailable, match="web page"):
        walked(httpx.Response(403, text="<html>"))


def test_the_simulated_quota_answers_403_once_it_is_used_up():
    with server.running(Options(days=1, rate=0, limits=True)) as box:
        source = registry.source(KIND, box.settings()[KIND])
        path = "admin/reports/v1/activity/users/all/applications/tasks"
        with service_client.connect(source) as client:
            signed = client.get(path).request.headers
        with httpx.Client(headers=signed, base_url=source.settings.base_url) as client:
            answers = [client.get(path) for _ in range(2400)]
    assert Counter(answer.status_code for answer in answers) == {200: 2399, 403: 1}
    assert source.integration.request_policy.is_throttled(answers[-1])


def test_a_refused_application_does_not_stop_the_others(still_world):
    still_world.disorder(
        Fault(kind=KIND, fault="status", status=403, path="applications/drive", every=True)
    )
    source = still_world.source(KIND, applications=["drive", "login"], history="5d")
    drive, login = rounds.poll(still_world.lake, [source])
    assert "edition" in drive.error
    assert login.error is None
    assert login.rows


def test_a_subject_without_the_privilege_is_reported_without_endless_sign_ins(still_world):
    source = still_world.source(KIND, subject=sandbox.UNPRIVILEGED, applications=["login"])
    (report,) = rounds.poll(still_world.lake, [source])
    assert "privilege Reports" in report.error
    _, asked = still_world.running.sandbox.requests(KIND)
    assert Counter(request.path.rpartition("/")[2] for request in asked) == {"token": 2, "login": 2}


def with_key(keys, **changes):
    return json.dumps({**json.loads(keys["credentials"]), **changes})


def test_a_wrong_subject_key_and_account_are_distinguished(still_world):
    keys = still_world.running.settings()[KIND]
    other = tokens.pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    for changes, said in [
        ({"subject": "nobody@" + keys["subject"].partition("@")[2]}, "`subject` is not a user"),
        ({"credentials": with_key(keys, private_key=other)}, "has been deleted"),
        ({"credentials": with_key(keys, client_email="x@y.example")}, "no longer valid"),
    ]:
        source = still_world.source(KIND, applications=["login"], **changes)
        (report,) = rounds.poll(still_world.lake, [source])
        assert said in report.error


@pytest.mark.parametrize("error", ["unauthorized_client", "access_denied", "invalid_scope"])
def test_a_missing_delegation_is_reported_with_the_scope(error):
    answer = httpx.Response(401, json={"error": error, "error_description": "Client is ..."})
    source = registry.source(KIND, sandbox.settings(BASE))
    with (
        service_client.connect(source, transport=httpx.MockTransport(lambda _: answer)) as client,
        pytest.raises(Refused, match=r"Domain-wide delegation.*admin\.reports\.audit\.readonly"),
    ):
        client.get("x")


def test_the_assertion_acts_for_the_subject_and_goes_to_the_token_uri():
    keys = sandbox.settings(BASE)
    credentials = with_key(keys, token_uri="https://oauth2.googleapis.com/token")
    asked = []

    def answer(request):
        asked.append(request)
        return httpx.Response(200, json={"access_token": "t", "expires_in": 3599})

    source = registry.source(KIND, {**keys, "credentials": credentials})
    with service_client.connect(source, transport=httpx.MockTransport(answer)) as client:
        client.get("x")
    sign_in, other = asked
    assert str(sign_in.url) == "https://oauth2.googleapis.com/token"
    assert other.headers["Authorization"] == "Bearer t"
    form = parse_qs(sign_in.content.decode())
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    (assertion,) = form["assertion"]
    assert jwt.get_unverified_header(assertion)["kid"] == json.loads(credentials)["private_key_id"]
    claims = jwt.decode(assertion, options={"verify_signature": False})
    assert (claims["iss"], claims["sub"]) == (sandbox.CLIENT, sandbox.SUBJECT)
    assert claims["aud"] == "https://oauth2.googleapis.com/token"
    assert claims["scope"] == "https://www.googleapis.com/auth/admin.reports.audit.readonly"
    assert 0 < claims["exp"] - claims["iat"] <= 3600


def test_an_expired_token_is_renewed(still_world):
    still_world.disorder(Fault(kind=KIND, fault="expire_token", at=list(range(3, 40, 4))))
    source = still_world.source(KIND, history="5d")
    assert {report.error for report in rounds.poll(still_world.lake, [source])} == {None}


def test_the_credentials_are_a_path_a_file_or_the_text_itself(tmp_path):
    keys = sandbox.settings(BASE)
    path = tmp_path / "key.json"
    path.write_text(keys["credentials"])
    for given in (str(path), {"file": str(path)}, keys["credentials"]):
        source = registry.source(KIND, {**keys, "credentials": given})
        assert source.settings.credentials.get_secret_value() == keys["credentials"]
        assert "PRIVATE" not in repr(source.settings)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"applications": ["logn"]}, "'logn' is not one of"),
        ({"streams": ["logn"]}, "'logn' is not one of"),
        ({"credentials": '{"type": "service_account"}'}, "not a JSON key file"),
        ({"credentials": "{"}, "not a JSON key file"),
        ({"credentials": "/no/such/key.json"}, "cannot read /no/such/key.json"),
        ({"token_uri": "http://elsewhere.example/token"}, "must be an https address"),
        ({"private_key": "no key"}, "not a valid key: give an unencrypted RSA or EC private key"),
    ],
)
def test_an_error_in_the_settings_names_its_key(changes, said):
    keys = sandbox.settings(BASE)
    if not changes.keys() <= google_workspace.Settings.model_fields.keys():
        changes = {"credentials": with_key(keys, **changes)}
    with pytest.raises(ConfigurationError, match=said):
        service_client.connect(registry.source(KIND, {**keys, **changes}))


def test_every_application_is_a_stream_and_some_are_read_by_default():
    keys = sandbox.settings(BASE)
    every = [stream.name for stream in registry.kind(KIND).streams(None)]
    assert len(every) == len(set(every)) == 42
    default = [stream.name for stream in registry.source(KIND, keys).streams()]
    assert default == every[:12]
    asked = registry.source(KIND, {**keys, "applications": ["chat", "chat", "meet"]}).streams()
    assert [stream.name for stream in asked] == ["chat", "meet"]
    named = registry.source(KIND, {**keys, "streams": ["vault"]}).streams()
    assert [stream.name for stream in named] == ["vault"]


@pytest.mark.parametrize("application", ["admin", "login", "token", "cloud_search"])
def test_each_application_is_re_read_within_its_own_lag_and_swept_after(application):
    asked = []

    def answer(request):
        asked.append([request.url.params[name] for name in ("startTime", "endTime")])
        return httpx.Response(200, json=EMPTY)

    source, client = played(answer, applications=[application])
    (stream,) = source.streams()
    cursor, event = stream.begin(NOW - timedelta(days=1), NOW), NOW - timedelta(minutes=1)
    covered = []
    for minutes in range(0, 20 * 24 * 60, 30):
        asked.clear()
        for page in stream.pages(client, cursor, NOW + timedelta(minutes=minutes)):
            cursor = page.cursor
        if any(since <= text(event) < until for since, until in asked):
            covered.append(timedelta(minutes=minutes))
    assert any(stream.lag <= age <= stream.lag * 1.5 + timedelta(hours=1) for age in covered)
    assert any(timedelta(days=3) <= age <= timedelta(days=4) for age in covered)
    assert any(timedelta(days=14) <= age <= timedelta(days=18) for age in covered)
    assert len(covered) < 15


def text(time):
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_lags_differ():
    lags = {stream.name: stream.lag for stream in registry.kind(KIND).streams(None)}
    assert lags["admin"] < lags["login"] < lags["token"] < lags["cloud_search"]


def test_events_of_one_activity_are_rows_of_one_record(still_world):
    source = still_world.source(KIND, applications=["drive"], history="5d")
    rounds.poll(still_world.lake, [source])
    raw, events = still_world.stored(KIND, "drive"), still_world.events(KIND, "drive")
    held = [len(json.loads(record)["events"]) for record in raw["raw"]]
    assert max(held) > 2
    assert events.height == sum(held)
    assert set(events["seq"]) == set(raw["seq"])


def test_the_qualifier_alone_is_not_an_identity():
    identity = google_workspace._identity
    assert identity("C", "login", "1", "7") != identity("C", "login", "2", "7")
    assert identity("C", "login", "1", "7") != identity("C", "login", "1", "8")
    assert identity("C", "login", "1", 0)
    assert identity("C", "login", None, "7") is None
    assert identity("C", "login", "1", None) is None


def rows_of(*records, application="login"):
    stream = google_workspace._stream(application, "C")
    raw = normalise.read(stream, [json.dumps(r).encode() for r in records], NOW, "poll")
    raw = raw.with_columns(seq=pl.int_range(pl.len(), dtype=pl.Int64))
    return normalise.normalise(KIND, registry.kind(KIND), stream, raw)


def activity(*events, **more):
    identity = {"time": "2026-04-01T00:00:00Z", "uniqueQualifier": "1", "applicationName": "login"}
    return {"id": identity, "events": list(events), **more}


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        ({"name": "login_success"}, "success"),
        ({"name": "login_failure"}, "failure"),
        ({"name": "login_success", "status": {"eventStatus": "FAILED"}}, "failure"),
        ({"name": "login_failure", "status": {"eventStatus": "UNKNOWN_EVENT_STATUS"}}, "failure"),
        ({"name": "edit", "status": {"eventStatus": "SUCCEEDED_WITH_WARNINGS"}}, "success"),
        ({"name": "edit", "status": {"eventStatus": "SKIPPED"}}, "unknown"),
        ({"name": "CHROME_OS_LOGIN_FAILURE_EVENT"}, "failure"),
        ({"name": "gov_attack_warning"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_an_outcome_comes_from_the_status_or_the_name(event, outcome):
    assert rows_of(activity(event)).events["outcome"].to_list() == [outcome]


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("Challenge Passed.", "success"),
        ("Challenge Passed", "success"),
        ("passed", "success"),
        ("Challenge Failed.", "failure"),
        ("incorrect_answer_entered", "failure"),
    ],
)
def test_a_challenge_is_passed_or_failed_in_any_wording(said, outcome):
    parameters = [{"name": "login_challenge_status", "value": said}]
    found = rows_of(activity({"name": "login_challenge", "parameters": parameters})).events
    assert found.select("outcome", "outcome_reason").row(0) == (outcome, said)


def test_malformed_values_cost_a_column_and_never_a_row():
    odd = [
        activity({"name": "edit", "parameters": "none"}),
        activity(
            {"name": "edit", "parameters": [None, 5, {"value": "nameless"}, {"name": "bare"}]}
        ),
        activity({"name": 7, "parameters": [{"name": "doc_id", "multiValue": []}]}),
        activity({"name": "edit", "resourceIds": "x"}, resourceDetails=[None, {"id": "x"}]),
        activity({"name": "edit", "parameters": [{"name": "doc_id", "value": {"a": 1}}]}),
        activity("no event", actor="nobody", networkInfo=[]),
        {**activity(), "events": None},
        {**activity(), "events": {"name": "edit"}},
    ]
    found = rows_of(*odd)
    assert found.events.height == len(odd)
    assert found.events["action"].is_not_null().all()


def test_an_attack_shows_in_the_simulated_logs(still_world):
    still_world.poll(KIND)
    granted = still_world.events(KIND, "admin").filter(action="ASSIGN_ROLE")
    assert "svc-backup-runner@larkfield.example" in granted["target_name"].to_list()
    undone = still_world.events(KIND, "admin").filter(action="UNASSIGN_ROLE")
    assert "svc-backup-runner@larkfield.example" in undone["target_name"].to_list()


def test_a_parameter_with_a_malformed_name_costs_only_itself():
    parameters = [{"name": [], "value": "x"}, {"name": "USER_EMAIL", "value": "ann@acme.io"}]
    event = {"name": "CREATE_USER", "parameters": parameters}
    found = rows_of(activity(event, actor={"email": "bob@acme.io"}))
    assert found.faults == {}
    row = found.events.select("actor_email", "target_name").row(0)
    assert row == ("bob@acme.io", "ann@acme.io")


def message(*parameters, **more):
    """Return the parameters of a Gmail event, as nested messages."""
    info = {"name": "message_info", "messageValue": {"parameter": list(parameters)}}
    about = {"name": "event_info", "messageValue": {"parameter": []}}
    return {"name": "delivery", "parameters": [about, info], **more}


def in_text(success=None, **members):
    event_info = json.dumps({} if success is None else {"success": success})
    return {
        "name": "delivery",
        "parameters": [
            {"name": "event_info", "value": event_info},
            {"name": "message_info", "value": json.dumps(members)},
        ],
    }


def to(*addresses):
    given = [{"parameter": [{"name": "address", "value": each}]} for each in addresses]
    return {"name": "destination", "multiMessageValue": given}


FLAT = {"name": "flattened_destinations", "value": "gmail-ui:1:bob@acme.io,smtp-out::eve@evil.io"}


@pytest.mark.parametrize(
    "event",
    [
        message(to("bob@acme.io", "eve@evil.io"), FLAT),
        message({"name": "destination"}, FLAT),
        message(FLAT),
        in_text(destination=[{"address": "bob@acme.io"}, {"address": "eve@evil.io"}]),
    ],
)
def test_the_recipients_of_a_message_are_targets_in_every_spelling(event):
    row = rows_of(activity(event), application="gmail").events.row(0, named=True)
    addresses = [t["name"] for t in row["targets"] if t["type"] == "address"]
    assert addresses == ["bob@acme.io", "eve@evil.io"]


@pytest.mark.parametrize(
    ("event", "outcome", "reason"),
    [
        (message({"name": "smtp_relay_error", "value": "SMTP_RELAY_UNAUTHORIZED_SENDER"}),
         "failure", "SMTP_RELAY_UNAUTHORIZED_SENDER"),
        (message({"name": "smtp_relay_error", "intValue": "3"}), "failure", "relay error 3"),
        (message({"name": "smtp_relay_error", "intValue": "0"}), "success", None),
        (message({"name": "smtp_reply_code", "intValue": "550"}), "failure", "SMTP reply 550"),
        (message({"name": "smtp_reply_code", "intValue": "250"}), "success", None),
        (in_text(success=False, connection_info={"smtp_reply_code": 550}),
         "failure", "SMTP reply 550"),
        (in_text(success=False), "failure", None),
        (in_text(success=True, connection_info={"smtp_reply_code": 250}), "success", None),
    ],
)  # fmt: skip
def test_a_refused_message_is_a_failure_with_its_reason(event, outcome, reason):
    row = rows_of(activity(event), application="gmail").events.row(0, named=True)
    assert (row["outcome"], row["outcome_reason"]) == (outcome, reason)


def test_a_message_in_json_text_has_its_subject_sender_attachment_and_address():
    event = in_text(
        subject="Invoice",
        rfc2822_message_id="<1@evil.io>",
        source={"address": "eve@evil.io"},
        attachment={"file_name": "invoice.pdf"},
        triggered_rule_info=[{"rule_name": "Block invoices"}],
        connection_info={"client_ip": "203.0.113.7", "ip_geo_country": "NO"},
    )
    row = rows_of(activity(event), application="gmail").events.row(0, named=True)
    assert (row["target_id"], row["target_name"]) == ("<1@evil.io>", "Invoice")
    named = {target["name"] for target in row["targets"]}
    assert {"eve@evil.io", "invoice.pdf", "Block invoices"} <= named
    assert (row["source_ip"], row["country"]) == ("203.0.113.7", "NO")


@pytest.mark.parametrize("odd", ["{", "[]", "7", "", None, {"a": 1}, ["x"], '{"destination": [7]}'])
def test_an_odd_message_costs_no_column(odd):
    parameters = [{"name": name, "value": odd} for name in ("message_info", "event_info")]
    event = {"name": "delivery", "parameters": parameters}
    found = rows_of(activity(event, actor={"email": "ann@acme.io"}), application="gmail")
    assert found.faults == {}
    assert found.events["actor_email"].to_list() == ["ann@acme.io"]


def test_settings_that_come_as_separate_events_are_separate_rows():
    events = [
        {
            "name": f"CHANGE_{setting}",
            "parameters": [
                {"name": "SETTING_NAME", "value": setting},
                {"name": "NEW_VALUE", "value": "1"},
            ],
        }
        for setting in ("REAUTH_FREQUENCY", "IDLE_TIMEOUT")
    ]
    found = rows_of(activity(*events), application="admin").events
    assert found["target_name"].to_list() == ["REAUTH_FREQUENCY", "IDLE_TIMEOUT"]
    assert found["activity_id"].to_list() == [3, 3]
