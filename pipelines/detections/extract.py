"""Take the values at many paths out of raw records, decoding each record once.

The paths are compiled to msgspec structs, which skip everything else. A record of an unexpected
shape is read as plain values instead, so that it costs time but no match.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa

from pipelines.detections import paths
from pipelines.detections.paths import KINDS, Path, Step
from pipelines.sdk import json_records

MOST_BYTES = 16 << 20
"""A longer record is not read; no integration stores one by default."""
Record = str | bytes | None
_UNREADABLE = (ValueError, RecursionError, MemoryError)
_NONE = type(None)
_Tree = dict[str, "_Tree"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """Texts per path, and the record of each row."""

    frame: pl.DataFrame
    """A column per path: `String`, or `List(String)` where a row has several values."""
    origin: pl.Series
    """The index of the row's record; several rows have the same if records are exploded."""
    unread: list[int]
    """The records that are no JSON, or too long or too deep to read; they have no values."""


@dataclass(frozen=True, slots=True)
class _Reader:
    """The compiled form of a set of paths."""

    tree: _Tree
    decode: Callable[[str | bytes], Any]


def extract(records: Sequence[Record], wanted: Sequence[Path], each: str = "") -> Extracted:
    """Return the values of records at the paths; with `each`, a row per element of that list."""
    chosen = dict.fromkeys(wanted)
    reader = _reader(tuple(path for path in chosen if path.reads), each)
    found, unread = _decoded(records, reader)
    rows, items, origin = _exploded(found, reader, each)
    made = []
    for path in chosen:
        if not path.reads:
            made.append(_unread(path, records, origin))
        elif each and path.steps[0][0] == each:
            made.append(_series(path, path.steps[1:], reader.tree[each], items))
        else:
            made.append(_series(path, path.steps, reader.tree, rows))
    index = pl.Series("", origin, pl.Int64)
    frame = pl.DataFrame(made) if made else index.to_frame()
    return Extracted(frame=frame, origin=index, unread=unread)


def columns(frame: pl.DataFrame, wanted: Sequence[Path]) -> pl.DataFrame:
    """Return the same for rows of `events`, whose columns are the first steps of the paths."""
    found = [_column(frame, path).alias(path.column) for path in dict.fromkeys(wanted)]
    return frame.select(found) if found else frame.select(pl.lit(0).alias(""))


def _column(frame: pl.DataFrame, path: Path) -> pl.Expr:
    if path == paths.EVERYTHING:
        named = [name for name, dtype in frame.schema.items() if dtype == pl.String]
        return pl.concat_list(named).list.drop_nulls()
    name, *below = (step[0] for step in path.steps)
    if below:
        item = pl.element().struct.field(below[0]).cast(pl.String)
        return pl.col(name).list.eval(item).list.drop_nulls()
    if isinstance(frame.schema[name], pl.Datetime):
        return pl.col(name).dt.to_string("iso:strict")
    return pl.col(name).cast(pl.String)


@lru_cache(maxsize=256)
def _reader(wanted: tuple[Path, ...], each: str) -> _Reader:
    tree: _Tree = {each: {"": {}}} if each else {}
    whole = {name for path in wanted for name in [_prefix(path.steps)]}
    for path in wanted:
        node = tree
        seen: tuple[str, ...] = ()
        for name in _prefix(path.steps):
            node, seen = node.setdefault(name, {}), (*seen, name)
            if seen in whole:
                # Read whole for another path, so what is below it is not a struct.
                node.clear()
                break
    return _Reader(tree, msgspec.json.Decoder(_struct("Record", tree, each)).decode)


def _prefix(steps: Sequence[Step]) -> tuple[str, ...]:
    """Return the names up to the first condition, from where on plain values are read."""
    names = []
    for name, member, _ in steps:
        names.append(name)
        if member:
            break
    return tuple(names)


def _struct(name: str, tree: _Tree, each: str = "") -> type[msgspec.Struct]:
    fields = []
    for index, (key, below) in enumerate(tree.items()):
        inner: Any = Any
        absent = None
        if below:
            one: Any = _struct(f"{name}_{index}", below)
            inner = one | list[one | None] | str | int | float | bool | None
            # An object without values, since it costs more to find None on the way to one.
            absent = one() if key != each else None
        fields.append((f"f{index}", inner, msgspec.field(name=key, default=absent)))
    # Decoded records have no cycles, so the garbage collector need not track them.
    return msgspec.defstruct(name, fields, gc=False, frozen=True)


def _decoded(records: Sequence[Record], reader: _Reader) -> tuple[list[Any], list[int]]:
    """Return records as structs, as plain values where their shape is unexpected, or as None."""
    found: list[Any] = []
    unread: list[int] = []
    decode = reader.decode
    for place, record in enumerate(records):
        try:
            if record is None or len(record) > MOST_BYTES:
                raise ValueError
            value = decode(record)
        except (msgspec.MsgspecError, *_UNREADABLE):
            value = _plain(record)
            if not isinstance(value, dict):
                unread.append(place)
        found.append(value)
    return found, unread


