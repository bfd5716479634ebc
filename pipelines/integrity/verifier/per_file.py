"""Tables about the data files of `events`: opened, and compared with those files, by their names.

Statistics in their Delta logs are checked too, since forged ones make every reader pass over a
file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from pipelines.integrity.verifier import data_files
from pipelines.integrity.verifier.job import LakeView, TableReport
from pipelines.integrity.verifier.proofs import Invalid, parsed
from pipelines.integrity.verifier.rows import TRUNCATED, UNREADABLE, reason_of
from pipelines.schemas import EVENTS, ROLLUPS, TEXT_INDEX

_STATISTICS = {
    "events": ("seq", "time", "ingested_at", "integration", "stream"),
    "rollups": ("file", "date"),
    "text_index": ("file", "date"),
}
_SCHEMAS = {"events": EVENTS, "rollups": ROLLUPS, "text_index": TEXT_INDEX}
_FILE = {"path": pl.String, "uri": pl.String, "date": pl.Date, "rows": pl.Int64}
_AT_ONCE = 500_000  # rows


class Reported:
    """Turns an error of the store into a finding."""

    def __init__(self, verdict: TableReport) -> None:
        self._verdict = verdict

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, UNREADABLE):
            return False
        reason = reason_of(error)
        self._verdict.found("unreadable", None, f"{self._verdict.table}: {reason}")
        return True


def begin(table: str) -> TableReport:
    now = datetime.now(UTC)  # noqa: TID251 the verifier shares no code with the rest
    return TableReport(table=table, at=now, seconds=-time.perf_counter())


def ended(verdict: TableReport) -> TableReport:
    verdict.seconds += time.perf_counter()
    return verdict


def opened(place: LakeView, verdict: TableReport) -> DeltaTable | None:
    """Return the newest version of the table; None if there is none, or it cannot be read."""
    options = dict(place.options) if place.options else None
    with Reported(verdict):
        try:
            is_events = verdict.table == "events"
            uri = place.uri(verdict.table)
            handle = place.events() if is_events else DeltaTable(uri, storage_options=options)
        except TableNotFoundError:
            return None
        # With deletion vectors or mapped columns, readers see other rows than the files hold.
        if handle.protocol().min_reader_version > 1:
            verdict.found("log", None, f"{verdict.table}: its Delta log requires unused features")
        return handle
    return None


def files_of(handle: DeltaTable) -> pl.DataFrame:
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


def check_statistics(
    place: LakeView, verdict: TableReport, handle: DeltaTable, files: pl.DataFrame
) -> None:
    """Report the first file whose rows lie outside the statistics in the Delta log."""
    if files.is_empty():
        return
    table, schema = verdict.table, _SCHEMAS[verdict.table]
    partitions = handle.metadata().partition_columns
    columns = [
        name
        for name in _STATISTICS[table]
        if f"min.{name}" in files.columns and name not in partitions
    ]
    read = scan(place, files["uri"].to_list(), schema, partitions).select("uri", *columns)
    least = [pl.col(name).min().alias(f"least.{name}") for name in columns]
    most = [pl.col(name).max().alias(f"most.{name}") for name in columns]
    actual = read.group_by("uri").agg(*least, *most, count=pl.len()).collect()
    both = files.join(actual, on="uri", how="left")
    wrong = [pl.col("count").fill_null(0) != pl.col("num_records")]
    for name in columns:
        lower, upper = pl.col(f"min.{name}"), pl.col(f"max.{name}")
        if isinstance(schema[name], pl.Datetime):
            upper += TRUNCATED
        wrong += [pl.col(f"least.{name}") < lower, pl.col(f"most.{name}") > upper]
    named = pl.col("path").str.extract(r"date=(\d{4}-\d\d-\d\d)")
    if "date" in partitions:
        wrong.append(named.ne_missing(pl.col("date").cast(pl.String)))
    odd = both.filter(pl.any_horizontal(pl.lit(value=False), *wrong).fill_null(value=False))
    for path in odd["path"][:1]:
        detail = f"{table}: {odd.height:,} files differ from their statistics, first {path}"
        verdict.found("statistics", None, detail)


def scan(
    place: LakeView, uris: list[str], schema: Mapping[str, Any], partitions: list[str]
) -> pl.LazyFrame:
    """Return the rows of these files, with the file's `uri`, and nulls for missing columns."""
    stored = {name: dtype for name, dtype in schema.items() if name not in partitions}
    if not uris:
        return pl.LazyFrame(schema={**stored, "uri": pl.String()})
    return data_files.scan(
        *(uris, place.options, place.kept),
        schema=stored,
        hive_partitioning=False,
        missing_columns="insert",
        extra_columns="ignore",
        use_statistics=False,
        named="uri",
    )


def event_files(place: LakeView) -> pl.DataFrame:
    return files_of(place.events()).select("path", "uri", "rows", day="date")


def batches(place: LakeView, listed: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the listed files that still belong to `events`, about 500,000 rows at a time."""
    # Opened after `rollups`: files compacted or deleted meanwhile are nobody's any more.
    files = listed.join(event_files(place), on="path").sort("file")
    if files.is_empty():
        return
    before = (pl.col("rows").cum_sum() - pl.col("rows")) // _AT_ONCE
    yield from files.with_columns(batch=before).partition_by("batch", maintain_order=True)


def texts_of(events: pl.LazyFrame, field: str) -> pl.Series:
    """Return all texts of a searchable column of `events`, each once."""
    if field != "targets":
        texts = events.select(text=pl.col(field))
    else:
        names = events.select("target_name", "targets").explode("targets")
        name = pl.col("targets").struct.field("name")
        # A name that equals `target_name` is searched in that column.
        texts = names.filter(name.ne_missing(pl.col("target_name"))).select(text=name)
    return texts.drop_nulls().unique().collect()["text"]


def _state(place: LakeView, table: str) -> Path:
    return place.memory / "verified" / f"{table}.json"


def first_unverified(place: LakeView, table: str) -> int:
    """Return the number of the first file that no run has verified yet."""
    try:
        following = parsed(_state(place, table).read_bytes())["next"]
    except (OSError, TypeError, LookupError, Invalid):
        return 0
    return following if type(following) is int and following >= 0 else 0


def keep_verified(place: LakeView, table: str, following: int) -> None:
    _state(place, table).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = _state(place, table).with_suffix(".draft")
    draft.write_text(json.dumps({"next": following}))
    draft.replace(_state(place, table))
