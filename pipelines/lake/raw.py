"""The raw tables: records as received, with the cursor of their stream in the same commit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl
from deltalake import DeltaTable

from pipelines.lake import commits, coverage, events, reconciliation, tables
from pipelines.lake.commits import ROWS, Appended, Decision, Table
from pipelines.lake.coverage import ENTRIES, Entry, LastRecorded
from pipelines.lake.tables import Lake, StreamKey
from pipelines.schemas import RAW, REJECTED

_CURSOR = "auditlake.cursor"
_TICK = timedelta(milliseconds=1)
_QUANTILES = (0.9, 0.99, 0.999)
_ENOUGH = 100
_BLUR = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a stream has come."""

    rows: int = 0
    cursor: str | None = None
    version: int = -1
    about: str = ""
    """What the table was made for."""
    noted_at: datetime | None = None
    """When `coverage` was last told about this stream."""


REJECTED_TABLE = Table(name="rejected", schema=REJECTED, about="What was no record", partitions=())


def position(lake: Lake, key: StreamKey) -> Position:
    """Where `log` stands; `cursor` is None where nothing says so any more."""
    noted = coverage.last_recorded(lake, key)
    with tables.store_errors(key.table), tables.borrowed(lake, key.table) as handle:
        return _place(handle, key, noted)


def position_only(lake: Lake, key: StreamKey) -> Position:
    """Like `position`, without what `coverage` says of it."""
    with tables.store_errors(key.table), tables.borrowed(lake, key.table) as handle:
        return _place(handle, key, (None, -1, None))


def _place(handle: DeltaTable | None, key: StreamKey, noted: LastRecorded) -> Position:
    at, noted_rows, noted_cursor = noted
    if handle is None:
        return Position(cursor=noted_cursor, noted_at=at)
    rows, cursor = _cursor(handle)
    return Position(
        rows=commits.fence(handle, key.app),
        cursor=noted_cursor if noted_cursor and noted_rows >= rows else cursor,
        version=handle.version(),
        about=handle.metadata().description or "",
        noted_at=at,
    )


def append(
    lake: Lake,
    key: StreamKey,
    batch: pl.DataFrame,
    cursor: str | None,
    *,
    about: str = "",
    claims: Sequence[Entry] = (),
) -> Appended:
    """Commit the new rows of `batch` (schemas.RAW but `seq`) together with `cursor` and `claims`.

    Rows whose event_id is already in their date are dropped; where nothing is left, nothing is
    written. Without a cursor the position stays what it was. What was pushed and now is polled, or
    the other way round, is noted in `echoes` before the position moves.
    """
    batch = batch.unique("event_id", keep="first", maintain_order=True)
    said = {_CURSOR: cursor} if cursor else {}

    def decide(handle: DeltaTable, rows: int) -> Decision | None:
        known = _known(lake, handle, batch) if rows else None
        fresh = batch if known is None else _without(batch, known)
        if known is not None:
            reconciliation.record(lake, {key: reconciliation.seen_both_ways(batch, known)})
        if fresh.is_empty():
            return None
        if cursor is None and (
            place := _place(handle, key, coverage.last_recorded(lake, key)).cursor
        ):
            said[_CURSOR] = place
        seq = pl.int_range(rows, rows + pl.len(), dtype=pl.Int64).alias("seq")
        return Decision(fresh.with_columns(seq), rows + fresh.height)

    table = Table(name=key.table, schema=RAW, about=about)
    if claims:
        said[ENTRIES] = json.dumps([asdict(claim) for claim in claims], default=str)
    return commits.write(lake, table, key.app, decide, said)


def flush_coverage(lake: Lake, key: StreamKey) -> None:
    """Before the log of a raw table is shortened: note what only its commits say."""
    noted_at, _, noted = coverage.last_recorded(lake, key)
    cursor = position(lake, key).cursor
    if cursor is None or cursor == noted:
        coverage.record(lake, key)
        return
    at = noted_at or datetime.now(UTC)
    coverage.record(lake, key, [Entry(since=at, until=at, asked_at=at)], cursor)


def append_rejected(lake: Lake, key: StreamKey, batch: pl.DataFrame) -> Appended:
    """Commit what could not be read as a record (schemas.REJECTED), each once."""
    batch = batch.unique("raw_sha256", keep="first", maintain_order=True)

    def decide(handle: DeltaTable, done: int) -> Decision | None:
        known = pl.scan_delta(handle).filter(tables.of_stream(key)).select("raw_sha256").collect()
        fresh = batch.join(known, on="raw_sha256", how="anti", maintain_order="left")
        return None if fresh.is_empty() else Decision(fresh, done + fresh.height)

    return commits.write(lake, REJECTED_TABLE, key.app, decide, {})


def days(lake: Lake, key: StreamKey) -> list[date]:
    """The days of which there are raw rows, oldest first."""
    handle = tables.open_table(lake, key.table)
    found = handle.partitions() if handle else []
    return sorted(date.fromisoformat(part["date"]) for part in found)


