"""Verifies `rollups` and the files of `events`, which decide what a search in the dashboard reads.

Both are computed again from the data files of `events`, whose rows are compared with raw elsewhere.
Statistics are checked too, since forged ones make every reader pass over a file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from pipelines import visible
from pipelines.integrity.verifier import rows
from pipelines.integrity.verifier.job import LakeView, TableReport
from pipelines.integrity.verifier.proofs import Invalid, parsed
from pipelines.integrity.verifier.rows import UNREADABLE
from pipelines.schemas import EVENTS, ROLLUPS

if TYPE_CHECKING:
    import numpy as np

_COUNTED = {
    "what": (
        *("time", "integration", "kind", "stream", "activity_type", "action_type", "action"),
        "outcome",
    ),
    "who": ("actor_email", "actor_name", "actor_id", "integration"),
    "where": ("source_ip", "country"),
    "whom": ("target_name", "target_id"),
}
_STATISTICS = {
    "events": ("seq", "time", "ingested_at", "integration", "stream"),
    "rollups": ("file", "date"),
}
_DISGUISED = "disguised"  # the field whose `grams` are the columns with deceptive characters
_FILE = {"path": pl.String, "uri": pl.String, "date": pl.Date, "rows": pl.Int64}
_TRUNCATED = timedelta(milliseconds=1)  # Delta stores statistics of times in milliseconds
_AT_ONCE = 500_000  # rows
_LAYOUT = 4  # of the aggregates that are computed again


def verify_events(place: LakeView, raw_tables: Callable[[], Iterable[str]]) -> TableReport:
    """Report files of `events` with wrong statistics, and events of streams that do not exist."""
    verdict = _begin("events")
    handle = _open(place, verdict)
    if handle is not None:
        with _Reported(verdict):
            files = _files(handle)
            verdict.read = verdict.size = int(files["rows"].sum())
            _check_statistics(place, verdict, handle, files)
            _check_streams(place, verdict, files, raw_tables)
    return _ended(verdict)


def verify_rollups(place: LakeView, *, full: bool) -> TableReport:
    """Compare `rollups` with the events of the files it describes.

    Unless `full`, only with files that were added to it since the last successful run.
    """
    verdict = _begin("rollups")
    handle = _open(place, verdict)
    if handle is not None:
        with _Reported(verdict):
            _check_rollups(place, verdict, handle, 0 if full else _load(place))
    return _ended(verdict)


class _Reported:
    """Turns an error of the store into a finding."""

    def __init__(self, verdict: TableReport) -> None:
        self._verdict = verdict

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, UNREADABLE):
            return False
        reason = rows.reason_of(error)
        self._verdict.found("unreadable", None, f"{self._verdict.table}: {reason}")
        return True


def _begin(table: str) -> TableReport:
    now = datetime.now(UTC)  # noqa: TID251 the verifier shares no code with the rest
    return TableReport(table=table, at=now, seconds=-time.perf_counter())


def _ended(verdict: TableReport) -> TableReport:
    verdict.seconds += time.perf_counter()
    return verdict


def _open(place: LakeView, verdict: TableReport) -> DeltaTable | None:
    """Return the newest version of the table; None if there is none, or it cannot be read."""
    options = dict(place.options) if place.options else None
    with _Reported(verdict):
        try:
            handle = DeltaTable(place.uri(verdict.table), storage_options=options)
        except TableNotFoundError:
            return None
        # With deletion vectors or mapped columns, readers see other rows than the files hold.
        if handle.protocol().min_reader_version > 1:
            verdict.found("log", None, f"{verdict.table}: its Delta log requires unused features")
        return handle
    return None


def _files(handle: DeltaTable) -> pl.DataFrame:
    """Return the data files: path, uri, date, rows, and their statistics."""
    found = pl.DataFrame(handle.get_add_actions(flatten=True))
    if found.is_empty():
        return pl.DataFrame(schema=_FILE)
    base = handle.table_uri.rstrip("/").removeprefix("file://")
    uris = [f"{base}/{unquote(path)}" for path in found["path"]]
    day = "partition.date" if "partition.date" in found.columns else "min.date"
    dates = [pl.col(day).cast(pl.Date).alias("date")] if day in found.columns else []
    return found.with_columns(
        *dates, uri=pl.Series(uris, dtype=pl.String), rows=pl.col("num_records").fill_null(0)
    )


def _check_statistics(
    place: LakeView, verdict: TableReport, handle: DeltaTable, files: pl.DataFrame
) -> None:
    """Report the first file whose rows lie outside the statistics in the Delta log."""
    if files.is_empty():
        return
    table, schema = verdict.table, EVENTS if verdict.table == "events" else ROLLUPS
    partitions = handle.metadata().partition_columns
    columns = [
        name
        for name in _STATISTICS[table]
        if f"min.{name}" in files.columns and name not in partitions
    ]
    read = _scan(place, files["uri"].to_list(), schema, partitions).select("uri", *columns)
    least = [pl.col(name).min().alias(f"least.{name}") for name in columns]
    most = [pl.col(name).max().alias(f"most.{name}") for name in columns]
    actual = read.group_by("uri").agg(*least, *most, count=pl.len()).collect()
    both = files.join(actual, on="uri", how="left")
    wrong = [pl.col("count").fill_null(0) != pl.col("num_records")]
    for name in columns:
        lower, upper = pl.col(f"min.{name}"), pl.col(f"max.{name}")
        if isinstance(schema[name], pl.Datetime):
            upper += _TRUNCATED
        wrong += [pl.col(f"least.{name}") < lower, pl.col(f"most.{name}") > upper]
    named = pl.col("path").str.extract(r"date=(\d{4}-\d\d-\d\d)")
    if "date" in partitions:
        wrong.append(named.ne_missing(pl.col("date").cast(pl.String)))
    odd = both.filter(pl.any_horizontal(pl.lit(value=False), *wrong).fill_null(value=False))
    for path in odd["path"][:1]:
        detail = f"{table}: {odd.height:,} files differ from their statistics, first {path}"
        verdict.found("statistics", None, detail)


def _scan(
    place: LakeView, uris: list[str], schema: Mapping[str, Any], partitions: list[str]
) -> pl.LazyFrame:
    """Return the rows of these files, with the file's `uri`, and nulls for missing columns."""
    stored = {name: dtype for name, dtype in schema.items() if name not in partitions}
    if not uris:
        return pl.LazyFrame(schema={**stored, "uri": pl.String()})
    return pl.scan_parquet(
        uris,
        schema=stored,
        hive_partitioning=False,
        missing_columns="insert",
        extra_columns="ignore",
        use_statistics=False,
        include_file_paths="uri",
        storage_options=dict(place.options) if place.options else None,
    )


