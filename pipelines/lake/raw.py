"""The raw tables: records as received, committed together with the cursor of their stream."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import NamedTuple

import polars as pl
from deltalake import DeltaTable

from pipelines.clock import utc_now
from pipelines.lake import (
    commits,
    coverage,
    events,
    known_records,
    object_store,
    pruning,
    reconciliation,
    tables,
)
from pipelines.lake.commits import ROWS, Appended, Decision, Table
from pipelines.lake.coverage import ENTRIES, Entry, LastRecorded
from pipelines.lake.tables import Lake, Numbered, StreamKey
from pipelines.lake.versions import Logged, TableVersion, glimpsed, logged, newest
from pipelines.schemas import RAW, REJECTED
from pipelines.sdk import record_versions
from pipelines.sdk.record_versions import Comparison

_CURSOR = "auditlake.cursor"
_QUANTILES = (0.9, 0.99, 0.999)
_MIN_SAMPLE = 100
_PLAIN = Comparison()
_VERSION = ("event_id", "time", "via", "seq", "raw")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The position of a stream: the rows it has, and the cursor that resumes after them."""

    rows: int = 0
    cursor: str | None = None
    version: int = -1
    about: str = ""
    """The service and address the table was created for."""
    recorded_at: datetime | None = None
    """When an entry of this stream was last written to `coverage`."""
    failing: bool = False
    """Whether that entry is a failure."""


_FOLDER = "raw"
REJECTED_TABLE = Table(
    name="rejected", schema=REJECTED, about="Records that could not be read", partitions=()
)


def position(lake: Lake, key: StreamKey) -> Position:
    """Return the position of a stream; `cursor` is None if it is new or its cursor is lost."""
    recorded = coverage.last_recorded(lake, key)
    with tables.store_errors(key.table), glimpsed(lake, key.table, RAW) as table:
        return _position(table, key, recorded)


def position_only(lake: Lake, key: StreamKey) -> Position:
    """Return the position from the raw table alone, without opening `coverage`."""
    with tables.store_errors(key.table), glimpsed(lake, key.table, RAW) as table:
        return _position(table, key, LastRecorded())


def _position(table: Logged | None, key: StreamKey, recorded: LastRecorded) -> Position:
    if table is None:
        return Position(cursor=recorded.cursor, recorded_at=recorded.at, failing=recorded.failed)
    rows, cursor = table.answer("cursor", partial(_committed_cursor, table))
    # A quiet round stores its cursor in `coverage` only; with equal rows, that one is newer.
    newer = recorded.cursor if recorded.rows >= rows else None
    return Position(
        rows=table.fence(key.app),
        cursor=newer or cursor,
        version=table.number,
        about=table.description,
        recorded_at=recorded.at,
        failing=recorded.failed,
    )


def append(
    lake: Lake,
    key: StreamKey,
    batch: pl.DataFrame,
    cursor: str | None,
    *,
    about: str = "",
    entries: Sequence[Entry] = (),
    rules: Comparison = _PLAIN,
) -> Appended:
    """Commit the new rows of `batch` (schemas.RAW without `seq`) with `cursor` and `entries`.

    Records that are already stored are skipped; if none is left, nothing is written. One whose id
    is stored with other content, as compared by `rules`, becomes a later version of the record.
    Without a cursor the position stays the same. Events that were pushed before and are now polled,
    or the other way round, are recorded in `echoes`.
    """
    metadata = {_CURSOR: cursor} if cursor else {}
    if entries:
        metadata[ENTRIES] = json.dumps([asdict(entry) for entry in entries], default=str)

    def decide(handle: DeltaTable, rows: int) -> Decision | None:
        known = known_records.stored(lake, handle if rows else None, batch)
        fresh = known_records.fresh(lake.uri(key.table), batch, known, rules)
        if known.ids.height:
            # Before the position moves: after a kill, the same records are fetched again.
            reconciliation.record(lake, {key: reconciliation.seen_both_ways(batch, known.ids)})
        if fresh.is_empty():
            return None
        if cursor is None:
            # Each commit repeats the cursor, so the newest one is enough to find the position.
            current = _position(TableVersion(handle), key, coverage.last_recorded(lake, key)).cursor
            metadata.update({_CURSOR: current} if current else {})
        seq = pl.int_range(rows, rows + pl.len(), dtype=pl.Int64).alias("seq")
        return Decision(fresh.with_columns(seq), rows + fresh.height)

    table = Table(name=key.table, schema=RAW, about=about)
    return commits.write(lake, table, key.app, decide, metadata)


