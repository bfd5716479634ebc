"""Export events to files, newest first, without a limit on their number.

A result is read in time ranges of about 50,000 events, each sorted and written before the next one
is read, so memory use doesn't grow with the result.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import NamedTuple

import msgspec
import polars as pl

from pipelines import visible
from pipelines.errors import ConfigurationError
from pipelines.mapping import ocsf_export
from pipelines.schemas import EVENTS
from pipelines.search import compiler, parser
from pipelines.search.people import NOBODY, PERSON, People

_SPAN = 50_000
_EVENTS_AT_ONCE = 5_000
# OWASP's list of characters that make a spreadsheet evaluate a cell, and some more.
_FORMULA = "^\\s*[=+\\-@\t\r\n|%\uff1d\uff0b\uff0d\uff20]"
# Where a spreadsheet separates cells by a semicolon or tab, a text contains several.
_NEXT_CELL = "([;\t\r\n])(\\s*[=\uff1d]|[+\\-@|%\uff0b\uff0d\uff20])"

Frames = Iterator[pl.DataFrame]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The events to export."""

    since: datetime | None = None
    until: datetime | None = None
    integrations: Sequence[str] = ()
    where: Sequence[str] = ()
    """Each "column:value", or "-column:value" to exclude; "*" matches any text."""
    text: str = ""
    """Text to find in any text column, ignoring case."""
    search: str = ""
    """A search, as in the dashboard."""


class Range(NamedTuple):
    """A time range of a result, both ends included, and the number of its events."""

    since: datetime
    until: datetime
    events: int


def matching(events: pl.LazyFrame, wanted: Wanted, people: People = NOBODY) -> pl.LazyFrame:
    """Return the matching events, with the column `person`.

    Raises ConfigurationError if a term or the search is invalid.
    """
    time, date = pl.col("time"), pl.col("date")
    conditions = [_where(term) for term in wanted.where]
    if wanted.since:
        # `date` is the partition: with it, files of other days are not opened.
        conditions += [date >= wanted.since.date(), time >= wanted.since]
    if wanted.until:
        conditions += [date <= wanted.until.date(), time < wanted.until]
    if wanted.integrations:
        conditions.append(pl.col("integration").is_in(wanted.integrations))
    if wanted.text:
        recorded = pl.col(pl.String).exclude(PERSON)
        texts = recorded.str.contains_any([wanted.text], ascii_case_insensitive=True)
        conditions.append(pl.any_horizontal(texts))
    if wanted.search:
        conditions += compiler.expressions(people.resolved(parser.parse(wanted.search)))
    return people.named(events).filter(*conditions)


def _where(term: str) -> pl.Expr:
    column, colon, value = term.removeprefix("-").partition(":")
    if not colon or column not in EVENTS or column == "targets":
        columns = ", ".join(name for name in EVENTS if name != "targets")
        raise ConfigurationError(
            f"{term!r}: expected COLUMN:VALUE, where COLUMN is one of {columns}"
        )
    pattern = ".*".join(re.escape(part) for part in value.split("*"))
    found = pl.col(column).cast(pl.String).str.contains(f"(?is)^{pattern}$").fill_null(False)
    return ~found if term.startswith("-") else found


def chunks(
    events: pl.LazyFrame, form: str, progress: Callable[[int], None] = lambda _: None
) -> Iterator[bytes]:
    """Yield the bytes of a file in one of FORMATS, piece by piece.

    A column `person` is no part of the record, and not exported. `progress` is called with the
    number of events of each piece.
    """
    frames = (between(events, span) for span in ranges(events))
    yield from written(_counted(frames, progress), form, empty(events))


def written(frames: Frames, form: str, columns: pl.DataFrame) -> Iterator[bytes]:
    """Yield the bytes of a file with these events; `columns` is a frame without any."""
    return FORMATS[form](chain([columns], frames))


