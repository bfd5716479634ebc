"""The table `events`: rows derived from raw, per stream fenced by the raw rows they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import NamedTuple

import polars as pl
from deltalake import DeltaTable

from pipelines.lake import commits, tables
from pipelines.lake.commits import DERIVED, Appended, Decision, Table
from pipelines.lake.tables import Lake, StreamKey
from pipelines.schemas import EVENTS

TABLE = Table(
    name="events",
    schema=EVENTS,
    about="Events of all integrations, from raw",
    settings=DERIVED,
)


def append(
    lake: Lake,
    key: StreamKey,
    first: int,
    until: int,
    derive: Callable[[], pl.DataFrame],
    *,
    record: pl.Expr | None = None,
) -> Appended:
    """Commit the events of the raw rows from `first` up to `until`, unless they are there.

    Rows for which `record` is equal are versions of one record: the newest replaces the others.
    """

    def decide(handle: DeltaTable, done: int) -> Decision | None:
        if done != first:
            return None
        if record is None:
            return Decision(derive(), until)
        fresh = derive().filter(newest_version(record))
        older = _older(handle, key, fresh, record)
        among = f"(seq >= {first} OR seq IN ({', '.join(map(str, older))}))"
        instead_of = tables.replace_predicate(key, fresh["date"].unique(), among) if older else None
        return Decision(fresh, until, instead_of)

    return commits.write(lake, TABLE, key.app, decide, {})


class Batch(NamedTuple):
    """The events of the raw rows of `log` from `first` up to `until`."""

    key: StreamKey
    first: int
    until: int
    events: pl.DataFrame


def append_batches(lake: Lake, parts: Sequence[Batch]) -> set[StreamKey]:
    """Commit events of different logs at once; those whose turn it was not are left out."""
    landed = set[StreamKey]()

    def decide(handle: DeltaTable, done: int) -> Decision | None:
        fit = [part for part in parts if commits.fence(handle, part.key.app) == part.first]
        landed.clear()
        landed.update(part.key for part in fit)
        after = {part.key.app: part.until for part in fit}
        rows = pl.concat([part.events for part in fit]) if fit else pl.DataFrame()
        return Decision(rows, after.get(parts[0].key.app, done), beside=after) if fit else None

    commits.write(lake, TABLE, parts[0].key.app, decide, {})
    return landed


def replace(
    lake: Lake, key: StreamKey, day: date, seqs: range, derive: Callable[[int], pl.DataFrame]
) -> Appended:
    """Commit the events of the raw rows `seqs` of `day` anew, in place of those there are.

    `derive` is given the number of raw rows that have their events: later rows do not count yet.
    Where newer versions or a retention run have taken all of these events away, nothing is written.
    """
    among = f"seq >= {seqs.start} AND seq < {seqs.stop}"
    in_part = pl.col("date") == day, pl.col("seq").is_between(seqs.start, seqs.stop, "left")

    def decide(handle: DeltaTable, done: int) -> Decision | None:
        # The caller saw an earlier state of the table, so there may be nothing left to replace.
        stored = pl.scan_delta(handle).filter(tables.of_stream(key), *in_part)
        if stored.select("seq").head(1).collect().is_empty():
            return None
        return Decision(derive(done), done, tables.replace_predicate(key, [day], among))

    return commits.write(lake, TABLE, key.app, decide, {})


def newest_version(record: pl.Expr) -> pl.Expr:
    """Is this row of the newest version of its record?"""
    return pl.col("seq") == pl.col("seq").max().over(record)


def snapshot(lake: Lake, key: StreamKey) -> tuple[pl.LazyFrame, int]:
    """The events of `log` and how many raw rows they stand for, as of one moment."""
    handle = tables.open_table(lake, TABLE.name)
    if handle is None:
        return pl.LazyFrame(schema=EVENTS), 0
    return pl.scan_delta(handle).filter(tables.of_stream(key)), commits.fence(handle, key.app)


def derived(lake: Lake, key: StreamKey) -> int:
    """How many rows of `log` have their events in `events`."""
    with tables.borrowed(lake, TABLE.name) as handle:
        return 0 if handle is None else commits.fence(handle, key.app)


def _older(handle: DeltaTable, key: StreamKey, fresh: pl.DataFrame, record: pl.Expr) -> list[int]:
    """`seq` of the rows whose records `fresh` holds newer versions of; they have the same time."""
    if fresh.is_empty():
        return []
    found = (
        pl.scan_delta(handle)
        .filter(tables.of_stream(key), tables.same_times(fresh))
        .select("seq", record.alias("record"))
        .collect()
    )
    known = fresh.select(record.alias("record"))
    return found.join(known, on="record", how="semi")["seq"].unique().to_list()
