"""The steps of a round, and the tables it opens; faults and kills are in tests/promises."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import httpx

from pipelines.extraction import backfill, client, derive, rounds
from pipelines.lake import coverage, events, raw, tables
from pipelines.lake.tables import StreamKey
from pipelines.sdk.pages import Span
from tests.conftest import raw_table

IDLE = {"coverage": 1, "raw/okta/system_log": 2, "events": 1}
"""raw is opened for the position, and again to compare its rows with the batch or signature."""


def opened(monkeypatch):
    """Count how often each table is acquired, from the pool or by opening it."""
    real, counts = tables.acquire, Counter()

    def acquire(lake, table):
        counts[table] += 1
        return real(lake, table)

    monkeypatch.setattr(tables, "acquire", acquire)
    return counts


def test_an_idle_round_opens_no_table_more_often_than_necessary(still_world, monkeypatch):
    for _ in range(2):
        still_world.poll("okta")
    counts = opened(monkeypatch)
    (report,) = still_world.poll("okta")
    assert (report.error, report.rows) == (None, 0)
    assert counts <= Counter(IDLE)


def test_a_round_that_cannot_derive_its_rows_at_once_catches_up(still_world, monkeypatch):
    real, refused = derive.derive, []

    def derive_later(*args, **options):
        """Refuse the first rows, as if those of another writer had to come first."""
        if not refused:
            refused.append(args)
            return False
        return real(*args, **options)

    monkeypatch.setattr(derive, "derive", derive_later)
    (report,) = still_world.poll("okta")
    assert report.error is None
    assert len(refused) == 1
    stored = still_world.stored("okta", "system_log")
    assert report.rows == report.total == stored.height
    assert still_world.events("okta", "system_log")["seq"].to_list() == stored["seq"].to_list()


def test_pages_before_an_error_land(still_world):
    def connect(source):
        calls = count()

        def answer(request):
            if request.url.path.endswith("/logs") and next(calls) > 0:
                return httpx.Response(403)
            return real.handle_request(request)

        real = httpx.HTTPTransport()
        return client.connect(source, transport=httpx.MockTransport(answer))

    (report,) = still_world.poll("okta", connect=connect)
    assert "403" in report.error
    stored = still_world.stored("okta", "system_log")
    assert 0 < report.rows == stored.height
    key = StreamKey("okta", "system_log")
    recorded = coverage.entries(still_world.lake, key).filter(outcome="failed")
    assert "403" in recorded["reason"].item()
    assert raw.position(still_world.lake, key).cursor is not None
    assert 0 < events.derived(still_world.lake, key) <= stored.height


def test_the_pages_of_a_batch_are_dropped_before_its_rows_are_written(still_world, monkeypatch):
    land, append, batch, left = rounds._land, raw.append, [], []

    def watch(this, pages, *others):
        batch[:] = [pages]
        return land(this, pages, *others)

    def write(*args, **options):
        left.extend(batch[0])
        return append(*args, **options)

    monkeypatch.setattr(rounds, "_land", watch)
    monkeypatch.setattr(raw, "append", write)
    (report,) = still_world.poll("okta")
    assert report.rows == still_world.stored("okta", "system_log").height
    assert left == []


def test_simulated_and_real_events_do_not_mix(still_world):
    still_world.poll("okta")
    real = rounds.Round(
        lake=still_world.lake,
        source=still_world.source("okta", base_url="https://acme.okta.com"),
        stream=still_world.source("okta").streams()[0],
        client=client.connect(still_world.source("okta")),
    )
    assert "another origin" in rounds.extract(real).error
    assert raw_table(still_world.lake, "okta", "system_log").height


def test_progress_ends_with_all_that_the_round_fetched(still_world):
    seen = []
    answer = [
        {"uuid": str(n), "published": "2026-01-01T00:00:00Z", "eventType": "user.session.start"}
        for n in range(3)
    ]
    acme = round_of_acme(still_world, answer)
    report = rounds.extract(
        replace(acme, progress=lambda each: seen.append((each.rows, each.requests)))
    )
    assert seen[-1] == (report.rows, report.requests) == (3, acme.client.requests_sent)


def test_a_record_that_cannot_be_read_is_kept_and_counted(still_world):
    good = {"uuid": "1", "published": "2026-01-01T00:00:00Z", "eventType": "user.session.start"}
    report = rounds.extract(round_of_acme(still_world, answer=[good, {"uuid": "2"}, good]))
    assert (report.error, report.rows, report.rejected) == (None, 1, 1)
    rejected = tables.scan(still_world.lake, "rejected").collect()
    assert [json.loads(record) for record in rejected["raw"]] == [{"uuid": "2"}]


def round_of_acme(world, answer=(), **keys):
    source = world.source("okta", base_url="https://acme.okta.com", **keys)
    (stream,) = source.streams()
    log = httpx.MockTransport(lambda request: httpx.Response(200, json=list(answer)))
    opened = client.connect(source, transport=log)
    return rounds.Round(lake=world.lake, source=source, stream=stream, client=opened)


def test_a_first_round_reads_back_to_a_little_less_than_the_vendor_keeps(still_world):
    """Reading takes time, in which the vendor deletes its oldest records."""
    now = datetime(2026, 3, 1, tzinfo=UTC)
    acme = replace(round_of_acme(still_world), clock=lambda: now)
    hour, day = timedelta(hours=1), timedelta(days=1)
    for keeps, reach in ((90 * day, 90 * day - hour), (5 * day, 4.99 * day)):
        stream = replace(acme.stream, keeps=keeps)
        assert replace(acme, stream=stream).first_wanted == now - reach


def test_re_reads_are_tuned_to_the_measured_delays_at_the_first_round_of_a_day(
    still_world, monkeypatch
):
    delays, tuned = (timedelta(minutes=1),) * 3, []
    monkeypatch.setattr(raw, "lateness", lambda *_: delays)

    def learn(cursor, late):
        tuned.append(late)
        return cursor

    acme = round_of_acme(still_world)
    stream = replace(acme.stream, learn=learn)
    start = datetime(2026, 3, 1, 10, tzinfo=UTC)
    for hours, expected in ((0, []), (1, []), (24, [delays]), (25, [delays])):
        now = start + timedelta(hours=hours)
        report = rounds.extract(replace(acme, stream=stream, clock=lambda now=now: now))
        assert (report.error, tuned) == (None, expected)


def test_a_log_of_another_tenant_is_refused_before_any_request(still_world):
    acme = round_of_acme(still_world)
    assert rounds.extract(acme).error is None
    other = still_world.source("okta", base_url="https://umbrella.okta.com")
    refused = replace(acme, source=other)
    sent = acme.client.requests_sent
    before = coverage.entries(still_world.lake, acme.key).height
    second = Span(since=acme.now - timedelta(hours=1), until=acme.now)
    for report in (
        rounds.extract(refused),
        rounds.push(replace(refused, via="webhook"), []),
        backfill.fetch_span(replace(refused, via="backfill"), second),
    ):
        assert "base_url https://acme.okta.com" in report.error
        assert "base_url is https://umbrella.okta.com" in report.error
    failed = coverage.entries(still_world.lake, acme.key)[before:]
    assert failed["outcome"].to_list() == ["failed"]
    assert "umbrella" in failed["reason"].item()
    assert acme.client.requests_sent == sent
    assert rounds.extract(acme).error is None


def test_a_backfill_of_real_events_into_a_simulated_lake_is_refused(still_world):
    still_world.poll("okta")
    acme = replace(round_of_acme(still_world), via="backfill")
    span = Span(since=acme.now - timedelta(hours=1), until=acme.now)
    assert "another origin" in backfill.fetch_span(acme, span).error


def test_a_response_in_an_unexpected_format_fails_its_stream_with_that_reason(still_world):
    def connect(source):
        answer = httpx.Response(200, json={"a": 1})
        return client.connect(source, transport=httpx.MockTransport(lambda _: answer))

    (report,) = still_world.poll("okta", connect=connect)
    assert "unexpected format" in report.error
    assert still_world.stored("okta", "system_log").is_empty()
