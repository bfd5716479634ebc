"""The table `events`, derived from raw; the fence of a stream counts the raw rows derived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import NamedTuple

import polars as pl
from deltalake import DeltaTable

from pipelines.lake import commits, pruning, tables
from pipelines.lake.commits import DERIVED, Appended, Decision, Table
from pipelines.lake.tables import Lake, Numbered, StreamKey
from pipelines.lake.versions import Logged, listed
from pipelines.schemas import EVENTS

TABLE = Table(
    name="events",
    schema=EVENTS,
    about="Events of all integrations, derived from raw",
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
    superseded: Sequence[int] = (),
) -> Appended:
    """Commit the events of the raw rows [first, until) if these are the next rows to derive.

    Rows with an equal `record` are versions of one record, of which the newest replaces the others.
    `superseded` are rows that other versions of their records replace.
    """

    def decide(handle: DeltaTable, done: int) -> Decision | None:
        # Another writer has derived these rows, or has earlier rows to derive first.
        if done != first:
            return None
        if record is None and not superseded:
            return Decision(derive(), until)
        if record is None:
            fresh = derive().filter(~pl.col("seq").is_in(superseded))
            older = [seq for seq in superseded if seq < first]
        else:
            fresh = derive().filter(newest_version(record))
            older = _older(handle, key, fresh, record)
        if not older or fresh.is_empty():
            return Decision(fresh, until)
        condition = f"(seq >= {first} OR seq IN ({', '.join(map(str, older))}))"
        replaces = tables.replace_predicate(key, fresh["date"].unique(), condition)
        return Decision(fresh, until, replaces)

    return commits.write(lake, TABLE, key.app, decide, {})


class Batch(NamedTuple):
    """The events of the raw rows [first, until) of one stream."""

    key: StreamKey
    first: int
    until: int
    events: pl.DataFrame


def append_batches(lake: Lake, batches: Sequence[Batch]) -> set[StreamKey]:
    """Commit batches of different streams at once, and return the streams that were written.

    A batch is left out if its rows are not the next ones of its stream.
    """
    landed = set[StreamKey]()

    def decide(handle: DeltaTable, done: int) -> Decision | None:
        fit = [each for each in batches if commits.fence(handle, each.key.app) == each.first]
        # After a lost race this runs again, and other batches may fit.
        landed.clear()
        landed.update(each.key for each in fit)
        if not fit:
            return None
        after = {each.key.app: each.until for each in fit}
        rows = pl.concat([each.events for each in fit])
        return Decision(rows, after.get(batches[0].key.app, done), also_fences=after)

    commits.write(lake, TABLE, batches[0].key.app, decide, {})
    return landed


def replace(
    lake: Lake, key: StreamKey, day: date, seqs: range, derive: Callable[[int], pl.DataFrame]
) -> Appended:
    """Replace the events of the raw rows `seqs` of `day` by those that `derive` returns.

    `derive` receives the number of raw rows that have been derived: later rows do not count yet.
    If newer versions or a retention run have removed all of these events, nothing is written.
    """
    condition = f"seq >= {seqs.start} AND seq < {seqs.stop}"
    in_part = pl.col("date") == day, pl.col("seq").is_between(seqs.start, seqs.stop, "left")

    def decide(handle: DeltaTable, done: int) -> Decision | None:
        # The caller saw an earlier state of the table, so there may be nothing left to replace.
        stored = pl.scan_delta(handle).filter(tables.of_stream(key), *in_part)
        if stored.select("seq").head(1).collect().is_empty():
            return None
        return Decision(derive(done), done, tables.replace_predicate(key, [day], condition))

    return commits.write(lake, TABLE, key.app, decide, {})


def newest_version(record: pl.Expr) -> pl.Expr:
    """Return the condition for the newest version of each record."""
    return pl.col("seq") == pl.col("seq").max().over(record)


def snapshot(lake: Lake, key: StreamKey) -> tuple[pl.LazyFrame, int]:
    """Return the events of a stream and the number of raw rows derived, at one version."""
    handle = tables.newest(lake, TABLE.name)
    if handle is None:
        return pl.LazyFrame(schema=EVENTS), 0
    return pl.scan_delta(handle).filter(tables.of_stream(key)), commits.fence(handle, key.app)


def logged(lake: Lake) -> Logged | None:
    """Return the table as its log describes it, or None if it does not exist."""
    with tables.store_errors(TABLE.name):
        return listed(lake, TABLE.name, EVENTS)


def derived(lake: Lake, key: Numbered) -> int:
    """Return how many raw rows of a stream have been derived, from the first on."""
    with tables.borrowed(lake, TABLE.name) as handle:
        return 0 if handle is None else commits.fence(handle, key.app)


def files_of_day(lake: Lake, day: date) -> list[str]:
    """Return the names of the data files with the events of a day; a file never changes."""
    return pruning.files_of_day(lake, TABLE.name, day)


def behind(lake: Lake, key: StreamKey) -> bool:
    """Return whether some raw rows of a stream have no events yet."""
    with tables.borrowed(lake, key.table) as raw:
        rows = commits.fence(raw, key.app) if raw else 0
    return derived(lake, key) < rows


def _older(handle: DeltaTable, key: StreamKey, fresh: pl.DataFrame, record: pl.Expr) -> list[int]:
    """Return the seqs of stored rows whose records have newer versions in `fresh`."""
    if fresh.is_empty():
        return []
    # All versions of a record have the same time, which keeps the search small.
    found = (
        pl.scan_delta(handle)
        .filter(tables.of_stream(key), tables.same_times(fresh))
        .select("seq", record.alias("record"))
        .collect()
    )
    known = fresh.select(record.alias("record"))
    return found.join(known, on="record", how="semi")["seq"].unique().to_list()