def flush_coverage(lake: Lake, key: StreamKey) -> None:
    """Copy cursor and coverage out of the commit log before it is trimmed."""
    recorded = coverage.last_recorded(lake, key)
    cursor = position(lake, key).cursor
    if cursor is None or cursor == recorded.cursor:
        coverage.record(lake, key)
        return
    at = recorded.at or utc_now()
    # An empty span covers nothing: this entry only carries the cursor.
    coverage.record(lake, key, [Entry(since=at, until=at, asked_at=at)], cursor)


def append_rejected(lake: Lake, key: StreamKey, batch: pl.DataFrame) -> Appended:
    """Commit the records that could not be read (schemas.REJECTED), each once."""
    batch = batch.unique("raw_sha256", keep="first", maintain_order=True)

    def decide(handle: DeltaTable, done: int) -> Decision | None:
        known = pl.scan_delta(handle).filter(tables.of_stream(key)).select("raw_sha256").collect()
        fresh = batch.join(known, on="raw_sha256", how="anti", maintain_order="left")
        return None if fresh.is_empty() else Decision(fresh, done + fresh.height)

    return commits.write(lake, REJECTED_TABLE, key.app, decide, {})


def landed(lake: Lake) -> set[StreamKey]:
    """Return the streams that have a raw table."""
    if lake.local is not None:
        paths = (path.parent for path in lake.local.glob("raw/*/*/_delta_log"))
        return {StreamKey(path.parent.name, path.name) for path in paths}
    found = object_store.logs(lake.root, lake.storage_options or {}, _FOLDER)
    return {StreamKey(*table.split("/")[1:3]) for table in found}


def logs(lake: Lake, keys: Iterable[StreamKey]) -> dict[StreamKey, Logged]:
    """Return the raw tables of these streams that exist, as their logs describe them."""
    names = {key.table: key for key in keys}
    found = logged(lake, names, _FOLDER, RAW)
    return {names[table]: each for table, each in found.items()}


def days(lake: Lake, key: StreamKey) -> list[date]:
    """Return the days that have raw rows, oldest first."""
    handle = tables.newest(lake, key.table)
    found = handle.partitions() if handle else []
    return sorted(date.fromisoformat(part["date"]) for part in found)


def files_of_day(lake: Lake, key: StreamKey, day: date) -> list[str]:
    """Return the names of the data files with the raw rows of a day; a file never changes."""
    return pruning.files_of_day(lake, key.table, day)


def reaches(lake: Lake, key: StreamKey, day: date, seq: int) -> bool:
    """Return whether raw rows of a day have this `seq` or a higher one."""
    found = tables.existing(lake, key.table).filter(pl.col("date") == day, pl.col("seq") >= seq)
    return not found.select("seq").head(1).collect().is_empty()


def rows_of_days(
    lake: Lake, key: StreamKey, days: Sequence[date], until: int, record: pl.Expr | None = None
) -> pl.LazyFrame:
    """Return raw rows of `days` with seq < `until`, only the version of each record that counts.

    That is the newest by `record`, where the vendor publishes changed records again.
    """
    found = tables.scan(lake, key.table)
    if found is None:
        return pl.LazyFrame(schema=RAW)
    rows = found.filter(pl.col("date").is_in(days), pl.col("seq") < until)
    if record is None:
        superseded = _superseded(rows)
        return rows.filter(~pl.col("seq").is_in(superseded)) if superseded else rows
    seqs = rows.select("seq", "event_id").filter(events.newest_version(record)).select("seq")
    return rows.join(seqs, on="seq", how="semi")


def superseded(lake: Lake, key: StreamKey, batch: pl.DataFrame, until: int) -> list[int]:
    """Return the rows before `until` whose events a version of the same record replaces.

    Only records that have a later version in `batch` are looked at.
    """
    later = batch.filter(record_versions.is_later())
    found = tables.scan(lake, key.table) if later.height else None
    if found is None:
        return []
    records = later.select(record_versions.record_id())["event_id"].unique()
    ours = (
        pl.col("date").is_in(later["date"].unique().to_list()),
        pl.col("seq") < until,
        record_versions.record_id().is_in(records.implode()),
    )
    with tables.store_errors(key.table):
        rows = found.filter(*ours).select("event_id", "time", "via", "seq").collect()
    return rows.filter(record_versions.superseded())["seq"].to_list()


def _superseded(rows: pl.LazyFrame) -> list[int]:
    """Return the seq of rows that another version of the same record replaces in `events`."""
    found = versions(rows)
    return found.filter(record_versions.superseded())["seq"].to_list()