def _check_streams(
    place: LakeView,
    verdict: TableReport,
    files: pl.DataFrame,
    raw_tables: Callable[[], Iterable[str]],
) -> None:
    """Report events that belong to no raw table; the report on each raw table counts its own."""
    read = rows.event_rows(files["uri"].to_list(), place.options, use_statistics=False)
    streams = read.group_by("integration", "stream").len().collect()
    # Listed last: a stream may have been polled for the first time just now.
    known = set(raw_tables())
    for integration, stream, count in sorted(streams.rows(), key=str):
        if f"raw/{integration}/{stream}" not in known:
            detail = f"events: {count:,} events of {integration}/{stream}, which has no raw table"
            verdict.found("events", None, detail)


def _check_rollups(place: LakeView, verdict: TableReport, handle: DeltaTable, first: int) -> None:
    own = _files(handle)
    _check_statistics(place, verdict, handle, own)
    stored = _with_all_columns(pl.scan_delta(handle))
    known = stored.filter(pl.col("part") == "files").collect()
    _check_numbers(verdict, stored, known)
    verdict.first, verdict.size = first, known.height
    if verdict.findings:
        return
    # Searches ignore aggregates of another layout and read the files themselves.
    current = known.filter(pl.col("file") >= first, pl.col("layout") == _LAYOUT)
    for batch in _batches(place, current):
        verdict.read += batch.height
        numbers = pl.col("file").is_in(batch["file"].implode())
        try:
            _check_batch(place, verdict, batch, stored.filter(numbers).collect())
        except UNREADABLE:
            # Retention may have deleted files of the batch meanwhile.
            if batch.join(_event_files(place), on="path", how="anti").is_empty():
                raise
    if not verdict.findings:
        _store(place, max(known["file"].to_list(), default=-1) + 1)


def _with_all_columns(stored: pl.LazyFrame) -> pl.LazyFrame:
    lacking = ROLLUPS.keys() - stored.collect_schema().keys()
    return stored.with_columns(pl.lit(None, ROLLUPS[name]).alias(name) for name in lacking)


def _check_numbers(verdict: TableReport, stored: pl.LazyFrame, known: pl.DataFrame) -> None:
    """Report rows that describe no file, and files that are described twice."""
    strays = stored.filter(~pl.col("file").is_in(known["file"].implode()).fill_null(value=False))
    count = strays.select(pl.len()).collect().item()
    if count:
        verdict.found("rollups", None, f"rollups: {count:,} rows describe no file")
    if known["path"].n_unique() != known.height or known["file"].n_unique() != known.height:
        verdict.found("rollups", None, "rollups: a file is listed twice")


def _event_files(place: LakeView) -> pl.DataFrame:
    options = dict(place.options) if place.options else None
    handle = DeltaTable(place.uri("events"), storage_options=options)
    return _files(handle).select("path", "uri", "rows", day="date")


