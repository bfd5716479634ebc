"""Atlassian's peculiarities: a cursor that never ends, a lost cursor, a refused stream."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from pipelines import registry
from pipelines.errors import Unavailable
from pipelines.extraction import client as service_client
from pipelines.extraction import rate_limit, rounds
from pipelines.integrations import atlassian
from pipelines.lake import coverage, raw
from pipelines.lake.tables import StreamKey
from pipelines.sdk.push import Delivery
from sandbox import server
from sandbox.faults import Fault
from sandbox.server import Options
from sandbox.services import atlassian as playing

LOG = StreamKey("atlassian", "events")


def all_there(world):
    stored = world.stored("atlassian", "events")
    return sorted(stored["raw_sha256"]) == sorted(world.issued("atlassian", "events"))


def test_new_events_come_first_and_history_after(still_world):
    source = still_world.source("atlassian")
    (stream,) = source.streams()
    now = datetime.now(UTC)
    with service_client.connect(source) as client:
        pages = list(stream.pages(client, stream.begin(now - stream.keeps, now), now))
    first = [json.loads(r)["attributes"]["time"] for r in pages[0].records]
    rest = [json.loads(r)["attributes"]["time"] for page in pages[1:] for r in page.records]
    assert rest
    assert min(rest) < min(first)
    assert pages[-1].milestone


def test_a_late_event_is_fetched_in_the_next_round(still_world):
    still_world.poll("atlassian")
    log = still_world.running.sandbox.log("atlassian", "events")
    late = json.loads(log.visible()[0].raw)
    late["id"] = "late"
    raw = json.dumps(late).encode()
    log.append(raw)
    (report,) = still_world.poll("atlassian")
    assert report.rows == 1
    assert still_world.stored("atlassian", "events")["raw"].to_list()[-1] == raw.decode()


def test_a_lost_cursor_loses_no_event(still_world):
    still_world.poll("atlassian")
    place = json.loads(raw.position(still_world.lake, LOG).cursor)
    coverage.record(
        still_world.lake, LOG, [_claim()], json.dumps({**place, "live": "bm9uc2Vuc2U="})
    )
    log = still_world.running.sandbox.log("atlassian", "events")
    record = json.loads(log.visible()[-1].raw)
    log.append(json.dumps({**record, "id": "after"}).encode())
    (report,) = still_world.poll("atlassian")
    assert (report.error, report.rows) == (None, 1)
    assert all_there(still_world)


def _claim():
    now = datetime.now(UTC)
    return coverage.Entry(since=now, until=now, asked_at=now)


@pytest.mark.parametrize("refused", ["nowhere", "events-stream"])
def test_refused_large_pages_are_replaced_by_smaller_ones(still_world, monkeypatch, refused):
    monkeypatch.setattr(playing, "_MOST", 50)
    monkeypatch.setattr(atlassian, "_DOCUMENTED_LIMIT", 50)
    still_world.disorder(
        Fault(kind="atlassian", fault="status", status=404, path=refused, every=True)
    )
    (report,) = still_world.poll("atlassian")
    assert report.error is None
    assert report.rows > 50
    assert all_there(still_world)


def test_a_refused_stream_falls_back_to_the_query(still_world):
    still_world.disorder(
        Fault(kind="atlassian", fault="status", status=404, path="events-stream", every=True)
    )
    (report,) = still_world.poll("atlassian")
    assert report.error is None
    assert all_there(still_world)
    (again,) = still_world.poll("atlassian")
    assert (again.rows, again.error) == (0, None)
    assert again.requests <= 2


def test_a_stream_that_comes_back_is_resumed(still_world):
    gone = Fault(kind="atlassian", fault="status", status=403, path="events-stream", every=True)
    still_world.disorder(gone)
    still_world.poll("atlassian")
    still_world.disorder()
    still_world.poll("atlassian")
    place = json.loads(raw.position(still_world.lake, LOG).cursor)
    log = still_world.running.sandbox.log("atlassian", "events")
    log.append(json.dumps({**json.loads(log.visible()[0].raw), "id": "late"}).encode())
    (report,) = still_world.poll("atlassian")
    assert (report.error, report.rows) == (None, 1)
    assert place["history"] is None or place["windows"]
    assert all_there(still_world)


def test_a_stream_that_ends_later_is_replaced_by_the_query(still_world):
    still_world.poll("atlassian")
    gone = Fault(kind="atlassian", fault="status", status=404, path="events-stream", every=True)
    still_world.disorder(gone)
    log = still_world.running.sandbox.log("atlassian", "events")
    newest = log.visible()[-1]
    again = json.dumps({**json.loads(newest.raw), "id": "after"}).encode()
    log.append(again, newest.time)
    (report,) = still_world.poll("atlassian")
    assert (report.error, report.rows) == (None, 1)


def test_a_refusal_of_both_apis_is_an_error_that_changes_nothing(still_world):
    still_world.poll("atlassian")
    before = raw.position(still_world.lake, LOG).cursor
    still_world.disorder(Fault(kind="atlassian", fault="status", status=403, every=True))
    (report,) = still_world.poll("atlassian")
    assert "read:events:admin" in report.error
    assert raw.position(still_world.lake, LOG).cursor == before


def test_a_lost_history_cursor_restarts_the_history(still_world, monkeypatch):
    monkeypatch.setattr(atlassian, "_LIMIT", 20)
    source = still_world.source("atlassian")
    (stream,) = source.streams()
    now = datetime.now(UTC)
    with service_client.connect(source) as client:
        begun = stream.pages(client, stream.begin(now - stream.keeps, now), now)
        place = next(p for p in (json.loads(page.cursor) for page in begun) if p["back"])
        lost = json.dumps({**place, "back": "bm9uc2Vuc2U="})
        found = [r for page in stream.pages(client, lost, now) for r in page.records]
    until = place["history"][1]
    old = [r for r in found if _milliseconds(r) < until - 3_600_000]
    log = still_world.running.sandbox.log("atlassian", "events")
    there = [r.raw for r in log.visible() if _milliseconds(r.raw) < until - 3_600_000]
    assert sorted(old) == sorted(there)


def _milliseconds(record):
    time = datetime.fromisoformat(json.loads(record)["attributes"]["time"])
    return time.timestamp() * 1000


def played(*pages):
    """The ids of all records of a stream whose requests are answered by these pages, in turn."""
    answers = iter(pages)

    def answer(request):
        data, cursor = next(answers)
        body = {"data": [{"id": id_} for id_ in data], "meta": {"next": cursor}}
        return httpx.Response(200, json=body)

    source = registry.source("atlassian", {"org_id": "o", "api_key": "k"})
    (stream,) = source.streams()
    now = datetime(2026, 5, 1, tzinfo=UTC)
    request_policy = replace(source.integration.request_policy, rate=None)
    transport, rate_limiter = httpx.MockTransport(answer), rate_limit.RateLimiter(request_policy)
    with service_client.connect(source, transport=transport, rate_limiter=rate_limiter) as client:
        pages = list(stream.pages(client, stream.begin(now - timedelta(days=1), now), now))
    return [json.loads(record)["id"] for page in pages for record in page.records], pages[-1]


@pytest.mark.parametrize("ahead", [timedelta(milliseconds=60), timedelta(days=1)])
def test_no_gap_is_claimed_where_events_are_processed_after_the_clock_of_the_round(ahead):
    """They are processed while the round runs, or the clock is behind."""
    began = datetime(2026, 5, 1, tzinfo=UTC)
    processed = (began + ahead).isoformat()

    def answer(request):
        data = [{"id": "a", "attributes": {"processedAt": processed}}]
        found = data if "cursor" not in request.url.params else []
        return httpx.Response(200, json={"data": found, "meta": {"next": "1"}})

    walk = atlassian.Walk("o")
    with httpx.Client(transport=httpx.MockTransport(answer), base_url="http://a.test") as client:
        *_, first = walk.pages(client, atlassian._begin(began, began), began)
        *_, second = walk.pages(client, first.cursor, began + 2 * ahead)
    assert second.covers.since <= first.covers.until
    assert second.covers.since >= first.covers.since


def test_only_an_empty_page_ends_the_stream():
    found, last = played((["a", "b"], "1"), (["c"], "2"), (["d", "e"], "3"), ([], "3"))
    assert found == ["a", "b", "c", "d", "e"]
    assert json.loads(last.cursor)["live"] == "3"
    assert last.covers


def test_a_cursor_that_does_not_move_ends_the_stream():
    found, _ = played((["a"], "1"), (["a"], "1"))
    assert found == ["a", "a"]


def test_a_response_without_data_is_not_an_empty_log():
    with pytest.raises(Unavailable, match="without data"):
        atlassian._answer(httpx.Response(200, json={"meta": {"next": "1"}}))
    assert atlassian._answer(httpx.Response(200, json={"data": None, "meta": None})) == ([], None)


@pytest.mark.parametrize(
    ("status", "said"), [(401, "API keys"), (403, "read:events:admin"), (404, "org_id")]
)
def test_a_refusal_explains_what_to_do(still_world, status, said):
    still_world.disorder(Fault(kind="atlassian", fault="status", status=status, every=True))
    (report,) = still_world.poll("atlassian")
    assert said in report.error


def test_a_limit_is_waited_out_until_the_reset(still_world):
    waited = []
    source = still_world.source("atlassian")
    rate_limiter = rate_limit.RateLimiter(
        source.integration.request_policy, sleep=waited.append, clock=lambda: sum(waited)
    )
    still_world.disorder(
        Fault(kind="atlassian", fault="status", status=429, retry_after=45, at=[0])
    )
    (report,) = rounds.poll(
        still_world.lake,
        [source],
        connect=lambda s: service_client.connect(s, rate_limiter=rate_limiter),
    )
    assert report.error is None
    assert 40 < max(waited) < 47


def test_times_are_sent_in_milliseconds():
    stream = registry.kind("atlassian").streams(None)[0]
    now = datetime(2026, 3, 1, tzinfo=UTC)
    place = json.loads(stream.begin(now - timedelta(days=180), now))
    assert place["history"][1] == place["since"] == 1_772_150_400_000
    assert atlassian._time(place["since"]) == now - timedelta(days=2)


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [("2026-05-01T00:00:42.5Z", 42.5), ("2026-05-01T00:00Z", 60), ("soon", 60), (None, 60)],
)
def test_a_reset_cut_to_the_minute_is_waited_out_to_its_end(reset, seconds):
    headers = {"Date": "Fri, 01 May 2026 00:00:00 GMT", "X-RateLimit-Remaining": "0"}
    if reset:
        headers["X-RateLimit-Reset"] = reset
    request_policy = atlassian.INTEGRATION.request_policy
    assert request_policy.retry_after(httpx.Response(429, headers=headers)) == seconds
    assert request_policy.delay_after(httpx.Response(200, headers=headers)) == seconds
    assert request_policy.delay_after(httpx.Response(200)) == 0


def test_the_stream_is_read_at_50_requests_a_minute_and_the_query_at_10():
    assert atlassian.INTEGRATION.request_policy.rate == (50, 60.0)
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    options = Options(days=1, limits=True, anchor=moment)
    with server.running(options, lambda: moment) as running:
        keys = running.settings()["atlassian"]
        headers = {"Authorization": f"Bearer {keys['api_key']}"}
        base_url = f"{keys['base_url']}/admin/v1/orgs/{keys['org_id']}/"
        with httpx.Client(headers=headers, base_url=base_url) as client:
            for name, allowed in (("events-stream", 50), ("events", 10)):
                answers = [client.get(name, params={"limit": 1}) for _ in range(allowed + 1)]
                assert [a.status_code for a in answers] == [200] * allowed + [429]
                last = answers[-2]
                assert last.headers["X-RateLimit-Limit"] == str(allowed)
                assert atlassian.INTEGRATION.request_policy.delay_after(last) > 0


EVENT = b'{"id":"e1","type":"events","attributes":{"time":"2026-05-19T10:00:00Z"}}'


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (EVENT, [EVENT]),
        (b"[%b,%b]" % (EVENT, EVENT), [EVENT, EVENT]),
        (b'{"data":%b}' % EVENT, [EVENT]),
        (b'{"data":[%b]}' % EVENT, [EVENT]),
        (b'{"events":[%b]}' % EVENT, [EVENT]),
        (b"[]", []),
    ],
)
def test_the_events_of_a_push_are_found_in_any_envelope(body, events):
    delivery = Delivery(headers={}, body=body)
    (hint,) = atlassian.PUSH.read(None, delivery)
    assert (hint.stream, list(hint.records)) == ("events", events)


@pytest.mark.parametrize(
    ("body", "cursor"),
    [
        ({"meta": {"next": "m"}, "links": {"next": "https://x.example/e?cursor=l"}}, "m"),
        ({"meta": {"next": None}, "links": {"next": "https://x.example/e?cursor=l%3D"}}, "l="),
        ({"links": {"next": "/admin/v1/orgs/o/events?cursor=l"}}, "l"),
        ({"meta": {"next": ""}, "links": {"next": ""}}, None),
        ({"meta": None, "links": 1}, None),
        ({}, None),
    ],
)
def test_the_cursor_is_found_in_the_metadata_or_in_the_link(body, cursor):
    answer = httpx.Response(200, json={"data": [], **body})
    assert atlassian._answer(answer) == ([], cursor)
