"""From raw rows to `events`: map and commit, each raw row once and in order."""

from __future__ import annotations

from collections import Counter

import polars as pl

from pipelines.extraction.report import Report
from pipelines.lake import events as events_table
from pipelines.lake import group_commit, raw
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import normalise
from pipelines.sdk.contract import Source, Stream

_DERIVE_ROWS = 20_000
_GATHERED_ROWS = 2000


def catch_up(
    lake: Lake, source: Source, stream: Stream, report: Report, rows: int | None = None
) -> None:
    """Derive the events of raw rows that have none yet, such as after a kill between the two.

    `rows`: how many there are, where that is known.
    """
    key = StreamKey(source.name, stream.name)
    rows = raw.position(lake, key).rows if rows is None else rows
    # Asked anew each time: another writer may have derived some of them meanwhile.
    while (done := events_table.derived(lake, key)) < rows:
        seqs = range(done, min(done + _DERIVE_ROWS, rows))
        waiting = raw.rows(lake, key, seqs.start, seqs.stop)
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
    """Commit the events of these raw rows, which are all that is left of `seqs`.

    Return False where another writer did, or has to commit those of earlier rows first.
    """
    with report.timed("map"):
        found = normalise.normalise(source.name, source.integration, stream, raw)
    key, record, events = (
        StreamKey(source.name, stream.name),
        normalise.version_of(stream),
        found.events,
    )
    seqs = range(raw["seq"][0], raw["seq"][-1] + 1) if seqs is None else seqs
    with report.timed("write events"):
        if record is None and len(seqs) <= _GATHERED_ROWS:
            part = events_table.Batch(key, seqs.start, seqs.stop, events)
            landed = events.height if group_commit.append(lake, part) else 0
        else:
            landed = events_table.append(
                lake, key, seqs.start, seqs.stop, lambda: events, record=record
            ).frame.height
    report.events += landed
    if landed:
        report.faults = dict(found.faults + Counter(report.faults))
    return landed > 0
