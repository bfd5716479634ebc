"""A log stored as a folder of tlog-tiles: writes tiles and reads back the edge and subtrees.

https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache

from pipelines.integrity import merkle
from pipelines.integrity.files import Folder
from pipelines.integrity.merkle import WIDTH, Edge, Subtree, Tile

Spans = Sequence[tuple[int, int]]
"""Spans of rows, as (first, until)."""
_HASH = 32
_ENTRIES = "entries"
BUNDLES = f"tile/{_ENTRIES}"
"""The folder of the entry bundles."""
MAX_ENTRY = 65_535
"""Bytes of an entry: bundles store its length in two bytes."""


def path(level: int | str, index: int, width: int = WIDTH) -> str:
    """Return the path of a tile, such as tile/0/x001/234.p/7."""
    digits = f"{index:0{-(-len(str(index)) // 3) * 3}}"
    parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    name = "/".join(f"x{part}" for part in parts[:-1]) + "/" * (len(parts) > 1) + parts[-1]
    return f"tile/{level}/{name}" + (f".p/{width}" if width < WIDTH else "")


def edge(folder: Folder, size: int) -> Edge | None:
    """Return the right edge of the tree of `size`, or None if a tile is missing or too short."""
    levels: list[tuple[bytes, ...]] = []
    while size:
        size, width = divmod(size, WIDTH)
        hashes = _read(folder, len(levels), size, width) if width else ()
        if len(hashes) != width:
            return None
        levels.append(hashes)
    return tuple(levels)


def write(folder: Folder, tiles: Sequence[Tile]) -> None:
    for tile in tiles:
        folder.put_once(path(tile.level, tile.index, len(tile.hashes)), b"".join(tile.hashes))
    # Only after the full tiles are written: a kill in between must leave one of the two.
    superseded = [tile for tile in tiles if len(tile.hashes) == WIDTH]
    _drop_partial(folder, [path(tile.level, tile.index) for tile in superseded])


def write_entries(folder: Folder, size: int, entries: Sequence[bytes]) -> None:
    """Append `entries` to the entry bundles of a tree of `size`."""
    packed = [len(entry).to_bytes(2) + entry for entry in entries]
    index, width = divmod(size, WIDTH)
    held = folder.get(path(_ENTRIES, index, width)) if width else b""
    while packed:
        now, packed = packed[: WIDTH - width], packed[WIDTH - width :]
        # Bundles only serve readers; if the partial one was lost, it is not rebuilt.
        if held is not None:
            folder.put_once(path(_ENTRIES, index, width + len(now)), held + b"".join(now))
        if packed or width + len(now) == WIDTH:
            _drop_partial(folder, [path(_ENTRIES, index)])
        index, width, held = index + 1, 0, b""


def forget_entries(folder: Folder, removed: Spans, fresh: Spans) -> None:
    """Delete the entries of `removed` rows from the bundles with a row of `fresh`.

    Both are merged spans. A bundle with other entries, or with room for more, keeps an empty one in
    their place.
    """
    ends = [until for _, until in removed]
    for index in _bundles(fresh):
        start, end = index * WIDTH, (index + 1) * WIDTH
        places = set[int]()
        for number in range(bisect_right(ends, start), len(removed)):
            first, until = removed[number]
            if first >= end:
                break
            places |= {*range(max(first, start) - start, min(until, end) - start)}
        whole = path(_ENTRIES, index)
        if len(places) == WIDTH:
            folder.delete([whole])
        for name, held in bundles(folder, index).items():
            _blank(folder, name, held, places)


def bundles(folder: Folder, index: int) -> dict[str, list[bytes]]:
    """Return the entries in each file of bundle `index`: the whole one, and partial ones."""
    whole = path(_ENTRIES, index)
    names = (whole, *(f"{whole}.p/{width}" for width in folder.names(f"{whole}.p")))
    found = {name: folder.get(name) for name in names}
    return {name: _unpacked(data) for name, data in found.items() if data is not None}


def _bundles(spans: Spans) -> Iterator[int]:
    """Yield the bundles with one of these rows, each once, ascending."""
    done = 0
    for first, until in spans:
        yield from range(max(done, first // WIDTH), -(-until // WIDTH))
        done = max(done, -(-until // WIDTH))


def _blank(folder: Folder, name: str, held: list[bytes], places: set[int]) -> None:
    left = [b"" if at in places else entry for at, entry in enumerate(held)]
    if left != held:
        folder.put(name, b"".join(len(entry).to_bytes(2) + entry for entry in left))


def entries(folder: Folder, size: int, index: int) -> list[bytes]:
    """Return the entries of bundle `index` in the tree of `size`; empty if it was removed."""
    data = folder.get(path(_ENTRIES, index, min(WIDTH, size - index * WIDTH)))
    return _unpacked(folder.get(path(_ENTRIES, index)) if data is None else data)


def _unpacked(data: bytes | None) -> list[bytes]:
    found, at = [], 0
    while data and at < len(data):
        until = at + 2 + int.from_bytes(data[at : at + 2])
        found.append(data[at + 2 : until])
        at = until
    return found


def copy(folder: Folder, to: Folder, size: int) -> None:
    """Copy the tiles of the tree of `size`, without its entries."""
    level = 0
    while size:
        for index in range(-(-size // WIDTH)):
            width = min(WIDTH, size - index * WIDTH)
            hashes = _read(folder, level, index, width)
            to.put_once(path(level, index, width), b"".join(hashes))
        level, size = level + 1, size // WIDTH


def subtree(folder: Folder, size: int) -> Subtree:
    """Return a function that hashes any subtree of the tree of `size`, reading few tiles."""

    @cache
    def tile(level: int, index: int) -> tuple[bytes, ...]:
        width = min(WIDTH, size // WIDTH**level - index * WIDTH)
        return _read(folder, level, index, width)

    def over(first: int, until: int) -> bytes:
        width = until - first
        if width & (width - 1) or first % width:
            middle = first + (1 << (width - 1).bit_length() - 1)
            return merkle.node(over(first, middle), over(middle, until))
        level = (width.bit_length() - 1) // 8  # a tile level spans eight tree levels
        start, count = first // WIDTH**level, width // WIDTH**level
        at = start % WIDTH
        return merkle.perfect(tile(level, start // WIDTH)[at : at + count])

    return over


def _read(folder: Folder, level: int, index: int, width: int) -> tuple[bytes, ...]:
    """Return the first `width` hashes of a tile; fewer if it is missing or damaged."""
    data = folder.get(path(level, index, width))
    # The tree may have grown since: then the full tile replaced the partial one.
    data = folder.get(path(level, index)) if data is None and width < WIDTH else data
    data = (data or b"")[: width * _HASH]
    return tuple(data[at : at + _HASH] for at in range(0, len(data), _HASH))


def _drop_partial(folder: Folder, full: Sequence[str]) -> None:
    """Delete the partial versions of these full tiles."""
    for name in full:
        folder.delete([f"{name}.p/{width}" for width in folder.names(f"{name}.p")])
