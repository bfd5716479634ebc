"""What the events of a data file add up to, counted by what they say.

A data file of `events` never changes: its sums stay true for as long as it is there, whatever is
appended, replaced or compacted beside it. So they are kept by file in the table `rollups`, and a
reader adds up those of the very files of the version it shows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import timedelta

import numpy as np
import polars as pl

from pipelines.schemas import ROLLUPS

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
TEXTS = "texts"
"""The part that tells of which runs of three characters the texts of a column are made."""
TARGETS = "targets"
SEARCHED = (
    "message",
    "action",
    "activity_type",
    "action_type",
    "actor_email",
    "actor_name",
    "actor_id",
    "target_name",
    "target_id",
    "source_ip",
    "user_agent",
    "outcome_reason",
    "integration",
    "event_id",
    "session_id",
    "correlation_id",
)
"""The columns in which a word is looked for; and in the names of `targets`."""
_MOST_GRAMS = 8192
_END = "\0"  # of a text, and of a run of characters
_LOWER = np.array([ord(chr(code).lower()) if code < 128 else 0 for code in range(256)], np.int32)


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


def rolled(events: pl.LazyFrame, told: pl.DataFrame) -> pl.DataFrame:
    """Rows of schemas.ROLLUPS; `events` says in `file` and `path` where each lies.

    `told` is what `texts` says of each of the files, with its `file` and `date`.
    """
    files = events.group_by("file", "path", "date").agg(
        n=pl.len().cast(pl.Int64),
        since=pl.col("time").min(),
        until=pl.col("time").max(),
        held=pl.col("ingested_at").max(),
    )
    counts = [counted(events, part, "file") for part in PARTS]
    collected = pl.collect_all([files, *counts], engine="streaming")
    return pl.concat(map(_whole, (FILES, *PARTS, TEXTS), [*collected, told])).sort("part", "file")


def grams(word: str) -> frozenset[str]:
    """The runs of three characters in `word`, as texts tell them; none where they cannot tell."""
    if not word.isascii() or _END in word:
        return frozenset()
    lower = word.lower()
    return frozenset(lower[place : place + 3] for place in range(len(lower) - 2))


def texts(events: pl.DataFrame) -> pl.DataFrame:
    """Of one data file a row a searched column: field, grams.

    No text of that column holds an ASCII word of which a run of three is not among the grams,
    whatever the case. Too many to be of use are null.
    """
    rows = [(name, _grams(column)) for name, column in _texts(events)]
    return pl.DataFrame(rows, schema={"field": pl.String, "grams": pl.String}, orient="row")


def _texts(events: pl.DataFrame) -> Iterator[tuple[str, pl.Series]]:
    yield from ((name, events[name]) for name in SEARCHED)
    # What `target_name` says too is found there.
    names = (
        events.select("target_name", TARGETS)
        .explode(TARGETS)
        .select("target_name", name=pl.col(TARGETS).struct.field("name"))
    )
    yield TARGETS, names.filter(pl.col("name").ne_missing(pl.col("target_name")))["name"]


def _grams(column: pl.Series) -> str | None:
    text = column.drop_nulls().unique().str.join(_END).item() or ""
    codes = _LOWER[np.frombuffer(text.encode(), np.uint8)]
    found = np.zeros(1 << 21, bool)
    found[(codes[:-2] << 14) | (codes[1:-1] << 7) | codes[2:]] = True
    runs = [(code >> 14, code >> 7 & 127, code & 127) for code in np.flatnonzero(found).tolist()]
    whole = ["".join(map(chr, run)) for run in runs if all(run)]
    return _END.join(whole) if len(whole) <= _MOST_GRAMS else None


def _whole(part: str, rows: pl.DataFrame) -> pl.DataFrame:
    """With every column of schemas.ROLLUPS, null where the part says nothing of it."""
    said = {"part": pl.lit(part), **{name: pl.col(name) for name in rows.columns}}
    return rows.select(
        said.get(name, pl.lit(None)).cast(dtype).alias(name) for name, dtype in ROLLUPS.items()
    )
