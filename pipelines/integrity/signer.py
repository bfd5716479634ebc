"""Signs raw tables and findings: after each commit, extends the Merkle tree and signs a checkpoint.

The order is commit, tiles, checkpoint, history, anchors, local record, witnesses. The checkpoint is
published by compare-and-swap: of two machines that sign at once one wins, and the other starts
again from the winner's tree. The local record, anchors and witnesses therefore never know a
checkpoint that the lake does not have yet, and a verifier that reads them first can't mistake a new
round for a rollback. If the process is killed in between, the next call completes the work.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path

import polars as pl

from pipelines.errors import ConfigurationError, LakeError
from pipelines.integrity import (
    anchors,
    files,
    finding_entries,
    keys,
    last_signed,
    merkle,
    note,
    removals,
    tiles,
    witnesses,
)
from pipelines.integrity.files import Folder
from pipelines.integrity.merkle import Edge
from pipelines.integrity.note import Head
from pipelines.lake import events, findings, raw, tables, versions
from pipelines.lake.tables import Lake, Numbered
from pipelines.lake.versions import Logged
from pipelines.schemas import RAW
from pipelines.settings import IntegritySettings, telemetry

ACTS = "acts"
"""The name of the log of operator actions, such as retention."""
MAPPED = "mapped-"
"""Marks the name of a log before whose first row an act recorded its mapping version."""

_CHUNK = 65_536
RACES = 20


class Alarm(LakeError):
    """The table is not as it was signed; its stream stops until an operator has investigated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedLog:
    """The tree, the signing settings and the local record of one log."""

    settings: IntegritySettings
    name: str
    """Such as okta/system_log, or findings."""
    folder: Folder
    """The tree, history and checkpoint, in the lake."""
    place: Path
    """The local state directory of this lake."""

    @property
    def table(self) -> str:
        return self.name if self.name == findings.LOG.app else f"raw/{self.name}"


def of(lake: Lake, name: str) -> SignedLog | None:
    """Return the ledger of the log `name`, or None if this lake is not signed.

    Raises ConfigurationError if the keys would lie inside the lake.
    """
    settings = lake.integrity
    if settings is None or not settings.sign:
        return None
    folder = settings.folder.expanduser().resolve()
    if lake.local is not None and folder.is_relative_to(lake.local.resolve()):
        raise ConfigurationError("integrity.folder is inside the lake and holds keys: move it out")
    keys.folder(settings)
    return SignedLog(
        settings=settings,
        name=name,
        # Acts exist nowhere else, whereas all other trees can be rebuilt from the rows.
        folder=files.of(lake, f"integrity/{name}", durable=name == ACTS),
        place=last_signed.folder(lake, settings),
    )


def sign(
    lake: Lake, log: Numbered, rows: int, now: datetime, fresh: pl.DataFrame | None = None
) -> None:
    """Sign the first `rows` rows of `log`; `fresh` holds the newest of them.

    Without `fresh`, sign rows whose signing was interrupted by a kill. Raises Alarm if the table
    has fewer or other rows than were signed.
    """
    kept = of(lake, log.app)
    if kept is None or (rows == 0 and _may_start_over(lake, log, kept)):
        return
    about = {"auditlake.log": kept.name, "auditlake.rows": rows}
    with telemetry.span("sign", about), last_signed.alone(kept.place, kept.table):
        for _ in range(RACES):
            if _sign_once(lake, log, kept, rows=rows, now=now, fresh=fresh):
                break
        else:
            raise LakeError(f"{kept.table}: other signers won {RACES} races in a row; retry")
    anchors.deliver_soon(kept.place, kept.settings)
    witnesses.submit_soon(lake, kept.settings, kept.name)


def _sign_once(
    lake: Lake,
    log: Numbered,
    kept: SignedLog,
    *,
    rows: int,
    now: datetime,
    fresh: pl.DataFrame | None,
) -> bool:
    """Extend and publish the log; return False if another machine published meanwhile."""
    seen = kept.folder.get("checkpoint")
    signed = newest_signed(kept, seen)
    # Fewer rows than signed: some were lost, or another writer has signed more meanwhile.
    if signed and (fresh is None or rows < signed.size):
        _check_end(lake, log, kept, signed)
    if not rows or (signed and rows <= signed.size and read_note(kept, seen or b"") == signed):
        _complete(kept, signed, seen, now)
        return True
    head, edge = _load_tree(lake, log, kept, signed)
    for frame in _rows(lake, log, head.size, rows, fresh):
        head, edge = grow(kept, head, edge, _entries(log, frame), bundled=_is_bundled(log))
    return announce(kept, head, now, seen)


def _complete(kept: SignedLog, signed: Head | None, seen: bytes | None, now: datetime) -> None:
    """Finish an announcement that was interrupted after its checkpoint was published."""
    if signed and seen and last_signed.recall(kept.place, kept.table) != signed:
        if _newest_note(kept.folder) != seen:
            _add_history(kept, signed, seen, now)
        _remember(kept, signed, seen)


