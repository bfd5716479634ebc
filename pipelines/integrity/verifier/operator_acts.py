"""What people did on purpose: the log of acts, checked, and the rows it says were removed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from pipelines.integrity.verifier.audit import Invalid, leaf_hash, read_checkpoint, root_of
from pipelines.integrity.verifier.log_reader import WIDTH, Shelf, bundle
from pipelines.integrity.verifier.tree import Span


def read(shelf: Shelf, keys: Sequence[str]) -> list[dict[str, Any]]:
    """All acts, oldest first. Raises Invalid where they are not as they were signed."""
    return [json.loads(entry) for entry in entries(shelf, keys)]


def entries(shelf: Shelf, keys: Sequence[str]) -> list[bytes]:
    note = shelf.read("checkpoint")
    if note is None:
        return []
    head = read_checkpoint(note.decode(), keys)
    indices = range(-(-head.size // WIDTH))
    found = [entry for index in indices for entry in bundle(shelf, head.size, index)]
    if len(found) != head.size or root_of(list(map(leaf_hash, found))) != head.root:
        raise Invalid("the acts are not as they were signed")
    return found


def removed(shelf: Shelf, log: Shelf, table: str, keys: Sequence[str]) -> list[Span]:
    """The rows of `table` that were removed by policy; acts that do not count remove nothing."""
    try:
        done = [act for act in read(shelf, keys) if act["table"] == table]
    except Invalid:
        return []
    spans: set[Span] = set()
    for act in done:
        listed = log.read(f"removed/{act['rows_sha256']}.json") or b""
        if hashlib.sha256(listed).hexdigest() == act["rows_sha256"]:
            spans |= {(first, until) for first, until in json.loads(listed)}
    return _merged(spans)


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Ascending and without overlap; an act that was taken up again lists some rows twice."""
    merged: list[Span] = []
    for first, until in sorted(spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(until, merged[-1][1])
        else:
            merged.append((first, until))
    return merged
