"""Lists the leaves of a log from a time on, so that the receiver of some records sees the others.

The list ends at a checkpoint. The perfect subtrees before it and its leaves give the signed root,
so no leaf in between can be left out. `check_pack` in verifier/audit.py checks it.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime, timedelta

import polars as pl

from pipelines.errors import LakeError
from pipelines.integrity import bundles, keys, merkle, note, signer, tiles
from pipelines.integrity.merkle import WIDTH, Subtree
from pipelines.lake import tables
from pipelines.lake.tables import Lake

_ENTRY, _FIELDS = "auditlake/1", 5
_CHUNK = 65_536
_AHEAD = timedelta(days=1)  # records with later times are rejected


def listed(lake: Lake, name: str, checkpoint: bytes, since: datetime) -> bytes:
    """Return one JSON line per leaf, after one with the first row and the subtrees before it.

    A line is [sha256 of raw, time, ingested_at, via, event_id], times in microseconds, or only
    [leaf hash] where the entry is gone, as after retention. The first leaf arrived too early to be
    of a record since `since`, unless the list begins at row 0.
    """
    kept = signer.of(lake, name)
    head = note.opened(checkpoint, keys.trusted(kept.settings)) if kept else None
    if kept is None or head is None:
        raise LakeError(f"raw/{name}: its checkpoint is not signed by a trusted key")
    subtree = tiles.subtree(kept.folder, head.size)
    lines = dict(_lines(lake, name, head.size, subtree, _first(lake, name, head.size, since)))
    first = min(lines, default=head.size)
    opening = {"first": first, "before": [_text(each) for each in merkle.peaks(first, subtree)]}
    return b"".join(json.dumps(line).encode() + b"\n" for line in (opening, *lines.values()))


def _first(lake: Lake, name: str, size: int, since: datetime) -> int:
    """Return the row before the first that may be of a record since `since`."""
    table = tables.scan(lake, f"raw/{name}")
    late = (pl.col("ingested_at") >= since - _AHEAD) | (pl.col("time") >= since)
    found = None if table is None else table.filter(late).select(pl.col("seq").min()).collect()
    first = size if found is None else found.item()
    return max(0, min(size, size if first is None else first) - 1)


def _lines(
    lake: Lake, name: str, size: int, subtree: Subtree, first: int
) -> Iterator[tuple[int, list[str | int]]]:
    """Yield (row, line) from a row before `first` on: at most 255 more than needed."""
    for start in range(first // WIDTH * WIDTH, size, _CHUNK):
        until = min(start + _CHUNK, size)
        made = bundles.entries(lake, name, start, until)
        for seq in range(start, until):
            leaf, entry = subtree(seq, seq + 1), made.get(seq, b"")
            fields = entry.decode().split("\n", _FIELDS)
            if fields[0] == _ENTRY and merkle.leaf(entry) == leaf:
                _, digest, time, arrival, via, identity = fields
                yield seq, [digest, int(time), int(arrival), via, identity]
            else:
                yield seq, [leaf.hex()]


def _text(digest: bytes) -> str:
    return b64encode(digest).decode()
