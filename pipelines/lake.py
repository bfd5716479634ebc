"""The one door to Delta: tables are created, appended to and read here, and nowhere else.

Rows, position and fence are one commit: a batch is written through the very handle it was decided
on, with an app transaction whose version is the number of rows after it. A writer that lost a race
decides anew. The position and the spans that were asked for travel in the commit's metadata; the
spans are copied from there to `coverage`, which also holds the position of rounds without news.
Where both lost it, the stream begins again and the anti-join drops what is already here.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import polars as pl
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import ArrayType, PrimitiveType, Schema, StructType
from deltalake.schema import Field as DeltaField

from pipelines import disk, handles, spans
from pipelines.errors import ConfigurationError, LakeError
from pipelines.event import COVERAGE, ECHOES, EVENTS, RAW, RECONCILED, REJECTED, ROLLUPS
from pipelines.settings import IntegritySettings, Settings

_CURSOR = "auditlake.cursor"
_CLAIMS = "auditlake.coverage"
_ROWS = "auditlake.rows"
_BATCH = "auditlake.batch"
_TICK = timedelta(milliseconds=1)
_RACES = 50
# Of this fence, or it removed rows that were read; a retention run changes the table's properties.
_LOST_RACES = ("oncurrent transaction", "etadata changed since")
_QUANTILES = (0.9, 0.99, 0.999)
_ENOUGH_TO_TELL = 100
_SAME_FAILURE = timedelta(hours=1)
_BLUR = timedelta(seconds=1)
_QUIET = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_PLAIN = re.compile(r"[A-Za-z0-9/_.,@&+~:\\-]*")
_PARQUET = WriterProperties(
    compression="ZSTD",
    compression_level=1,
    # No two records are equal, and nobody asks for the least.
    column_properties={
        "raw": ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE")
    },
)
_SETTINGS = {
    "delta.appendOnly": "true",
    "delta.checkpointInterval": "100",
    "delta.logRetentionDuration": "interval 7 days",
    # Each file that was made one with others is a row of all checkpoints for so long.
    "delta.deletedFileRetentionDuration": "interval 1 days",
    # Statistics of texts nobody looks up would fill the log.
    "delta.dataSkippingStatsColumns": "seq,time,ingested_at",
}
_DERIVED = {
    **_SETTINGS,
    "delta.appendOnly": "false",
    # By these a replacement of one log's rows stays out of the way of the others' appends.
    "delta.dataSkippingStatsColumns": "integration,stream,seq,time,ingested_at",
}
_DERIVED_PLAIN = {**_DERIVED, "delta.dataSkippingStatsColumns": "integration,stream,date"}


class Log(NamedTuple):
    """A stream's place in the lake: raw/<integration>/<stream>."""

    integration: str
    stream: str

    @property
    def table(self) -> str:
        return f"raw/{self.integration}/{self.stream}"

    @property
    def app(self) -> str:
        """The app id of the fence that all writers of this log's rows share."""
        return f"{self.integration}/{self.stream}"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is known of a span of event time; the columns of event.COVERAGE say what they mean."""

    since: datetime
    until: datetime
    asked_at: datetime
    outcome: str = "complete"
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    frame: pl.DataFrame
    """The rows that were new, as written."""
    version: int
    """The table's version afterwards; unchanged where nothing was new."""


@dataclass(frozen=True, slots=True)
class Lake:
    """Where the tables are; opens nothing by itself."""

    root: str
    storage_options: dict[str, str] | None = field(default=None, repr=False)
    integrity: IntegritySettings | None = field(default=None, repr=False)
    """How the raw tables are signed; None: they are not."""

    @property
    def local(self) -> Path | None:
        return None if "://" in self.root else Path(self.root)

    def uri(self, table: str) -> str:
        return f"{self.root.rstrip('/')}/{table}"


def configured(chosen: Settings) -> Lake:
    """The lake the settings name."""
    options = {k: v.get_secret_value() for k, v in chosen.lake.storage_options.items()}
    lake = Lake(chosen.lake.root, options or None, chosen.integrity)
    if lake.local is not None and not _PLAIN.fullmatch(path := str(lake.local.resolve())):
        raise ConfigurationError(
            f"lake.root: {path}: Polars cannot read tables below such a name: choose a folder "
            "whose whole path has only letters a to z, digits and /_.,@&+~- in it"
        )
    return lake


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    name: str
    schema: dict[str, pl.DataType]
    about: str
    partitions: tuple[str, ...] = ("date",)
    settings: dict[str, str] = field(default_factory=lambda: _SETTINGS)


