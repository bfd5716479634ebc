"""Atlassian's own ways: a cursor that never ends, one that is lost, a stream that is refused."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from pipelines import extract, http, registry
from pipelines import lake as lakes
from pipelines.integrations import atlassian
from pipelines.lake import Log
from pipelines.sandbox.faults import Fault

LOG = Log("atlassian", "events")


def all_there(world):
    stored = world.stored("atlassian", "events")
    return sorted(stored["raw_sha256"]) == sorted(world.issued("atlassian", "events"))


def test_the_newest_come_first_and_history_after(still_world):
    source = still_world.source("atlassian")
    (stream,) = source.streams()
    now = datetime.now(UTC)
    with http.client(source) as client:
        pages = list(stream.pages(client, stream.begin(now - stream.keeps, now), now))
    first = [json.loads(r)["attributes"]["time"] for r in pages[0].records]
    rest = [json.loads(r)["attributes"]["time"] for page in pages[1:] for r in page.records]
    assert rest
    assert min(rest) < min(first)
    assert pages[-1].milestone


def test_a_late_event_comes_with_the_next_round(still_world):
    still_world.poll("atlassian")
    log = still_world.running.sandbox.log("atlassian", "events")
    late = json.loads(log.visible()[0].raw)
    late["id"] = "late"
    raw = json.dumps(late).encode()
    log.append(raw)
    (report,) = still_world.poll("atlassian")
    assert report.rows == 1
    assert still_world.stored("atlassian", "events")["raw"].to_list()[-1] == raw.decode()


def test_a_lost_cursor_is_no_lost_event(still_world):
    still_world.poll("atlassian")
    place = json.loads(lakes.position(still_world.lake, LOG).cursor)
    lakes.note(still_world.lake, LOG, [_claim()], json.dumps({**place, "live": "bm9uc2Vuc2U="}))
    log = still_world.running.sandbox.log("atlassian", "events")
    record = json.loads(log.visible()[-1].raw)
    log.append(json.dumps({**record, "id": "after"}).encode())
    (report,) = still_world.poll("atlassian")
    assert (report.error, report.rows) == (None, 1)
    assert all_there(still_world)


def _claim():
    now = datetime.now(UTC)
    return lakes.Claim(since=now, until=now, asked_at=now)


def test_where_the_stream_is_refused_the_query_reads_it_all(still_world):
    still_world.disorder(
        Fault(kind="atlassian", fault="status", status=404, path="events-stream", every=True)
    )
    (report,) = still_world.poll("atlassian")
    assert report.error is None
    assert all_there(still_world)
    (again,) = still_world.poll("atlassian")
    assert (again.rows, again.error) == (0, None)
    assert again.requests <= 2


@pytest.mark.parametrize(
    ("status", "said"), [(401, "API keys"), (403, "read:events:admin"), (404, "org_id")]
)
def test_a_refusal_says_what_to_do(still_world, status, said):
    still_world.disorder(Fault(kind="atlassian", fault="status", status=status, every=True))
    (report,) = still_world.poll("atlassian")
    assert said in report.error


def test_a_limit_is_waited_out_until_the_reset(still_world):
    waited = []
    source = still_world.source("atlassian")
    pace = http.Pace(source.integration.manners, sleep=waited.append, clock=lambda: sum(waited))
    still_world.disorder(
        Fault(kind="atlassian", fault="status", status=429, retry_after=45, at=[0])
    )
    (report,) = extract.poll(
        still_world.lake, [source], connect=lambda s: http.client(s, pace=pace)
    )
    assert report.error is None
    assert 40 < max(waited) < 47


def test_times_are_asked_in_milliseconds():
    stream = registry.kind("atlassian").streams(None)[0]
    now = datetime(2026, 3, 1, tzinfo=UTC)
    place = json.loads(stream.begin(now - timedelta(days=180), now))
    assert place["history"][1] == place["since"] == 1_772_150_400_000
    assert atlassian._time(place["since"]) == now - timedelta(days=2)
