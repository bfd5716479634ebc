"""What people do to the lake on purpose is logged too: a tree of its own, signed like the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pipelines.errors import LakeError
from pipelines.integrity import anchors, ledger, memory, merkle, tiles
from pipelines.integrity.ledger import Ledger
from pipelines.integrity.merkle import Edge
from pipelines.integrity.note import Head
from pipelines.lake import Lake


def record(lake: Lake, act: Mapping[str, Any], now: datetime) -> None:
    """Sign an act; when this returns, it can no longer be denied."""
    kept = ledger.of(lake, ledger.ACTS)
    if kept is None:
        raise LakeError("acts are recorded by signing them: set integrity.sign = true")
    with memory.alone(kept.place, kept.table):
        head, edge = _standing(kept)
        entry = json.dumps({"at": now.isoformat(), **act}, ensure_ascii=False).encode()
        head, _ = ledger.grow(kept, head, edge, [entry])
        ledger.announce(kept, head, now)
    anchors.deliver_soon(kept.place, kept.settings)


def _standing(kept: Ledger) -> tuple[Head, Edge]:
    signed = ledger.last_signed(kept)
    if signed is None:
        return ledger.new_head(kept), ()
    edge = tiles.edge(kept.folder, signed.size)
    if edge is None or merkle.root(edge) != signed.root:
        raise ledger.Alarm("acts: what was signed is not there: see docs/integrity.md")
    return signed, edge
