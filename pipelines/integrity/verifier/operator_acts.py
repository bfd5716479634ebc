"""Reads and verifies the log of operator actions, and lists the rows they removed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from pipelines.integrity.verifier.audit import Invalid, leaf_hash, read_checkpoint, root_of
from pipelines.integrity.verifier.log_reader import WIDTH, LogFiles, bundle
from pipelines.integrity.verifier.tree import Span


def read(shelf: LogFiles, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Return all acts, oldest first. Raises Invalid if they are not as signed."""
    return [json.loads(entry) for entry in entries(shelf, keys)]


def entries(shelf: LogFiles, keys: Sequence[str]) -> list[bytes]:
    """Return the entries of all acts as signed, oldest first. Raises Invalid like `read`."""
    note = shelf.read("checkpoint")
    if note is None:
        return []
    head = read_checkpoint(note.decode(), keys)
    indices = range(-(-head.size // WIDTH))
    found = [entry for index in indices for entry in bundle(shelf, head.size, index)]
    if len(found) != head.size or root_of(list(map(leaf_hash, found))) != head.root:
        raise Invalid("the log of acts is not as it was signed")
    return found


def removed(shelf: LogFiles, log: LogFiles, table: str, keys: Sequence[str]) -> list[Span]:
    """Return the rows of `table` removed by retention; acts that fail verification are ignored."""
    try:
        done = [act for act in read(shelf, keys) if act["table"] == table]
    except Invalid:
        return []
    spans: set[Span] = set()
    for act in done:
        # The list is a plain file; only its hash is part of the signed act.
        listed = log.read(f"removed/{act['rows_sha256']}.json") or b""
        if hashlib.sha256(listed).hexdigest() == act["rows_sha256"]:
            spans |= {(first, until) for first, until in json.loads(listed)}
    return _merge(spans)


def _merge(spans: Iterable[Span]) -> list[Span]:
    """Merge overlapping spans, ascending; a resumed removal lists some rows twice."""
    merged: list[Span] = []
    for first, until in sorted(spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(until, merged[-1][1])
        else:
            merged.append((first, until))
    return merged
