"""Pushed events are compared with polled ones."""

from datetime import UTC, datetime, timedelta

import polars as pl

from pipelines.lake import pruning, raw, reconciliation, tables
from pipelines.lake.tables import StreamKey
from pipelines.schemas import RAW
from tests.lake.batches import LOG, NOON, batch
from tests.webhooks.conftest import source, spool
from tests.webhooks.pushing import hook, polled, put, run_worker

__all__ = ["spool"]


def test_a_push_that_polling_never_finds_is_reported(lake, spool):
    put(spool, hook(1, 2))
    run_worker(lake, spool)
    polled(lake, 2, 3)
    stream, later = source("okta").streams()[0], datetime.now(UTC) + timedelta(hours=3)
    (_, *found), = reconciliation.reconcile(lake, source("okta"), stream, later).group_by(
        "integration").agg(pl.col("polled", "pushed", "both", "pushed_first", "unconfirmed").sum()
    ).rows()  # fmt: skip
    assert found == [2, 2, 1, 1, 1]
    soon = reconciliation.reconcile(lake, source("okta"), stream, datetime.now(UTC))
    assert soon["unconfirmed"].sum() == 0
    table = tables.open_table(lake, "reconciliation")
    reconciliation.reconcile(lake, source("okta"), stream, datetime.now(UTC))
    assert tables.open_table(lake, "reconciliation").version() == table.version()


def seen(*ids, via, after):
    at = NOON + timedelta(seconds=after)
    return batch(*ids).with_columns(via=pl.lit(via), ingested_at=pl.lit(at, RAW["ingested_at"]))


def compared(lake, due=NOON + timedelta(hours=1)):
    return reconciliation.compare(lake, LOG, NOON.date(), due)


def test_the_lead_of_pushes_and_of_polls_is_measured_from_the_other_way(lake):
    raw.append(lake, LOG, seen("a", "b", via="webhook", after=0), None)
    raw.append(lake, LOG, seen("c", via="poll", after=0), "1")
    raw.append(lake, LOG, seen("a", "b", via="poll", after=5), "2")
    raw.append(lake, LOG, seen("c", via="webhook", after=20), None)
    (found,) = compared(lake).to_dicts()
    assert (found["polled"], found["pushed"], found["both"], found["pushed_first"]) == (3, 3, 3, 2)
    assert (found["lead_ms"], found["late_ms"], found["unconfirmed"]) == (5000, 20_000, 0)


def test_a_push_that_was_stored_first_was_first_even_if_it_was_read_later(lake):
    raw.append(lake, LOG, seen("a", "b", via="webhook", after=2), None)
    raw.append(lake, LOG, seen("a", via="poll", after=1), "1")
    raw.append(lake, LOG, seen("b", via="poll", after=4), "2")
    (found,) = compared(lake).to_dicts()
    assert (found["both"], found["pushed_first"], found["lead_ms"]) == (2, 2, 1000)


def test_a_polled_event_does_not_confirm_a_push_of_its_id_with_another_time(lake):
    """A window that is read again may contain both."""
    forged = seen("a", via="webhook", after=0).with_columns(pl.col("time") + timedelta(minutes=9))
    raw.append(lake, LOG, forged, None)
    for number, ids in enumerate((("a",), ("a", "zzzzzz"))):
        raw.append(lake, LOG, seen(*ids, via="poll", after=5), str(number))
    found = compared(lake, NOON + timedelta(days=1))
    assert (found["both"].sum(), found["unconfirmed"].sum()) == (0, 1)


def test_a_push_is_unconfirmed_only_once_polling_was_due(lake):
    raw.append(lake, LOG, seen("a", via="webhook", after=10), None)
    assert compared(lake, NOON + timedelta(seconds=10))["unconfirmed"].to_list() == [0]
    assert compared(lake, NOON + timedelta(seconds=11))["unconfirmed"].to_list() == [1]


def test_an_event_that_was_only_announced_is_counted_on_its_day(lake):
    raw.append(lake, LOG, seen("a", via="poll", after=0), "1")
    announced = seen("x", via="webhook", after=0).select("event_id", "time", "date", way="via",
                                                         seen_at="ingested_at")  # fmt: skip
    reconciliation.record(lake, {LOG: announced})
    (found,) = compared(lake).to_dicts()
    assert (found["polled"], found["pushed"], found["unconfirmed"]) == (1, 1, 1)


def test_a_second_arrival_is_recorded_once_per_stream_and_way(lake):
    other = StreamKey("okta-eu", LOG.stream)
    arrivals = seen("a", "b", via="poll", after=3).select("event_id", "time", "date", way="via",
                                                          seen_at="ingested_at")  # fmt: skip
    for _ in range(2):
        reconciliation.record(lake, {LOG: arrivals, other: arrivals.head(1)})
    reconciliation.record(lake, {})
    assert tables.open_table(lake, "echoes").version() == 1
    counts = [reconciliation.second_arrivals(lake, key, NOON.date()).height for key in (LOG, other)]
    assert counts == [2, 1]
    assert reconciliation.second_arrivals(lake, LOG, NOON.date() + timedelta(days=1)).is_empty()


def test_a_second_arrival_is_compared_with_those_of_its_time_only(lake, monkeypatch):
    for day in range(3):
        arrivals = batch(f"a{day}", day=day).with_columns(
            ingested_at=pl.lit(NOON, RAW["ingested_at"])
        )
        rows = arrivals.select("event_id", "time", "date", way="via", seen_at="ingested_at")
        reconciliation.record(lake, {LOG: rows})
    read, scan = [], pruning.scan

    def counted(lake, table, schema, files):
        read.append(files.height)
        return scan(lake, table, schema, files)

    monkeypatch.setattr(pruning, "scan", counted)
    reconciliation.record(lake, {LOG: rows})
    assert read == [1]
    assert reconciliation.second_arrivals(lake, LOG, NOON.date()).height == 3


def test_of_a_stream_that_has_no_rows_nothing_is_compared_or_written(lake):
    assert compared(lake).is_empty()
    reconciliation.write(lake, LOG, compared(lake))
    assert tables.open_table(lake, "reconciliation") is None


def test_the_result_of_one_stream_replaces_its_own_days_only(lake):
    other = StreamKey("okta-eu", LOG.stream)
    for day in range(2):
        raw.append(lake, LOG, batch(f"a{day}", day=day), f"{day}")
    raw.append(lake, other, batch("b"), "1")
    for key in (LOG, other):
        reconciliation.write(lake, key, reconciliation.compare(lake, key, NOON.date(), NOON))
    raw.append(lake, LOG, batch("a2", day=1), "2")
    newest = reconciliation.compare(lake, LOG, NOON.date() + timedelta(days=1), NOON)
    reconciliation.write(lake, LOG, newest)
    found = tables.scan(lake, "reconciliation").sort("integration", "date").collect()
    assert found.select("integration", "polled").rows() == [
        ("okta", 1),
        ("okta", 2),
        ("okta-eu", 1),
    ]