def versions(rows: pl.LazyFrame) -> pl.DataFrame:
    """Return event_id, time, via, seq and raw of all versions of records that have several."""
    later = rows.filter(record_versions.is_later()).select(record_versions.record_id())
    records = later.unique().collect()["event_id"]
    if records.is_empty():
        return pl.DataFrame(schema={name: RAW[name] for name in _VERSION})
    ours = record_versions.record_id().is_in(records.implode())
    return rows.filter(ours).select(*_VERSION).collect()


def still_rejected(lake: Lake, key: StreamKey) -> pl.DataFrame:
    """Return the rejected records of a stream that have not landed since (schemas.REJECTED)."""
    found, landed = tables.scan(lake, REJECTED_TABLE.name), tables.scan(lake, key.table)
    if found is None:
        return pl.DataFrame(schema=REJECTED)
    with tables.store_errors(REJECTED_TABLE.name):
        rows = found.filter(tables.of_stream(key)).collect()
        if landed is None or rows.is_empty():
            return rows
        known = landed.filter(pl.col("raw_sha256").is_in(rows["raw_sha256"].to_list()))
        return rows.join(known.select("raw_sha256").collect(), on="raw_sha256", how="anti")


class Recent(NamedTuple):
    """What the newest rows of a raw table show."""

    late: tuple[timedelta, ...]
    """As `lateness` returns it."""
    differing: list[record_versions.Difference]
    """The records with contents that contradict each other."""


def recent(table: Logged, since: datetime, rules: Comparison) -> Recent:
    """Return what the rows since a time show; each file is read once."""
    rows = table.since(since.date())
    found = rows.select("event_id", "time", "ingested_at", "via", "date").collect()
    late = _lateness(found.lazy(), max(since, _first_arrival(table.files()) or since))
    if found.filter(record_versions.is_later()).is_empty():
        return Recent(late, [])
    return Recent(late, list(record_versions.differences(versions(rows), rules)))


def rows(lake: Lake, key: Numbered, first: int, until: int) -> pl.DataFrame:
    """Return the rows of a table with `first` <= seq < `until`, in the order of seq."""
    found = tables.scan(lake, key.table)
    if found is None:
        return pl.DataFrame(schema=RAW)
    with tables.store_errors(key.table):
        return found.filter(pl.col("seq").is_between(first, until, "left")).sort("seq").collect()


def newest_polled(lake: Lake, key: StreamKey, until: datetime) -> datetime | None:
    """Return the time of the newest polled event up to `until`, or None."""
    found = tables.scan(lake, key.table)
    if found is None:
        return None
    with tables.store_errors(key.table):
        polled = found.filter(pl.col("time") <= until, pl.col("via") == "poll")
        last: datetime | None = polled.select(pl.col("time").max()).collect().item()
        return last


def lateness(lake: Lake, key: StreamKey, since: datetime) -> tuple[timedelta, ...]:
    """Return the 90, 99 and 99.9 % quantiles of the delay of live records since `since`.

    Empty if there are too few. Events from before the table existed count as history, not as late.
    """
    with tables.store_errors(key.table):
        table = newest(lake, key.table)
        if table is None:
            return ()
        begun = _first_arrival(table.files()) or since
        return _lateness(table.scan(), max(since, begun))


def _lateness(rows: pl.LazyFrame, live_since: datetime) -> tuple[timedelta, ...]:
    late = pl.col("ingested_at") - pl.col("time")
    live = rows.filter(
        pl.col("date") >= live_since.date(),
        pl.col("time") >= live_since,
        pl.col("via") != "backfill",
    )
    figures = live.select(
        pl.len().alias("records"), *(late.quantile(q).alias(str(q)) for q in _QUANTILES)
    )
    records, *quantiles = figures.collect().row(0)
    return tuple(quantiles) if records >= _MIN_SAMPLE else ()


def _first_arrival(files: pl.DataFrame) -> datetime | None:
    """Return when the first row arrived, to the millisecond; None if that is unknown."""
    oldest = files["min.ingested_at"].min() if "min.ingested_at" in files.columns else None
    return oldest if isinstance(oldest, datetime) else None


def _committed_cursor(table: Logged) -> tuple[int, str | None]:
    """Return (rows, cursor) of the newest commit with a cursor, or (-1, None)."""
    # Nearly always the newest commit has it; only commits of maintenance have none.
    for commit in table.history():
        if _CURSOR in commit:
            return int(commit[ROWS]), str(commit[_CURSOR])
    return -1, None
