"""Small files that show offline that a record was in a log, or that a log has only grown.

What is handed out was checked by the auditor's own program first.
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
from pipelines.integrity import keys, merkle, signer, tiles
from pipelines.integrity.note import Head
from pipelines.integrity.signer import Ledger
from pipelines.integrity.verifier import audit
from pipelines.lake import tables
from pipelines.lake.tables import Lake

Document = dict[str, Any]

_RECORD = ("seq", "event_id", "time", "ingested_at", "via", "raw")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prover:
    """A log at its present checkpoint, from which any number of proofs can be made."""

    kept: Ledger
    head: Head
    note: str
    subtree: merkle.Subtree

    def record(self, row: dict[str, Any]) -> Document:
        """The proof of a raw row."""
        seq = row["seq"]
        if seq >= self.head.size:
            raise LakeError(f"{self.kept.table}: row {seq:,} is not signed yet: poll first")
        path = merkle.inclusion(seq, 0, self.head.size, self.subtree)
        head = ["c2sp.org/tlog-proof@v1", f"index {seq}", *_encoded(path)]
        document = {
            "what": audit.PROOF,
            "table": self.kept.table,
            "record": {name: _plain(row[name]) for name in _RECORD if name != "seq"},
            "proof": "\n".join(head) + "\n\n" + self.note,
        }
        return self._checked(document)

    def growth(self, old: str) -> Document:
        """The proof that the log of an old checkpoint is a beginning of this one."""
        size = audit.read_checkpoint(old, keys.trusted(self.kept.settings)).size
        path = merkle.consistency(size, 0, self.head.size, self.subtree) if size else []
        document = {
            "what": audit.CONSISTENCY,
            "old": old,
            "new": self.note,
            "path": _encoded(path),
        }
        return self._checked(document)

    def _checked(self, document: Document) -> Document:
        check = audit.check_proof if document["what"] == audit.PROOF else audit.check_growth
        try:
            check(document, keys.trusted(self.kept.settings))
        except audit.Invalid as error:
            raise LakeError(f"{self.kept.table}: {error}: run `auditlake verify`") from None
        return document


def prover(lake: Lake, name: str) -> Prover:
    """The prover of a log such as okta/system_log."""
    kept = signer.of(lake, name)
    head = signer.published(kept) if kept else None
    if kept is None or head is None:
        raise LakeError(f"raw/{name}: nothing is signed: set integrity.sign = true and poll")
    note = (kept.folder.get("checkpoint") or b"").decode()
    return Prover(kept=kept, head=head, note=note, subtree=tiles.subtree(kept.folder, head.size))


def prove(lake: Lake, event: str) -> Document:
    """The proof of an event: its event_uid, or its place such as raw/okta/system_log/417."""
    name, row = find(lake, event)
    return prover(lake, name).record(row)


def find(lake: Lake, event: str) -> tuple[str, dict[str, Any]]:
    """(log, raw row) of an event."""
    if placed := re.fullmatch(r"raw/([^/]+/[^/]+)/(\d+)", event):
        return placed[1], _row(lake, placed[1], [pl.col("seq") == int(placed[2])], event)
    if event.count(":") < 2:
        raise LakeError(f"{event!r}: give an event_uid, or a place such as raw/okta/system_log/0")
    integration, stream, identity = event.split(":", 2)
    ids = [identity, re.sub(r"#\d+$", "", identity)]
    name = f"{integration}/{stream}"
    return name, _row(lake, name, [pl.col("event_id").is_in(ids)], event)


def _row(lake: Lake, name: str, where: Sequence[pl.Expr], event: str) -> dict[str, Any]:
    table = tables.scan(lake, f"raw/{name}")
    found = None if table is None else table.filter(*where).select(_RECORD).head(1).collect()
    if found is None or found.is_empty():
        raise LakeError(f"{event}: there is no such record in raw/{name}")
    return found.row(0, named=True)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value


def _encoded(hashes: Sequence[bytes]) -> list[str]:
    return [b64encode(each).decode() for each in hashes]
