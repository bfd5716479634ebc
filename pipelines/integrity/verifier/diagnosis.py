"""Locates the first row that differs from the signed tree, and determines how it was altered.

The tiles contain every signed leaf, but are used only if they lead to the signed root. If they were
altered too, earlier checkpoints still narrow the change down to a range of rows.

The fields of a leaf are in its entry bundle, if there is one. Raw tables have none: there they are
searched for among the row's present values and those of its event, and the leaf shows which of
them were signed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

from pipelines.integrity.verifier.log_reader import (
    HASH,
    MOST,
    WIDTH,
    LogFiles,
    bundle,
    leaf_tiles,
    tile,
)
from pipelines.integrity.verifier.proofs import (
    Checkpoint,
    Invalid,
    bounded,
    checkpoint_in,
    leaf_hash,
    parsed,
    read_checkpoint,
    root_of,
)
from pipelines.integrity.verifier.tree import LeafBuffer, Tree

_FIELDS = ("raw", "time", "ingested_at", "via", "event_id")
_OF_FINDINGS = ("columns", "revision", "finding_uid")
_KINDS = {"auditlake/1": _FIELDS, "auditlake/finding/1": _OF_FINDINGS}

_WAYS = ("poll", "webhook", "backfill", "replay")

Now = Callable[[int], list[str]]
"""Returns the current fields of a row, in the order of `_FIELDS`."""


def _unknown(_: int) -> list[str]:
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    seq: int
    kind: str
    detail: str


def cause(
    shelf: LogFiles,
    head: Checkpoint,
    tree: Tree,
    keys: Sequence[str],
    now: Now,
    *,
    elsewhere: Now = _unknown,
) -> Cause:
    """Return the first row that differs from the signed one, and how it was altered.

    `elsewhere` returns the fields of a row that other places have, and empty texts for the others.
    """
    signed = b"".join(leaf_tiles(shelf, head.size))
    if len(signed) != head.size * HASH or _root(signed) != head.root:
        return _narrow_down(shelf, head, tree, keys)
    ours, theirs = bytes(tree.board.hashes), signed[tree.board.start * HASH :]
    if ours == theirs:
        detail = f"the record of the rows before {tree.board.start:,} is wrong, or they are changed"
        return Cause(seq=0, kind="changed", detail=detail)
    seq = _first_difference(ours, theirs) + tree.board.start
    fields = entry_of(shelf, head.size, seq, now, elsewhere)
    return _classify(seq, tree.board, signed, fields, now)


def entry_of(
    shelf: LogFiles, size: int, seq: int, now: Now = _unknown, elsewhere: Now = _unknown
) -> list[str]:
    """Return the fields signed as row `seq`, from its bundle or found by its leaf.

    Otherwise those that `elsewhere` returns, which nothing confirms; empty if there are none.
    """
    index, at = divmod(seq, WIDTH)
    entries = bundle(shelf, size, index)
    leaf = tile(shelf, 0, index, min(WIDTH, size - index * WIDTH))[at * HASH : (at + 1) * HASH]
    if at >= len(entries) or leaf_hash(entries[at]) != leaf:
        others = elsewhere(seq)
        return _confirmed(leaf, now(seq), others) or others
    kind, _, rest = entries[at].decode(errors="replace").partition("\n")
    names = _KINDS.get(kind, ())
    fields = rest.split("\n", len(names) - 1) if names else []
    return fields if len(fields) == len(names) else []


def _confirmed(leaf: bytes, present: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return the combination of two rows of fields that gives the leaf; empty if none does."""
    unknown = [""] * len(_FIELDS)
    pairs = zip(present or unknown, others or unknown, strict=True)
    choices = [list(dict.fromkeys(filter(None, pair))) for pair in pairs]
    choices[_FIELDS.index("via")] += _WAYS
    for fields in product(*choices):
        if leaf_hash(bounded("\n".join(("auditlake/1", *fields)))) == leaf:
            return list(fields)
    return []


def who(fields: Sequence[str]) -> str:
    """Return in words which row has these fields."""
    if not fields or not fields[-1]:
        return ""
    return f" ({(_OF_FINDINGS if len(fields) == len(_OF_FINDINGS) else _FIELDS)[-1]} {fields[-1]})"


