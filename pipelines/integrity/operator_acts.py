"""Operator actions such as retention, recorded in a signed log of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pipelines.errors import LakeError
from pipelines.integrity import anchors, last_signed, merkle, signer, tiles
from pipelines.integrity.merkle import Edge
from pipelines.integrity.note import Head
from pipelines.integrity.signer import SignedLog
from pipelines.lake.tables import Lake


def record(lake: Lake, act: Mapping[str, Any], now: datetime) -> None:
    """Append `act` to the log of operator actions and sign it.

    Raises LakeError if signing is off, and Alarm if the log is not as it was last signed.
    """
    kept = signer.of(lake, signer.ACTS)
    if kept is None:
        raise LakeError("operator actions must be signed to be recorded: set integrity.sign = true")
    entry = json.dumps({"at": now.isoformat(), **act}, ensure_ascii=False).encode()
    with last_signed.alone(kept.place, kept.table):
        for _ in range(signer.RACES):
            seen = kept.folder.get("checkpoint")
            head, edge = _load_tree(kept, seen)
            head, _ = signer.grow(kept, head, edge, [entry])
            if signer.announce(kept, head, now, seen):
                break
        else:
            raise LakeError("acts: lost too many races to other signers in a row; try again")
    anchors.deliver_soon(kept.place, kept.settings)


def _load_tree(kept: SignedLog, checkpoint: bytes | None) -> tuple[Head, Edge]:
    signed = signer.newest_signed(kept, checkpoint)
    if signed is None:
        return signer.new_head(kept), ()
    # Unlike a raw table's, these entries exist nowhere else: damaged tiles cannot be rebuilt.
    edge = tiles.edge(kept.folder, signed.size)
    if edge is None or merkle.root(edge) != signed.root:
        raise signer.Alarm(
            "acts: the tiles of the signed log are missing or damaged: see docs/integrity.md"
        )
    return signed, edge
