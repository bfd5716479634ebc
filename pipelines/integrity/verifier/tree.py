"""The leaves of a log, computed from its rows, and the root of the log at any size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.integrity.verifier.log_reader import HASH, WIDTH
from pipelines.integrity.verifier.proofs import node_hash, root_of

Span = tuple[int, int]
"""(first, until): rows from `first` up to but not including `until`."""


@dataclass(slots=True, kw_only=True)
class LeafBuffer:
    """Leaf hashes of the rows [start, size), filled in any order."""

    start: int
    size: int
    hashes: bytearray = field(init=False)
    taken: bytearray = field(init=False)
    """One byte per row: 1 if a row with this seq was read."""
    twice: list[int] = field(default_factory=list)
    """Each seq read again, once per extra row."""
    beyond: list[int] = field(default_factory=list)
    """Each seq outside [0, size), which no checkpoint covers."""

    def __post_init__(self) -> None:
        self.hashes = bytearray((self.size - self.start) * HASH)
        self.taken = bytearray(self.size - self.start)

    def put(self, seqs: Sequence[int], hashes: bytes) -> None:
        first, until = seqs[0] - self.start, seqs[-1] - self.start + 1
        # Nearly every batch is a gapless range: one slice copy instead of a loop over rows.
        dense = isinstance(seqs, range) and first >= 0 and until <= self.size - self.start
        if dense and not any(self.taken[first:until]):
            self.hashes[first * HASH : until * HASH] = hashes
            self.taken[first:until] = b"\1" * len(seqs)
            return
        for number, seq in enumerate(seqs):
            self._put_one(seq, hashes[number * HASH : (number + 1) * HASH])

    def _put_one(self, seq: int, leaf: bytes) -> None:
        at = seq - self.start
        if 0 <= at < len(self.taken):
            if self.taken[at]:
                self.twice.append(seq)
            self.hashes[at * HASH : (at + 1) * HASH] = leaf
            self.taken[at] = 1
        elif seq < 0 or seq >= self.size:
            self.beyond.append(seq)

    def leaf(self, seq: int) -> bytes:
        at = (seq - self.start) * HASH
        return bytes(self.hashes[at : at + HASH])

    def fill(self, seq: int, leaf: bytes) -> None:
        """Set the leaf of a missing row without marking the row as read."""
        at = (seq - self.start) * HASH
        self.hashes[at : at + HASH] = leaf.ljust(HASH, b"\0")

    def gaps(self) -> Iterator[Span]:
        """Yield the spans of rows that were not read, ascending."""
        at = self.taken.find(0)
        while at >= 0:
            until = self.taken.find(1, at)
            until = len(self.taken) if until < 0 else until
            yield self.start + at, self.start + until
            at = self.taken.find(0, until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A Merkle tree over the leaves of a board and the rows verified before it."""

    board: LeafBuffer
    blocks: Sequence[bytes]
    """The root of every 256 leaves from the board's start; the last may cover fewer."""
    before: Mapping[Span, bytes]
    """The perfect subtrees over the rows before the board."""
    _known: dict[Span, bytes] = field(default_factory=dict)

    def root(self, size: int) -> bytes:
        """Return the root over the first `size` leaves."""
        return self.over(0, size) if size else root_of(())

    def over(self, first: int, until: int) -> bytes:
        """Return the hash of the subtree over leaves [first, until)."""
        if (first, until) not in self._known:
            self._known[first, until] = self._over(first, until)
        return self._known[first, until]

    def _over(self, first: int, until: int) -> bytes:
        width = until - first
        if found := self.before.get((first, until)):
            return found
        at = (first - self.board.start) // WIDTH
        if width == WIDTH:
            return self.blocks[at]
        if width < WIDTH:
            leaves = (self.board.leaf(seq) for seq in range(first, until))
            return root_of(list(leaves))
        # RFC 6962 splits at the largest power of two below the width.
        middle = first + (1 << (width - 1).bit_length() - 1)
        return node_hash(self.over(first, middle), self.over(middle, until))

    def peaks(self, size: int) -> dict[Span, bytes]:
        """Return the perfect subtrees that make up the first `size` leaves."""
        return {span: self.over(*span) for span in subtrees(size)}


def subtrees(size: int) -> list[Span]:
    """Return the spans of the perfect subtrees that make up the first `size` leaves."""
    found, first = [], 0
    for bit in reversed(range(size.bit_length())):
        if size >> bit & 1:
            found.append((first, first + (1 << bit)))
            first += 1 << bit
    return found


def minus(gaps: Iterable[Span], allowed: Sequence[Span]) -> list[Span]:
    """Return the parts of `gaps` outside `allowed`; both must be ascending and not overlap."""
    left: list[Span] = []
    number = 0
    for first, until in gaps:
        at = first
        while number < len(allowed) and allowed[number][0] < until:
            begin, end = allowed[number]
            if begin > at:
                left.append((at, begin))
            at = max(at, end)
            if end > until:
                break  # it may reach into the next gap as well
            number += 1
        if at < until:
            left.append((at, until))
    return left
