"""The query parameters of Okta's System Log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from starlette.datastructures import QueryParams

from sandbox.server import Running
from sandbox.services import okta_query
from sandbox.services.okta_refusals import Refusal
from tests.sandbox.okta_reader import (
    SINCE,
    everything,
    okta_client,
)
from tests.sandbox.setups import ANCHOR


def test_filter_and_keywords_select_records(box: Running) -> None:
    with okta_client(box) as client:
        query = 'eventType eq "user.session.start" and outcome.result eq "FAILURE"'
        records = everything(client, since=SINCE, filter=query, limit=50)
        words = everything(client, since=SINCE, q="panama INVALID_CREDENTIALS", limit=1000)
    found = [msgspec.json.decode(record) for record in records]
    assert len(found) > 180
    assert {(r["eventType"], r["outcome"]["result"]) for r in found} == {
        ("user.session.start", "FAILURE")
    }
    assert len(words) == 180


def read(**params: str) -> okta_query.Query:
    return okta_query.read(QueryParams(params), ANCHOR)


def test_without_parameters_a_query_polls_from_a_week_ago() -> None:
    query = read()
    assert query.polling
    assert query.since == ANCHOR - timedelta(days=7)
    assert (query.until, query.limit, query.keep) == (None, 100, None)


def test_without_since_a_bounded_query_covers_the_week_before_its_end() -> None:
    query = read(until="2026-10-01T00:00:00")
    assert not query.polling
    assert query.until == datetime(2026, 10, 1, tzinfo=UTC)
    assert query.since == query.until - timedelta(days=7)


def test_a_descending_query_never_polls() -> None:
    assert not read(sortOrder="DESCENDING").polling


def test_times_are_read_in_their_zone() -> None:
    assert read(since="2026-11-18T16:00:00+02:00").since == ANCHOR - timedelta(hours=1)


@pytest.mark.parametrize("text", ["a" * 41, " ".join("abcdefghijk")])
def test_long_or_many_keywords_are_refused(text: str) -> None:
    with pytest.raises(Refusal, match="keywords"):
        read(q=text)


def test_keywords_match_any_part_of_a_record_in_any_case() -> None:
    keep = read(q="ADA login").keep
    assert keep
    assert keep(b'{"actor":"Ada","type":"user.LOGIN"}')
    assert not keep(b'{"actor":"Ada"}')


def test_a_filter_and_keywords_both_have_to_match() -> None:
    keep = read(q="ada", filter='severity eq "WARN"').keep
    assert keep
    assert keep(b'{"actor":"ada","severity":"WARN"}')
    assert not keep(b'{"actor":"ada","severity":"INFO"}')
    assert not keep(b'{"actor":"bob","severity":"WARN"}')
    assert not keep(b"ada, but no JSON")


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+14:00", "soon"])
def test_a_time_outside_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match="valid date-time"):
        read(until=text)