class _Decision(NamedTuple):
    """The rows to write, the fence's number afterwards, and in place of which rows, as SQL."""

    rows: pl.DataFrame
    after: int
    instead_of: str | None = None
    beside: Mapping[str, int] = {}
    """Fences of other logs that have rows in it, and their numbers afterwards."""


_EVENTS = _Table(
    name="events",
    schema=EVENTS,
    about="Events of all integrations, from raw",
    settings=_DERIVED,
)
_REJECTED = _Table(name="rejected", schema=REJECTED, about="What was no record", partitions=())
_COVERAGE = _Table(
    name="coverage",
    schema=COVERAGE,
    about="What was asked for, and what came of it",
    partitions=("integration", "stream"),
)
_ECHOES = _Table(name="echoes", schema=ECHOES, about="How an event came another time")
_ROLLUPS = _Table(
    name="rollups",
    schema=ROLLUPS,
    about="What the data files of events add up to",
    partitions=("part",),
    settings={**_DERIVED, "delta.dataSkippingStatsColumns": "file,date"},
)
_RECONCILED = _Table(
    name="reconciliation",
    schema=RECONCILED,
    about="What was pushed and what was polled, a row a stream and day",
    partitions=(),
    settings=_DERIVED_PLAIN,
)
_Decide = Callable[[DeltaTable, int], _Decision | None]


def open_table(lake: Lake, table: str) -> DeltaTable | None:
    """A handle at the newest version, or None where there is no such table yet."""
    with _told(table):
        try:
            handle = DeltaTable(lake.uri(table), storage_options=lake.storage_options)
        except TableNotFoundError:
            return None
        except DeltaError:
            _refuse_emptied(table, _commits_on_disk(lake, table)[-1:])
            raise
    _refuse_emptied(table, _newest_files(lake, table, handle))
    return handle


def _at_hand(lake: Lake, table: str) -> DeltaTable | None:
    """Like `open_table`, but one that is open already if there is one; it belongs to the caller."""
    if lake.local is None or (handle := handles.take(lake.local / table)) is None:
        return open_table(lake, table)
    _refuse_emptied(table, _newest_files(lake, table, handle))
    return handle


def _put_back(lake: Lake, table: str, handle: DeltaTable) -> None:
    if lake.local is not None:
        handles.put_back(lake.local / table, handle)


@contextmanager
def lent(lake: Lake, table: str) -> Iterator[DeltaTable | None]:
    """A handle to read by, until this ends well."""
    handle = _at_hand(lake, table)
    yield handle
    if handle is not None:
        _put_back(lake, table, handle)


def _newest_files(lake: Lake, table: str, handle: DeltaTable) -> list[Path]:
    """The newest commit, and where one lies that a reader may have stopped at."""
    newest = (handle.version(), handle.version() + 1)
    return [path for version in newest if (path := _commit_file(lake, table, version))]


def _refuse_emptied(table: str, commits: Sequence[Path]) -> None:
    """Raises LakeError where a commit holds nothing, as a power cut may leave the newest.

    Delta would read it as a commit that did nothing, and its rows as never written.
    """
    for path in commits:
        with suppress(FileNotFoundError):
            if path.stat().st_size == 0 or not path.read_bytes()[:4096].strip(b"\0 \r\n"):
                raise LakeError(
                    f"{table}: its newest commit is empty, as after a power cut: remove the file "
                    f"{path} and poll again; what it held is asked for again"
                )


def _commit_file(lake: Lake, table: str, version: int) -> Path | None:
    """Where the commit is on this machine's disk, or would be."""
    return lake.local / table / "_delta_log" / f"{version:020}.json" if lake.local else None


def _commits_on_disk(lake: Lake, table: str) -> list[Path]:
    return sorted((lake.local / table / "_delta_log").glob("*.json")) if lake.local else []


def scan(lake: Lake, table: str) -> pl.LazyFrame | None:
    """The rows of a table as they are now, or None where there is no such table yet."""
    handle = open_table(lake, table)
    return None if handle is None else pl.scan_delta(handle)


def position(lake: Lake, log: Log) -> Position:
    """Where `log` stands; `cursor` is None where nothing says so any more."""
    noted = _noted(lake, log)
    with _told(log.table), lent(lake, log.table) as handle:
        return _place(handle, log, noted)


def standing(lake: Lake, log: Log) -> Position:
    """Like `position`, without what `coverage` says of it."""
    with _told(log.table), lent(lake, log.table) as handle:
        return _place(handle, log, (None, -1, None))


def _place(handle: DeltaTable | None, log: Log, noted: _Noted) -> Position:
    at, noted_rows, noted_cursor = noted
    if handle is None:
        return Position(cursor=noted_cursor, noted_at=at)
    rows, cursor = _cursor(handle)
    return Position(
        rows=_done(handle, log.app),
        cursor=noted_cursor if noted_cursor and noted_rows >= rows else cursor,
        version=handle.version(),
        about=handle.metadata().description or "",
        noted_at=at,
    )


