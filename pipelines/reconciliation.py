"""What was pushed against what was polled: how much, how late each way, and what never came true.

An event that came both ways is one row of raw, which says how it came first, and one of `echoes`,
which says when it came the other way. Polling is the truth: what only a push has told, long after
polling should have shown it, was forged or is gone.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

import polars as pl

from pipelines import lake as lakes
from pipelines.lake import Lake, Log
from pipelines.schemas import RECONCILED
from pipelines.sdk.contract import Source, Stream

_DAYS = timedelta(days=7)
_PATIENCE = timedelta(hours=1)


def reconcile(lake: Lake, source: Source, stream: Stream, now: datetime) -> pl.DataFrame:
    """The newest days of a stream (schemas.RECONCILED), as they are now; also in the lake's table."""
    log = Log(source.name, stream.name)
    since = (now - _DAYS - stream.lag).date()
    found = compare(lake, log, since, now - stream.lag - _PATIENCE)
    lakes.write_reconciled(lake, log, found)
    return found


def compare(lake: Lake, log: Log, since: date, due: datetime) -> pl.DataFrame:
    """Day by day from `since` on; what was pushed before `due` should have been polled by now."""
    raw = lakes.scan(lake, log.table)
    if raw is None:
        return pl.DataFrame(schema=RECONCILED)
    rows = (
        raw.filter(pl.col("date") >= since)
        .select("event_id", "date", "via", "ingested_at")
        .collect()
        .join(_echoes(lake, log, since), on="event_id", how="full", coalesce=True)
    )
    pushed = pl.col("via") == "webhook"
    ours = pl.lit(log.integration).alias("integration"), pl.lit(log.stream).alias("stream")
    return (
        rows.select(
            pl.coalesce("date", "told_date").alias("date"),
            pl.when(pushed).then("ingested_at").otherwise("webhook").alias("pushed_at"),
            pl.when(pushed).then("poll").otherwise("ingested_at").alias("polled_at"),
        )
        .group_by("date")
        .agg(**_figures(due))
        .with_columns(*ours)
        .select(pl.col(name).cast(dtype) for name, dtype in RECONCILED.items())
        .sort("date")
    )


def _echoes(lake: Lake, log: Log, since: date) -> pl.DataFrame:
    """(event_id, day, when it was pushed or polled the other time), a row an event."""
    found = lakes.echoes(lake, log, since)
    return found.group_by("event_id").agg(
        pl.col("date").first().alias("told_date"),
        *(pl.col("seen_at").filter(pl.col("way") == way).min().alias(way)
          for way in ("webhook", "poll")),
    )  # fmt: skip


def _figures(due: datetime) -> dict[str, pl.Expr]:
    pushed, polled = pl.col("pushed_at"), pl.col("polled_at")
    lead = (polled - pushed).dt.total_milliseconds()
    first = lead > 0
    return {
        "polled": polled.count(),
        "pushed": pushed.count(),
        "both": lead.count(),
        "pushed_first": first.sum(),
        "lead_ms": lead.filter(first).median(),
        "late_ms": (-lead).filter(~first).median(),
        "unconfirmed": (polled.is_null() & (pushed < due)).sum(),
    }
