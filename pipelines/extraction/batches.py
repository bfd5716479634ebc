"""Pages become batches for a commit, and their records rows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

import polars as pl

from pipelines.errors import AuditlakeError
from pipelines.mapping import normalise
from pipelines.sdk.contract import Source
from pipelines.sdk.pages import Page

if TYPE_CHECKING:
    from pipelines.extraction.rounds import Round

_BATCH_RECORDS = 50_000
_BATCH_BYTES = 10 * 2**20
_BATCH_SECONDS = 5.0


def grouped(pages: Iterable[Page]) -> Iterator[list[Page]]:
    """Group pages into commits: enough records, or a few seconds' worth."""
    waiting: list[Page] = []
    started = time.monotonic()
    try:
        for page in pages:
            waiting.append(page)
            if is_full(waiting) or time.monotonic() - started > _BATCH_SECONDS:
                yield waiting
                waiting, started = [], time.monotonic()
    except AuditlakeError:
        # The pages before the error are complete, and their cursor resumes after them.
        yield waiting
        raise
    yield waiting


def is_full(pages: Sequence[Page]) -> bool:
    records = sum(len(page.records) for page in pages)
    size = sum(sum(map(len, page.records)) for page in pages)
    return records >= _BATCH_RECORDS or size >= _BATCH_BYTES


def split_rejected(
    this: Round, pages: Sequence[Page], now: datetime
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (raw rows, rejected rows) of the pages' records."""
    read = pl.concat(
        read_rows(this, [r for p in alike for r in p.records], now, time)
        for time, alike in groupby(pages, key=attrgetter("fallback_time"))
    )
    fault = pl.col("fault")
    rejected = read.filter(fault.is_not_null()).select(
        pl.lit(this.key.integration).alias("integration"),
        pl.lit(this.key.stream).alias("stream"),
        "ingested_at",
        fault.alias("reason"),
        pl.col("bytes").alias("raw"),
        "raw_sha256",
    )
    return read.filter(fault.is_null()).drop("fault", "bytes"), rejected


def read_rows(
    this: Round, records: Sequence[bytes], now: datetime, fallback: datetime | None
) -> pl.DataFrame:
    """Return the rows of records, as `normalise.read` does; those above the limit have a fault."""
    rows = normalise.read(this.stream, records, now, this.via, fallback)
    return within_limit(this.source, rows)


def within_limit(source: Source, rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with a fault for the records above `record_megabytes`."""
    most = source.settings.record_megabytes
    too_large = pl.col("bytes").bin.size() > most * 2**20
    fault = pl.lit(f"larger than record_megabytes = {most}")
    return rows.with_columns(fault=pl.when(too_large).then(fault).otherwise("fault"))
