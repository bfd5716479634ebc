"""Operator actions such as retention, recorded in a signed log of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

from pipelines.errors import LakeError
from pipelines.integrity import (
    anchors,
    files,
    keys,
    last_signed,
    merkle,
    note,
    removals,
    signer,
    tiles,
    witnesses,
)
from pipelines.integrity.merkle import Edge
from pipelines.integrity.note import Head
from pipelines.integrity.signer import Alarm, SignedLog
from pipelines.lake.tables import Lake, Numbered

Act = Mapping[str, Any]
Acts = list[dict[str, Any]]
_lately: dict[Path, tuple[Head, Acts]] = {}
"""The local state directory of a lake -> its acts, as this process has read them last."""


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
        raise _unsigned()
    with last_signed.alone(kept.place, kept.table):
        lost = 0
        while lost < signer.RACES:
            seen = kept.folder.get("checkpoint")
            if seen and not missing(_known(kept, seen)):
                return
            # What is continued is read again, even if this process has seen it.
            head, edge = _load_tree(lake, kept, seen)
            acts = missing(_read(kept, head))
            if not acts:
                return
            ours, head = _claim(kept, head, edge, _entry(acts[0], now))
            # If another machine has published it meanwhile, it was this very act.
            signer.announce(kept, head, now, seen)
            lost += not ours
            if ours and len(acts) == 1:
                break
        else:
            raise LakeError("acts: lost too many races to other signers in a row; try again")
    anchors.deliver_soon(kept.place, kept.settings)
    witnesses.submit_soon(lake, kept.settings, kept.name)


def _claim(kept: SignedLog, head: Head, edge: Edge, entry: bytes) -> tuple[bool, Head]:
    """Make `entry` the next act, or complete another machine's act that came before it.

    Return whether it is ours, and the head to be published. Acts differ between machines, so they
    must not overwrite each other's tiles: the first machine to create the claim on a place in the
    log has it. A claim stays, and contains the act and its signed head, so that any machine can
    complete it after a kill.
    """
    after = replace(head, size=head.size + 1, root=_root_with(edge, head.size, entry))
    claim = note.signed(after.text, keys.signing(kept.settings)) + entry
    place = f"claims/{head.size}"
    ours = kept.folder.swap(place, claim, None)
    if not ours:
        after, entry = _claimed(kept, place)
        if after.size != head.size + 1 or after.root != _root_with(edge, head.size, entry):
            raise _damaged()
    signer.grow(kept, head, edge, [entry])
    return ours, after


def _root_with(edge: Edge, size: int, entry: bytes) -> bytes:
    return merkle.root(merkle.grown(edge, size, [merkle.leaf(entry)])[0])


def _claimed(kept: SignedLog, place: str) -> tuple[Head, bytes]:
    """Return the head and the act of a claim. Raises Alarm if no trusted key has signed it."""
    text, _, entry = (kept.folder.get(place) or b"").rpartition(b"\n")
    head = signer.read_note(kept, text + b"\n")
    if head is None:
        raise _damaged()
    return head, entry


def begin_again(lake: Lake, act: Act, head: Head, now: datetime) -> None:
    """Continue the acts under the checkpoint `head`, whose tiles are there, in a new log.

    `act` is its next entry. Raises LakeError.
    """
    kept = signer.of(lake, signer.ACTS)
    if kept is None:
        raise _unsigned()
    edge = _edge(kept, head)
    fresh = signer.new_head(kept)
    with last_signed.alone(kept.place, kept.table):
        seen, start = kept.folder.get("checkpoint"), replace(head, origin=fresh.origin)
        entry = _entry({**act, "origin": fresh.origin}, now)
        grown, _ = signer.grow(kept, start, edge, [entry])
        if not signer.announce(kept, grown, now, seen):
            raise LakeError("acts: another signer was faster: stop all others and run it again")
    anchors.deliver_soon(kept.place, kept.settings)
    witnesses.submit_soon(lake, kept.settings, kept.name)


def _entry(act: Act, now: datetime) -> bytes:
    entry = json.dumps({"at": now.isoformat(), **act}, ensure_ascii=False).encode()
    if len(entry) > tiles.MAX_ENTRY:
        raise LakeError(f"the act has {len(entry):,} bytes, more than a log can hold: shorten it")
    return entry


def recorded(lake: Lake) -> Acts:
    """Return the acts recorded so far, oldest first; none if signing is off.

    Raises Alarm if they are not as they were last signed.
    """
    kept = signer.of(lake, signer.ACTS)
    signed = signer.published(kept) if kept else None
    return _read(kept, signed) if kept and signed else []


def doomed(lake: Lake, log: Numbered) -> removals.Spans:
    """Return the spans of rows that recorded acts remove, but that may still be there."""
    kept = signer.of(lake, log.app)
    ours = [act for act in removals.unfinished(recorded(lake)) if act["table"] == log.table]
    found = [removals.listed(kept.folder, act) or [] for act in ours] if kept else []
    return removals.merged(chain.from_iterable(found))


def _known(kept: SignedLog, checkpoint: bytes) -> Acts:
    """Return the acts under a checkpoint, which are read once."""
    signed = signer.newest_signed(kept, checkpoint)
    if signed is None:
        return []
    if kept.place not in _lately or _lately[kept.place][0] != signed:
        _lately[kept.place] = signed, _read(kept, signed)
    return _lately[kept.place][1]


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
    return signed, _edge(kept, signed)


def _edge(kept: SignedLog, head: Head) -> Edge:
    # Unlike a raw table's, these entries exist nowhere else: damaged tiles cannot be rebuilt.
    edge = tiles.edge(kept.folder, head.size)
    if edge is None or merkle.root(edge) != head.root:
        raise _damaged()
    return edge


def _unsigned() -> LakeError:
    return LakeError("operator actions must be signed to be recorded: set integrity.sign = true")


def _damaged() -> Alarm:
    return Alarm("acts: the tiles of the signed log are missing or damaged: see docs/integrity.md")