def append_raw(
    lake: Lake,
    log: Log,
    batch: pl.DataFrame,
    cursor: str | None,
    *,
    about: str = "",
    claims: Sequence[Claim] = (),
) -> Appended:
    """Commit the new rows of `batch` (event.RAW but `seq`) together with `cursor` and `claims`.

    Rows whose event_id is already in their date are dropped; where nothing is left, nothing is
    written. Without a cursor the position stays what it was. What was pushed and now is polled, or
    the other way round, is noted in `echoes` before the position moves.
    """
    batch = batch.unique("event_id", keep="first", maintain_order=True)
    said = {_CURSOR: cursor} if cursor else {}

    def decide(handle: DeltaTable, rows: int) -> _Decision | None:
        known = _known(lake, handle, batch) if rows else None
        fresh = batch if known is None else _without(batch, known)
        if known is not None:
            echo(lake, {log: _crossed(batch, known)})
        if fresh.is_empty():
            return None
        if cursor is None and (place := _place(handle, log, _noted(lake, log)).cursor):
            said[_CURSOR] = place
        seq = pl.int_range(rows, rows + pl.len(), dtype=pl.Int64).alias("seq")
        return _Decision(fresh.with_columns(seq), rows + fresh.height)

    table = _Table(name=log.table, schema=RAW, about=about)
    if claims:
        said[_CLAIMS] = json.dumps([asdict(claim) for claim in claims], default=str)
    return _fenced(lake, table, log.app, decide, said)


def note(
    lake: Lake,
    log: Log,
    claims: Sequence[Claim] = (),
    cursor: str | None = None,
    *,
    lag: timedelta | None = None,
) -> None:
    """Bring `coverage` up to date with what raw commits claim, then with these claims.

    Where the stream's `lag` is known, claims that say the same together are one row.
    """
    with lent(lake, log.table) as raw:
        held = _done(raw, log.app) if raw else 0

        def decide(_: DeltaTable, seen: int) -> _Decision | None:
            rows = _claimed(raw, seen) if raw else []
            rows += [{**asdict(claim), "rows": held, "cursor": None} for claim in claims]
            if lag is not None:
                # The newest stays: it says when this was noted.
                rows = spans.condensed(rows[:-1], lag) + rows[-1:]
            if rows and cursor:
                rows[-1]["cursor"] = cursor
            ours = (
                pl.lit(log.integration).alias("integration"),
                pl.lit(log.stream).alias("stream"),
            )
            return _Decision(pl.DataFrame(rows, _NOTED).with_columns(ours), held) if rows else None

        _fenced(lake, _COVERAGE, log.app, decide, {})


def note_all(lake: Lake, log: Log) -> None:
    """Before the log of a raw table is shortened: note what only its commits say."""
    noted_at, _, noted = _noted(lake, log)
    cursor = position(lake, log).cursor
    if cursor is None or cursor == noted:
        note(lake, log)
        return
    at = noted_at or datetime.now(UTC)
    note(lake, log, [Claim(since=at, until=at, asked_at=at)], cursor)


def note_failure(lake: Lake, log: Log, failed: Claim) -> None:
    """Like `note`, unless the same was noted last and less than an hour ago."""
    recent = pl.col("asked_at") > failed.asked_at - _SAME_FAILURE
    told = claims(lake, log).tail(1).filter(recent, pl.col("reason") == failed.reason)
    if told.is_empty():
        note(lake, log, [failed])


_NOTED = {name: dtype for name, dtype in COVERAGE.items() if name not in _COVERAGE.partitions}


def _claimed(raw: DeltaTable, seen: int) -> list[dict[str, Any]]:
    """What the commits of a raw table claim that came after its first `seen` rows, oldest first."""
    return [
        {
            **claim,
            **{key: datetime.fromisoformat(claim[key]) for key in ("since", "until", "asked_at")},
            "rows": int(commit[_ROWS]),
            "cursor": None,
        }
        for commit in reversed(_commits(raw, seen))
        for claim in json.loads(commit.get(_CLAIMS, "[]"))
    ]


def _commits(raw: DeltaTable, seen: int) -> list[dict[str, Any]]:
    """The commits of ours after the first `seen` rows, newest first, as far as the log reaches."""
    limit = 8
    while True:
        # The log's newest, whatever the version of the handle: "version" cannot be relied on.
        commits = raw.history(limit)
        ours = [commit for commit in commits if _ROWS in commit]
        if len(commits) < limit or (ours and int(ours[-1][_ROWS]) <= seen):
            return [commit for commit in ours if int(commit[_ROWS]) > seen]
        limit *= 4


