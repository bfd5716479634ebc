"""Cloudflare's peculiarities: numbered pages, cursors in two places, errors in the envelope."""

import itertools
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import SecretStr

from pipelines import registry
from pipelines.errors import AuditlakeError
from pipelines.extraction import client as service_client
from pipelines.extraction import rate_limit, rounds
from pipelines.extraction.client import RetryPolicy
from pipelines.integrations import cloudflare
from pipelines.mapping import normalise
from pipelines.sdk.push import Endpoint
from sandbox import server
from sandbox.faults import Fault
from sandbox.server import Options
from sandbox.services import cloudflare as sandbox

STREAM = ("cloudflare", "audit_logs_v2")
KEYS = {"account_id": "acc", "api_token": "t", "base_url": "https://cf.example/client/v4"}


def walk(stream, answer, days=5, **keys):
    """Every page of a stream whose requests `answer` answers."""
    source = registry.source("cloudflare", {**KEYS, **keys})
    (found,) = [s for s in source.streams() if s.name == stream]
    now = datetime(2026, 5, 1, tzinfo=UTC)
    transport = httpx.MockTransport(answer)
    retry_policy = RetryPolicy(attempts=2, first=0.001)
    with service_client.connect(source, transport=transport, retry_policy=retry_policy) as client:
        cursor = found.begin(now - timedelta(days=days), now)
        return [r for page in found.pages(client, cursor, now) for r in page.records]


def records(first, count):
    return [
        {"id": str(n), "action": {"time": "2026-04-30T00:00:00Z"}}
        for n in range(first, first + count)
    ]


@pytest.mark.parametrize(
    "info",
    [
        lambda c: {"count": "2", "cursor": c},
        lambda c: {"count": "2", "cursors": {"after": c}},
        lambda c: {"count": 2, "cursor": c, "cursors": {"after": c}},
    ],
)
def test_the_cursor_is_found_wherever_it_is(info):
    asked = []

    def answer(request):
        cursor = request.url.params.get("cursor")
        asked.append(cursor)
        body = {"success": True, "result": records(2 if cursor else 0, 2)}
        body["result_info"] = info("" if cursor else "abc")
        return httpx.Response(200, json=body)

    found = walk("audit_logs_v2", answer)
    assert sorted({json.loads(r)["id"] for r in found}) == ["0", "1", "2", "3"]
    assert asked[:2] == [None, "abc"]


def test_a_repeated_cursor_is_an_error_and_never_the_end():
    def answer(_):
        body = {"success": True, "result": records(0, 1), "result_info": {"cursor": "same"}}
        return httpx.Response(200, json=body)

    with pytest.raises(AuditlakeError, match="does not come to an end"):
        walk("audit_logs_v2", answer)


@pytest.mark.parametrize("sizes", [(1000, 1000, 0), (1000, 3, 0), (100, 100, 0), (0,)])
def test_version_1_counts_pages_until_one_is_empty(sizes):
    asked = []

    def answer(request):
        number = int(request.url.params["page"])
        asked.append(number)
        assert request.url.params["direction"] == "asc"
        result = records(number * 1000, sizes[number - 1])
        return httpx.Response(200, json={"success": True, "errors": [], "result": result})

    found = {json.loads(r)["id"] for r in walk("audit_logs", answer)}
    assert len(found) == sum(sizes)
    assert asked[: len(sizes)] == list(range(1, len(sizes) + 1))


def test_every_page_of_a_window_has_the_same_bounds():
    asked = []

    def answer(request):
        asked.append((request.url.params["since"], request.url.params["before"]))
        result = records(0, 0 if len(asked) % 3 == 0 else len(asked))
        return httpx.Response(200, json={"success": True, "result": result})

    walk("audit_logs", answer, days=20)
    assert len(asked) > 3
    assert all(len(set(asked[n : n + 3])) == 1 for n in range(0, len(asked), 3))


def test_a_full_page_that_is_repeated_is_an_error_and_never_the_end():
    def answer(_):
        return httpx.Response(200, json={"success": True, "result": records(0, 1000)})

    with pytest.raises(AuditlakeError, match="nothing is taken"):
        walk("audit_logs", answer)


def test_an_ignored_page_number_is_the_end_of_a_short_list():
    def answer(_):
        return httpx.Response(200, json={"success": True, "result": records(0, 999)})

    assert len(walk("audit_logs", answer)) <= 4000


def test_an_empty_page_with_a_cursor_is_not_the_end():
    bodies = {None: ([0], "a"), "a": ([], "b"), "b": ([1], None)}

    def answer(request):
        found, cursor = bodies[request.url.params.get("cursor")]
        result = [record for number in found for record in records(number, 1)]
        info = {"cursor": cursor} if cursor else {}
        return httpx.Response(200, json={"success": True, "result": result, "result_info": info})

    assert {json.loads(record)["id"] for record in walk("audit_logs_v2", answer)} == {"0", "1"}


