"""Per-file aggregates of `events` (the table `rollups`).

A data file of `events` never changes, so its aggregates stay correct as long as it exists, no
matter which other files are added or replaced. A reader adds up the aggregates of the files that
belong to the version it shows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import timedelta

import polars as pl

from pipelines import visible
from pipelines.lake import identity
from pipelines.schemas import ROLLUPS
from pipelines.search import fields
from pipelines.search.fields import SEARCHED, TARGETS
from pipelines.search.people import PERSON

WHO = "who"
"""The part that counts actors."""
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
    # Without an address, only an account with its integration and the date stands for a person.
    # Elsewhere `integration` is null, which halves the rows.
    WHO: ("actor_email", "actor_name", "actor_id", "integration"),
    "where": ("source_ip", "country"),
    "whom": ("target_name", "target_id"),
}
_UNCODED = "whom"
"""The part whose groups have no numbers: see row_codes."""
LAYOUT = 5
"""The layout of the aggregates of one file; those of another are computed again."""
FILES = "files"
"""The part of `rollups` with one row per data file."""
GRAIN = timedelta(hours=1)
"""The precision of `time` in a part."""
TEXTS = "texts"
"""The part with the trigrams of each searchable column."""
DISGUISED = "disguised"
"""In that part, the row of a file whose `grams` are the columns with deceptive characters."""
WHOM = "targets"
"""The part with each target of any event, in `target_name`, and how many events have it."""
IDENTITIES = "identities"
"""The part with the accounts that events show with an address."""
_MOST_GRAMS = 8192
_END = "\0"  # separates texts, and trigrams
_LOWER = [ord(chr(code).lower()) if code < 128 else 0 for code in range(256)]


def part_of(columns: Collection[str]) -> str | None:
    """Return the part that counts these columns together, or None."""
    if not columns:
        return FILES
    return next((name for name in PARTS if {*columns} <= {*readable(name)}), None)


def readable(part: str) -> tuple[str, ...]:
    """Return the columns that a part counts; persons take the place of their integrations."""
    columns = PARTS.get(part, ())
    if part != WHO:
        return columns
    return (*(name for name in columns if name != "integration"), PERSON)


def completed(rollups: pl.LazyFrame) -> pl.LazyFrame:
    """Return the rows with every column; those of older versions of auditlake have fewer."""
    lacking = ROLLUPS.keys() - rollups.collect_schema().keys()
    return rollups.with_columns(pl.lit(None, ROLLUPS[name]).alias(name) for name in lacking)


def counted(events: pl.LazyFrame, part: str, *by: str, grain: timedelta = GRAIN) -> pl.LazyFrame:
    """Return the number `n` of events per `by`, date and columns of the part."""
    grouped = in_groups(events, part, grain).group_by(*by, "date", *PARTS[part])
    return grouped.agg(n=pl.len().cast(pl.Int64))


def in_groups(events: pl.LazyFrame, part: str, grain: timedelta = GRAIN) -> pl.LazyFrame:
    """Return events with the columns of the part as its groups have them."""
    if "time" in PARTS[part]:
        events = events.with_columns(pl.col("time").dt.truncate(grain))
    if part == WHO:
        nameless = pl.col("actor_email").fill_null("") == ""
        events = events.with_columns(pl.when(nameless).then(pl.col("integration")))
    return events


def targets(events: pl.LazyFrame, *by: str) -> pl.LazyFrame:
    """Return the number `n` of events per `by` and target `value`, null for events without any."""
    counted = fields.exploded(events, fields.TARGET).group_by(*by, "value")
    return counted.agg(n=pl.len().cast(pl.Int64))


def rolled(events: pl.LazyFrame, trigrams: pl.DataFrame, groups: pl.DataFrame) -> pl.DataFrame:
    """Return rows of schemas.ROLLUPS for `events`, whose `file` and `path` name the data file.

    `trigrams` and `groups` have the rows of `texts` and of `row_codes.coded` for each of the files,
    with `file` and `date`.
    """
    files = events.group_by("file", "path", "date").agg(
        n=pl.len().cast(pl.Int64),
        since=pl.col("time").min(),
        until=pl.col("time").max(),
        held=pl.col("ingested_at").max(),
        layout=pl.lit(LAYOUT, pl.Int32),
    )
    counts = counted(events, _UNCODED, "file")
    accounts = identity.pairs(events, "file", "date")
    whom = targets(events, "file", "date").rename({"value": "target_name"})
    collected = pl.collect_all([files, counts, accounts, whom], engine="streaming")
    parts = (FILES, _UNCODED, IDENTITIES, WHOM, TEXTS)
    whole = [*map(_whole, parts, [*collected, trigrams]), _whole(None, groups)]
    return pl.concat(whole).sort("part", "file")


def grams(word: str) -> frozenset[str]:
    """Return the lower-case trigrams of an ASCII word; empty if trigrams cannot rule it out."""
    if not word.isascii() or _END in word:
        return frozenset()
    lower = word.lower()
    return frozenset(lower[place : place + 3] for place in range(len(lower) - 2))


def texts(events: pl.DataFrame) -> pl.DataFrame:
    """Return the trigrams of one data file, one row per searchable column: field, grams.

    If a trigram of an ASCII word is missing here, no text of the column contains that word, in any
    case, or looks as if it did. Null if there are too many trigrams to rule anything out. One more
    row, DISGUISED, names the columns that hold deceptive texts.
    """
    rows: list[tuple[str, str | None]] = []
    disguised = []
    for name, column in searched(events):
        distinct = column.drop_nulls().unique()
        seen = visible.seen(distinct).drop_nulls()
        if seen.len():
            disguised.append(name)
        rows.append((name, _grams(pl.concat([distinct, seen]))))
    rows.append((DISGUISED, _END.join(disguised)))
    return pl.DataFrame(rows, schema={"field": pl.String, "grams": pl.String}, orient="row")


def disguised(grams: str) -> list[str]:
    """Return the columns that a row DISGUISED names."""
    return grams.split(_END) if grams else []


def searched(events: pl.DataFrame) -> Iterator[tuple[str, pl.Series]]:
    """Yield the name and the texts of each column that a search covers."""
    yield from ((name, events[name]) for name in SEARCHED)
    # A name that equals `target_name` is found in that column already.
    names = (
        events.select("target_name", TARGETS)
        .explode(TARGETS)
        .select("target_name", name=pl.col(TARGETS).struct.field("name"))
    )
    yield TARGETS, names.filter(pl.col("name").ne_missing(pl.col("target_name")))["name"]


def _grams(distinct: pl.Series) -> str | None:
    import numpy as np  # noqa: PLC0415 slow to import, and most commands need none

    text = distinct.str.join(_END).item() or ""
    # Each trigram is a number of 21 bits, so a bitmap of 2 MiB finds the distinct ones.
    codes = np.array(_LOWER, np.int32)[np.frombuffer(text.encode(), np.uint8)]
    found = np.zeros(1 << 21, bool)
    found[(codes[:-2] << 14) | (codes[1:-1] << 7) | codes[2:]] = True
    runs = [(code >> 14, code >> 7 & 127, code & 127) for code in np.flatnonzero(found).tolist()]
    whole = ["".join(map(chr, run)) for run in runs if all(run)]
    return _END.join(whole) if len(whole) <= _MOST_GRAMS else None


def _whole(part: str | None, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with every column of schemas.ROLLUPS; null where they have none.

    Without a part given, the rows name it themselves.
    """
    present = {"part": pl.lit(part), **{name: pl.col(name) for name in rows.columns}}
    return rows.select(
        present.get(name, pl.lit(None)).cast(dtype).alias(name) for name, dtype in ROLLUPS.items()
    )
