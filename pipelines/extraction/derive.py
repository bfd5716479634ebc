"""Derive `events` from raw rows: map and commit, each raw row once and in order."""

from __future__ import annotations

from collections import Counter

import polars as pl

from pipelines.extraction.report import Report
from pipelines.lake import events as events_table
from pipelines.lake import group_commit
from pipelines.lake import raw as raw_table
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import normalise
from pipelines.sdk.contract import Source, Stream

_DERIVE_ROWS = 20_000
_GROUP_COMMIT_ROWS = 2000


def catch_up(
    lake: Lake, source: Source, stream: Stream, report: Report, rows: int | None = None
) -> None:
    """Derive the events of raw rows that have none yet, for example after a kill.

    `rows` is the number of raw rows to reach; by default all there are.
    """
    key = StreamKey(source.name, stream.name)
    rows = raw_table.position_only(lake, key).rows if rows is None else rows
    # Read again each time, since another writer may have derived some of them meanwhile.
    while (done := events_table.derived(lake, key)) < rows:
        seqs = range(done, min(done + _DERIVE_ROWS, rows))
        waiting = raw_table.rows(lake, key, seqs.start, seqs.stop)
        derive(lake, source, stream, waiting, report, seqs=seqs)


def derive(
    lake: Lake,
    source: Source,
    stream: Stream,
    raw: pl.DataFrame,
    report: Report,
    *,
    seqs: range | None = None,
) -> bool:
    """Commit the events of these raw rows, which are all that retention left of `seqs`.

    Return False if another writer has committed them, or has to commit earlier ones first.
    """
    with report.timed("map"):
        found = normalise.normalise(source.name, source.integration, stream, raw)
    key, record = StreamKey(source.name, stream.name), normalise.version_of(stream)
    events = found.events
    seqs = range(raw["seq"][0], raw["seq"][-1] + 1) if seqs is None else seqs
    superseded = raw_table.superseded(lake, key, raw, seqs.stop)
    with report.timed("write events"):
        # Newer versions of a record replace rows, which a group commit cannot do.
        if record is None and not superseded and len(seqs) <= _GROUP_COMMIT_ROWS:
            batch = events_table.Batch(key, seqs.start, seqs.stop, events)
            landed = events.height if group_commit.append(lake, batch) else 0
        else:
            landed = events_table.append(
                *(lake, key, seqs.start, seqs.stop, lambda: events),
                record=record,
                superseded=superseded,
            ).frame.height
    report.events += landed
    if landed:
        report.faults = dict(found.faults + Counter(report.faults))
    return landed > 0
