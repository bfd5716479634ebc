"""Events as files to take away, newest first, however many there are.

A result is read in spans of time that hold some ten thousand events, each sorted and written
before the next is read: memory holds a span, never the result.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
import polars as pl
import pyarrow.parquet as pq

from pipelines.errors import ConfigurationError
from pipelines.mapping import ocsf_export
from pipelines.schemas import EVENTS

_SPAN = 50_000
_EVENTS_AT_ONCE = 5_000
_FORMULA = r"^\s*[=+\-@\t\r\n|%]"

Frames = Iterator[pl.DataFrame]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events."""

    since: datetime | None = None
    until: datetime | None = None
    integrations: Sequence[str] = ()
    where: Sequence[str] = ()
    """Each "column:value", or "-column:value" for all but these; "*" stands for any text."""
    text: str = ""
    """A part of any text column; case is ignored."""


def matching(events: pl.LazyFrame, wanted: Wanted) -> pl.LazyFrame:
    """Raises ConfigurationError where `wanted` names no column."""
    time, date = pl.col("time"), pl.col("date")
    conditions = [_where(term) for term in wanted.where]
    if wanted.since:
        conditions += [date >= wanted.since.date(), time >= wanted.since]
    if wanted.until:
        conditions += [date <= wanted.until.date(), time < wanted.until]
    if wanted.integrations:
        conditions.append(pl.col("integration").is_in(wanted.integrations))
    if wanted.text:
        texts = pl.col(pl.String).str.contains_any([wanted.text], ascii_case_insensitive=True)
        conditions.append(pl.any_horizontal(texts))
    return events.filter(*conditions)


def _where(term: str) -> pl.Expr:
    column, colon, value = term.removeprefix("-").partition(":")
    if not colon or column not in EVENTS or column == "targets":
        raise ConfigurationError(f"{term!r} is no COLUMN:VALUE of {', '.join(EVENTS)}")
    pattern = ".*".join(re.escape(part) for part in value.split("*"))
    found = pl.col(column).cast(pl.String).str.contains(f"(?is)^{pattern}$").fill_null(False)
    return ~found if term.startswith("-") else found


def chunks(events: pl.LazyFrame, form: str) -> Iterator[bytes]:
    """The bytes of a file in one of FORMATS, piece by piece."""
    return FORMATS[form](_frames(events))


def _frames(events: pl.LazyFrame) -> Frames:
    """The events newest first; first a frame without any, for its columns."""
    yield events.head(0).collect()
    for since, until in _spans(events):
        found = events.filter(
            pl.col("date").is_between(since.date(), until.date()),
            pl.col("time").is_between(since, until),
        )
        yield found.sort("time", "event_uid", descending=True).collect()


def _spans(events: pl.LazyFrame) -> Iterator[tuple[datetime, datetime]]:
    """(first time, last time) of groups of about _SPAN events, newest first; no minute is split."""
    minutes = (
        events.group_by(pl.col("time").dt.truncate("1m").alias("minute"))
        .agg(pl.len(), first=pl.col("time").min(), last=pl.col("time").max())
        .sort("minute", descending=True)
        .with_columns(span=(pl.col("len").cum_sum() - pl.col("len")) // _SPAN)
        .group_by("span", maintain_order=True)
        .agg(pl.col("first").min(), pl.col("last").max())
    )
    yield from minutes.select("first", "last").collect().iter_rows()


def _ocsf(frames: Frames) -> Iterator[bytes]:
    """A line an event."""
    encoder = msgspec.json.Encoder()
    for frame in frames:
        for part in frame.iter_slices(_EVENTS_AT_ONCE):
            yield encoder.encode_lines(ocsf_export.to_ocsf(part))


def _ndjson(frames: Frames) -> Iterator[bytes]:
    for frame in frames:
        yield frame.write_ndjson().encode()


def _csv(frames: Frames) -> Iterator[bytes]:
    """UTF-8 with a header; no cell that a spreadsheet would compute."""
    for number, frame in enumerate(frames):
        flat = frame.with_columns(
            _as_json(name) for name, dtype in frame.schema.items() if dtype.is_nested()
        )
        safe = flat.with_columns(_harmless(name) for name in flat.select(pl.col(pl.String)).columns)
        text = safe.write_csv(include_header=number == 0, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
        yield text.encode()


def _as_json(column: str) -> pl.Expr:
    wrapped = pl.struct(column).struct.json_encode()
    return wrapped.str.strip_prefix(f'{{"{column}":').str.strip_suffix("}").alias(column)


def _harmless(column: str) -> pl.Expr:
    """An apostrophe before what a spreadsheet would take for a formula."""
    text = pl.col(column)
    quoted = pl.concat_str(pl.lit("'"), text)
    return pl.when(text.str.contains(_FORMULA)).then(quoted).otherwise(text).alias(column)


def _parquet(frames: Frames) -> Iterator[bytes]:
    file = _Drained()
    schema = next(frames).to_arrow().schema
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for frame in frames:
            writer.write_table(frame.to_arrow())
            yield file.drain()
    yield file.drain()


class _Drained(io.RawIOBase):
    """A file that hands on what was written since it was last asked."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: bytes) -> int:  # type: ignore[override]  # any buffer
        piece = bytes(data)
        self._waiting.append(piece)
        self._size += len(piece)
        return len(piece)

    def drain(self) -> bytes:
        drained, self._waiting = b"".join(self._waiting), []
        return drained


FORMATS: dict[str, Callable[[Frames], Iterator[bytes]]] = {
    "ocsf": _ocsf,
    "parquet": _parquet,
    "csv": _csv,
    "ndjson": _ndjson,
}