def published(kept: SignedLog) -> Head | None:
    """Return the checkpoint in the lake, or None if there is none.

    Raises Alarm if no known key has signed it.
    """
    return read_note(kept, kept.folder.get("checkpoint") or b"")


def newest_signed(kept: SignedLog, checkpoint: bytes | None = None) -> Head | None:
    """Return the newest signed head, from the local record or the lake; None if there is none.

    `checkpoint` is the note in the lake if it has been read already. Raises Alarm if the local
    record and the lake contradict each other.
    """
    known = last_signed.recall(kept.place, kept.table)
    held = read_note(kept, checkpoint) if checkpoint else published(kept)
    # A power cut may have emptied the checkpoint, but not what the history has of it.
    held = held or read_note(kept, _newest_note(kept.folder))
    if known is None or held is None:
        return known or held
    same = known.origin == held.origin
    if not same or (known.size == held.size and known.root != held.root):
        raise _alarm(kept.table, "has a checkpoint that contradicts the one signed here")
    return max(known, held, key=lambda head: head.size)


def read_note(kept: SignedLog, text: bytes) -> Head | None:
    """Return the head of a signed note, or None if it is empty. Raises Alarm if it is not ours."""
    text = text.strip(b"\0")  # a power cut may leave a file of zeros
    head = note.opened(text, keys.trusted(kept.settings))
    if text and head is None:
        # Another machine may have signed with a key that this one has not used yet.
        head = note.opened(text, keys.trusted_anew(kept.settings))
    if text and (head is None or not head.origin.rpartition("/")[0].endswith(kept.name)):
        raise _alarm(kept.table, "has a checkpoint that is not signed by any trusted key")
    return head


def _newest_note(folder: Folder) -> bytes:
    months = folder.names("history")
    lines = list(folder.lines(f"history/{months[-1]}")) if months else []
    for line in reversed(lines):
        with suppress(ValueError, KeyError):  # a power cut may truncate a line
            return str(json.loads(line)["note"]).encode()
    return b""


def removed(lake: Lake, name: str) -> list[tuple[int, int]]:
    """Return the rows removed from the log `name` by recorded acts, as in `removals.spans`."""
    return sorted({span for act in removed_by_act(lake, name) for span in act})


def removed_by_act(lake: Lake, name: str) -> list[list[tuple[int, int]]]:
    """Return the rows removed by each recorded act, as in `removals.by_act`."""
    kept, done = of(lake, name), of(lake, ACTS)
    signed = done and newest_signed(done)
    if not kept or not done or not signed:
        return []
    return removals.by_act(done.folder, signed, kept.folder, kept.table)


def grow(
    kept: SignedLog, head: Head, edge: Edge, fresh: Sequence[bytes], *, bundled: bool = True
) -> tuple[Head, Edge]:
    """Append the entries `fresh` to the tree and write its tiles, without signing.

    If `bundled`, the entries themselves are stored, too. Return the new head and edge.
    """
    edge, changed = merkle.grown(edge, head.size, [merkle.leaf(entry) for entry in fresh])
    tiles.write(kept.folder, changed)
    if bundled:
        tiles.write_entries(kept.folder, head.size, fresh)
    return replace(head, size=head.size + len(fresh), root=merkle.root(edge)), edge


def announce(kept: SignedLog, head: Head, now: datetime, seen: bytes | None) -> bool:
    """Sign `head`, publish it as the checkpoint, and store it locally and at the anchors.

    Return False, having published nothing, if the checkpoint is no longer as `seen`.
    """
    text = note.signed(head.text, keys.signing(kept.settings))
    if not _publish(kept, text, seen):
        return False
    _add_history(kept, head, text, now)
    _remember(kept, head, text)
    return True


def _publish(kept: SignedLog, text: bytes, seen: bytes | None) -> bool:
    return kept.folder.swap("checkpoint", text, seen)


def _remember(kept: SignedLog, head: Head, text: bytes) -> None:
    """Queue a published checkpoint for the anchors and store it locally.

    The local record comes last: only then is the announcement known to be complete.
    """
    anchors.post(kept.place, kept.settings, head, text)
    last_signed.remember(kept.place, kept.table, head)


def _add_history(kept: SignedLog, head: Head, text: bytes, now: datetime) -> None:
    line = json.dumps({"at": now.isoformat(), "size": head.size, "note": text.decode()})
    kept.folder.add(f"history/{now:%Y-%m}", line.encode() + b"\n")


def new_head(kept: SignedLog, mark: str = "") -> Head:
    """Return the head of a new, empty log.

    Its name has a random suffix, so a recreated lake never contradicts checkpoints of the old one.
    """
    origin = f"{kept.settings.name}/{kept.name}/{mark}{secrets.token_hex(4)}"
    return Head(origin=origin, size=0, root=merkle.EMPTY)


