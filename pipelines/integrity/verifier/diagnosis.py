"""Where rows and signed tree part, and what was done to the row: told from the tiles.

The tiles say what every leaf was; they are believed only if they lead to the signed root. Where an
attacker changed them too, the former checkpoints still bound the place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pipelines.integrity.verifier.audit import (
    Checkpoint,
    Invalid,
    checkpoint_in,
    leaf_hash,
    read_checkpoint,
    root_of,
)
from pipelines.integrity.verifier.log_reader import HASH, WIDTH, Shelf, bundle, leaf_tiles, tile
from pipelines.integrity.verifier.tree import Board, Tree

_FIELDS = ("raw", "time", "ingested_at", "via", "event_id")

Now = Callable[[int], list[str]]
"""The fields of a row as it is now, in the same order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    seq: int
    kind: str
    detail: str


def cause(shelf: Shelf, head: Checkpoint, tree: Tree, keys: Sequence[str], now: Now) -> Cause:
    """What was done to the first row that is not as signed."""
    signed = b"".join(leaf_tiles(shelf, head.size))
    if len(signed) != head.size * HASH or _root(signed) != head.root:
        return _between(shelf, head, tree, keys)
    first = tree.board.start * HASH
    seq = _first_difference(bytes(tree.board.hashes), signed[first:]) + tree.board.start
    return _named(seq, tree.board, signed, entry_of(shelf, head.size, seq), now)


def entry_of(shelf: Shelf, size: int, seq: int) -> list[str]:
    """The fields of what was signed as row `seq`; none where its bundle is gone or damaged."""
    index, at = divmod(seq, WIDTH)
    entries = bundle(shelf, size, index)
    leaf = tile(shelf, 0, index, min(WIDTH, size - index * WIDTH))[at * HASH : (at + 1) * HASH]
    if at >= len(entries) or leaf_hash(entries[at]) != leaf:
        return []
    fields = entries[at].decode(errors="replace").split("\n", len(_FIELDS))
    return fields[1:] if len(fields) == len(_FIELDS) + 1 else []


def _named(seq: int, board: Board, signed: bytes, fields: list[str], now: Now) -> Cause:
    ours, theirs = board.leaf(seq), signed[seq * HASH : (seq + 1) * HASH]
    stands, went = _place(signed, ours), _place(bytes(board.hashes), theirs)
    went = None if went is None else went + board.start
    who = f"row {seq:,} (event_id {fields[-1]})" if fields else f"row {seq:,}"
    if stands is None and went is None:
        kind, what = "changed", f"{who}: {_changed(fields, now(seq))} not as signed"
    elif stands is None:
        kind, what = "inserted", f"row {seq:,} was never signed; the signed one is row {went:,} now"
    elif went is None:
        kind, what = "deleted", f"{who} was deleted, and what stands there was row {stands:,}"
    elif stands < seq:
        kind, what = "duplicated", f"row {seq:,} is a copy of row {stands:,}, slipped in"
    else:
        kind, what = "reordered", f"row {seq:,} was signed as row {stands:,}, and is {went:,} now"
    return Cause(seq=seq, kind=kind, detail=what)


def _changed(signed: list[str], present: list[str]) -> str:
    if not signed:
        return "is"
    pairs = zip(_FIELDS, signed, present, strict=True)
    return ", ".join(name for name, one, other in pairs if one != other) + " is"


def _between(shelf: Shelf, head: Checkpoint, tree: Tree, keys: Sequence[str]) -> Cause:
    """The tiles are not to be believed: between which former checkpoints do the rows part?"""
    first, until, notes = tree.board.start, head.size, _history(shelf, head, tree.board.start)
    while notes:
        middle = len(notes) // 2
        former, note = notes[middle]
        if not _signed(note, keys):
            del notes[middle]
        elif tree.root(former.size) == former.root:
            first, notes = former.size, notes[middle + 1 :]
        else:
            until, notes = former.size, notes[:middle]
    detail = f"a row from {first:,} to {until - 1:,}; the tiles, which tell which, are altered too"
    return Cause(seq=first, kind="changed", detail=detail)


def _history(shelf: Shelf, head: Checkpoint, first: int) -> list[tuple[Checkpoint, str]]:
    """The checkpoints before `head`, smallest first; their signatures are still to be checked."""
    found = {}
    for note in history(shelf):
        with suppress(Invalid):
            former = checkpoint_in(note.partition("\n\n")[0] + "\n")
            if former.origin == head.origin and first < former.size < head.size:
                found[former.size] = former, note
    return [found[size] for size in sorted(found)]


def history(shelf: Shelf) -> list[str]:
    """The notes of all checkpoints, as the lake holds them."""
    notes = []
    for file in shelf.files("history"):
        for line in (shelf.read(file) or b"").splitlines():
            with suppress(ValueError, KeyError):
                notes.append(json.loads(line)["note"])
    return notes


def _signed(note: str, keys: Sequence[str]) -> bool:
    try:
        read_checkpoint(note, keys)
    except Invalid:
        return False
    return True


def _root(leaves: bytes) -> bytes:
    return root_of([leaves[at : at + HASH] for at in range(0, len(leaves), HASH)])


def _first_difference(ours: bytes, theirs: bytes) -> int:
    step = WIDTH * HASH
    starts = range(0, len(ours), step)
    start = next(at for at in starts if ours[at : at + step] != theirs[at : at + step])
    leaves = range(start, start + step, HASH)
    return next(at for at in leaves if ours[at : at + HASH] != theirs[at : at + HASH]) // HASH


def _place(leaves: bytes, leaf: bytes) -> int | None:
    """Where a leaf stands among others."""
    at = leaves.find(leaf)
    while at >= 0 and at % HASH:
        at = leaves.find(leaf, at + 1)
    return None if at < 0 else at // HASH
