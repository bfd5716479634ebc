"""Computes the leaf hash of each row from the data files; runs in worker processes.

A full run reads every file whole and ignores its statistics, since forged ones could hide a row.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
from deltalake.exceptions import DeltaError

from pipelines import registry
from pipelines.integrity.verifier import data_files
from pipelines.integrity.verifier.data_files import Kept
from pipelines.integrity.verifier.log_reader import HASH, WIDTH
from pipelines.integrity.verifier.proofs import bounded, root_of
from pipelines.mapping import normalise
from pipelines.schemas import EVENTS

UNREADABLE = (DeltaError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""The errors of reading a table of the lake."""
_COLUMNS = {
    "seq": pl.Int64(),
    "event_id": pl.String(),
    "time": pl.Datetime("us", "UTC"),
    "ingested_at": pl.Datetime("us", "UTC"),
    "via": pl.String(),
    "raw": pl.String(),
    "raw_sha256": pl.String(),
}
_ORDER = ("event_uid", "seq")
TRUNCATED = timedelta(milliseconds=1)  # Delta stores statistics of times in milliseconds
_DERIVED_FROM_ROW = ["event_id", "time", "ingested_at", "kind"]


def reason_of(error: BaseException) -> str:
    """Return the error of a reader as one line; the text of a panic is about its program."""
    if isinstance(error, pl.exceptions.PanicException):
        return "a data file is damaged, or was rewritten"
    return " ".join(str(error).split())[:200]


Bounds = Mapping[str, tuple[Any, Any]]
"""Column -> its least and greatest value in a file, as far as they are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Files of one day of one table, to be read by a worker."""

    table: str
    files: Sequence[str]
    day_files: Sequence[str]
    """All files of the day that hold rows from `first` on."""
    options: Mapping[str, str] | None
    day: date
    events: Sequence[str] | None
    """The day's files of `events`; None: do not compare events."""
    kind: str
    first: int
    """Skip rows before this one; they were verified earlier."""
    derived: int
    """Rows before this one have their events."""
    superseded: Sequence[int] = ()
    """Rows whose events another version of the same record replaces."""
    removed: Sequence[tuple[int, int]] = ()
    """Rows that recorded acts remove, as (first, until): their events are deleted before them."""
    kept: Kept | None = None
    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    """File -> its statistics in the Delta log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """An inconsistency found in the data files alone, without the signed tree."""

    seq: int | None
    kind: str
    detail: str


@dataclass(slots=True, kw_only=True)
class Leaves:
    """The leaves of some rows: their seqs, ascending, and their concatenated hashes."""

    seqs: Sequence[int] | range
    hashes: bytes
    odd: list[Odd] = field(default_factory=list)
    events: int = 0
    """Rows of `events` that were read."""
    uncompared: dict[int | None, list[int]] = field(default_factory=dict)
    """Mapping version, other than the current -> seqs of events whose values were not compared."""


def leaves(task: Task) -> Leaves:
    """Return the leaves of all rows in the task's files, with any inconsistencies found."""
    frame, odd = _read(task)
    digests = [hashlib.sha256(raw).hexdigest() for raw in frame["raw"].cast(pl.Binary)]
    odd += _odd_rows(frame.with_columns(digest=pl.Series(digests, dtype=pl.String)), task.day)
    seqs = _compact(frame["seq"].to_list())
    found = Leaves(seqs=seqs, hashes=_hashes(frame, digests), odd=odd)
    if task.events is not None:
        _compare_events(task, frame, found)
    return found


def subtree(hashes: bytes) -> list[bytes]:
    """Return the root of every 256 leaves, as stored in the tiles of level 1."""
    return [
        root_of(
            [hashes[i : i + HASH] for i in range(at, min(at + WIDTH * HASH, len(hashes)), HASH)]
        )
        for at in range(0, len(hashes), WIDTH * HASH)
    ]


def _read(task: Task) -> tuple[pl.DataFrame, list[Odd]]:
    """Return the rows by seq, and an Odd for each unreadable file, whose rows are then missing."""
    frames, odd = [], []
    for file in task.files:
        try:
            frames.append(_file(task, file))
            odd += outside(task, file, frames[-1])
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            reason = reason_of(error)
            odd.append(Odd(seq=None, kind="unreadable", detail=f"{file}: {reason}"))
    rows = pl.concat(frames) if frames else pl.DataFrame(schema=_COLUMNS)
    if rows.null_count().sum_horizontal().item():
        odd.append(Odd(seq=None, kind="changed", detail=f"rows of {task.day} contain nulls"))
        rows = rows.drop_nulls()
    return rows.sort("seq"), odd


