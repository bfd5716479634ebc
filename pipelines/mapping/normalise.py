"""Read ids and times from raw records, and map them to events.

Pure functions: the same bytes always return the same rows.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import polars as pl

from pipelines.mapping import messages, ocsf
from pipelines.mapping.field_reader import Reader, Row
from pipelines.schemas import EVENTS, TARGET, Timestamp
from pipelines.sdk import geo, record_versions
from pipelines.sdk.contract import Integration, Stream
from pipelines.sdk.json_records import canonical, load, with_spelled_surrogates

_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_AHEAD = timedelta(days=1)
_CHUNK = 100  # rows that are turned into columns at once: they fit into a processor's cache
_NO_ID = "no id"

_TEXTS = [
    name
    for name, dtype in EVENTS.items()
    if dtype == pl.String()
    and name
    not in {
        *("event_uid", "integration", "kind", "stream", "event_id"),
        *("activity_type", "action_type", "target_id", "target_name", "target_type"),
    }
]
_CLASSIFIED_AS = "classified_as"
# Where a word such as "null" means that there is no value: never in `action` or `message`.
_MEANINGFUL = (
    *("actor_id", "actor_name", "actor_email", "outcome_reason", "user_agent"),
    *("city", "country", "session_id", "correlation_id"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalised:
    events: pl.DataFrame
    """Columns of schemas.EVENTS, in the order of `seq`."""
    faults: Counter[str]
    """Column -> number of values that could not be derived and are null."""


def read(
    stream: Stream,
    records: Sequence[bytes],
    now: datetime,
    via: str,
    fallback: datetime | None = None,
) -> pl.DataFrame:
    """Return raw rows for records: schemas.RAW without `seq`, plus `bytes` and `fault`.

    `bytes` is the record as received; `raw` is null where it is not UTF-8. `fault` is the reason to
    reject the record, or null. `fallback` is the time of records without one.
    """
    reader = _identity_reader(stream)
    with _gc_paused():
        rows = [found[0] for found in reader.rows(records)]
    hashes = pl.Series([digest(record) for record in records], dtype=pl.String)
    ids = _ids(reader, rows, records) if stream.id else hashes
    if stream.latest_of:
        ids = ids + "@" + pl.Series([digest(canonical(r))[:16] for r in records], dtype=pl.String)
    frame = pl.DataFrame(
        {
            "event_id": ids,
            "time": _times([row[1] for row in rows]),
            "bytes": pl.Series(records, dtype=pl.Binary),
            "raw_sha256": hashes,
        }
    )
    read_ = frame.with_columns(
        pl.col("time").fill_null(pl.lit(fallback, dtype=Timestamp)),
        _decoded(frame["bytes"]).alias("raw"),
        pl.lit(now, dtype=Timestamp).alias("ingested_at"),
        pl.lit(via).alias("via"),
    ).with_columns(pl.col("time").dt.date().alias("date"), _fault(now).alias("fault"))
    return read_ if read_["fault"].null_count() == read_.height else _with_parse_errors(read_)


def _ids(reader: Reader, rows: Sequence[Row], records: Sequence[bytes]) -> pl.Series:
    ids = _texts("event_id", [row[0] for row in rows])
    # In these, a lone surrogate may have been replaced: two ids must not become one.
    odd = ids.str.contains("\ufffd", literal=True).fill_null(False).arg_true()
    if odd.is_empty():
        return ids
    spelled = reader.rows([with_spelled_surrogates(records[place]) for place in odd])
    return ids.scatter(odd, _texts("event_id", [found[0][0] for found in spelled]))


def _with_parse_errors(rows: pl.DataFrame) -> pl.DataFrame:
    """Replace the fault "no id" by the parse error where the record is not valid JSON."""
    faults = [
        _unreadable(record) or fault if fault == _NO_ID else fault
        for record, fault in zip(rows["bytes"], rows["fault"], strict=True)
    ]
    return rows.with_columns(pl.Series("fault", faults, pl.String))


def _unreadable(record: bytes) -> str | None:
    try:
        load(record)
    except ValueError as error:
        return str(error)
    return None


def _decoded(records: pl.Series) -> pl.Series:
    """Return records as text, null where one is not UTF-8."""
    # A cast fails as a whole if one record is not UTF-8, even with strict=False.
    try:
        return records.cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series([_utf_8(record) for record in records], dtype=pl.String)


def _utf_8(record: bytes) -> str | None:
    try:
        return record.decode()
    except UnicodeDecodeError:
        return None


def version_of(stream: Stream) -> pl.Expr | None:
    """Return the id without its version, for streams whose vendor re-publishes changed records."""
    return pl.col("event_id").str.replace("@[^@]*$", "") if stream.latest_of else None


def _fault(now: datetime) -> pl.Expr:
    """Return the first reason to reject a row, or null."""
    time = pl.col("time")
    return (
        pl.when(pl.col("raw").is_null())
        .then(pl.lit("not UTF-8"))
        .when(pl.col("event_id").fill_null("").str.strip_chars() == "")
        .then(pl.lit(_NO_ID))
        .when(record_versions.is_later())
        .then(pl.lit("the id contains the mark of a later version"))
        .when(time.is_null())
        .then(pl.lit("no time that can be read"))
        .when(~time.is_between(_EARLIEST, now + _AHEAD))
        .then(pl.format("time out of range: {}", time.dt.date()))
    )


def _times(values: Sequence[Any]) -> pl.Series:
    """Parse RFC 3339 texts and datetimes to UTC; digits beyond microseconds are cut off."""
    texts = pl.Series([v if isinstance(v, str) else None for v in values], dtype=pl.String)
    times = texts.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    # Polars parses RFC 3339 only; the few other spellings take the slow way.
    if times.null_count():
        slow = [None if t else _time(v) for t, v in zip(times.is_not_null(), values, strict=True)]
        times = times.fill_null(
            pl.Series(slow, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC")
        )
    return times


def _time(value: Any) -> datetime | None:
    """Parse one time that Polars could not; return it naive, in UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    try:
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    except OverflowError:
        return None


