"""Deleting whole dates after their legal term: a deliberate act, recorded before it is done.

The hashes stay, so every proof ever given and every checkpoint stays true; only the records go.
A run that was killed is taken up again by running it once more.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from pipelines import lake as lakes
from pipelines.errors import LakeError
from pipelines.integrity import acts, ledger, tiles
from pipelines.integrity.ledger import Ledger
from pipelines.integrity.merkle import WIDTH
from pipelines.lake import Lake, Log

_APPEND_ONLY = "delta.appendOnly"
_RACES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """Who removes what, and why."""

    log: Log
    before: date
    """Whole UTC days before this one."""
    who: str
    why: str


def rows(lake: Lake, removal: Removal) -> pl.DataFrame:
    """The rows a removal would take away: seq and date."""
    table = lakes.scan(lake, removal.log.table)
    if table is None:
        raise LakeError(f"{removal.log.table}: there is no such table")
    return table.filter(pl.col("date") < removal.before).select("seq", "date").collect().sort("seq")


def remove(lake: Lake, removal: Removal, now: datetime) -> int:
    """Record the act, then delete the rows and their events for good; how many rows."""
    kept = ledger.of(lake, removal.log.app)
    if kept is None:
        raise LakeError("retention is a recorded act: set integrity.sign = true")
    signed = lakes.position(lake, removal.log).rows
    ledger.sign(lake, removal.log, signed, now)
    gone = rows(lake, removal).filter(pl.col("seq") < signed)
    if gone.height:
        _record(lake, kept, removal, gone, now)
    # Late records of these days may land at any moment: only what was recorded is deleted.
    recorded = f"date < '{removal.before}' AND seq < {signed}"
    _delete(lake, removal.log.table, recorded, append_only=True)
    ours = f"integration = '{removal.log.integration}' AND stream = '{removal.log.stream}'"
    _delete(lake, "events", f"{ours} AND {recorded}", append_only=False)
    _prune(kept, gone["seq"].to_list())
    return gone.height


def _record(lake: Lake, kept: Ledger, removal: Removal, gone: pl.DataFrame, now: datetime) -> None:
    listed = json.dumps(_spans(gone["seq"].to_list())).encode()
    digest, head = sha256(listed).hexdigest(), ledger.published(kept)
    kept.folder.put(f"removed/{digest}.json", listed)
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
    acts.record(lake, act, now)


def _spans(seqs: list[int]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for seq in seqs:
        if spans and spans[-1][1] == seq:
            spans[-1] = spans[-1][0], seq + 1
        else:
            spans.append((seq, seq + 1))
    return spans


def _delete(lake: Lake, table: str, predicate: str, *, append_only: bool) -> None:
    """Delete rows and the files that held them; raw tables refuse that at any other time."""
    if lakes.open_table(lake, table) is None:
        return
    handle = _append_only(lake, table, value="false")
    try:
        _delete_rows(handle, table, predicate)
    finally:
        if append_only:
            handle = _append_only(lake, table, value="true")
    handle.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)


def _delete_rows(handle: DeltaTable, table: str, predicate: str) -> None:
    """Raises LakeError where a compaction or other writers are first every time."""
    for _ in range(_RACES):
        with suppress(CommitFailedError):
            handle.delete(predicate)
            return
        handle.update_incremental()
    raise LakeError(f"{table}: other writers won {_RACES} races in a row; run it again")


def _append_only(lake: Lake, table: str, *, value: str) -> DeltaTable:
    handle = DeltaTable(lake.uri(table), storage_options=lake.storage_options)
    # A change of properties makes every commit that is under way start again: only where needed.
    if handle.metadata().configuration.get(_APPEND_ONLY) != value:
        handle.alter.set_table_properties({_APPEND_ONLY: value})
    return handle


def _prune(kept: Ledger, gone: list[int]) -> None:
    """Bundles hold event ids; those that speak of removed rows only are of no use any more."""
    for first, until in _spans(gone):
        for index in range(-(-first // WIDTH), until // WIDTH):
            kept.folder.delete([tiles.path("entries", index)])