def test_a_window_is_queried_beyond_its_end():
    spans = []

    def answer(request):
        spans.append((request.url.params["since"], request.url.params["before"]))
        return httpx.Response(200, json={"success": True, "result": None})

    assert walk("audit_logs_v2", answer, days=20) == []
    assert spans[0][1] == "2026-05-01T00:00:01Z"
    ordered = sorted(spans)
    assert all(a[1] > b[0] for a, b in itertools.pairwise(ordered))


def test_a_response_without_success_is_not_an_empty_log():
    with pytest.raises(AuditlakeError, match="without a result"):
        walk("audit_logs", lambda _: httpx.Response(200, json={"success": False, "result": []}))


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "API token is wrong"), (403, "Account Settings: Read"), (404, "account_id")],
)
def test_a_refusal_explains_what_to_do(still_world, status, said):
    still_world.disorder(Fault(kind="cloudflare", fault="status", status=status, every=True))
    for report in still_world.poll("cloudflare"):
        assert said in report.error


@pytest.mark.parametrize(("code", "said"), [(6003, "API token is wrong"), (1004, None)])
def test_only_a_400_about_the_headers_is_about_the_token(code, said):
    response = httpx.Response(400, json={"success": False, "errors": [{"code": code}]})
    advice = cloudflare.INTEGRATION.advice(response)
    assert (said in advice) if said else advice is None


@pytest.mark.parametrize(
    "account", [sandbox.ACCOUNT_ID, sandbox.ACCOUNT_WITH_CURSOR, sandbox.ACCOUNT_WITH_CURSORS]
)
def test_an_account_is_read_to_its_end_wherever_its_cursor_is(still_world, monkeypatch, account):
    monkeypatch.setattr(cloudflare, "_LIMIT", 10)
    source = still_world.source("cloudflare", account_id=account, streams=["audit_logs_v2"])
    (report,) = rounds.poll(still_world.lake, [source])
    assert (report.error, report.rows) == (None, len(still_world.issued(*STREAM)))
    assert report.requests > report.rows / 10


def test_a_block_is_waited_out_for_the_time_it_states(still_world):
    waited = []
    source = still_world.source("cloudflare", history="1d")
    rate_limiter = rate_limit.RateLimiter(
        source.integration.request_policy, sleep=waited.append, clock=lambda: sum(waited)
    )
    still_world.disorder(
        Fault(kind="cloudflare", fault="status", status=429, retry_after=299, at=[0])
    )
    reports = rounds.poll(
        still_world.lake,
        [source],
        connect=lambda s: service_client.connect(s, rate_limiter=rate_limiter),
    )
    assert [report.error for report in reports] == [None, None]
    assert 299 <= max(waited) < 301


def test_a_used_up_limit_is_waited_out():
    headers = {
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "Fri, 01 May 2026 00:02:00 GMT",
        "date": "Fri, 01 May 2026 00:00:00 GMT",
    }
    policy = cloudflare.INTEGRATION.request_policy
    assert policy.delay_after(httpx.Response(200, headers=headers)) == 120
    assert (
        policy.delay_after(httpx.Response(200, headers={**headers, "x-ratelimit-reset": "?"}))
        == 300
    )
    assert policy.delay_after(httpx.Response(200, headers={"x-ratelimit-remaining": "1"})) == 0
    assert policy.retry_after(httpx.Response(429)) == 300


def test_exceeding_the_limit_blocks_for_five_minutes():
    now = datetime(2026, 5, 1, tzinfo=UTC)
    clock = [now]
    with server.running(Options(days=1, limits=True, anchor=now), lambda: clock[0]) as running:
        keys = running.settings()["cloudflare"]
        url = f"{keys['base_url']}/accounts/{keys['account_id']}/audit_logs?per_page=1"
        with httpx.Client(headers={"Authorization": f"Bearer {keys['api_token']}"}) as client:
            answers = [client.get(url) for _ in range(1201)]
            assert [answer.status_code for answer in answers[-2:]] == [200, 429]
            assert answers[-2].headers["x-ratelimit-remaining"] == "0"
            assert answers[-1].headers["retry-after"] == "300"
            clock[0] = now + timedelta(seconds=299)
            assert client.get(url).headers["retry-after"] == "1"
            clock[0] = now + timedelta(seconds=300)
            assert client.get(url).status_code == 200


