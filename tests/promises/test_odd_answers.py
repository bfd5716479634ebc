"""Odd answers of a vendor: a page instead of JSON, an error with 200, wrong types, empty tokens.

Each costs its stream one round and one clear line. The span is fetched again afterwards.
"""

import json
from datetime import UTC, datetime

import httpx
import pytest
from pydantic import SecretStr

from pipelines import registry
from pipelines.cli import doctor
from pipelines.errors import AuditlakeError
from pipelines.extraction import client as service_client
from pipelines.extraction import rounds
from pipelines.extraction.client import RetryPolicy
from pipelines.lake import coverage
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk.push import Endpoint
from pipelines.webhooks import subscriptions
from sandbox import server
from sandbox.faults import Fault
from sandbox.server import Options, running
from tests.conftest import World
from tests.tiers import some

KINDS = sorted(registry.kinds())
FIRST = {kind: server.services()[kind].streams[0].name for kind in KINDS}
STREAMS = [
    *FIRST.items(),
    # Read in other ways than the first stream of their kind.
    ("cloudflare", "audit_logs_v2"),
    ("opsgenie", "jira_service_management_operations"),
]
PATHS = {
    # Kind or stream -> parts of the paths that are read after the sign-in; default: every path.
    "entra_id": ["auditLogs"],
    "google_workspace": ["/activity/"],
    "office_365": ["/subscriptions/content", "/audit/"],
    "opsgenie": ["/logs/list/"],
    "jira_service_management_operations": ["/jsm/"],
}
PAGE = "<!DOCTYPE html><html><title>Sign in to\n Wi-Fi\x1b[2J</title><body>welcome</body></html>"
DEEP = '{"value":' * 50_000 + "1" + "}" * 50_000
ODD = {
    "page": {"status": 200, "media_type": "text/html", "body": PAGE},
    "page as JSON": {"status": 200, "body": PAGE},
    "challenge": {"status": 403, "media_type": "text/html; charset=UTF-8", "body": PAGE},
    "page 404": {"status": 404, "media_type": "text/html", "body": PAGE},
    "empty body": {"status": 200, "body": ""},
    "empty object": {"status": 200, "body": "{}"},
    "text": {"status": 200, "body": '"ok"'},
    "number": {"status": 200, "body": "5"},
    "null": {"status": 200, "body": "null"},
    "error": {
        "status": 200,
        "body": '{"success":false,"error":{"code":"X1","message":"out of order"},"result":null}',
    },
    "wrong types": {
        "status": 200,
        "body": '{"value":[],"data":5,"values":{},"items":"a","result":7,"@odata.nextLink":5,'
        '"nextPageToken":{},"meta":[],"links":1,"access_token":8}',
    },
    "list of numbers in objects": {"status": 200, "body": '{"data":{"a":[1]},"values":{"b":2}}'},
    "deep": {"status": 200, "body": DEEP},
}


def hasty(source):
    return service_client.connect(source, retry_policy=RetryPolicy(attempts=2, first=0.001))


@pytest.fixture(scope="module")
def vendor():
    with running(Options(days=3, per_day=60, rate=0)) as served:  # not a weekend alone
        yield served


@pytest.mark.parametrize(("kind", "stream"), some(STREAMS, 4))
def test_an_odd_answer_is_one_line_and_the_same_span_is_fetched_afterwards(
    vendor, kind, stream, tmp_path
):
    clean = World(running=vendor, lake=Lake(str(tmp_path / "clean")))
    assert polled(clean, kind, stream).error is None
    expected = set(clean.stored(kind, stream)["raw_sha256"])
    assert expected
    wrong = {}
    for path in PATHS.get(stream, PATHS.get(kind, [""])):
        for name, answer in ODD.items():
            number = len(list(tmp_path.iterdir()))
            world = World(running=vendor, lake=Lake(str(tmp_path / str(number))))
            world.disorder(Fault(kind=kind, fault="answer", every=True, path=path, **answer))
            error = polled(world, kind, stream).error
            entries = coverage.entries(world.lake, StreamKey(kind, stream))
            if problem := fault_of(error, name) or claimed(entries):
                wrong[path, name] = problem, error
            world.disorder()
            error = polled(world, kind, stream).error
            if error or set(world.stored(kind, stream)["raw_sha256"]) != expected:
                wrong[path, name, "afterwards"] = error
    assert wrong == {}


def polled(world, kind, stream):
    # More than the service has: its oldest record stays in the span, however slow the test is.
    source = world.source(kind, streams=[stream], history="3d")
    (report,) = rounds.poll(world.lake, [source], connect=hasty)
    return report


def claimed(entries):
    outcomes = set(entries["outcome"]) - {"wanted", "failed"}
    return f"claimed to be {outcomes}" if outcomes else ""


def fault_of(error, name):
    """Return the problem with the text of an error, or ""."""
    if error is None:
        return "no error"
    if not error.isprintable():
        return "not one printable line"
    if "unexpected error" in error or "Error" in error or "Exception" in error:
        return "a library's internals"
    if "page" in name and "web page (Sign in to Wi-Fi" not in error:
        return "the page is not named"
    if name == "error" and "X1: out of order" not in error:
        return "the vendor's own error is not shown"
    return "" if "next round retries" in error else "no consequence named"


