"""The table `streams`: one row per stream, with the newest values."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import polars as pl
import pytest

from pipelines.errors import LakeError
from pipelines.lake import commits, maintenance, streams, tables
from pipelines.lake.commits import Decision
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


def tenant_of(lake):
    return streams.facts(lake)[LOG].tenant


def test_the_log_of_another_tenant_is_refused_with_both_names_and_the_remedy(lake):
    streams.record(lake, LOG, replace(FACTS, tenant='{"org_id": "1f2e"}'), NOON)
    for _ in range(2):
        streams._recorded.clear()  # as in another process
        with pytest.raises(LakeError) as refused:
            streams.record(lake, LOG, replace(FACTS, tenant='{"org_id": "77aa"}'), NOON)
        assert str(refused.value) == (
            "raw/okta/system_log is the log of another tenant (org_id 1f2e), and now org_id is "
            "77aa: correct it, or give the other tenant an integration of another name or a lake "
            "of its own"
        )
    assert tenant_of(lake) == '{"org_id": "1f2e"}'
    streams.record(lake, StreamKey("okta-2", "log"), replace(FACTS, tenant='{"a": "77aa"}'), NOON)


def test_of_two_tenants_that_are_recorded_at_once_only_the_first_is(lake, monkeypatch):
    monkeypatch.setattr(streams, "facts", lambda _: {})  # as both processes read it
    streams.record(lake, LOG, replace(FACTS, tenant='{"org_id": "1f2e"}'), NOON)
    with pytest.raises(LakeError, match=r"1f2e.* 77aa"):
        streams.record(lake, LOG, replace(FACTS, tenant='{"org_id": "77aa"}'), NOON)
    monkeypatch.undo()
    assert tenant_of(lake) == '{"org_id": "1f2e"}'


def test_a_stream_keeps_all_that_was_ever_known_about_its_tenant(lake):
    for given in ('{"base_url": "b"}', '{"org_id": "1f2e"}', ""):
        streams.record(lake, LOG, replace(FACTS, tenant=given), NOON)
    assert tenant_of(lake) == '{"base_url": "b", "org_id": "1f2e"}'
    with pytest.raises(LakeError, match="base_url is c"):
        streams.record(lake, LOG, replace(FACTS, tenant='{"base_url": "c"}'), NOON)


def older(lake, logs):
    """Write the facts as a version of auditlake did that recorded no tenants."""
    narrow = {name: dtype for name, dtype in streams.TABLE.schema.items() if name != "tenant"}
    facts = {"kind": "okta", "title": "Okta", "lag": 0, "keeps": None, "recorded_at": NOON}
    table = replace(streams.TABLE, schema=narrow)
    for log in logs:
        row = pl.DataFrame([{**log._asdict(), **facts}], narrow)
        commits.write(lake, table, f"streams/{log.app}", partial(decision, row), {})


def decision(row, _handle, seen):
    return Decision(row, seen + 1)


def test_streams_of_an_older_lake_have_the_first_tenant_they_are_polled_for(lake):
    logs = [StreamKey("okta", f"log_{n}") for n in range(6)]
    older(lake, logs)
    assert {each.tenant for each in streams.facts(lake).values()} == {""}
    found = replace(FACTS, tenant='{"org_id": "1f2e"}')
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda log: streams.record(lake, log, found, NOON), logs))
    assert streams.facts(lake) == dict.fromkeys(logs, found)
    with pytest.raises(LakeError, match="another tenant"):
        streams.record(lake, logs[0], replace(FACTS, tenant='{"org_id": "77aa"}'), NOON)


def test_a_stream_whose_tenant_is_known_in_more_detail_is_not_read_again(lake, monkeypatch):
    streams.record(lake, LOG, replace(FACTS, tenant='{"org_id": "1f2e"}'), NOON)
    other = StreamKey("okta", "other")
    streams._recorded.clear()  # as in another process
    for log in (LOG, other):
        streams.record(lake, log, FACTS, NOON)
    monkeypatch.setattr(streams, "facts", None)
    for log in (LOG, other):
        streams.record(lake, log, FACTS, NOON)


def test_maintenance_knows_the_table(lake):
    streams.record(lake, LOG, FACTS, NOON)
    assert "streams" in maintenance.tables_of(lake, [])