def _file(task: Task, file: str) -> pl.DataFrame:
    found, first = data_files.scan([file], task.options, task.kept), task.first
    rows = found.select(pl.col(name).cast(dtype) for name, dtype in _COLUMNS.items())
    # Null and negative seqs are kept: they are never valid, so they have to be reported.
    new = pl.col("seq").is_null() | (pl.col("seq") >= first) | (pl.col("seq") < 0)
    return (rows.filter(new) if first else rows).collect()


def outside(task: Task, file: str, rows: pl.DataFrame) -> list[Odd]:
    """Return an Odd if rows lie outside the file's statistics, so that searches would miss them."""
    for name, (least, most) in task.bounds.get(file, {}).items():
        if name not in rows.columns:
            continue
        lowest: Any = rows[name].min()
        highest: Any = rows[name].max()
        limit = most + TRUNCATED if isinstance(most, datetime) else most
        with suppress(TypeError):  # statistics of another type, which no reader can use
            below = lowest is not None and least is not None and lowest < least
            above = highest is not None and limit is not None and highest > limit
            if below or above:
                detail = f"{file}: {name} lies outside of the file's statistics"
                return [Odd(seq=None, kind="statistics", detail=detail)]
    return []


def _hashes(frame: pl.DataFrame, digests: Sequence[str]) -> bytes:
    # Local names: this loop runs once per row.
    sha256, made = hashlib.sha256, []
    times, arrivals = (frame[name].to_physical().to_list() for name in ("time", "ingested_at"))
    columns = zip(digests, times, arrivals, frame["via"], frame["event_id"], strict=True)
    for digest, time, arrival, via, identity in columns:
        text = f"auditlake/1\n{digest}\n{time}\n{arrival}\n{via}\n{identity}"
        made.append(sha256(b"\0" + bounded(text)).digest())
    return b"".join(made)


def _compact(seqs: list[int]) -> list[int] | range:
    """Return a range if the seqs have no gap, which is nearly always so."""
    if seqs and len(seqs) == seqs[-1] - seqs[0] + 1 and len(set(seqs)) == len(seqs):
        return range(seqs[0], seqs[-1] + 1)
    return seqs


def _odd_rows(frame: pl.DataFrame, day: date) -> list[Odd]:
    """Return the first row of each kind of contradiction within a row."""
    checks = {
        "raw_sha256 is not the hash of raw": pl.col("digest") != pl.col("raw_sha256"),
        "date is not the date of time": pl.col("time").dt.date() != day,
        "via contains a newline": pl.col("via").str.contains("\n", literal=True),
    }
    if frame.is_empty():
        return []
    first = {detail: frame.filter(wrong)["seq"].min() for detail, wrong in checks.items()}
    return [
        Odd(seq=seq, kind="changed", detail=detail)
        for detail, seq in first.items()
        if isinstance(seq, int)
    ]


def _compare_events(task: Task, raw: pl.DataFrame, found: Leaves) -> None:
    """Compare stored events with those the current mapping derives from these rows.

    Of an event that another mapping version made, only the columns taken from the row are compared.
    """
    raw = raw.filter(pl.col("seq") < task.derived)
    if raw.is_empty():
        return
    try:
        expected, stored = _expected(task, raw), _stored(task, raw)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = reason_of(error)
        found.odd.append(Odd(seq=None, kind="events", detail=f"events of {task.day}: {reason}"))
        return
    found.events = stored.height
    expected = _not_removed(task, expected, stored)
    # A difference in event_uid or seq explains differences in all other columns.
    odd = _first_difference(expected, stored, ["event_uid", "seq"])
    if odd is None:
        odd = _compare_values(expected, stored, found)
    found.odd += [odd] if odd else []


