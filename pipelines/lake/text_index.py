"""Which texts a data file of `events` cannot contain (the table `text_index`).

Per data file, two Bloom filters hold every run of consecutive bytes of the searched texts, in lower
case: runs of 8 bytes of ids, and runs of 6 bytes of all other texts. A text of which a run is
missing from both filters is in no row of the file. Filters are cut into columns by a run's hash, so
that a search reads only the columns of its own runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from pipelines import visible
from pipelines.lake import rollup
from pipelines.schemas import ID_FILTERS, WORD_FILTERS
from pipelines.search.fields import SEARCHED, TARGETS

if TYPE_CHECKING:
    import numpy as np

    _Numbers = np.ndarray[Any, np.dtype[np.uint64]]

LAYOUT = 1
"""The layout of the filters; those of another are ignored, and computed again."""
_IDS = frozenset(("actor_id", "target_id", "event_id", "session_id", "correlation_id"))
COLUMNS = (*SEARCHED, TARGETS)
"""The columns of `events` that `filters` reads."""
_OF_KINDS: dict[tuple[bool, ...], frozenset[str]] = {
    (ids, words): frozenset(name for name in COLUMNS if (ids if name in _IDS else words))
    for ids in (False, True)
    for words in (False, True)
}
_MOST_RUNS = 16
"""Runs of a word that are looked up: more of them exclude hardly more files."""
_CHUNK = 1 << 15  # bytes that are hashed at once: their numbers fit into a processor's cache
_SEEN = 1 << 15
_FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93
_64_BITS, _32_BITS = (1 << 64) - 1, (1 << 32) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """One of the filters of a file."""

    columns: tuple[str, ...]
    width: int
    """Bytes of a run."""
    hashes: int
    """Bits that are set per run."""
    room: float
    """Bits that there are per run."""
    most: int
    """Bits that there are per row, at most, so that no text can make the index large."""

    @property
    def shift(self) -> int:
        """Return by how much to shift a hash to get the number of its column."""
        return 65 - len(self.columns).bit_length()


# A search for an id looks up many runs, each of which may be wrong; one for a phrase, few.
_KINDS = {
    "ids": _Kind(columns=ID_FILTERS, width=8, hashes=1, room=1.1, most=64),
    "words": _Kind(columns=WORD_FILTERS, width=6, hashes=4, room=7, most=64),
}


def filters(events: pl.DataFrame) -> dict[str, bytes]:
    """Return the filters of one data file, by column of the table."""
    texts: dict[str, list[bytes]] = {name: [] for name in _KINDS}
    for name, column in rollup.searched(events):
        distinct = column.drop_nulls().unique()
        every = pl.concat([distinct, visible.seen(distinct).drop_nulls()])
        joined = every.str.to_lowercase().str.join("\0").item() or ""
        texts["ids" if name in _IDS else "words"].append(joined.encode())
    found: dict[str, bytes] = {}
    for name, kind in _KINDS.items():
        found |= _filter(kind, b"\0".join(texts[name]), events.height)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """The bits of a word: it is in no text of a kind of which one is not set."""

    bits: tuple[tuple[tuple[str, int], ...], ...]
    """Per kind of texts, columns of the table and fractions of 2**32 of their lengths."""

    @property
    def columns(self) -> list[str]:
        return sorted({column for kind in self.bits for column, _ in kind})

    def lacking(self, row: Mapping[str, bytes | None]) -> frozenset[str]:
        """Return the columns of `events` that cannot have the word in the file of this row."""
        return _OF_KINDS[
            tuple(not all(_is_set(row[name], place) for name, place in kind) for kind in self.bits)
        ]


def lookup(word: str) -> Lookup | None:
    """Return where to look for a word; None if it is too short to be ruled out."""
    lower = word.lower().encode(errors="surrogatepass")
    bits = tuple(tuple(_bits(kind, lower)) for kind in _KINDS.values())
    return Lookup(bits=bits) if any(bits) else None


def _bits(kind: _Kind, word: bytes) -> Iterator[tuple[str, int]]:
    runs = [word[place : place + kind.width] for place in range(len(word) - kind.width + 1)]
    whole = [run for run in dict.fromkeys(runs) if 0 not in run]
    chosen = min(len(whole), _MOST_RUNS)
    # From the end: texts tend to begin alike.
    for place in range(chosen):
        run = whole[len(whole) - 1 - place * len(whole) // chosen]
        value = int.from_bytes(run, "little") * _FIRST & _64_BITS
        value = (value ^ value >> 32) * _SECOND & _64_BITS
        column, stride = kind.columns[value >> kind.shift], value >> 27 & _32_BITS | 1
        for number in range(kind.hashes):
            yield column, value + number * stride & _32_BITS


def _is_set(column: bytes | None, place: int) -> bool:
    if not column:
        return column is None  # nothing is known, or the file has no such runs
    bit = place * len(column) * 8 >> 32
    return bool(column[bit >> 3] >> (bit & 7) & 1)


def _filter(kind: _Kind, text: bytes, rows: int) -> dict[str, bytes]:
    import numpy as np  # noqa: PLC0415 slow to import, and most commands need none

    parts, hashed = len(kind.columns), _hashed(kind, text)
    bits = min(_distinct(hashed) * kind.room, rows * kind.most) / parts
    size = math.ceil(bits / 8) * 8
    if not size:
        return dict.fromkeys(kind.columns, b"")
    found = np.zeros(parts * size, bool)
    for values in hashed:
        column = (values >> np.uint64(kind.shift)) * np.uint64(size)
        stride = values >> np.uint64(27) & np.uint64(_32_BITS) | np.uint64(1)
        for number in range(kind.hashes):
            place = values + np.uint64(number) * stride & np.uint64(_32_BITS)
            found[column + (place * np.uint64(size) >> np.uint64(32))] = True
    packed = np.packbits(found, bitorder="little").reshape(parts, -1)
    return {name: row.tobytes() for name, row in zip(kind.columns, packed, strict=True)}


def _distinct(hashed: list[_Numbers]) -> int:
    """Return about how many different numbers there are (linear counting)."""
    import numpy as np  # noqa: PLC0415 as above

    size = 1 << sum(map(len, hashed)).bit_length()
    found = np.zeros(size, bool)
    for values in hashed:
        found[values & np.uint64(size - 1)] = True
    return math.ceil(-size * math.log1p(-int(found.sum()) / (size + 1)))


def _hashed(kind: _Kind, text: bytes) -> list[_Numbers]:
    """Return the hashes of all runs but those across two texts, hardly any of them twice."""
    import numpy as np  # noqa: PLC0415 as above

    padded = text + bytes(8)
    # Of runs with equal remainders, the last one that was seen.
    seen = np.zeros(_SEEN, np.uint64)
    found = []
    for start in range(0, len(text), _CHUNK):
        # The 8 bytes from each place on, as a number.
        runs = np.ndarray(min(_CHUNK, len(text) - start), "<u8", padded, start, (1,))
        values = _without_separators(runs, kind.width)
        values *= np.uint64(_FIRST)
        values ^= values >> np.uint64(32)
        values *= np.uint64(_SECOND)
        slots = (values & np.uint64(_SEEN - 1)).astype(np.int64)
        fresh = seen[slots] != values
        seen[slots] = values
        found.append(values[fresh])
    return found


def _without_separators(runs: _Numbers, width: int) -> _Numbers:
    import numpy as np  # noqa: PLC0415 as above

    ones, highest = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
    whole = np.uint64((1 << width * 8) - 1)
    runs = runs & whole
    # The usual test for a byte of zeros, with all bytes beyond the width filled.
    filled = runs | ones & ~whole
    kept: _Numbers = runs[(filled - ones) & ~filled & highest == 0]
    return kept


def lacking(lookups: Iterable[Lookup], rows: pl.DataFrame) -> Iterator[dict[str, frozenset[str]]]:
    """Yield for each lookup the columns that cannot have its word, by the path of a file.

    `rows` are of the table, with `path` and all columns of the lookups.
    """
    held = rows.to_dicts()
    for one in lookups:
        yield {row["path"]: one.lacking(row) for row in held}
