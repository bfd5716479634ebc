"""Deriving events again, after a mapping has changed, from raw alone.

What is stale is asked of `events` itself, so nothing remembers how far a run came: one that was
killed is simply run again. A part (a stream's day, or what of it fits in memory) is replaced in one
commit behind the fence that polls use, so a reader sees a part's old rows or its new ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from random import Random

import polars as pl

from pipelines.errors import LakeError
from pipelines.lake import events
from pipelines.lake import raw as raw_table
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import normalise
from pipelines.schemas import EVENTS
from pipelines.sdk.contract import Source, Stream

_PART = 100_000
_SAMPLED_DAYS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DayPart:
    """Raw rows of one stream and day whose events are derived together."""

    day: date
    seqs: range
    """The rows lie in this range of `seq`; those of other days between them do not count."""
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A part that has been committed."""

    part: DayPart
    events: int
    left: int
    """Raw rows that are still to be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What stored events say beside what a fresh derivation says."""

    events: int
    """How many were compared."""
    stale: int
    """Rows of another mapping_version: to be renormalised, and not compared."""
    missing: int
    """Events that raw gives and `events` lacks."""
    surplus: int
    """Events that `events` holds and raw does not give."""
    differing: Counter[str]
    """Column -> in how many events it differs."""

    @property
    def sound(self) -> bool:
        return not (self.missing or self.surplus or self.differing)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The events of one stream beside the raw rows they come from."""

    lake: Lake
    source: Source
    stream: Stream

    @property
    def key(self) -> StreamKey:
        return StreamKey(self.source.name, self.stream.name)

    @property
    def version(self) -> int:
        return self.source.integration.mapping_version

    def raw(self, days: Sequence[date], done: int) -> pl.LazyFrame:
        """The raw rows of `days`, among the first `done`, that `events` is to show."""
        record = normalise.version_of(self.stream)
        return raw_table.rows_of_days(self.lake, self.key, days, done, record)

    def derive(self, raw: pl.LazyFrame) -> pl.DataFrame:
        rows = raw.sort("seq").collect()
        source = self.source
        return normalise.normalise(source.name, source.integration, self.stream, rows).events


def histories(lake: Lake, source: Source) -> list[History]:
    """All streams the settings allow, also those that are no longer asked for."""
    streams = source.integration.streams(source.settings)
    return [History(lake=lake, source=source, stream=stream) for stream in streams]


def renormalise(history: History, *, everything: bool = False) -> Iterator[Done]:
    """Derive anew what another mapping made, or `everything`; part by part, newest day first."""
    todo = parts(history, everything=everything)
    left = sum(part.rows for part in todo)
    for part in todo:
        left -= part.rows
        yield Done(part=part, events=_replace(history, part), left=left)


def parts(history: History, *, everything: bool = False) -> list[DayPart]:
    """What there is to derive anew, newest day first."""
    wanted = pl.lit(everything) | pl.col("mapping_version").ne_missing(history.version)
    stored, _ = events.snapshot(history.lake, history.key)
    found = (
        stored.filter(wanted)
        .select("date", "seq")
        .unique()
        .sort("date", "seq")
        .with_columns(part=pl.int_range(pl.len()).over("date") // _PART)
        .group_by("date", "part")
        .agg(first=pl.col("seq").min(), last=pl.col("seq").max(), rows=pl.len())
        .sort("date", "part", descending=True)
        .collect()
    )
    return [
        DayPart(day=day, seqs=range(first, last + 1), rows=rows)
        for day, _, first, last, rows in found.iter_rows()
    ]


def _replace(history: History, part: DayPart) -> int:
    among = pl.col("seq").is_between(part.seqs.start, part.seqs.stop, "left")

    def derive(done: int) -> pl.DataFrame:
        fresh = history.derive(history.raw([part.day], done).filter(among))
        if fresh.is_empty():
            raise LakeError(f"{history.key.table} lost its rows of {part.day}: events keep theirs")
        return fresh

    return events.replace(history.lake, history.key, part.day, part.seqs, derive).frame.height


def check(history: History, *, rows: int, seed: int) -> Comparison:
    """Compare the events of some raw rows, picked by `seed` from some days, with what is stored."""
    stored, done = events.snapshot(history.lake, history.key)
    days = raw_table.days(history.lake, history.key)
    days = Random(seed).sample(days, min(_SAMPLED_DAYS, len(days)))  # noqa: S311 no secret
    raw = history.raw(days, done)
    seqs = raw.select("seq").collect()["seq"]
    picked = pl.col("seq").is_in(seqs.sample(min(rows, seqs.len()), seed=seed).implode())
    some = stored.filter(pl.col("date").is_in(days), picked).collect()
    return compare(some, history.derive(raw.filter(picked)), history.version)


def compare(stored: pl.DataFrame, fresh: pl.DataFrame, version: int) -> Comparison:
    """The verdict over events of the same raw rows, `fresh` being made by mapping `version`."""
    stale = stored.filter(pl.col("mapping_version").ne_missing(version))
    current = stored.join(stale, on="seq", how="anti")
    expected = fresh.join(stale, on="seq", how="anti")
    both = current.join(expected, on="event_uid", suffix=" fresh")
    differing = {
        name: both.filter(pl.col(name).ne_missing(pl.col(f"{name} fresh"))).height
        for name in EVENTS
        if name != "event_uid"
    }
    return Comparison(
        events=both.height,
        stale=stale.height,
        missing=expected.height - both.height,
        surplus=current.height - both.height,
        differing=Counter({name: count for name, count in differing.items() if count}),
    )
