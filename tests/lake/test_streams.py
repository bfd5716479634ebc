"""The table `streams`: one row per stream, with the newest values."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pipelines.lake import maintenance, streams, tables
from pipelines.lake.stream_state import Facts
from pipelines.lake.tables import StreamKey

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOG = StreamKey("okta", "system_log")
FACTS = Facts(kind="okta", title="Okta", lag=timedelta(hours=1), keeps=timedelta(days=90))


def test_a_lake_without_the_table_has_no_facts(lake):
    assert streams.facts(lake) == {}
    assert tables.open_table(lake, "streams") is None


@pytest.mark.parametrize("facts", [FACTS, replace(FACTS, keeps=None)])
def test_facts_are_read_as_they_were_recorded(lake, facts):
    streams.record(lake, LOG, facts, NOON)
    assert streams.facts(lake) == {LOG: facts}


def test_the_same_facts_are_written_once(lake):
    for _ in range(3):
        streams.record(lake, LOG, FACTS, NOON)
    assert tables.open_table(lake, "streams").version() == 1
    streams._recorded.clear()  # as in another process
    streams.record(lake, LOG, FACTS, NOON)
    assert tables.open_table(lake, "streams").version() == 1


def test_changed_facts_replace_those_of_their_stream_only(lake):
    other = StreamKey("okta'2", "system_log")
    for log in (LOG, other):
        streams.record(lake, log, FACTS, NOON)
    longer = replace(FACTS, lag=timedelta(days=3))
    for facts in (longer, FACTS, longer):
        streams.record(lake, other, facts, NOON)
    assert streams.facts(lake) == {LOG: FACTS, other: longer}
    assert tables.scan(lake, "streams").collect().height == 2


def test_streams_that_are_polled_at_once_are_all_recorded(lake):
    logs = [StreamKey("okta", f"log_{n}") for n in range(12)]

    def record(log):
        streams.record(lake, log, FACTS, NOON)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(record, logs))
    assert tables.scan(lake, "streams").collect().height == 12
    assert streams.facts(lake) == dict.fromkeys(logs, FACTS)


def test_maintenance_knows_the_table(lake):
    streams.record(lake, LOG, FACTS, NOON)
    assert "streams" in maintenance.tables_of(lake, [])
