"""Entry bundles of raw logs: made of the rows when somebody wants to read them.

No proof needs them, and they would take as much room as the records. An older auditlake stored
them; `prune` deletes those that can be made again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import polars as pl

from pipelines.errors import LakeError
from pipelines.integrity import files, merkle, signer, tiles
from pipelines.integrity.merkle import WIDTH
from pipelines.lake import tables
from pipelines.lake.tables import Lake, StreamKey

_CHUNK = 256 * WIDTH
_SIGNED = ("seq", "raw_sha256", "time", "ingested_at", "via", "event_id")


def entries(lake: Lake, name: str, first: int, until: int) -> dict[int, bytes]:
    """Return the entries of the rows [first, until) that are there, by `seq`.

    They are as signed only if they give the leaves in the tiles.
    """
    table = tables.scan(lake, f"raw/{name}")
    if table is None:
        return {}
    with tables.store_errors(f"raw/{name}"):
        ours = pl.col("seq").is_between(first, until, "left")
        rows = table.filter(ours).select(_SIGNED).collect()
    return dict(zip(rows["seq"].to_list(), signer.entries(rows), strict=True))


def write(lake: Lake, name: str, folder: Path) -> int:
    """Write a log as it is at its checkpoint, with its entries, into a new folder; return its size.

    The entries of removed rows are empty. Raises LakeError if there is no signed log, or if a row
    is not as it was signed.
    """
    kept = signer.of(lake, name)
    checkpoint = kept.folder.get("checkpoint") if kept else None
    head = signer.read_note(kept, checkpoint) if kept and checkpoint else None
    if kept is None or head is None or checkpoint is None:
        raise LakeError(f"raw/{name} has no signed log: run `auditlake poll` first")
    if folder.exists() and any(folder.iterdir()):
        raise LakeError(f"{folder} is not empty: name a new folder")
    to, subtree = files.Disk(folder), tiles.subtree(kept.folder, head.size)
    tiles.copy(kept.folder, to, head.size)
    for start in range(0, head.size, _CHUNK):
        until = min(start + _CHUNK, head.size)
        made = entries(lake, name, start, until)
        for seq, entry in made.items():
            if merkle.leaf(entry) != subtree(seq, seq + 1):
                raise LakeError(f"raw/{name}: row {seq:,} is not as signed: run `auditlake verify`")
        tiles.write_entries(to, start, [made.get(seq, b"") for seq in range(start, until)])
    to.put("checkpoint", checkpoint)
    return head.size


def prune(lake: Lake, logs: Iterable[StreamKey]) -> int:
    """Delete stored bundles whose entries the rows give again, and return how many files.

    Others stay: they show how a row was altered.
    """
    done = 0
    for log in logs:
        with suppress(LakeError):  # of a log that is not as signed, they may be needed
            done += _prune(lake, log)
    return done


def _prune(lake: Lake, log: StreamKey) -> int:
    kept = signer.of(lake, log.app)
    if kept is None or not kept.folder.names(tiles.BUNDLES):
        return 0
    head, done = signer.published(kept), 0
    size = head.size if head else 0
    for start in range(0, size, _CHUNK):
        until = min(start + _CHUNK, size)
        numbers = range(start // WIDTH, -(-until // WIDTH))
        held = {
            (number, file): found
            for number in numbers
            for file, found in tiles.bundles(kept.folder, number).items()
        }
        made = entries(lake, log.app, start, until) if held else {}
        again = [
            file
            for (number, file), found in held.items()
            if all(each in (b"", made.get(at)) for at, each in enumerate(found, number * WIDTH))
        ]
        kept.folder.delete(again)
        done += len(again)
    if lake.local is not None:
        _remove_empty(lake.local / "integrity" / log.app / tiles.BUNDLES)
    return done


def _remove_empty(folder: Path) -> None:
    for parent, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # it has files
            Path(parent).rmdir()