def claims(lake: Lake, log: Log) -> pl.DataFrame:
    """All that `coverage` holds of a stream, oldest first."""
    found = scan(lake, _COVERAGE.name)
    if found is None:
        return pl.DataFrame(schema=COVERAGE)
    with _told(_COVERAGE.name):
        return found.filter(_of(log)).collect().sort("asked_at", maintain_order=True)


_Noted = tuple[datetime | None, int, str | None]


def _noted(lake: Lake, log: Log) -> _Noted:
    """(when last, raw rows at the newest cursor, that cursor) by `coverage`."""
    ours = [("integration", "=", log.integration), ("stream", "=", log.stream)]
    with _told(_COVERAGE.name), lent(lake, _COVERAGE.name) as handle:
        if handle is None:
            return None, -1, None
        found = _partitions(lake, handle, COVERAGE, ours)
        noted = found.select("asked_at", "rows", "cursor").collect()
    newest = noted.filter(pl.col("cursor").is_not_null()).sort("rows", "asked_at").tail(1)
    last = noted["asked_at"].max()
    _, rows, cursor = newest.row(0) if newest.height else (None, -1, None)
    return (last if isinstance(last, datetime) else None), rows, cursor


def _of(log: Log) -> pl.Expr:
    return (pl.col("integration") == log.integration) & (pl.col("stream") == log.stream)


def append_events(
    lake: Lake,
    log: Log,
    first: int,
    until: int,
    derive: Callable[[], pl.DataFrame],
    *,
    record: pl.Expr | None = None,
) -> Appended:
    """Commit the events of the raw rows from `first` up to `until`, unless they are there.

    Rows for which `record` is equal are versions of one record: the newest replaces the others.
    """

    def decide(handle: DeltaTable, done: int) -> _Decision | None:
        if done != first:
            return None
        if record is None:
            return _Decision(derive(), until)
        fresh = derive().filter(newest(record))
        older = _older(handle, log, fresh, record)
        among = f"(seq >= {first} OR seq IN ({', '.join(map(str, older))}))"
        instead_of = _sql(log, fresh["date"].unique(), among) if older else None
        return _Decision(fresh, until, instead_of)

    return _fenced(lake, _EVENTS, log.app, decide, {})


class Part(NamedTuple):
    """The events of the raw rows of `log` from `first` up to `until`."""

    log: Log
    first: int
    until: int
    events: pl.DataFrame


def append_parts(lake: Lake, parts: Sequence[Part]) -> set[Log]:
    """Commit events of different logs at once; those whose turn it was not are left out."""
    landed = set[Log]()

    def decide(handle: DeltaTable, done: int) -> _Decision | None:
        fit = [part for part in parts if _done(handle, part.log.app) == part.first]
        landed.clear()
        landed.update(part.log for part in fit)
        after = {part.log.app: part.until for part in fit}
        rows = pl.concat([part.events for part in fit]) if fit else pl.DataFrame()
        return _Decision(rows, after.get(parts[0].log.app, done), beside=after) if fit else None

    _fenced(lake, _EVENTS, parts[0].log.app, decide, {})
    return landed


def replace_events(
    lake: Lake, log: Log, day: date, seqs: range, derive: Callable[[int], pl.DataFrame]
) -> Appended:
    """Commit the events of the raw rows `seqs` of `day` anew, in place of those there are.

    `derive` is given the number of raw rows that have their events: later rows do not count yet.
    Where newer versions or a retention run have taken all of these events away, nothing is written.
    """
    among = f"seq >= {seqs.start} AND seq < {seqs.stop}"
    ours = _of(log), pl.col("date") == day, pl.col("seq").is_between(seqs.start, seqs.stop, "left")

    def decide(handle: DeltaTable, done: int) -> _Decision | None:
        # The caller saw an earlier state of the table, so there may be nothing left to replace.
        if pl.scan_delta(handle).filter(*ours).select("seq").head(1).collect().is_empty():
            return None
        return _Decision(derive(done), done, _sql(log, [day], among))

    return _fenced(lake, _EVENTS, log.app, decide, {})


def newest(record: pl.Expr) -> pl.Expr:
    """Is this row of the newest version of its record?"""
    return pl.col("seq") == pl.col("seq").max().over(record)


def append_rejected(lake: Lake, log: Log, batch: pl.DataFrame) -> Appended:
    """Commit what could not be read as a record (event.REJECTED), each once."""
    batch = batch.unique("raw_sha256", keep="first", maintain_order=True)

    def decide(handle: DeltaTable, done: int) -> _Decision | None:
        known = pl.scan_delta(handle).filter(_of(log)).select("raw_sha256").collect()
        fresh = batch.join(known, on="raw_sha256", how="anti", maintain_order="left")
        return None if fresh.is_empty() else _Decision(fresh, done + fresh.height)

    return _fenced(lake, _REJECTED, log.app, decide, {})