def digest(record: bytes) -> str:
    """Return the SHA-256 of a record's bytes, in lower-case hex."""
    return hashlib.sha256(record).hexdigest()


def normalise(name: str, integration: Integration, stream: Stream, raw: pl.DataFrame) -> Normalised:
    """Map raw rows (event_id, time, ingested_at, seq, raw) to event rows.

    A record may give several events. `name` is the integration's name in auditlake.toml.
    """
    reader = _event_reader(stream)
    before = Counter(reader.faults)
    found = _Collected(reader, stream.target_rank, integration.nothing)
    records = raw["raw"].cast(pl.Binary)
    with _gc_paused():
        for start in range(0, raw.height, _CHUNK):
            found.add(records[start : start + _CHUNK])
    parent, place = found.origin()
    origin = raw.select(pl.col("event_id", "time", "ingested_at", "seq").gather(parent))
    events = pl.concat([origin, found.frame()], how="horizontal")
    return Normalised(
        events=_complete(events, name, integration, stream, place),
        faults=reader.faults - before,
    )


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector: it takes 10 % of the time, and JSON has no cycles."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


class _Collected:
    """Values collected by column: many small lists would slow down the garbage collector."""

    def __init__(self, reader: Reader, rank: Mapping[Any, int], nothing: frozenset[str]) -> None:
        self._reader = reader
        self._columns: dict[str, list[Any]] = {name: [] for name in reader.columns}
        self._targets = _Targets(rank, nothing)
        self._nothing = nothing
        self._events: list[int] = []

    def add(self, records: Iterable[bytes]) -> None:
        rows: list[list[Any]] = []
        for found in self._reader.rows(records):
            rows += found
            self._events.append(len(found))
        for name, values in zip(self._columns, zip(*rows, strict=True), strict=True):
            if name == "targets":
                self._targets.add(values)
            else:
                self._columns[name] += values

    def origin(self) -> tuple[pl.Series, pl.Series]:
        """Return, for each event, the index of its record and its own index in that record."""
        found = (
            pl.DataFrame({"events": pl.Series(self._events, dtype=pl.Int64)})
            .with_row_index("record")
            .select("record", pl.int_ranges("events").alias("place"))
            .explode("place")
        )
        return found["record"], found["place"]

    def frame(self) -> pl.DataFrame:
        """Return the columns read from the record itself, cleaned and typed."""
        height = sum(self._events)
        nothing: list[None] = [None] * height
        texts = pl.DataFrame(
            [_texts(name, self._columns.get(name, nothing)) for name in (*_TEXTS, _CLASSIFIED_AS)]
        )
        frame = pl.concat([texts, self._targets.frame(height)], how="horizontal")
        others = pl.col(pl.String).exclude(*_MEANINGFUL)
        return frame.with_columns(
            pl.when(others != "").then(others), *_without(self._nothing, *_MEANINGFUL)
        ).with_columns(
            pl.col("actor_email").str.to_lowercase(),
            pl.col("severity").str.to_lowercase(),
            pl.col("outcome").fill_null("unknown"),
        )


