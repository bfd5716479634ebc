"""Cloudflare's own ways: pages by number, cursors in two places, an envelope that may say no."""

import itertools
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from pipelines import extract, http, registry
from pipelines.errors import AuditlakeError
from pipelines.http import Patience
from pipelines.sandbox.faults import Fault

KEYS = {"account_id": "acc", "api_token": "t", "base_url": "https://cf.example/client/v4"}


def walk(stream, answer, days=5, **keys):
    """Every page of a stream whose requests `answer` answers."""
    source = registry.source("cloudflare", {**KEYS, **keys})
    (found,) = [s for s in source.streams() if s.name == stream]
    now = datetime(2026, 5, 1, tzinfo=UTC)
    transport = httpx.MockTransport(answer)
    patience = Patience(attempts=2, first=0.001)
    with http.client(source, transport=transport, patience=patience) as client:
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


def test_a_cursor_that_repeats_ends_the_walk():
    def answer(_):
        body = {"success": True, "result": records(0, 1), "result_info": {"cursor": "same"}}
        return httpx.Response(200, json=body)

    assert len(walk("audit_logs_v2", answer)) <= 4


def test_version_1_counts_pages_until_one_is_not_full():
    asked = []

    def answer(request):
        number = int(request.url.params["page"])
        asked.append(number)
        assert request.url.params["direction"] == "asc"
        result = records(number * 1000, 1000 if number == 1 else 0)
        return httpx.Response(200, json={"success": True, "errors": [], "result": result})

    found = walk("audit_logs", answer)
    assert len(found) == 1000 * (len(asked) // 2)
    assert asked[:2] == [1, 2]


def test_a_window_is_asked_beyond_its_end():
    spans = []

    def answer(request):
        spans.append((request.url.params["since"], request.url.params["before"]))
        return httpx.Response(200, json={"success": True, "result": None})

    assert walk("audit_logs_v2", answer, days=20) == []
    assert spans[0][1] == "2026-05-01T00:00:01Z"
    ordered = sorted(spans)
    assert all(a[1] > b[0] for a, b in itertools.pairwise(ordered))


def test_an_answer_without_success_is_no_empty_log():
    with pytest.raises(AuditlakeError, match="without a result"):
        walk("audit_logs", lambda _: httpx.Response(200, json={"success": False, "result": []}))


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "API token is wrong"), (403, "Account Settings: Read"), (404, "account_id")],
)
def test_a_refusal_says_what_to_do(still_world, status, said):
    still_world.disorder(Fault(kind="cloudflare", fault="status", status=status, every=True))
    for report in still_world.poll("cloudflare"):
        assert said in report.error


def test_a_block_is_waited_out_as_long_as_it_says(still_world):
    waited = []
    source = still_world.source("cloudflare", history="1d")
    pace = http.Pace(source.integration.manners, sleep=waited.append, clock=lambda: sum(waited))
    still_world.disorder(
        Fault(kind="cloudflare", fault="status", status=429, retry_after=299, at=[0])
    )
    reports = extract.poll(still_world.lake, [source], connect=lambda s: http.client(s, pace=pace))
    assert [report.error for report in reports] == [None, None]
    assert 299 <= max(waited) < 301
