"""What the events of a data file add up to, counted by what they say.

A data file of `events` never changes: its sums stay true for as long as it is there, whatever is
appended, replaced or compacted beside it. So they are kept by file in the table `rollups`, and a
reader adds up those of the very files of the version it shows.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

import polars as pl

from pipelines.event import ROLLUPS

PARTS: dict[str, tuple[str, ...]] = {
    "what": (
        "time",
        "integration",
        "kind",
        "stream",
        "activity_type",
        "action_type",
        "action",
        "outcome",
    ),
    "who": ("actor_email", "actor_name", "actor_id"),
    "where": ("source_ip", "country"),
    "whom": ("target_name", "target_id"),
}
FILES = "files"
"""The part of `rollups` that has one row a data file."""
GRAIN = timedelta(hours=1)
"""So exact is `time` in a part."""


def part_of(columns: Collection[str]) -> str | None:
    """The part that tells of all these columns together."""
    if not columns:
        return FILES
    return next((name for name, known in PARTS.items() if {*columns} <= {*known}), None)


def counted(events: pl.LazyFrame, part: str, *by: str, grain: timedelta = GRAIN) -> pl.LazyFrame:
    """How many events say the same: `by`, date, the part's columns, n."""
    columns = PARTS[part]
    if "time" in columns:
        events = events.with_columns(pl.col("time").dt.truncate(grain))
    return events.group_by(*by, "date", *columns).agg(n=pl.len().cast(pl.Int64))


def rolled(events: pl.LazyFrame) -> pl.DataFrame:
    """Rows of event.ROLLUPS; `events` says in `file` and `path` where each lies."""
    files = events.group_by("file", "path", "date").agg(
        n=pl.len().cast(pl.Int64),
        since=pl.col("time").min(),
        until=pl.col("time").max(),
        held=pl.col("ingested_at").max(),
    )
    counts = [counted(events, part, "file") for part in PARTS]
    collected = pl.collect_all([files, *counts], engine="streaming")
    return pl.concat(map(_whole, (FILES, *PARTS), collected)).sort("part", "file")


def _whole(part: str, rows: pl.DataFrame) -> pl.DataFrame:
    """With every column of event.ROLLUPS, null where the part says nothing of it."""
    said = {"part": pl.lit(part), **{name: pl.col(name) for name in rows.columns}}
    return rows.select(
        said.get(name, pl.lit(None)).cast(dtype).alias(name) for name, dtype in ROLLUPS.items()
    )
