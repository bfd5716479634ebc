"""Proofs that can be checked offline: a record is in a log, or a log has only grown.

Every proof is checked with the auditor's program before it is returned.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from pipelines.errors import LakeError
from pipelines.integrity import keys, merkle, signer, tiles, witnesses
from pipelines.integrity.note import Head
from pipelines.integrity.signer import SignedLog
from pipelines.integrity.verifier import audit, proofs
from pipelines.lake import pruning, tables
from pipelines.lake.tables import Lake
from pipelines.schemas import RAW

Document = dict[str, Any]

_COLUMNS = ("seq", "event_id", "time", "ingested_at", "via", "raw")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prover:
    """Makes proofs from a log at its current checkpoint."""

    kept: SignedLog
    head: Head
    note: str
    subtree: merkle.Subtree

    def record(self, row: dict[str, Any]) -> Document:
        """Return the proof that a raw row is in the log. Raises LakeError if it is unsigned."""
        seq = row["seq"]
        if seq >= self.head.size:
            raise LakeError(f"{self.kept.table}: row {seq:,} is unsigned: run `auditlake poll`")
        path = merkle.inclusion(seq, 0, self.head.size, self.subtree)
        head = ["c2sp.org/tlog-proof@v1", f"index {seq}", *_encoded(path)]
        document = {
            "what": audit.PROOF,
            "table": self.kept.table,
            "record": {name: _plain(row[name]) for name in _COLUMNS if name != "seq"},
            "proof": "\n".join(head) + "\n\n" + self.note,
        }
        return self._check(document)

    def growth(self, old: str) -> Document:
        """Return the proof that the log of the checkpoint `old` is a prefix of this log."""
        size = proofs.read_checkpoint(old, keys.trusted(self.kept.settings)).size
        path = merkle.consistency(size, 0, self.head.size, self.subtree) if size else []
        document = {
            "what": audit.CONSISTENCY,
            "old": old,
            "new": self.note,
            "path": _encoded(path),
        }
        return self._check(document)

    def _check(self, document: Document) -> Document:
        check = audit.check_proof if document["what"] == audit.PROOF else audit.check_growth
        try:
            check(document, keys.trusted(self.kept.settings))
        except proofs.Invalid as error:
            raise LakeError(f"{self.kept.table}: {error}: run `auditlake verify`") from None
        return document


def prover(lake: Lake, name: str) -> Prover:
    """Return the prover of a log such as okta/system_log. Raises LakeError if it is not signed."""
    kept = signer.of(lake, name)
    head = signer.published(kept) if kept else None
    if kept is None or head is None:
        raise LakeError(f"raw/{name}: unsigned: set integrity.sign = true and run `auditlake poll`")
    note = (kept.folder.get("checkpoint") or b"").decode()
    note = witnesses.with_cosignatures(kept.folder, kept.settings, note)
    return Prover(kept=kept, head=head, note=note, subtree=tiles.subtree(kept.folder, head.size))


def prove(lake: Lake, event: str) -> Document:
    """Return the proof of an event, given as event_uid or as raw/okta/system_log/417."""
    name, row = find(lake, event)
    return prover(lake, name).record(row)


def find(lake: Lake, event: str) -> tuple[str, dict[str, Any]]:
    """Return (log, raw row) of an event. Raises LakeError if there is no such record."""
    if placed := re.fullmatch(r"raw/([^/]+/[^/]+)/(\d+)", event):
        return placed[1], _record(lake, placed[1], int(placed[2]), event)
    if event.count(":") < 2:
        raise LakeError(f"{event!r}: expected an event_uid, or a row such as raw/okta/system_log/0")
    integration, stream, identity = event.split(":", 2)
    # One record can yield several events; the mapping numbers their uids with a suffix #1, #2...
    record = re.sub(r"#\d+$", "", identity)
    name = f"{integration}/{stream}"
    for each in dict.fromkeys((identity, record)):
        found = _rows(lake, name).filter(pl.col("event_id") == each)
        if not (seqs := found.select("seq").head(1).collect()).is_empty():
            return name, _record(lake, name, seqs.item(), event)
    raise LakeError(f"{event}: no such record in raw/{name}")


def _rows(lake: Lake, name: str, seq: int | None = None) -> pl.LazyFrame:
    """Return the rows of a raw table, or the one with a `seq` from the files that may have it."""
    table = f"raw/{name}"
    if (handle := tables.newest(lake, table)) is None:
        return pl.LazyFrame(schema=RAW)
    files = pruning.files(handle)
    if seq is None:
        return pruning.scan(lake, table, RAW, files)
    files = pruning.overlapping(files, "seq", seq, seq)
    return pruning.scan(lake, table, RAW, files).filter(pl.col("seq") == seq)


def _record(lake: Lake, name: str, seq: int, event: str) -> dict[str, Any]:
    found = _rows(lake, name, seq).select(_COLUMNS).collect()
    if found.is_empty():
        raise LakeError(f"{event}: no such record in raw/{name}")
    return found.row(0, named=True)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return value


def _encoded(hashes: Sequence[bytes]) -> list[str]:
    return [b64encode(each).decode() for each in hashes]
