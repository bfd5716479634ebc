"""Small batches of raw rows and of events."""

import hashlib
from datetime import UTC, datetime, timedelta

import polars as pl

from pipelines.lake import tables
from pipelines.lake.coverage import Entry
from pipelines.lake.events import Batch
from pipelines.lake.tables import StreamKey
from pipelines.schemas import EVENTS, RAW

LOG = StreamKey("okta", "system_log")
LOGS = [StreamKey("okta", f"log_{number}") for number in range(5)]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def batch(*ids, day=0):
    """Return raw rows without seq; equal IDs have equal times, as at the vendor."""
    raws = [f'{{"uuid":"{i}"}}' for i in ids]
    times = [NOON + timedelta(days=day, seconds=sum(map(ord, str(i)))) for i in ids]
    return pl.DataFrame(
        {
            "event_id": [str(i) for i in ids],
            "time": pl.Series(times, dtype=RAW["time"]),
            "ingested_at": [NOON] * len(ids),
            "via": ["poll"] * len(ids),
            "raw": raws,
            "raw_sha256": [hashlib.sha256(r.encode()).hexdigest() for r in raws],
        }
    ).with_columns(pl.col("time").dt.date().alias("date"))


def rows(lake):
    return tables.scan(lake, LOG.table).collect().sort("seq")


def entry(hour, **keys):
    span = {"since": NOON + timedelta(hours=hour), "until": NOON + timedelta(hours=hour + 1)}
    return Entry(**span, asked_at=NOON + timedelta(hours=hour + 1), **keys)


def part(log, first, until):
    """Return the events of the raw rows [first, until) of a stream, one each."""
    made = pl.DataFrame({"seq": range(first, until)}, {"seq": pl.Int64}).with_columns(
        pl.lit(None).cast(dtype).alias(name) for name, dtype in EVENTS.items() if name != "seq"
    )
    ours = {"integration": pl.lit(log.integration), "stream": pl.lit(log.stream)}
    return Batch(log, first, until, made.with_columns(**ours).select(*EVENTS))