def test_logpush_records_have_the_identity_and_time_of_api_records():
    api = {
        "audit_logs": {"id": "a", "when": "2026-04-10T11:09:00Z"},
        "audit_logs_v2": {"id": "a", "action": {"time": "2026-04-10T11:09:00Z"}},
    }
    pushed = {
        "audit_logs": {"ID": "a", "When": 1775819340},
        "audit_logs_v2": {"AuditLogID": "a", "ActionTimestamp": "1775819340000000000"},
    }
    for stream in cloudflare.INTEGRATION.streams(None)[:2]:
        both = [json.dumps(shape[stream.name]).encode() for shape in (api, pushed)]
        rows = normalise.read(stream, both, datetime(2027, 1, 1, tzinfo=UTC), "poll")
        assert rows.select("event_id", "time").unique().height == 1


@pytest.mark.parametrize("stream", ["audit_logs", "audit_logs_v2"])
def test_refused_large_pages_are_replaced_by_those_of_the_default_size(stream):
    sizes = []

    def answer(request):
        name = "per_page" if stream == "audit_logs" else "limit"
        sizes.append(int(request.url.params[name]))
        if sizes[-1] > 100:
            error = {"code": 1004, "message": f"{name} must be in the range 1 to 100"}
            return httpx.Response(400, json={"success": False, "errors": [error]})
        first = request.url.params.get("page", "1") == "1"
        return httpx.Response(200, json={"success": True, "result": records(0, 3 * first)})

    assert {json.loads(record)["id"] for record in walk(stream, answer)} == {"0", "1", "2"}
    assert set(sizes) == {1000, 100}


def test_the_log_of_an_organization_is_read_besides_those_of_the_account(still_world):
    keys = {"organization_id": sandbox.ORGANIZATION_ID}
    source = still_world.source("cloudflare", **keys)
    reports = {r.stream: r for r in rounds.poll(still_world.lake, [source])}
    assert [report.error for report in reports.values()] == [None] * 3
    stored = still_world.stored("cloudflare", "organization_audit_logs_v2")
    assert sorted(stored["raw_sha256"]) == sorted(still_world.issued(*STREAM))
    events = still_world.events("cloudflare", "organization_audit_logs_v2")
    assert "Authentication" in set(events["activity_type"])
    assert [s.name for s in still_world.source("cloudflare").streams()] == [
        "audit_logs",
        "audit_logs_v2",
    ]


def test_another_organization_is_refused_with_advice_and_the_account_is_read(still_world):
    source = still_world.source("cloudflare", organization_id="0" * 32)
    errors = [report.error for report in rounds.poll(still_world.lake, [source])]
    assert errors[:2] == [None, None]
    assert "organization_id" in errors[2]


def test_pushes_are_registered_for_the_logs_that_logpush_has():
    asked = []

    def answer(request):
        asked.append(json.loads(request.content)["dataset"] if request.content else None)
        return httpx.Response(200, json={"success": True, "result": []})

    source = registry.source("cloudflare", {**KEYS, "organization_id": "o"})
    at = Endpoint(name="cf", address="https://h.example/cf", secret=SecretStr("s" * 32),
                  streams=[stream.name for stream in source.streams()])  # fmt: skip
    transport = httpx.MockTransport(answer)
    with service_client.connect(source, transport=transport) as client:
        cloudflare.PUSH.subscription_api.register(
            source.settings, client, at, (), datetime.now(UTC)
        )
    assert [dataset for dataset in asked if dataset] == ["audit_logs", "audit_logs_v2"]


@pytest.mark.parametrize(
    "when",
    [
        1775819340123456789, "1775819340123456789", 1775819340123456, 1775819340.123456,
        "1775819340.123456", "2026-04-10T11:09:00.123456789Z",
    ],
)  # fmt: skip
def test_times_of_any_unit_and_precision_are_read_to_the_microsecond(when):
    shapes = {
        "audit_logs": {"ID": "a", "When": when},
        "audit_logs_v2": {"AuditLogID": "a", "ActionTimestamp": when},
    }
    for stream, shape in shapes.items():
        (found,) = [s for s in cloudflare.INTEGRATION.streams(None) if s.name == stream]
        record = json.dumps(shape).encode()
        rows = normalise.read(found, [record], datetime(2027, 1, 1, tzinfo=UTC), "webhook")
        assert rows["time"].to_list() == [datetime(2026, 4, 10, 11, 9, 0, 123456, tzinfo=UTC)]


def test_a_burst_with_nanosecond_times_resumes_where_it_was_interrupted():
    pages = [
        [{"id": str(n), "action": {"time": f"2026-04-30T00:00:0{n}.123456789Z"}}
         for n in range(first, first + 2)] for first in (0, 2)
    ]  # fmt: skip

    def answer(request):
        page = 1 if request.url.params.get("cursor") else 0
        info = {"cursor": ["next", ""][page]}
        return httpx.Response(
            200, json={"success": True, "result": pages[page], "result_info": info}
        )

    assert {json.loads(r)["id"] for r in walk("audit_logs_v2", answer)} == {"0", "1", "2", "3"}