class _Targets:
    """Lists of targets, stored flat, with the most important of each and the list of each event."""

    def __init__(self, rank: Mapping[Any, int], nothing: frozenset[str]) -> None:
        self._rank = rank
        self._nothing = nothing
        self._row: list[int] = []
        self._flat: dict[str, list[Any]] = {key: [] for key in _TARGET_KEYS}
        self._first: list[int] = []
        self._list: list[int | None] = []

    def add(self, values: Sequence[Any]) -> None:
        flat: list[Mapping[str, Any]] = []
        before = len(self._row)
        for value in values:
            found = self._known(value)
            self._list.append(len(self._first) if found else None)
            if found:
                self._row += [len(self._first)] * len(found)
                self._first.append(before + len(flat) + self._most_important(found))
                flat += found
        for key in _TARGET_KEYS:
            self._flat[key] += [target.get(key) for target in flat]

    def frame(self, height: int) -> pl.DataFrame:
        """Return `targets`, target_id, target_name and target_type, one row per event."""
        row = pl.Series("row", self._row, pl.UInt32)
        flat = pl.DataFrame(
            [row, *(_texts(key, values) for key, values in self._flat.items())]
        ).with_columns(_without(self._nothing, "id", "name"))
        lists = flat.group_by("row", maintain_order=True).agg(
            pl.struct(_TARGET_KEYS).alias("targets")
        )
        place = pl.Series(self._list or [None] * height, dtype=pl.UInt32)
        first = pl.Series(self._first, dtype=pl.UInt32)[place]
        found = [flat[key][first].alias(f"target_{key}") for key in _TARGET_KEYS]
        return pl.DataFrame([*found, lists["targets"][place]]).with_columns(
            pl.col("targets").fill_null(pl.lit([], dtype=pl.List(TARGET)))
        )

    def _known(self, value: Any) -> list[dict[str, Any]]:
        if not isinstance(value, list):
            return []
        nothing = self._nothing
        return [
            target
            for target in value
            if isinstance(target, dict)
            and (
                ((name := target.get("name")) and not (type(name) is str and name in nothing))
                or ((id_ := target.get("id")) and not (type(id_) is str and id_ in nothing))
            )
        ]

    def _most_important(self, found: Sequence[Mapping[str, Any]]) -> int:
        if len(found) == 1:
            return 0
        best, place = _LEAST, 0
        for index, target in enumerate(found):
            kind, name = target.get("type"), target.get("name")
            rank = self._rank.get(kind, _UNRANKED) if isinstance(kind, str) else _UNRANKED
            if not name or (type(name) is str and name in self._nothing):
                rank += _UNNAMED
            if rank < best:
                best, place = rank, index
        return place


_CLEAN: dict[str, Callable[[str | None], str | None]] = {
    "source_ip": geo.address,
    "country": geo.country,
}