@pytest.mark.parametrize("name", sorted(ODD))
def test_doctor_reports_an_odd_answer_per_stream_and_judges_the_others(vendor, name, lake):
    world = World(running=vendor, lake=lake)
    world.disorder(*(Fault(kind=k, fault="answer", every=True, **ODD[name]) for k in KINDS[1:]))
    sources = [world.source(kind) for kind in KINDS]
    checks = {c.subject: c.fault for c in doctor.examine(lake, sources, datetime.now(UTC), hasty)}
    world.disorder()
    assert {s for s, fault in checks.items() if fault is None} == {
        "lake", *(f"{KINDS[0]} {s.name}" for s in sources[0].streams())
    }  # fmt: skip
    assert {fault: fault_of(fault, name) for fault in checks.values() if fault} == {
        fault: "" for fault in checks.values() if fault
    }


class PanicException(BaseException):
    pass


@pytest.mark.parametrize("error", [KeyError("s3cret"), RecursionError(), PanicException("s3cret")])
@pytest.mark.parametrize("where", ["connect", "pages"])
def test_any_error_or_panic_of_one_integration_ends_no_other(vendor, lake, error, where):
    world = World(running=vendor, lake=lake)

    def fail(*_):
        raise error

    def connect(source):
        if source.name != "okta":
            return hasty(source)
        return fail() if where == "connect" else hasty_with(source, fail)

    sources = [world.source(kind, history="1h") for kind in ("cloudflare", "okta", "jumpcloud")]
    reports = {
        (r.integration, r.stream): r.error for r in rounds.poll(lake, sources, connect=connect)
    }
    assert "next round retries" in (failed := reports.pop(("okta", "system_log")))
    assert "s3cret" not in failed
    assert "\n" not in failed
    assert set(reports.values()) == {None}
    checks = list(doctor.examine(lake, sources, datetime.now(UTC), connect))
    assert [check.subject.partition(" ")[0] for check in checks if check.fault] == ["okta"]


def hasty_with(source, handle):
    return service_client.connect(source, transport=httpx.MockTransport(handle))


@pytest.mark.parametrize("kind", ["okta", "cloudflare", "office_365", "google_workspace"])
@pytest.mark.parametrize("name", ["page", "challenge", "empty object", "text", "error", "deep"])
def test_an_odd_answer_to_a_call_about_webhooks_is_one_line(vendor, kind, name, tmp_path):
    world = World(running=vendor, lake=Lake(str(tmp_path / "lake")))
    world.disorder(Fault(kind=kind, fault="answer", every=True, **ODD[name]))
    at = Endpoint(
        name=kind,
        address="https://hooks.example.com/x",
        secret=SecretStr("s" * 32),
        streams=[FIRST[kind]],
    )
    with pytest.raises(AuditlakeError) as error:
        subscriptions.register(world.source(kind), at, tmp_path, datetime.now(UTC), hasty)
    world.disorder()
    assert fault_of(str(error.value), name) == ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [400, 401, 403, 410])
def test_the_vendors_own_error_is_shown_on_one_line_without_secrets(vendor, kind, status, lake):
    world = World(running=vendor, lake=lake)
    source = world.source(kind, streams=[FIRST[kind]], history="1h")
    secrets = [
        value.get_secret_value()
        for _, value in source.settings
        if isinstance(value, SecretStr) and len(value.get_secret_value()) < 200
    ]
    text = f"Denied by rule 7\r\nok raw/okta FORGED\x1b[2J {' '.join(secrets)} " + "x" * 5000
    body = json.dumps({"error": {"code": "Z7", "message": text}})
    answer = {"status": status, "body": body, "path": PATHS.get(kind, [""])[0]}
    world.disorder(Fault(kind=kind, fault="answer", every=True, **answer))
    (report,) = rounds.poll(lake, [source], connect=hasty)
    world.disorder()
    assert r"Z7: Denied by rule 7 ok raw/okta FORGED\x1b[2J" in report.error
    assert [secret for secret in secrets if secret in report.error] == []
    assert len(report.error) < 800


@pytest.mark.parametrize(
    ("kind", "scheme", "path", "said"),
    [
        ("opsgenie", "GenieKey", "/jsm/ops/integration/v2/logs/list/x", "api_key is invalid"),
        ("opsgenie", "Basic", "/jsm/ops/api/x/v1/logs", "email or api_token is invalid"),
        ("opsgenie", "", "/bucket/file.json", "the address of the log file"),
        ("okta", "SSWS", "/api/v1/logs", "create a new API token"),
        ("okta", "Bearer", "/api/v1/logs", "the service app's access token"),
        ("jumpcloud", "", "/events", "api_key is invalid"),
        ("jumpcloud", "Bearer", "/events", "the service account's access token"),
    ],
)
def test_advice_follows_the_credential_that_was_sent(kind, scheme, path, said):
    headers = {"Authorization": f"{scheme} x"} if scheme else {}
    request = httpx.Request("GET", f"https://vendor.example{path}", headers=headers)
    assert said in registry.kind(kind).advice(httpx.Response(401, request=request))
