"""Compare pushed with polled events: overlap, latency each way, and pushes never confirmed.

An event that arrives both ways is one row of raw, with the first way, and one row of `echoes`, with
the time it arrived the other way. Polling is authoritative: a push that polling should have
confirmed long ago was forged, or its event is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta

import polars as pl
from deltalake import DeltaTable

from pipelines.lake import commits, pruning, tables
from pipelines.lake.commits import DERIVED_PLAIN, Decision, Table
from pipelines.lake.tables import Lake, StreamKey
from pipelines.schemas import ECHOES, RECONCILED
from pipelines.sdk import record_versions
from pipelines.sdk.contract import Source, Stream

_DAYS = timedelta(days=7)
_GRACE = timedelta(hours=1)


def reconcile(lake: Lake, source: Source, stream: Stream, now: datetime) -> pl.DataFrame:
    """Compare the newest days of a stream (schemas.RECONCILED), and store and return the result."""
    key = StreamKey(source.name, stream.name)
    since = (now - _DAYS - stream.lag).date()
    found = compare(lake, key, since, now - stream.lag - _GRACE)
    write(lake, key, found)
    return found


def compare(lake: Lake, key: StreamKey, since: date, due: datetime) -> pl.DataFrame:
    """Return one row per day from `since` (schemas.RECONCILED).

    Events pushed before `due` should have been polled by now, and otherwise count as unconfirmed.
    """
    raw = tables.scan(lake, key.table)
    if raw is None:
        return pl.DataFrame(schema=RECONCILED)
    rows = (
        # Another version of a record is no other event: `echoes` has its arrival.
        raw.filter(pl.col("date") >= since, ~record_versions.is_later())
        .select("event_id", "date", "via", "ingested_at")
        .collect()
        # A full join, since an announced event may never have reached raw.
        .join(_echoes(lake, key, since), on="event_id", how="full", coalesce=True)
    )
    pushed = pl.col("via") == "webhook"
    ours = pl.lit(key.integration).alias("integration"), pl.lit(key.stream).alias("stream")
    return (
        rows.select(
            pl.coalesce("date", "echo_date").alias("date"),
            pl.when(pushed).then("ingested_at").otherwise("webhook").alias("pushed_at"),
            pl.when(pushed).then("poll").otherwise("ingested_at").alias("polled_at"),
            stored_by_push=pushed.fill_null(value=False),
        )
        .group_by("date")
        .agg(**_figures(due))
        .with_columns(*ours)
        .select(pl.col(name).cast(dtype) for name, dtype in RECONCILED.items())
        .sort("date")
    )


def _echoes(lake: Lake, key: StreamKey, since: date) -> pl.DataFrame:
    """Return one row per event: event_id, day, and when it was pushed or polled the other way."""
    found = second_arrivals(lake, key, since)
    return found.group_by("event_id").agg(
        pl.col("date").first().alias("echo_date"),
        *(pl.col("seen_at").filter(pl.col("way") == way).min().alias(way)
          for way in ("webhook", "poll")),
    )  # fmt: skip


def _figures(due: datetime) -> dict[str, pl.Expr]:
    pushed, polled = pl.col("pushed_at"), pl.col("polled_at")
    lead = (polled - pushed).dt.total_milliseconds()
    # Of two that arrive at once, the one in raw was first, although it may have been read later.
    first = (lead > 0) | (pl.col("stored_by_push") & lead.is_not_null())
    return {
        "polled": polled.count(),
        "pushed": pushed.count(),
        "both": lead.count(),
        "pushed_first": first.sum(),
        "lead_ms": lead.clip(0).filter(first).median(),
        "late_ms": (-lead).filter(~first).median(),
        "unconfirmed": (polled.is_null() & (pushed < due)).sum(),
    }


ECHOES_TABLE = Table(name="echoes", schema=ECHOES, about="When a known event arrived the other way")
RECONCILED_TABLE = Table(
    name="reconciliation",
    schema=RECONCILED,
    about="Pushed compared with polled events, per stream and day",
    partitions=(),
    settings=DERIVED_PLAIN,
)


def seen_both_ways(batch: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Return the records of `batch` that are `known` from the other way (schemas.ECHOES).

    Neither confirms the other if their times differ: somebody made one of them up.
    """
    pushed = pl.col("via") == "webhook"
    arrived = batch.filter(pl.col("via") != "replay")  # no arrival, but an earlier one
    mine = arrived.select("event_id", "time", "date", way=_way(pushed), seen_at="ingested_at")
    theirs = known.select("event_id", then="time", first=_way(pushed))
    apart = (pl.col("time") - pl.col("then")).abs()
    other = pl.col("way") != pl.col("first"), apart <= record_versions.SAME_TIME
    return mine.join(theirs, on="event_id").filter(*other).drop("first", "then")


def _way(pushed: pl.Expr) -> pl.Expr:
    return pl.when(pushed).then(pl.lit("webhook")).otherwise(pl.lit("poll"))


def record(lake: Lake, found: Mapping[StreamKey, pl.DataFrame]) -> None:
    """Record when events arrived the other way (schemas.ECHOES without the stream), each once."""
    unique = ["integration", "stream", "event_id", "way"]
    named = [
        rows.with_columns(integration=pl.lit(key.integration), stream=pl.lit(key.stream))
        for key, rows in found.items()
    ]
    rows = pl.concat(named).unique(unique, keep="first", maintain_order=True) if named else None
    if rows is None or rows.is_empty():
        return
    # One commit moves the fences of all these streams; `write` only has to know one of them.
    app = StreamKey(*rows.select("integration", "stream").row(0)).app

    def decide(handle: DeltaTable, done: int) -> Decision | None:
        files = pruning.of_days(pruning.files(handle), rows["date"].unique())
        files = pruning.overlapping(files, "time", rows["time"].min(), rows["time"].max())
        near = pruning.scan(lake, ECHOES_TABLE.name, ECHOES, files)
        known = near.filter(tables.same_times(rows)).select(unique).collect()
        fresh = rows.join(known, on=unique, how="anti", maintain_order="left")
        if fresh.is_empty():
            return None
        counts = fresh.group_by("integration", "stream").len()
        apps = [(StreamKey(*names).app, count) for *names, count in counts.iter_rows()]
        after = {each: commits.fence(handle, each) + count for each, count in apps}
        return Decision(fresh, after.get(app, done), also_fences=after)

    commits.write(lake, ECHOES_TABLE, app, decide, {})


def second_arrivals(lake: Lake, key: StreamKey, since: date) -> pl.DataFrame:
    """Return when events arrived the other way (schemas.ECHOES), for the days from `since`."""
    found = tables.scan(lake, ECHOES_TABLE.name)
    if found is None:
        return pl.DataFrame(schema=ECHOES)
    with tables.store_errors(ECHOES_TABLE.name):
        return found.filter(tables.of_stream(key), pl.col("date") >= since).collect()


def write(lake: Lake, key: StreamKey, rows: pl.DataFrame) -> None:
    """Replace the stored rows of these days (schemas.RECONCILED), unless they are equal."""
    if rows.is_empty():
        return

    def decide(handle: DeltaTable, done: int) -> Decision | None:
        wanted = rows.select(*RECONCILED).sort("date")
        same = tables.of_stream(key) & pl.col("date").is_in(wanted["date"].to_list())
        stored = pl.scan_delta(handle).filter(same).select(*RECONCILED).sort("date")
        if stored.collect().equals(wanted):
            return None
        return Decision(rows, done + 1, tables.replace_predicate(key, rows["date"], "1 = 1"))

    commits.write(lake, RECONCILED_TABLE, key.app, decide, {})