def rows_of_days(
    lake: Lake, key: StreamKey, days: Sequence[date], until: int, record: pl.Expr | None = None
) -> pl.LazyFrame:
    """Raw rows of `days` with seq < `until`; of versions of one `record` only the newest."""
    found = tables.scan(lake, key.table)
    if found is None:
        return pl.LazyFrame(schema=RAW)
    rows = found.filter(pl.col("date").is_in(days), pl.col("seq") < until)
    if record is None:
        return rows
    seqs = rows.select("seq", "event_id").filter(events.newest_version(record)).select("seq")
    return rows.join(seqs, on="seq", how="semi")


def still_rejected(lake: Lake, key: StreamKey) -> pl.DataFrame:
    """The rejected records of `log` that have not landed since (schemas.REJECTED)."""
    found, landed = tables.scan(lake, REJECTED_TABLE.name), tables.scan(lake, key.table)
    if found is None:
        return pl.DataFrame(schema=REJECTED)
    with tables.store_errors(REJECTED_TABLE.name):
        rows = found.filter(tables.of_stream(key)).collect()
        if landed is None or rows.is_empty():
            return rows
        known = landed.filter(pl.col("raw_sha256").is_in(rows["raw_sha256"].to_list()))
        return rows.join(known.select("raw_sha256").collect(), on="raw_sha256", how="anti")


def rows(lake: Lake, key: StreamKey, first: int, until: int) -> pl.DataFrame:
    """Raw rows with `first` <= seq < `until`, in the order of seq."""
    found = tables.scan(lake, key.table)
    if found is None:
        return pl.DataFrame(schema=RAW)
    with tables.store_errors(key.table):
        return found.filter(pl.col("seq").is_between(first, until, "left")).sort("seq").collect()


def lateness(lake: Lake, key: StreamKey, since: datetime) -> tuple[timedelta, ...]:
    """How late live records since then were, one in 10, 100 and 1,000; none where too few came.

    What happened before the table was first written to was history, not late.
    """
    found = tables.scan(lake, key.table)
    if found is None:
        return ()
    with tables.store_errors(key.table):
        first = found.filter(pl.col("seq") == 0).select(pl.col("ingested_at").max())
        begun = max(since, first.collect().item() or since)
        late = pl.col("ingested_at") - pl.col("time")
        live = found.filter(
            pl.col("date") >= begun.date(), pl.col("time") >= begun, pl.col("via") != "backfill"
        )
        told = live.select(
            pl.len().alias("records"), *(late.quantile(q).alias(str(q)) for q in _QUANTILES)
        )
        records, *quantiles = told.collect().row(0)
    return tuple(quantiles) if records >= _ENOUGH else ()


def _known(lake: Lake, handle: DeltaTable, batch: pl.DataFrame) -> pl.DataFrame | None:
    """(event_id, via) of rows that may be in `batch` too: the same id has the same time.

    A vendor may push the time of an event less exactly than it shows it.
    """
    if batch.is_empty():
        return None
    oldest, newest = batch.select(pl.col("time").min(), last=pl.col("time").max()).row(0)
    since, until = oldest - _BLUR, newest + _BLUR
    days = pl.concat([(batch["time"] + blur).dt.date() for blur in (-_BLUR, _BLUR)]).unique()
    chosen = [("date", "in", [str(day) for day in days])]
    near = tables.scan_partitions(lake, handle, RAW, chosen, _between(handle, since, until))
    return near.filter(pl.col("time").is_between(since, until)).select("event_id", "via").collect()


def _between(handle: DeltaTable, since: datetime, until: datetime) -> set[str]:
    """The names of the files that may hold rows of these times; Delta rounds down to a tick."""
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    if not {"min.time", "max.time"} <= set(files.columns):
        return set(files["path"].str.split("/").list.last())
    least, most = pl.col("min.time").fill_null(since), pl.col("max.time").fill_null(until)
    near = files.filter(least <= until, most >= since - _TICK)
    return set(near["path"].str.split("/").list.last())


def _without(batch: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    return batch.join(known, on="event_id", how="anti", maintain_order="left")


def existing(lake: Lake, key: StreamKey, rows: pl.DataFrame) -> list[str]:
    """Which of these events (event_id, time) are in raw."""
    with tables.borrowed(lake, key.table) as handle:
        known = _known(lake, handle, rows) if handle else None
    return (
        [] if known is None else known.join(rows, on="event_id", how="semi")["event_id"].to_list()
    )


def _cursor(handle: DeltaTable) -> tuple[int, str | None]:
    """(rows, position) of the newest commit that holds one; compaction by others holds none."""
    for limit in (1, None):
        for commit in handle.history(limit):
            if _CURSOR in commit:
                return int(commit[ROWS]), str(commit[_CURSOR])
    return -1, None