def files_of_events(lake: Lake) -> pl.DataFrame:
    """The data files of `events`: path, date, rows."""
    schema = pl.Schema({"path": pl.String(), "date": pl.Date(), "rows": pl.Int64()})
    handle = open_table(lake, _EVENTS.name)
    if handle is None:
        return pl.DataFrame(schema=schema)
    actions = pl.DataFrame(handle.get_add_actions(flatten=True))
    return actions.select("path", date="partition.date", rows="num_records").cast(schema)


def rows_of_files(lake: Lake, files: pl.DataFrame) -> pl.LazyFrame:
    """The rows of these data files (path, file), each with the `path` and `file` it lies in."""
    root = lake.uri(_EVENTS.name)
    places = files.select("path", "file").with_columns(
        uri=pl.Series([f"{root}/{unquote(path)}" for path in files["path"]], dtype=pl.String)
    )
    rows = pl.scan_parquet(
        places["uri"].to_list(),
        schema={name: dtype for name, dtype in EVENTS.items() if name not in _EVENTS.partitions},
        hive_schema={name: EVENTS[name] for name in _EVENTS.partitions},
        hive_partitioning=True,
        include_file_paths="uri",
        storage_options=lake.storage_options,
    )
    return rows.join(places.lazy(), on="uri")


def rolled_up(lake: Lake) -> tuple[pl.DataFrame, int]:
    """The data files that `rollups` tells of (file, path), and the next file's number."""
    handle = open_table(lake, _ROLLUPS.name)
    if handle is None:
        return pl.DataFrame(schema={name: ROLLUPS[name] for name in ("file", "path")}), 0
    known = pl.scan_delta(handle).filter(pl.col("part") == "files").select("file", "path")
    return known.collect(), _done(handle, _ROLLUPS.name)


def append_rollups(
    lake: Lake, first: int, until: int, rows: pl.DataFrame, gone: Sequence[int] = ()
) -> Appended:
    """Commit what the files numbered from `first` up to `until` add up to, in place of `gone`."""

    def decide(_: DeltaTable, done: int) -> _Decision | None:
        if done != first:
            return None
        among = f"file >= {first} OR file IN ({', '.join(map(str, gone))})" if gone else None
        return _Decision(rows, until, among)

    _grow(lake, _ROLLUPS)
    return _fenced(lake, _ROLLUPS, _ROLLUPS.name, decide, {})


def events_of(lake: Lake, log: Log) -> tuple[pl.LazyFrame, int]:
    """The events of `log` and how many raw rows they stand for, as of one moment."""
    handle = open_table(lake, _EVENTS.name)
    if handle is None:
        return pl.LazyFrame(schema=EVENTS), 0
    return pl.scan_delta(handle).filter(_of(log)), _done(handle, log.app)


def days(lake: Lake, log: Log) -> list[date]:
    """The days of which there are raw rows, oldest first."""
    handle = open_table(lake, log.table)
    found = handle.partitions() if handle else []
    return sorted(date.fromisoformat(part["date"]) for part in found)


def raw_days(
    lake: Lake, log: Log, days: Sequence[date], until: int, record: pl.Expr | None = None
) -> pl.LazyFrame:
    """Raw rows of `days` with seq < `until`; of versions of one `record` only the newest."""
    found = scan(lake, log.table)
    if found is None:
        return pl.LazyFrame(schema=RAW)
    rows = found.filter(pl.col("date").is_in(days), pl.col("seq") < until)
    if record is None:
        return rows
    seqs = rows.select("seq", "event_id").filter(newest(record)).select("seq")
    return rows.join(seqs, on="seq", how="semi")


def still_rejected(lake: Lake, log: Log) -> pl.DataFrame:
    """The rejected records of `log` that have not landed since (event.REJECTED)."""
    found, landed = scan(lake, _REJECTED.name), scan(lake, log.table)
    if found is None:
        return pl.DataFrame(schema=REJECTED)
    with _told(_REJECTED.name):
        rows = found.filter(_of(log)).collect()
        if landed is None or rows.is_empty():
            return rows
        known = landed.filter(pl.col("raw_sha256").is_in(rows["raw_sha256"].to_list()))
        return rows.join(known.select("raw_sha256").collect(), on="raw_sha256", how="anti")


def raw_rows(lake: Lake, log: Log, first: int, until: int) -> pl.DataFrame:
    """Raw rows with `first` <= seq < `until`, in the order of seq."""
    found = scan(lake, log.table)
    if found is None:
        return pl.DataFrame(schema=RAW)
    with _told(log.table):
        return found.filter(pl.col("seq").is_between(first, until, "left")).sort("seq").collect()


