"""What people do to the lake on purpose is logged too: a tree of its own, signed like the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pipelines.errors import LakeError
from pipelines.integrity import anchors, last_signed, merkle, signer, tiles
from pipelines.integrity.merkle import Edge
from pipelines.integrity.note import Head
from pipelines.integrity.signer import Ledger
from pipelines.lake.tables import Lake


def record(lake: Lake, act: Mapping[str, Any], now: datetime) -> None:
    """Sign an act; when this returns, it can no longer be denied."""
    kept = signer.of(lake, signer.ACTS)
    if kept is None:
        raise LakeError("acts are recorded by signing them: set integrity.sign = true")
    with last_signed.alone(kept.place, kept.table):
        head, edge = _standing(kept)
        entry = json.dumps({"at": now.isoformat(), **act}, ensure_ascii=False).encode()
        head, _ = signer.grow(kept, head, edge, [entry])
        signer.announce(kept, head, now)
    anchors.deliver_soon(kept.place, kept.settings)


def _standing(kept: Ledger) -> tuple[Head, Edge]:
    signed = signer.last_signed(kept)
    if signed is None:
        return signer.new_head(kept), ()
    edge = tiles.edge(kept.folder, signed.size)
    if edge is None or merkle.root(edge) != signed.root:
        raise signer.Alarm("acts: what was signed is not there: see docs/integrity.md")
    return signed, edge
