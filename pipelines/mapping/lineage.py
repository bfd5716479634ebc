"""Where every column of `events` comes from: for people, of a stream or of one record.

All of it is read off the code: the meaning from the comments in schemas.py, the paths from the
streams' columns.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipelines import schemas
from pipelines.mapping import normalise
from pipelines.mapping.field_reader import Reader, at
from pipelines.schemas import EVENTS
from pipelines.sdk import json_records
from pipelines.sdk.contract import Field, Integration, Stream

_COMMENT = re.compile(r'^    "(\w+)": .*?  # (.+)$', re.MULTILINE)
_OURS = {
    "event_uid": "integration, stream, event_id",
    "date": "day of time",
    "ingested_at": "our clock",
    "integration": "its name in auditlake.toml",
    "kind": "its kind in auditlake.toml",
    "stream": "the stream asked",
    "seq": "place in the raw table",
    "target_id": "one of targets",
    "target_name": "one of targets",
    "target_type": "one of targets",
    "mapping_version": "the integration",
}
Sources = dict[str, tuple[str, ...]]
"""Column -> the paths it is read from; a word with a space in it is none."""
Row = Mapping[str, Any]

_TYPES = {pl.String(): "text", pl.Int32(): "integer", pl.Int64(): "integer", pl.Date(): "date"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A column of one event, and what it was made of."""

    column: str
    value: Any
    sources: tuple[str, ...]
    """Paths that hold something in the record, or a word for what is not in it."""


def page(kinds: Iterable[Integration]) -> str:
    """docs/columns.md."""
    return "\n".join([_all_columns(), *(section(integration) for integration in kinds)])


def section(integration: Integration) -> str:
    """What the page says of one vendor: its paths, stream by stream."""
    lines = [f"## {integration.title}", ""]
    for streams, sources in _alike(integration):
        lines += [", ".join(f"`{stream.name}`" for stream in streams) + ":", ""]
        lines += ["| column | from |", "|---|---|"]
        lines += [f"| {column} | {_cell(paths)} |" for column, paths in sources.items()]
        lines.append("")
    return "\n".join(lines)


def explain(integration: Integration, stream: Stream, raw: pl.DataFrame) -> Iterator[list[Origin]]:
    """For each event of these raw rows the columns that say something, and why."""
    reader = Reader(dict(stream.columns), stream.explode)
    sources = {column: (word,) for column, word in _OURS.items()} | _sources(integration, stream)
    loaded = dict(zip(raw["seq"], map(_loaded, raw["raw"]), strict=True))
    events = normalise.normalise(integration.kind, integration, stream, raw).events
    for row in events.iter_rows(named=True):
        yield _origins(reader, sources, row, loaded[row["seq"]])


def _all_columns() -> str:
    schema = inspect.getsource(schemas).partition("EVENTS:")[2].partition("\n}")[0]
    meanings = dict(_COMMENT.findall(schema))
    lines = [
        "# The columns of `events`",
        "",
        "Made by `auditlake columns > docs/columns.md` from the code; a test compares.",
        "",
        "| column | type | meaning | from |",
        "|---|---|---|---|",
    ]
    for column, dtype in EVENTS.items():
        lines.append(
            f"| {column} | {_type(dtype)} | {meanings[column]} | {_OURS.get(column, 'below')} |"
        )
    return "\n".join([*lines, ""])


def _type(dtype: pl.DataType) -> str:
    match dtype:
        case pl.List():
            return "list of id, name, type"
        case pl.Datetime():
            return "time, UTC, µs"
    return _TYPES[dtype]


def _alike(integration: Integration) -> list[tuple[list[Stream], Sources]]:
    """Streams together with those that read the same paths."""
    groups: list[tuple[list[Stream], Sources]] = []
    for stream in integration.streams(None):
        sources = _sources(integration, stream)
        for streams, others in groups:
            if others == sources:
                streams.append(stream)
                break
        else:
            groups.append(([stream], sources))
    return groups


def _sources(integration: Integration, stream: Stream) -> Sources:
    table = f"{integration.kind}.csv by action"
    given: Mapping[str, str | Field] = {
        "event_id": stream.latest_of or stream.id or "SHA-256 of the record",
        "time": stream.time,
        **stream.columns,
    }
    ocsf = ("activity_type", "action_type", "class_uid", "activity_id")
    found = {column: _paths(source) for column, source in given.items()}
    found["message"] = (*found.get("message", ()), "a sentence of the columns")
    return {c: found.get(c, (table,)) for c in EVENTS if c in found or c in ocsf}


def _paths(source: str | Field) -> tuple[str, ...]:
    """A word for what is in no record may hold a space."""
    given = (source,) if isinstance(source, str) else source.paths
    return tuple(path for either in given for path in either.split("|"))


def _cell(paths: Sequence[str]) -> str:
    return ", ".join(path if " " in path else f"`{path}`" for path in paths)


def _origins(reader: Reader, sources: Sources, row: Row, record: Any) -> list[Origin]:
    """The columns of one event that say something."""
    items = at(record, reader.explode) if reader.explode else None
    place = int(row["event_uid"].rpartition("#")[2]) if reader.explode else 0
    item = items[place] if isinstance(items, list) and place < len(items) else None

    def holds(path: str) -> bool:
        return reader.value(record, item, path) not in (None, "", [], {})

    def present(paths: tuple[str, ...]) -> tuple[str, ...]:
        said = tuple(path for path in paths if " " not in path and holds(path))
        ours = tuple(path for path in paths if " " in path)
        return said or ours or paths  # none: their absence was the reason

    return [
        Origin(column=column, value=row[column], sources=present(sources[column]))
        for column in EVENTS
        if row[column] not in (None, []) and column in sources
    ]


def _loaded(raw: str) -> Any:
    try:
        return json_records.load(raw.encode())
    except ValueError:
        return None