def _texts(name: str, values: Sequence[Any]) -> pl.Series:
    # Nearly all values are text already; only mixed columns take the slow way.
    try:
        series = pl.Series(name, values, pl.String, strict=True)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        series = pl.Series(name, [text(value) for value in values], pl.String)
    clean = _CLEAN.get(name)
    return _replaced(series, clean) if clean else series


def _replaced(texts: pl.Series, clean: Callable[[str | None], str | None]) -> pl.Series:
    known = texts.drop_nulls().unique()
    if known.is_empty():
        return texts
    # Cleaning each distinct value once: a column holds few distinct ones.
    return texts.replace_strict(known, pl.Series([clean(text) for text in known], dtype=pl.String))


def text(value: Any) -> str | None:
    """Return text unchanged, any other value as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


_UNRANKED, _UNNAMED, _LEAST = 99, 1000, 10_000  # each above all ranks before it
_TARGET_KEYS = ("id", "name", "type")


def _without(nothing: frozenset[str], *columns: str) -> Iterator[pl.Expr]:
    """Yield the columns, null where the whole value is one of these words."""
    words = _literal(nothing)
    for column in columns:
        yield pl.when(~pl.col(column).is_in(words)).then(pl.col(column)).alias(column)


@cache
def _literal(words: frozenset[str]) -> pl.Series:
    return pl.Series(sorted(words), dtype=pl.String).implode()


def _complete(
    frame: pl.DataFrame,
    name: str,
    integration: Integration,
    stream: Stream,
    place: pl.Series,
) -> pl.DataFrame:
    """Add the columns derived from others; return all in the schema's order."""
    uid = pl.concat_str(pl.lit(f"{name}:{stream.name}:"), pl.col("event_id"))
    if stream.explode:
        uid = pl.concat_str(uid, pl.lit("#"), place.cast(pl.String))
    complete = frame.with_columns(
        uid.alias("event_uid"),
        pl.col("time").dt.date().alias("date"),
        pl.lit(name).alias("integration"),
        pl.lit(integration.kind).alias("kind"),
        pl.lit(stream.name).alias("stream"),
        pl.lit(integration.mapping_version, dtype=pl.Int32).alias("mapping_version"),
    ).hstack(_classes(frame, integration, stream))
    complete = complete.with_columns(_messages(complete))
    return complete.select(pl.col(column).cast(dtype) for column, dtype in EVENTS.items())


def _classes(frame: pl.DataFrame, integration: Integration, stream: Stream) -> pl.DataFrame:
    """Return the columns of the OCSF class, computed once per distinct action."""
    classify = ocsf.classifier(integration.kind)
    actions = frame.select(pl.coalesce(_CLASSIFIED_AS, "action")).to_series()
    known, places = messages.distinct(actions)
    classes = [classify(stream.name, action) for action in known]
    found = pl.DataFrame(
        [
            pl.Series("class_uid", [c for c, _ in classes], pl.Int32),
            pl.Series("activity_id", [a for _, a in classes], pl.Int32),
            pl.Series("activity_type", [ocsf.class_name(c) for c, _ in classes], pl.String),
            pl.Series("action_type", [ocsf.activity_name(c, a) for c, a in classes], pl.String),
        ]
    )
    return found[places]


def _messages(frame: pl.DataFrame) -> pl.Series:
    """Return the vendor's messages, with generated ones where it gives none."""
    given = frame["message"]
    missing = given.is_null().arg_true()
    if missing.is_empty():
        return given
    return given.scatter(missing, messages.sentences(frame[missing]))


@cache
def _identity_reader(stream: Stream) -> Reader:
    return Reader({"event_id": stream.latest_of or stream.id or "id", "time": stream.time})


@cache
def _event_reader(stream: Stream) -> Reader:
    columns = dict(stream.columns)
    if stream.classified_as:
        columns[_CLASSIFIED_AS] = stream.classified_as
    return Reader(columns, stream.explode)