def _not_removed(task: Task, expected: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """Return the expected events without those of removed rows that have none any more."""
    if not task.removed or expected["seq"].is_in(stored["seq"].implode()).all():
        return expected
    lost = expected.join(stored, on="seq", how="anti")["seq"].unique().to_list()
    ends = [until for _, until in task.removed]
    firsts = [first for first, _ in task.removed]
    gone = [seq for seq in lost if ends[bisect_right(firsts, seq) - 1] > seq >= firsts[0]]
    return expected.filter(~pl.col("seq").is_in(gone))


def _compare_values(expected: pl.DataFrame, stored: pl.DataFrame, found: Leaves) -> Odd | None:
    """Compare the columns of the same events in the same order, and return the first difference."""
    current = stored["mapping_version"].eq_missing(expected["mapping_version"])
    values = [name for name in expected.columns if name != "date"]
    if current.all():
        return _first_difference(expected, stored, values)
    for version, seq in stored.filter(~current).select("mapping_version", "seq").iter_rows():
        found.uncompared.setdefault(version, []).append(seq)
    return _first_difference(expected, stored, _DERIVED_FROM_ROW) or _first_difference(
        expected.filter(current), stored.filter(current), values
    )


def _expected(task: Task, raw: pl.DataFrame) -> pl.DataFrame:
    integration, name = registry.kind(task.kind), task.table.split("/")
    stream = next(s for s in integration.streams(None) if s.name == name[2])
    raw = raw.unique("seq").sort("seq")
    record = normalise.version_of(stream)
    if record is not None:
        raw = raw.join(_newest(task, record), on="seq", how="semi", maintain_order="left")
    elif task.superseded:
        raw = raw.filter(~pl.col("seq").is_in(task.superseded))
    return normalise.normalise(name[1], integration, stream, raw).events.sort(*_ORDER)


def _newest(task: Task, record: pl.Expr) -> pl.DataFrame:
    """`seq` of the newest version of each record of the day: only these have events."""
    # A full run ignores statistics, since forged ones could hide the newest version.
    files, trusting = list(task.day_files), bool(task.first)
    rows = data_files.scan(files, task.options, task.kept, use_statistics=trusting)
    derived = rows.filter(pl.col("seq") < task.derived).select("seq", record.alias("record"))
    return derived.group_by("record").agg(pl.col("seq").max()).collect()


def _stored(task: Task, raw: pl.DataFrame) -> pl.DataFrame:
    _, integration, stream = task.table.split("/")
    ours = (
        (pl.col("integration") == integration)
        & (pl.col("stream") == stream)
        & pl.col("seq").is_in(raw["seq"].implode())
    )
    # Statistics may hide events here: a missing one is reported, an extra one is counted later.
    rows = event_rows(task.events or (), task.options, task.kept, use_statistics=True)
    return rows.filter(ours).collect().sort(*_ORDER)


def event_rows(
    files: Sequence[str],
    options: Mapping[str, str] | None,
    kept: Kept | None,
    *,
    use_statistics: bool,
) -> pl.LazyFrame:
    """Return the rows of these files of `events`; columns that a file lacks are null."""
    stored = {name: dtype for name, dtype in EVENTS.items() if name != "date"}
    if not files:
        return pl.LazyFrame(schema=stored)
    return data_files.scan(
        *(files, options, kept),
        schema=stored,
        hive_partitioning=False,
        missing_columns="insert",
        extra_columns="ignore",
        use_statistics=use_statistics,
    )


def _first_difference(expected: pl.DataFrame, stored: pl.DataFrame, names: list[str]) -> Odd | None:
    if expected.select(names).equals(stored.select(names)):
        return None
    if expected["event_uid"].equals(stored["event_uid"]):
        for name in names:
            differs = expected[name].ne_missing(stored[name])
            if differs.any():
                row = stored.row(differs.arg_true()[0], named=True)
                detail = (
                    f"events: {row['event_uid']}: {name} differs from the value derived from raw"
                )
                return Odd(seq=row["seq"], kind="events", detail=detail)
    lost = expected.join(stored, on="event_uid", how="anti")
    extra = stored.join(expected, on="event_uid", how="anti")
    rows, problem = (lost, "is missing") if lost.height else (extra, "comes from no row of raw")
    if rows.is_empty():
        rows = pl.concat([expected.select("event_uid", "seq"), stored.select("event_uid", "seq")])
        rows, problem = rows.filter(pl.len().over("event_uid", "seq") != 2), "is not there once"
    row = rows.sort("seq").row(0, named=True)
    return Odd(seq=row["seq"], kind="events", detail=f"events: {row['event_uid']} {problem}")


def fields(frame: pl.DataFrame) -> list[str]:
    """Return the parts of a row's leaf as text: digest of raw, time, ingested_at, via, event_id."""
    row = frame.with_columns(
        pl.col("time", "ingested_at").dt.epoch("us"),
    ).row(0, named=True)
    digest = hashlib.sha256(row["raw"].encode()).hexdigest()
    return [digest, *(str(row[name]) for name in ("time", "ingested_at", "via", "event_id"))]