def _batches(place: LakeView, listed: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the listed files that still belong to `events`, about 500,000 rows at a time."""
    # Opened after `rollups`: files compacted or deleted meanwhile are nobody's any more.
    files = listed.join(_event_files(place), on="path").sort("file")
    if files.is_empty():
        return
    before = (pl.col("rows").cum_sum() - pl.col("rows")) // _AT_ONCE
    yield from files.with_columns(batch=before).partition_by("batch", maintain_order=True)


def _check_batch(
    place: LakeView, verdict: TableReport, batch: pl.DataFrame, stored: pl.DataFrame
) -> None:
    named = batch.select("uri", "file", date="day").lazy()
    events = _scan(place, batch["uri"].to_list(), EVENTS, ["date"]).join(named, on="uri")
    for part, expected in _expected(events).items():
        found = stored.filter(pl.col("part") == part).select(expected.columns)
        if not _sorted(expected).equals(_sorted(found)):
            verdict.found("rollups", None, f"rollups: {part} differ from the events counted again")
            return
    for row in batch.iter_rows(named=True):
        texts = stored.filter(pl.col("part") == "texts", pl.col("file") == row["file"])
        _check_texts(place, verdict, row, dict(texts.select("field", "grams").iter_rows()))


def _sorted(counted: pl.DataFrame) -> pl.DataFrame:
    return counted.sort(counted.columns)


def _expected(events: pl.LazyFrame) -> dict[str, pl.DataFrame]:
    n = pl.len().cast(pl.Int64).alias("n")
    hourly = events.with_columns(pl.col("time").dt.truncate("1h"))
    # An actor with an address is counted in all integrations together.
    addressed = pl.col("actor_email").fill_null("") != ""
    nameless = events.with_columns(pl.when(~addressed).then(pl.col("integration")))
    found = {
        "files": events.group_by("file", "date").agg(
            n,
            since=pl.col("time").min(),
            until=pl.col("time").max(),
            held=pl.col("ingested_at").max(),
        ),
        **{
            part: (nameless if part == "who" else hourly).group_by("file", "date", *columns).agg(n)
            for part, columns in _COUNTED.items()
        },
        "targets": _targets(events).group_by("file", "date", "target_name").agg(n),
    }
    return dict(zip(found, pl.collect_all(found.values()), strict=True))


def _targets(events: pl.LazyFrame) -> pl.LazyFrame:
    """Return each target of each event, by name or else by id, once; null where there is none."""

    def text(*names: pl.Expr) -> pl.Expr:
        return pl.coalesce(pl.when(name != "").then(name) for name in names)

    first = text(pl.col("target_name"), pl.col("target_id"))
    of_list = text(pl.element().struct.field("name"), pl.element().struct.field("id"))
    others = pl.col("targets").list.eval(of_list).fill_null(pl.lit([], pl.List(pl.String)))
    every = pl.concat_list(first, others).list.drop_nulls().list.unique()
    named = events.select("file", "date", target_name=every)
    return named.explode("target_name", empty_as_null=True)


def _check_texts(
    place: LakeView, verdict: TableReport, file: Mapping[str, Any], stored: dict[str, str | None]
) -> None:
    """Report a column with a trigram that `rollups` denies; too many trigrams only cost time."""
    events = _scan(place, [file["uri"]], EVENTS, ["date"])
    # Rows of an older auditlake know nothing of texts that look different from what they are.
    disguised = stored.pop(_DISGUISED, None)
    for field, grams in stored.items():
        texts = _texts(events, field)
        seen = visible.seen(texts).drop_nulls() if disguised is not None else texts.clear()
        unnamed = seen.len() and field not in (disguised or "").split("\0")
        all_texts = pl.concat([texts, seen]).str.join("\0").item() or ""
        if unnamed or (grams is not None and (trigrams(all_texts) & ~trigrams(grams)).any()):
            verdict.found("rollups", None, f"rollups: {file['path']} lacks texts of {field}")
            return


def _texts(events: pl.LazyFrame, field: str) -> pl.Series:
    """Return all texts of a searchable column of `events`, each once."""
    if field != "targets":
        texts = events.select(text=pl.col(field))
    else:
        names = events.select("target_name", "targets").explode("targets")
        name = pl.col("targets").struct.field("name")
        # A name that equals `target_name` is searched in that column.
        texts = names.filter(name.ne_missing(pl.col("target_name"))).select(text=name)
    return texts.drop_nulls().unique().collect()["text"]


def trigrams(text: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which of the 2**21 trigrams of ASCII characters, in lower case, the text contains."""
    import numpy as np  # noqa: PLC0415 slow to import, and most commands need none

    found = np.zeros(1 << 21, bool)
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    codes += np.where((codes >= ord("A")) & (codes <= ord("Z")), 32, 0)
    plain = (codes > 0) & (codes < 128)
    whole = plain[:-2] & plain[1:-1] & plain[2:]
    found[((codes[:-2] << 14) | (codes[1:-1] << 7) | codes[2:])[whole]] = True
    return found


def _state(place: LakeView) -> Path:
    return place.memory / "verified" / "rollups.json"


def _load(place: LakeView) -> int:
    """Return the number of the first file that no run has verified yet."""
    try:
        following = parsed(_state(place).read_bytes())["next"]
    except (OSError, TypeError, LookupError, Invalid):
        return 0
    return following if type(following) is int and following >= 0 else 0


def _store(place: LakeView, following: int) -> None:
    _state(place).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = _state(place).with_suffix(".draft")
    draft.write_text(json.dumps({"next": following}))
    draft.replace(_state(place))