def lateness(lake: Lake, log: Log, since: datetime) -> tuple[timedelta, ...]:
    """How late live records since then were, one in 10, 100 and 1,000; none where too few came.

    What happened before the table was first written to was history, not late.
    """
    found = scan(lake, log.table)
    if found is None:
        return ()
    with _told(log.table):
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
    return tuple(quantiles) if records >= _ENOUGH_TO_TELL else ()


def derived(lake: Lake, log: Log) -> int:
    """How many rows of `log` have their events in `events`."""
    with lent(lake, _EVENTS.name) as handle:
        return 0 if handle is None else _done(handle, log.app)


def _older(handle: DeltaTable, log: Log, fresh: pl.DataFrame, record: pl.Expr) -> list[int]:
    """`seq` of the rows whose records `fresh` holds newer versions of; they have the same time."""
    if fresh.is_empty():
        return []
    found = (
        pl.scan_delta(handle)
        .filter(_of(log), _beside(fresh))
        .select("seq", record.alias("record"))
        .collect()
    )
    known = fresh.select(record.alias("record"))
    return found.join(known, on="record", how="semi")["seq"].unique().to_list()


def _sql(log: Log, days: Iterable[date], among: str) -> str:
    """A condition in the words of Delta: rows of `log` on these days that are also `among`."""
    integration, stream = (name.replace("'", "''") for name in log)
    listed = ", ".join(f"DATE '{day}'" for day in days)
    return (
        f"integration = '{integration}' AND stream = '{stream}' AND date IN ({listed}) AND {among}"
    )


def _beside(batch: pl.DataFrame) -> pl.Expr:
    """Rows of the same days and between the times of `batch`."""
    return pl.col("date").is_in(batch["date"].unique().to_list()) & pl.col("time").is_between(
        batch["time"].min(), batch["time"].max()
    )


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
    near = _partitions(lake, handle, RAW, chosen, _between(handle, since, until))
    return near.filter(pl.col("time").is_between(since, until)).select("event_id", "via").collect()


def _between(handle: DeltaTable, since: datetime, until: datetime) -> set[str]:
    """The names of the files that may hold rows of these times; Delta rounds down to a tick."""
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    if not {"min.time", "max.time"} <= set(files.columns):
        return set(files["path"].str.split("/").list.last())
    least, most = pl.col("min.time").fill_null(since), pl.col("max.time").fill_null(until)
    near = files.filter(least <= until, most >= since - _TICK)
    return set(near["path"].str.split("/").list.last())


def _partitions(
    lake: Lake,
    handle: DeltaTable,
    schema: dict[str, pl.DataType],
    chosen: Sequence[tuple[str, str, str | list[str]]],
    among: set[str] | None = None,
) -> pl.LazyFrame:
    """The rows of some partitions (of the files `among` others), but for the columns they are
    named by.

    Of a round's small questions `pl.scan_delta` would be the dearest part, in time and in memory.
    """
    named = handle.metadata().partition_columns
    stored = {name: dtype for name, dtype in schema.items() if name not in named}
    files = handle.file_uris(list(chosen))
    if among is not None:
        files = [file for file in files if file.rpartition("/")[2] in among]
    if not files:
        return pl.LazyFrame(schema=stored)
    return pl.scan_parquet(
        files,
        schema=stored,
        hive_partitioning=False,
        missing_columns="insert",
        extra_columns="ignore",
        storage_options=lake.storage_options,
    )


