"""Reads the recorded acts, and finds out whether retention removed missing rows."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from pipelines.integrity import merkle, tiles
from pipelines.integrity.files import Folder
from pipelines.integrity.merkle import WIDTH
from pipelines.integrity.note import Head


def cover(acts: Folder, signed: Head, log: Folder, table: str, rows: range) -> bool:
    """Return True if the acts under the checkpoint `signed` removed all of `rows` from `table`."""
    at = rows.start
    for first, until in spans(acts, signed, log, table):
        if first <= at:
            at = max(at, until)
    return at >= rows.stop


def spans(acts: Folder, signed: Head, log: Folder, table: str) -> list[tuple[int, int]]:
    """Return the spans of rows that the acts removed, as sorted (first, until); may overlap."""
    return sorted({span for act in by_act(acts, signed, log, table) for span in act})


def by_act(acts: Folder, signed: Head, log: Folder, table: str) -> list[list[tuple[int, int]]]:
    """Return the spans of rows that each act removed, as (first, until), the oldest act first."""
    found = []
    for act in recorded(acts, signed) or ():
        if act.get("table") != table or "rows_sha256" not in act:
            continue
        # The list of spans lies outside the signed log; the act only holds its hash.
        listed = log.get(f"removed/{act['rows_sha256']}.json") or b""
        if sha256(listed).hexdigest() == act["rows_sha256"]:
            found.append([(first, until) for first, until in json.loads(listed)])
    return found


def recorded(acts: Folder, signed: Head) -> list[dict[str, Any]] | None:
    """Return the acts under the checkpoint `signed`, oldest first; None if they were altered."""
    bundles = range(-(-signed.size // WIDTH))
    entries = [each for index in bundles for each in tiles.entries(acts, signed.size, index)]
    edge, _ = merkle.grown((), 0, [merkle.leaf(entry) for entry in entries])
    return [json.loads(each) for each in entries] if merkle.root(edge) == signed.root else None
