"""Operator actions such as retention, recorded in a signed log of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
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

Act = Mapping[str, Any]
Acts = list[dict[str, Any]]


def record(lake: Lake, act: Act, now: datetime) -> None:
    """Append `act` to the log of operator actions and sign it.

    Raises LakeError if signing is off, and Alarm if the log is not as it was last signed.
    """
    add(lake, lambda _: [act], now)


def add(lake: Lake, missing: Callable[[Acts], Sequence[Act]], now: datetime) -> None:
    """Append the acts that `missing` returns for those recorded so far, and sign them.

    It decides again if another signer was faster, so that two of them record an act once. Raises
    the errors of `record`.
    """
    kept = signer.of(lake, signer.ACTS)
    if kept is None:
        raise LakeError("operator actions must be signed to be recorded: set integrity.sign = true")
    with last_signed.alone(kept.place, kept.table):
        for _ in range(signer.RACES):
            seen = kept.folder.get("checkpoint")
            head, edge = _load_tree(lake, kept, seen)
            acts = [{"at": now.isoformat(), **act} for act in missing(_read(kept, head))]
            if not acts:
                return
            entries = [json.dumps(act, ensure_ascii=False).encode() for act in acts]
            head, _ = signer.grow(kept, head, edge, entries)
            if signer.announce(kept, head, now, seen):
                break
        else:
            raise LakeError("acts: lost too many races to other signers in a row; try again")
    anchors.deliver_soon(kept.place, kept.settings)
    witnesses.submit_soon(lake, kept.settings, kept.name)


def recorded(lake: Lake) -> Acts:
    """Return the acts recorded so far, oldest first; none if signing is off.

    Raises Alarm if they are not as they were last signed.
    """
    kept = signer.of(lake, signer.ACTS)
    signed = signer.published(kept) if kept else None
    return _read(kept, signed) if kept and signed else []


def doomed(lake: Lake, log: StreamKey) -> removals.Spans:
    """Return the spans of rows that recorded acts remove, but that may still be there."""
    kept = signer.of(lake, log.app)
    ours = [act for act in removals.unfinished(recorded(lake)) if act["table"] == log.table]
    found = [removals.listed(kept.folder, act) or [] for act in ours] if kept else []
    return removals.merged(chain.from_iterable(found))


def _read(kept: SignedLog, signed: Head) -> Acts:
    found = removals.recorded(kept.folder, signed)
    if found is None:
        raise _damaged()
    return found


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