def _without(batch: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    return batch.join(known, on="event_id", how="anti", maintain_order="left")


def _crossed(batch: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """The records that have been pushed and polled, this time the other way (ECHOES)."""
    pushed = pl.col("via") == "webhook"
    mine = batch.select("event_id", "time", "date", way=_way(pushed), seen_at="ingested_at")
    theirs = known.select("event_id", first=_way(pushed))
    return mine.join(theirs, on="event_id").filter(pl.col("way") != pl.col("first")).drop("first")


def _way(pushed: pl.Expr) -> pl.Expr:
    return pl.when(pushed).then(pl.lit("webhook")).otherwise(pl.lit("poll"))


def echo(lake: Lake, found: Mapping[Log, pl.DataFrame]) -> None:
    """Note by which other way events came (event.ECHOES without the log), each once."""
    key = ["integration", "stream", "event_id", "way"]
    named = [
        rows.with_columns(integration=pl.lit(log.integration), stream=pl.lit(log.stream))
        for log, rows in found.items()
    ]
    rows = pl.concat(named).unique(key, keep="first", maintain_order=True) if named else None
    if rows is None or rows.is_empty():
        return
    app = Log(*rows.select("integration", "stream").row(0)).app

    def decide(handle: DeltaTable, done: int) -> _Decision | None:
        known = pl.scan_delta(handle).filter(_beside(rows)).select(key).collect()
        fresh = rows.join(known, on=key, how="anti", maintain_order="left")
        counts = fresh.group_by("integration", "stream").len()
        apps = [(Log(*names).app, count) for *names, count in counts.iter_rows()]
        after = {each: _done(handle, each) + count for each, count in apps}
        return _Decision(fresh, after.get(app, done), beside=after) if after else None

    _fenced(lake, _ECHOES, app, decide, {})


def echoes(lake: Lake, log: Log, since: date) -> pl.DataFrame:
    """By which other way events came (event.ECHOES), of the days from `since` on."""
    found = scan(lake, _ECHOES.name)
    if found is None:
        return pl.DataFrame(schema=ECHOES)
    with _told(_ECHOES.name):
        return found.filter(_of(log), pl.col("date") >= since).collect()


def write_reconciled(lake: Lake, log: Log, rows: pl.DataFrame) -> None:
    """Put these days (event.RECONCILED) in the place of what was said of them before."""
    if rows.is_empty():
        return

    def decide(handle: DeltaTable, done: int) -> _Decision | None:
        wanted = rows.select(*RECONCILED).sort("date")
        same = _of(log) & pl.col("date").is_in(wanted["date"].to_list())
        said = pl.scan_delta(handle).filter(same).select(*RECONCILED).sort("date")
        if said.collect().equals(wanted):
            return None
        return _Decision(rows, done + 1, _sql(log, rows["date"], "1 = 1"))

    _fenced(lake, _RECONCILED, log.app, decide, {})


def held(lake: Lake, log: Log, rows: pl.DataFrame) -> list[str]:
    """Which of these events (event_id, time) are in raw."""
    with lent(lake, log.table) as handle:
        known = _known(lake, handle, rows) if handle else None
    return (
        [] if known is None else known.join(rows, on="event_id", how="semi")["event_id"].to_list()
    )


def _done(handle: DeltaTable, app: str) -> int:
    return handle.transaction_version(app) or 0


def _cursor(handle: DeltaTable) -> tuple[int, str | None]:
    """(rows, position) of the newest commit that holds one; compaction by others holds none."""
    for limit in (1, None):
        for commit in handle.history(limit):
            if _CURSOR in commit:
                return int(commit[_ROWS]), str(commit[_CURSOR])
    return -1, None


def _fenced(
    lake: Lake, table: _Table, app: str, decide: _Decide, metadata: dict[str, str]
) -> Appended:
    """Write what `decide` makes of the table's state, in one commit no other writer overlaps."""
    with _told(table.name):
        for _ in range(_RACES):
            handle = _opened(lake, table)
            decided = decide(handle, _done(handle, app))
            if decided is None:
                as_it_was = Appended(
                    frame=pl.DataFrame(schema=table.schema), version=handle.version()
                )
                _put_back(lake, table.name, handle)
                return as_it_was
            frame = decided.rows.select(pl.col(c).cast(t) for c, t in table.schema.items())
            properties = CommitProperties(
                custom_metadata={
                    **metadata,
                    _ROWS: str(decided.after),
                    _BATCH: uuid.uuid4().hex,
                },
                app_transactions=[
                    Transaction(*fence) for fence in {app: decided.after, **decided.beside}.items()
                ],
                max_commit_retries=100,
            )
            if _commit(lake, handle, frame, decided.instead_of, properties):
                done = Appended(frame=frame, version=handle.version())
                _put_back(lake, table.name, handle)
                return done
    raise LakeError(f"{table.name}: other writers won {_RACES} races in a row; try again")


def _grow(lake: Lake, table: _Table) -> None:
    """Give a table that an older version made the columns that were added since."""
    with _told(table.name):
        handle = _opened(lake, table)
        there = {field.name for field in handle.schema().fields}
        ours = _delta_schema(table.schema).fields
        if added := [field for field in ours if field.name not in there]:
            handle.alter.add_columns(added)


def _opened(lake: Lake, table: _Table) -> DeltaTable:
    found = _at_hand(lake, table.name)
    if found is not None:
        return found
    with suppress(CommitFailedError):  # another writer has just created it
        return DeltaTable.create(
            lake.uri(table.name),
            schema=_delta_schema(table.schema),
            mode="ignore",
            partition_by=list(table.partitions) or None,
            description=table.about,
            configuration=table.settings,
            storage_options=lake.storage_options,
        )
    return DeltaTable(lake.uri(table.name), storage_options=lake.storage_options)


def _commit(
    lake: Lake,
    handle: DeltaTable,
    frame: pl.DataFrame,
    instead_of: str | None,
    properties: CommitProperties,
) -> bool:
    """Write through the handle the batch was decided on; False where another writer was first."""
    before = handle.version()
    write = partial(
        write_deltalake,
        handle,
        frame,
        commit_properties=properties,
        post_commithook_properties=_QUIET,
        writer_properties=_PARQUET,
    )
    try:
        if instead_of:
            write(mode="overwrite", predicate=instead_of)
        else:
            write(mode="append")
    except CommitFailedError as error:
        if any(lost in str(error) for lost in _LOST_RACES):
            return False
        raise
    except (DeltaError, OSError):
        # A step after the commit may have failed although the commit is durable.
        handle.update_incremental()
        ours = (properties.custom_metadata or {})[_BATCH]
        if all(commit.get(_BATCH) != ours for commit in handle.history(20)):
            raise
    _settle(lake, handle, before)
    return True


def _settle(lake: Lake, handle: DeltaTable, before: int) -> None:
    """Make the new versions safe against power loss, and a checkpoint now and then."""
    to_disk(lake, handle, before)
    if handle.version() // handles.CHECKPOINT_EVERY > before // handles.CHECKPOINT_EVERY:
        with suppress(DeltaError, OSError):  # the next one does as well
            handle.create_checkpoint()


def to_disk(lake: Lake, handle: DeltaTable, before: int) -> None:
    """Make the versions after `before` safe against power loss, where the lake is on a disk."""
    if lake.local is not None:
        for version in range(before + 1, handle.version() + 1):
            _to_disk(Path(handle.table_uri.removeprefix("file://")), version)


def tables(lake: Lake, logs: Sequence[Log]) -> list[str]:
    """The tables there are: on a disk all, elsewhere those of `logs` and the common ones."""
    if lake.local is not None:
        found = lake.local.glob("**/_delta_log")
        return sorted(str(path.parent.relative_to(lake.local)) for path in found)
    known = [
        *(log.table for log in logs),
        *(t.name for t in (_EVENTS, _REJECTED, _COVERAGE, _ECHOES, _RECONCILED, _ROLLUPS)),
        *("access", "views"),
    ]
    return [table for table in known if open_table(lake, table) is not None]


def _to_disk(table: Path, version: int) -> None:
    """fsync a commit, its data files and their folders: delta-rs leaves that to the kernel."""
    commit = table / "_delta_log" / f"{version:020}.json"
    with suppress(FileNotFoundError):  # already tidied up by maintenance
        actions = map(json.loads, commit.read_text(encoding="utf-8").splitlines())
        added = [table / unquote(a["add"]["path"]) for a in actions if "add" in a]
        for path in (*added, *{p.parent for p in added}, commit, commit.parent):
            disk.sync(path)


@contextmanager
def _told(table: str) -> Iterator[None]:
    """What the store says, as one line with the remedy."""
    try:
        yield
    except (DeltaError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        said = " ".join(str(error).split())[:300]
        raise LakeError(f"{table}: {said}: {_remedy(said)}") from error


_FULL = ("no space left", "os error 28)", "too large (os", "quota exceeded", "os error 122)")


def _remedy(said: str) -> str:
    match said.lower():
        case text if any(full in text for full in _FULL):
            return "free some space; nothing acknowledged is lost"
        case text if "permission denied" in text or "read-only" in text or "os error 13" in text:
            return "give this user write access to lake.root"
        case text if "append-only" in text:
            return "an older version made it; remove its folder, and the next poll derives it anew"
        case text if "not a directory" in text or "file exists" in text or "os error 20" in text:
            return "set lake.root to a folder"
    return "check lake.root and lake.storage_options, then run it again"


def _delta_schema(schema: dict[str, pl.DataType]) -> Schema:
    return Schema([DeltaField(name, _delta_type(dtype)) for name, dtype in schema.items()])


def _delta_type(dtype: pl.DataType) -> PrimitiveType | ArrayType | StructType:
    match dtype:
        case pl.List():
            return ArrayType(_delta_type(dtype.inner))  # type: ignore[arg-type]  # polars types it loosely
        case pl.Struct():
            return StructType([DeltaField(f.name, _delta_type(f.dtype)) for f in dtype.fields])  # type: ignore[arg-type]  # polars types it loosely
        case pl.Datetime():
            return PrimitiveType("timestamp")
    return PrimitiveType(_PRIMITIVES[dtype])


_PRIMITIVES: dict[pl.DataType, str] = {
    pl.String(): "string",
    pl.Binary(): "binary",
    pl.Date(): "date",
    pl.Int32(): "integer",
    pl.Int64(): "long",
}
