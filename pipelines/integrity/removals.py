"""Which rows recorded acts have taken away, as the writer has to know before it cries alarm."""

from __future__ import annotations

import json
from hashlib import sha256

from pipelines.integrity import merkle, tiles
from pipelines.integrity.merkle import WIDTH
from pipelines.integrity.note import Head
from pipelines.integrity.store import Folder


def cover(acts: Folder, signed: Head, log: Folder, table: str, rows: range) -> bool:
    """Did the acts under this checkpoint take all of these rows of `table` away?"""
    at = rows.start
    for first, until in spans(acts, signed, log, table):
        if first <= at:
            at = max(at, until)
    return at >= rows.stop


def spans(acts: Folder, signed: Head, log: Folder, table: str) -> list[tuple[int, int]]:
    """The rows that the acts took away, as (first, until) in order; they may overlap."""
    bundles = range(-(-signed.size // WIDTH))
    entries = [each for index in bundles for each in tiles.entries(acts, signed.size, index)]
    edge, _ = merkle.grown((), 0, [merkle.leaf(entry) for entry in entries])
    if merkle.root(edge) != signed.root:
        return []
    found = set()
    for act in map(json.loads, entries):
        listed = log.get(f"removed/{act['rows_sha256']}.json") or b""
        if act["table"] == table and sha256(listed).hexdigest() == act["rows_sha256"]:
            found |= {(first, until) for first, until in json.loads(listed)}
    return sorted(found)
