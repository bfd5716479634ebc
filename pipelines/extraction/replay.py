"""Replay: retry the records in `rejected` after a fix."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from pipelines.extraction import batches, derive
from pipelines.extraction import report as reports
from pipelines.extraction.report import Report
from pipelines.integrity import erased_ids, signer
from pipelines.lake import raw
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import normalise
from pipelines.sdk.contract import Source, Stream


def retry_rejected(lake: Lake, source: Source, stream: Stream, now: datetime) -> Report:
    """Store the rejected records that can be read now, each once, and return the report.

    `rejected` keeps its rows; a record that has landed since is recognised by its hash. How they
    arrived is not known, so they give way to polled records of the same id.
    """
    key = StreamKey(source.name, stream.name)
    report = Report(integration=key.integration, stream=key.stream)
    waiting = raw.still_rejected(lake, key)
    read = normalise.read(stream, waiting["raw"].to_list(), now, "replay")
    read = batches.within_limit(source, read)
    good = read.filter(pl.col("fault").is_null()).drop("fault", "bytes")
    good = erased_ids.without(lake, key, good, normalise.version_of(stream))
    landed = raw.append(lake, key, good, None, rules=stream.versions)
    reports.count(report, landed, good.height)
    report.rejected = waiting.height - good.height
    report.total = raw.position_only(lake, key).rows
    signer.sign(lake, key, report.total, now)
    derive.catch_up(lake, source, stream, report, report.total)
    return report