def entries(rows: pl.DataFrame) -> list[bytes]:
    """Return the log entry of each row: all its signed columns as text; see docs/integrity.md.

    The event_id comes last, since only it may contain newlines.
    """
    times, arrivals = (rows[name].to_physical().to_list() for name in ("time", "ingested_at"))
    texts = (rows[name].to_list() for name in ("raw_sha256", "via", "event_id"))
    made = [
        f"auditlake/1\n{digest}\n{time}\n{arrival}\n{via}\n{identity}".encode()
        for digest, via, identity, time, arrival in zip(*texts, times, arrivals, strict=True)
    ]
    return [entry if len(entry) <= tiles.MAX_ENTRY else _shorten(entry) for entry in made]


def _is_bundled(log: Numbered) -> bool:
    """Return whether entries are stored: those of raw tables can be made of their rows."""
    return log == findings.LOG


def _entries(log: Numbered, rows: pl.DataFrame) -> list[bytes]:
    return finding_entries.entries(rows) if log == findings.LOG else entries(rows)


def _shorten(entry: bytes) -> bytes:
    """Replace an entry by its hash: bundles store the length of an entry in two bytes."""
    return b"auditlake/1 long\n" + sha256(entry).hexdigest().encode()


def _may_start_over(lake: Lake, log: Numbered, kept: SignedLog) -> bool:
    """Return True if nothing of this log is left in the lake, so that a new one may begin.

    That is the case after an operator deleted the lake; the local record is then deleted too.
    """
    if kept.folder.names("") or tables.open_table(lake, log.table) or events.derived(lake, log):
        return False
    last_signed.forget(kept.place, kept.table)
    return True


def _check_end(lake: Lake, log: Numbered, kept: SignedLog, signed: Head) -> None:
    """Raise Alarm if rows are missing at the end that no act of retention removed.

    Counts the rows in the table, since a slow writer's own count may be out of date.
    """
    held = _rows_in_table(lake, log)
    if held < signed.size and not _removed(lake, kept, range(held, signed.size)):
        raise _alarm(kept.table, f"has {held:,} rows, but {signed.size:,} were signed")


def _rows_in_table(lake: Lake, log: Numbered) -> int:
    """Return the highest seq in the table plus one.

    The fence would not do: unlike the rows, it survives a Delta `restore`.
    """
    with versions.glimpsed(lake, log.table, RAW) as table:
        return table.answer("rows", partial(_highest_seq, table)) + 1 if table else 0


def _highest_seq(table: Logged) -> int:
    files = table.files()
    newest = files["max.seq"].max() if "max.seq" in files.columns else None
    return newest if isinstance(newest, int) else -1


def _removed(lake: Lake, kept: SignedLog, rows: range) -> bool:
    """Return True if recorded acts of retention removed all of `rows`."""
    done = of(lake, ACTS)
    signed = done and newest_signed(done)
    if not done or not signed:
        return False
    return removals.cover(done.folder, signed, kept.folder, kept.table, rows)


def _load_tree(
    lake: Lake, log: Numbered, kept: SignedLog, signed: Head | None
) -> tuple[Head, Edge]:
    """Return the signed head and edge, from the tiles or, if they are damaged, from the rows.

    Raises Alarm if neither leads to the signed root.
    """
    if signed is None:
        return new_head(kept, MAPPED if _is_mapped(lake, log) else ""), ()
    edge = tiles.edge(kept.folder, signed.size)
    if edge is not None and merkle.root(edge) == signed.root:
        return signed, edge
    head, edge = replace(signed, size=0, root=merkle.EMPTY), ()
    for frame in _rows(lake, log, 0, signed.size, None):
        head, edge = grow(kept, head, edge, _entries(log, frame), bundled=_is_bundled(log))
    if head != signed:
        raise _alarm(kept.table, "has damaged tiles, and its rows differ from the signed ones")
    return head, edge


def _is_mapped(lake: Lake, log: Numbered) -> bool:
    """Return True if an act states which mapping version derives the events of the log."""
    done = of(lake, ACTS)
    signed = done and newest_signed(done)
    acts = removals.recorded(done.folder, signed) if done and signed else None
    return any(act.get("act") == "mapping" and act.get("log") == log.app for act in acts or ())


def _rows(
    lake: Lake, log: Numbered, first: int, until: int, fresh: pl.DataFrame | None
) -> Iterator[pl.DataFrame]:
    """Yield the rows [first, until) by seq; only those not in `fresh` are read back.

    Raises Alarm if rows are missing from the table.
    """
    begun = until if fresh is None or fresh.is_empty() else int(fresh["seq"][0])
    for start in range(first, begun, _CHUNK):
        end = min(start + _CHUNK, begun)
        rows = raw.rows(lake, log, start, end)
        if rows["seq"].to_list() != list(range(start, end)):
            raise _alarm(log.table, f"is missing rows between {start:,} and {end:,}")
        yield rows
    if fresh is not None:
        yield fresh[max(0, first - begun) :]


def _alarm(table: str, problem: str) -> Alarm:
    return Alarm(
        f"{table}: {problem}: its stream is stopped; run `auditlake verify`, "
        "then follow 'When an alarm is raised' in docs/integrity.md"
    )