def _classify(seq: int, board: LeafBuffer, signed: bytes, fields: list[str], now: Now) -> Cause:
    ours, theirs = board.leaf(seq), signed[seq * HASH : (seq + 1) * HASH]
    # `was`: where the row now at seq was signed; `now_at`: where the row signed as seq is now.
    was, now_at = _find(signed, ours), _find(bytes(board.hashes), theirs)
    now_at = None if now_at is None else now_at + board.start
    row = f"row {seq:,}{who(fields)}"
    if was is None and now_at is None:
        kind, detail = "changed", f"{row}: {_changed_fields(fields, now(seq))} not as signed"
    elif was is None:
        kind, detail = "inserted", f"row {seq:,} was never signed; the signed row is now {now_at:,}"
    elif now_at is None:
        kind, detail = "deleted", f"{row} was deleted; the row now in its place was row {was:,}"
    elif was < seq:
        kind, detail = "duplicated", f"row {seq:,} is an inserted copy of row {was:,}"
    else:
        kind, detail = (
            "reordered",
            f"row {seq:,} was signed as row {was:,}; signed row {seq:,} is now {now_at:,}",
        )
    return Cause(seq=seq, kind=kind, detail=detail)


def _changed_fields(signed: list[str], present: list[str]) -> str:
    if not signed or not present:
        return "it is"
    pairs = zip(_FIELDS, signed, present, strict=True)
    differ = [name for name, one, other in pairs if one and one != other]
    # Where nothing else differs, what was signed is a digest that is stored nowhere.
    return ", ".join(differ or ["raw" if signed[-1] else "it"]) + " is"


def _narrow_down(shelf: LogFiles, head: Checkpoint, tree: Tree, keys: Sequence[str]) -> Cause:
    """Without usable tiles, find the two earlier checkpoints between which the rows differ."""
    first, until, notes = tree.board.start, head.size, _history(shelf, head, tree.board.start)
    # Bisection: rows that match a checkpoint match all earlier ones.
    while notes:
        middle = len(notes) // 2
        former, note = notes[middle]
        if not _is_signed(note, keys):
            del notes[middle]
        elif tree.root(former.size) == former.root:
            first, notes = former.size, notes[middle + 1 :]
        else:
            until, notes = former.size, notes[:middle]
    detail = f"a row between {first:,} and {until - 1:,}; altered tiles prevent locating it"
    return Cause(seq=first, kind="changed", detail=detail)


def _history(shelf: LogFiles, head: Checkpoint, first: int) -> list[tuple[Checkpoint, str]]:
    """Return the checkpoints before `head` by size; their signatures are not checked yet."""
    found = {}
    for note in history(shelf):
        with suppress(Invalid):
            former = checkpoint_in(note.partition("\n\n")[0] + "\n")
            if former.origin == head.origin and first < former.size < head.size:
                found[former.size] = former, note
    return [found[size] for size in sorted(found)]


def history(shelf: LogFiles) -> list[str]:
    """Return the notes of the checkpoints in the history, oldest first.

    Of a history larger than 64 MiB, only the newest are read.
    """
    notes: list[str] = []
    left = MOST
    for file in reversed(shelf.files("history")):
        held = shelf.tail(file)
        notes[:0] = list(_notes(held))
        left -= len(held)
        if left <= 0:
            break
    return notes


def _notes(held: bytes) -> Iterator[str]:
    for line in held.splitlines():
        with suppress(Invalid):
            yield _note(parsed(line))


def _note(line: Any) -> str:
    """Return the note in a line of the history. Raises Invalid."""
    note = line.get("note") if isinstance(line, dict) else None
    if not isinstance(note, str) or re.search("[\ud800-\udfff]", note):
        raise Invalid("not a line of the history")
    return note


def _is_signed(note: str, keys: Sequence[str]) -> bool:
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


def _find(leaves: bytes, leaf: bytes) -> int | None:
    """Return the index of `leaf` in concatenated hashes, or None."""
    at = leaves.find(leaf)
    while at >= 0 and at % HASH:  # skip matches that span two hashes
        at = leaves.find(leaf, at + 1)
    return None if at < 0 else at // HASH
