"""Pages become batches that are neither too large nor too old, and records become rows."""

from datetime import UTC, datetime

import polars as pl
import pytest

from pipelines import registry
from pipelines.errors import Unavailable
from pipelines.extraction import batches
from pipelines.mapping import normalise
from pipelines.sdk.pages import Page


def page(*records):
    return Page(records=records, cursor=str(len(records)))


def test_pages_are_grouped_until_a_batch_has_enough_records_or_bytes(monkeypatch):
    monkeypatch.setattr(batches, "_BATCH_RECORDS", 3)
    monkeypatch.setattr(batches, "_BATCH_BYTES", 100)
    large, small = page(b"x" * 100), page(b"1", b"2")
    found = list(batches.grouped([small, small, small, large, small]))
    assert found == [[small, small], [small, large], [small]]
    assert [batches.is_full(batch) for batch in found] == [True, True, False]


def test_pages_before_an_error_become_a_batch():
    def fail():
        yield page(b"1")
        raise Unavailable("down")

    grouped = batches.grouped(fail())
    assert next(grouped) == [page(b"1")]
    with pytest.raises(Unavailable):
        next(grouped)


def test_a_record_above_the_limit_has_a_fault_that_names_the_setting():
    source = registry.source(
        "okta", {"base_url": "https://a.okta.com", "api_token": "t" * 42, "record_megabytes": 1}
    )
    stream, now = source.streams()[0], datetime(2026, 3, 1, tzinfo=UTC)
    start = b'{"uuid":"1","published":"2026-03-01T00:00:00Z","x":"'
    records = [start + b"x" * size + b'"}' for size in (10, 2**20)]
    rows = normalise.read(stream, records, now, "poll")
    limited = batches.within_limit(source, rows)
    assert limited["fault"].to_list() == [None, "larger than record_megabytes = 1"]
    assert limited.filter(pl.col("fault").is_not_null())["bytes"].to_list() == records[1:]
