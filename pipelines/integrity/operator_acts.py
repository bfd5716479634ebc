"""Operator actions such as retention, recorded in a signed log of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from itertools import chain
from typing import Any

from pipelines.errors import LakeError
from pipelines.integrity import (
    anchors,
    files,
    last_signed,
    merkle,
    removals,
    signer,
    tiles,
    witnesses,
)
from pipelines.integrity.merkle import Edge
from pipelines.integrity.note import Head
from pipelines.integrity.signer import Alarm, SignedLog
from pipelines.lake.tables import Lake, StreamKey


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
            head, edge = _load_tree(lake, kept, seen)
            head, _ = signer.grow(kept, head, edge, [entry])
            if signer.announce(kept, head, now, seen):
                break
        else:
            raise LakeError("acts: lost too many races to other signers in a row; try again")
    anchors.deliver_soon(kept.place, kept.settings)
    witnesses.submit_soon(lake, kept.settings, kept.name)


def recorded(lake: Lake) -> list[dict[str, Any]]:
    """Return the acts recorded so far, oldest first; none if signing is off.

    Raises Alarm if they are not as they were last signed.
    """
    kept = signer.of(lake, signer.ACTS)
    signed = signer.published(kept) if kept else None
    if kept is None or signed is None:
        return []
    found = removals.recorded(kept.folder, signed)
    if found is None:
        raise _damaged()
    return found


def doomed(lake: Lake, log: StreamKey) -> removals.Spans:
    """Return the spans of rows that recorded acts remove, but that may still be there."""
    kept = signer.of(lake, log.app)
    ours = [act for act in removals.unfinished(recorded(lake)) if act["table"] == log.table]
    found = [removals.listed(kept.folder, act) or [] for act in ours] if kept else []
    return removals.merged(chain.from_iterable(found))


def _load_tree(lake: Lake, kept: SignedLog, checkpoint: bytes | None) -> tuple[Head, Edge]:
    signed = signer.newest_signed(kept, checkpoint)
    if signed and checkpoint is None and not files.of(lake, "integrity").names(""):
        # An operator deleted the lake, so nothing is left that these acts were about.
        last_signed.forget(kept.place, kept.table)
        signed = None
    if signed is None:
        return signer.new_head(kept), ()
    # Unlike a raw table's, these entries exist nowhere else: damaged tiles cannot be rebuilt.
    edge = tiles.edge(kept.folder, signed.size)
    if edge is None or merkle.root(edge) != signed.root:
        raise _damaged()
    return signed, edge


def _damaged() -> Alarm:
    return Alarm("acts: the tiles of the signed log are missing or damaged: see docs/integrity.md")
