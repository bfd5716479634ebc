"""RFC 6962 Merkle trees for the writer: appending leaves and making proofs. Pure functions.

A tree is represented by its right edge: at each tile level, the hashes of the last, unfilled tile.
That is enough to append leaves and to compute the root.
https://c2sp.org/tlog-tiles, https://www.rfc-editor.org/rfc/rfc6962#section-2.1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

WIDTH = 256
EMPTY = sha256().digest()

Edge = tuple[tuple[bytes, ...], ...]
"""Per level, from the leaves up, the hashes of its last tile: fewer than 256."""
Subtree = Callable[[int, int], bytes]
"""Maps (first, until) to the hash of the tree over leaves [first, until)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """Up to 256 consecutive hashes of one level, each spanning 256**level leaves."""

    level: int
    index: int
    hashes: tuple[bytes, ...]


def leaf(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


@lru_cache(maxsize=64)  # a signer needs each root twice: after it has grown, and before it grows
def root(edge: Edge) -> bytes:
    """Return the root of the tree with this right edge."""
    peaks = [peak for hashes in reversed(edge) for peak in _peaks(hashes)]
    if not peaks:
        return EMPTY
    joined = peaks.pop()  # RFC 6962 joins the perfect subtrees from the right
    while peaks:
        joined = node(peaks.pop(), joined)
    return joined


def grown(edge: Edge, size: int, leaves: Sequence[bytes]) -> tuple[Edge, list[Tile]]:
    """Append `leaves` to a tree of `size`; return its new edge and the new or widened tiles."""
    after: list[tuple[bytes, ...]] = []
    tiles: list[Tile] = []
    fresh = tuple(leaves)
    while fresh or len(after) < len(edge):
        level = len(after)
        hashes = (edge[level] if level < len(edge) else ()) + fresh
        first = size // WIDTH ** (level + 1)
        rows = [hashes[at : at + WIDTH] for at in range(0, len(hashes), WIDTH)]
        if fresh:
            tiles += [Tile(level=level, index=first + i, hashes=row) for i, row in enumerate(rows)]
        full = [row for row in rows if len(row) == WIDTH]
        after.append(rows[-1] if rows and len(rows[-1]) < WIDTH else ())
        fresh = tuple(perfect(row) for row in full)  # each full tile is one hash a level up
    return tuple(after), tiles


def perfect(hashes: Sequence[bytes]) -> bytes:
    """Return the root over `hashes`, whose number must be a power of two."""
    while len(hashes) > 1:
        pairs = zip(hashes[::2], hashes[1::2], strict=True)
        hashes = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
    return hashes[0]


def peaks(size: int, subtree: Subtree) -> list[bytes]:
    """Return the roots of the perfect subtrees that make up the first `size` leaves."""
    found, first = [], 0
    for bit in reversed(range(size.bit_length())):
        if size >> bit & 1:
            found.append(subtree(first, first + (1 << bit)))
            first += 1 << bit
    return found


def inclusion(index: int, first: int, until: int, subtree: Subtree) -> list[bytes]:
    """Return the audit path of leaf `index` in the tree over [first, until), from the leaf up."""
    if until - first == 1:
        return []
    middle = first + _split(until - first)
    if index < middle:
        return [*inclusion(index, first, middle, subtree), subtree(middle, until)]
    return [*inclusion(index, middle, until, subtree), subtree(first, middle)]


def consistency(old: int, first: int, until: int, subtree: Subtree) -> list[bytes]:
    """Return the proof that the tree of `old` leaves is a prefix of the tree over [0, until).

    Start with `first` = 0.
    """
    if old == until:
        # At first == 0 this is the old root itself, which the checker already has.
        return [] if first == 0 else [subtree(first, until)]
    middle = first + _split(until - first)
    if old <= middle:
        return [*consistency(old, first, middle, subtree), subtree(middle, until)]
    return [*consistency(old, middle, until, subtree), subtree(first, middle)]


def _peaks(hashes: Sequence[bytes]) -> list[bytes]:
    """Return the roots of the perfect subtrees over `hashes`, widest first."""
    peaks, at = [], 0
    for bit in reversed(range(len(hashes).bit_length())):
        if len(hashes) >> bit & 1:
            peaks.append(perfect(hashes[at : at + (1 << bit)]))
            at += 1 << bit
    return peaks


def _split(size: int) -> int:
    """Return the largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1