def _plain(record: Record) -> Any:
    """Return a record as plain values, or None if it cannot be read."""
    if record is None or len(record) > MOST_BYTES:
        return None
    try:
        return json_records.load(record.encode() if isinstance(record, str) else record)
    except _UNREADABLE:
        return None


def _exploded(
    found: list[Any], reader: _Reader, each: str
) -> tuple[list[Any], list[Any], list[int]]:
    """Return the record of each row, the element, and the index of the record."""
    if not each:
        return found, [], [*range(len(found))]
    get = attrgetter(f"f{[*reader.tree].index(each)}")
    rows, items, origin = [], [], []
    for place, record in enumerate(found):
        elements = record.get(each) if isinstance(record, dict) else record and get(record)
        # A record without elements has a row, for rules about its other members.
        for item in elements if isinstance(elements, list) and elements else (elements,):
            rows.append(record)
            items.append(item)
            origin.append(place)
    return rows, items, origin


def _unread(path: Path, records: Sequence[Record], origin: list[int]) -> pl.Series:
    """Return a constant, or the values of a path to whole records."""
    if path.kind == "constant":
        return pl.repeat(path.text, len(origin), eager=True).alias(path.column)
    made = [_texts(path, [_plain(record)]) for record in records]
    return _from_lists(path.column, [made[place] for place in origin])


def _series(path: Path, steps: Sequence[Step], tree: _Tree, rows: Sequence[Any]) -> pl.Series:
    names, rest = _fields(steps, tree)
    get = attrgetter(".".join(names))
    single = path.kind == "value" and not rest
    values: list[Any] = []
    for row in rows:
        try:
            value = get(row)
        except AttributeError:  # a list or no object on the way, or a record of plain values
            # Nothing is not a list: with one, the whole column would be read as lists.
            value = _all(row, names, rest, steps) or (None if single else [])
        else:
            value = value if single else paths.at(value, rest)
        values.append(value)
    return _from_values(path, values) if single else _converted(path, values)


def _from_values(path: Path, values: list[Any]) -> pl.Series:
    """Return a column of values at a plain path."""
    types = set(map(type, values))
    if types <= {str, _NONE}:
        return pl.Series(path.column, values, pl.String)
    if not types & {list, dict}:
        made = [None if value is None else paths.scalar(value) for value in values]
        return pl.Series(path.column, made, pl.String)
    return _converted(path, [[value] for value in values])


def _converted(path: Path, values: Sequence[Sequence[Any]]) -> pl.Series:
    known: dict[str, list[str]] = {}
    made = []
    for found in values:
        # Texts repeat: most records have one of a few.
        if len(found) == 1 and type(found[0]) is str:
            text = found[0]
            if text not in known:
                known[text] = _texts(path, found)
            made.append(known[text])
        else:
            made.append(_texts(path, found) if found else [])
    return _from_lists(path.column, made)


def _fields(steps: Sequence[Step], tree: _Tree) -> tuple[list[str], tuple[Step, ...]]:
    """Return the fields of structs on a path, and the steps that are left in plain values."""
    names: list[str] = []
    for place, step in enumerate(steps):
        names.append(f"f{[*tree].index(step[0])}")
        tree = tree[step[0]]
        if step[1]:  # the condition is on the plain value of this very member
            return names, (("", *step[1:]), *steps[place + 1 :])
        if not tree:
            return names, tuple(steps[place + 1 :])
    return names, ()


def _all(
    value: Any, names: Sequence[str], rest: Sequence[Step], steps: Sequence[Step]
) -> list[Any]:
    """Return all values at a path, through the elements of lists."""
    if isinstance(value, dict):
        return paths.at(value, steps)
    if isinstance(value, list):
        return [found for item in value for found in _all(item, names, rest, steps)]
    if not isinstance(value, msgspec.Struct):
        return []
    below = getattr(value, names[0])
    if len(names) == 1:
        return paths.at(below, rest)
    return _all(below, names[1:], rest, steps[1:])


def _texts(path: Path, found: Sequence[Any]) -> list[str]:
    convert = KINDS[path.kind]
    try:
        return [text for value in found for text in convert(value)]
    except _UNREADABLE:
        return []


def _from_lists(name: str, values: list[list[str]]) -> pl.Series:
    """Return lists of texts as a column, without lists if no row has more than one."""
    lengths = [*map(len, values)]
    if max(lengths, default=0) < 2:
        return pl.Series(name, [value[0] if value else None for value in values], pl.String)
    # Polars makes a series of each list, which is ten times slower than offsets.
    # `pa.array` would import pandas, if there is one.
    flat = pl.Series([text for value in values for text in value], dtype=pl.String)
    texts = flat.to_arrow(compat_level=pl.CompatLevel.oldest())
    offsets = pa.py_buffer(array("q", [0, *itertools.accumulate(lengths)]))
    lists = pa.large_list(texts.type)
    made = pa.Array.from_buffers(lists, len(values), [None, offsets], children=[texts])
    return pl.Series(name, made)