def body(frame: pl.DataFrame, form: str) -> bytes:
    """Return the part of such a file that a frame becomes, which no other frame changes.

    A file in Parquet has no such parts.
    """
    head = b"".join(FORMATS[form](iter([frame.clear()])))
    return b"".join(FORMATS[form](iter([frame.clear(), frame])))[len(head) :]


def _counted(frames: Frames, progress: Callable[[int], None]) -> Frames:
    for frame in frames:
        yield frame
        progress(frame.height)


def empty(events: pl.LazyFrame) -> pl.DataFrame:
    """Return a frame with the columns that are exported, without events."""
    return events.drop(PERSON, strict=False).head(0).collect()


def between(events: pl.LazyFrame, span: Range) -> pl.DataFrame:
    """Return the events of a range, newest first."""
    found = events.drop(PERSON, strict=False).filter(
        pl.col("date").is_between(span.since.date(), span.until.date()),
        pl.col("time").is_between(span.since, span.until),
    )
    return found.sort("time", "event_uid", descending=True).collect()


def ranges(events: pl.LazyFrame) -> list[Range]:
    """Return ranges of about _SPAN events each, newest first.

    No minute is split, so that no event belongs to two ranges.
    """
    minutes = (
        events.group_by(pl.col("time").dt.truncate("1m").alias("minute"))
        .agg(pl.len(), first=pl.col("time").min(), last=pl.col("time").max())
        .sort("minute", descending=True)
        .with_columns(span=(pl.col("len").cum_sum() - pl.col("len")) // _SPAN)
        .group_by("span", maintain_order=True)
        .agg(pl.col("first").min(), pl.col("last").max(), pl.col("len").sum())
    )
    return [Range(*row) for row in minutes.select("first", "last", "len").collect().iter_rows()]


def _ocsf(frames: Frames) -> Iterator[bytes]:
    """Yield OCSF events, one JSON object per line."""
    encoder = msgspec.json.Encoder()
    for frame in frames:
        for part in frame.iter_slices(_EVENTS_AT_ONCE):
            yield encoder.encode_lines(ocsf_export.to_ocsf(part))


def _ndjson(frames: Frames) -> Iterator[bytes]:
    for frame in frames:
        yield frame.write_ndjson().encode()


def _csv(frames: Frames) -> Iterator[bytes]:
    """Yield UTF-8 with a header, and no cell that a spreadsheet would evaluate.

    This format is for people: deceptive characters are marked, unlike in all others.
    """
    for number, frame in enumerate(frames):
        flat = frame.with_columns(
            _as_json(name) for name, dtype in frame.schema.items() if dtype.is_nested()
        )
        shown = visible.frame(flat, keep="\t\n")
        safe = shown.with_columns(
            _without_formulas(name) for name in shown.select(pl.col(pl.String)).columns
        )
        text = safe.write_csv(include_header=number == 0, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
        yield text.encode()


def _as_json(column: str) -> pl.Expr:
    wrapped = pl.struct(column).struct.json_encode()
    return wrapped.str.strip_prefix(f'{{"{column}":').str.strip_suffix("}").alias(column)


def _without_formulas(column: str) -> pl.Expr:
    """Return a column with an apostrophe before texts that a spreadsheet takes for a formula."""
    text = pl.col(column).str.replace_all(_NEXT_CELL, "${1}'${2}")
    quoted = pl.concat_str(pl.lit("'"), text)
    return pl.when(text.str.contains(_FORMULA)).then(quoted).otherwise(text).alias(column)


def _parquet(frames: Frames) -> Iterator[bytes]:
    file = _DrainableFile()
    schema = next(frames).to_arrow().schema
    import pyarrow.parquet as pq  # noqa: PLC0415 slow to import, for one format

    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for frame in frames:
            writer.write_table(frame.to_arrow())
            yield file.drain()
    yield file.drain()


class _DrainableFile(io.RawIOBase):
    """A file whose `drain` returns the bytes written since it was last called."""

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
