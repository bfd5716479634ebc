"""Retention: deletes whole days of a raw table, after recording and signing the deletion.

The hashes stay, so all proofs and checkpoints remain valid; only the records are deleted.
To resume a run that was killed, run it again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256

import polars as pl

from pipelines.errors import LakeError
from pipelines.integrity import operator_acts, signer, tiles
from pipelines.integrity.merkle import WIDTH
from pipelines.integrity.signer import SignedLog
from pipelines.lake import commits, identity_table, raw, tables
from pipelines.lake.tables import Lake, StreamKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """The days to delete, who deletes them, and why."""

    log: StreamKey
    before: date
    """Delete whole UTC days before this one."""
    who: str
    why: str


def rows(lake: Lake, removal: Removal) -> pl.DataFrame:
    """Return seq and date of the rows that the removal would delete, by seq."""
    table = tables.scan(lake, removal.log.table)
    if table is None:
        raise LakeError(f"{removal.log.table}: no such table: give one such as raw/okta/system_log")
    return table.filter(pl.col("date") < removal.before).select("seq", "date").collect().sort("seq")


def remove(lake: Lake, removal: Removal, now: datetime) -> int:
    """Record and sign the removal, then permanently delete the rows and their events.

    Return the number of deleted rows. Raises LakeError if signing is off.
    """
    kept = signer.of(lake, removal.log.app)
    if kept is None:
        raise LakeError("retention must be recorded and signed: set integrity.sign = true")
    # Sign first: rows without a checkpoint could otherwise never be proved to have existed.
    signed = raw.position(lake, removal.log).rows
    signer.sign(lake, removal.log, signed, now)
    gone = rows(lake, removal).filter(pl.col("seq") < signed)
    if gone.height:
        _record(lake, kept, removal, gone, now)
    # Also if no row is left: a killed run may have left files or events behind.
    # Late records of these days may land at any moment: only recorded rows are deleted.
    recorded = f"date < '{removal.before}' AND seq < {signed}"
    commits.delete(lake, removal.log.table, recorded, append_only=True)
    ours = f"integration = '{removal.log.integration}' AND stream = '{removal.log.stream}'"
    commits.delete(lake, "events", f"{ours} AND {recorded}", append_only=False)
    identity_table.forget(lake)
    _prune(kept, gone["seq"].to_list())
    return gone.height


def _record(
    lake: Lake, kept: SignedLog, removal: Removal, gone: pl.DataFrame, now: datetime
) -> None:
    listed = json.dumps(_spans(gone["seq"].to_list())).encode()
    digest, head = sha256(listed).hexdigest(), signer.published(kept)
    kept.folder.put(f"removed/{digest}.json", listed)
    # Without the rows, neither this list nor the tiles could be rebuilt.
    kept.folder.flush()
    act = {
        "act": "retention",
        "table": removal.log.table,
        "before": removal.before.isoformat(),
        "since": str(gone["date"].min()),
        "rows": gone.height,
        "rows_sha256": digest,
        "who": removal.who,
        "why": removal.why,
        "checkpoint": head.text if head else None,
    }
    operator_acts.record(lake, act, now)


def _spans(seqs: list[int]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for seq in seqs:
        if spans and spans[-1][1] == seq:
            spans[-1] = spans[-1][0], seq + 1
        else:
            spans.append((seq, seq + 1))
    return spans


def _prune(kept: SignedLog, gone: list[int]) -> None:
    """Delete the entry bundles that cover only removed rows, since they contain event ids."""
    for first, until in _spans(gone):
        for index in range(-(-first // WIDTH), until // WIDTH):
            kept.folder.delete([tiles.path("entries", index)])
