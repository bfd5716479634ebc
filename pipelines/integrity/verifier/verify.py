"""Verifies raw tables and findings: rows, gapless seq, Merkle root, signature, known checkpoints.

Events are compared with the rows of raw that they are derived from.

A full run reads every data file without using the statistics in the Delta log, and trusts nothing
in the lake that no trusted key has signed. Verified state is stored outside the lake, so the next
run reads only new rows; if that finds any problem, all rows are read again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from deltalake import DeltaTable

from pipelines.integrity.verifier import (
    diagnosis,
    events,
    findings,
    known_checkpoints,
    operator_acts,
    restores,
    table_reader,
    witnesses,
)
from pipelines.integrity.verifier.job import (
    ACTS,
    FINDINGS,
    Crew,
    Job,
    LakeView,
    TableReport,
)
from pipelines.integrity.verifier.known_checkpoints import KnownCheckpoint, Unavailable
from pipelines.integrity.verifier.log_reader import HASH, WIDTH, LogFiles, leaf_tiles
from pipelines.integrity.verifier.proofs import (
    Checkpoint,
    Invalid,
    leaf_hash,
    parsed,
    read_checkpoint,
    root_of,
    text_of,
)
from pipelines.integrity.verifier.table_reader import TableFiles
from pipelines.integrity.verifier.tree import LeafBuffer, Span, Tree, subtrees

_ACTS = "raw/acts"
_SHARED = {FINDINGS: FINDINGS, ACTS: _ACTS}
"""Logs of no stream -> their names in the local record."""
_BOTH = ("raw", "integrity")
_NO_FILE = ("No such file", "not found")
_REPEATS = 3
_PUBLISHING = 20.0  # seconds to wait for the checkpoint of rows that are just being stored
_FORMER = 100


def verify(case: Job, crew: Crew) -> TableReport:
    """Verify a table and return the report; problems with the table are never raised.

    A successful run is stored as the starting point of the next one.
    """
    started = time.perf_counter()
    start = None if case.full or case.since else _load_state(case)
    verdict, tree = _verify(case, crew, start)
    # An incremental run cannot locate a change in rows it did not read.
    if start and verdict.findings:
        verdict, tree = _verify(case, crew, None)
    # Retention also deletes files that are being read; if they should be there, they still are not.
    for _ in range(_REPEATS):
        if not any(text in found.detail for found in verdict.findings for text in _NO_FILE):
            break
        verdict, tree = _verify(case, crew, None)
    verdict.seconds = time.perf_counter() - started
    if verdict.ok and tree:
        _store_state(case, verdict, tree)
    # Last, since reading the rows again would not change what it finds.
    witnesses.count(case.place, case.name, verdict, _now())
    return verdict


def tables(place: LakeView) -> list[str]:
    """Return all raw tables that exist, were signed, or are known outside the lake.

    The findings and the log of acts are included if there are any.
    """
    raw, signed = (LogFiles(root=place.uri(x), options=place.options or {}) for x in _BOTH)
    names = {
        *raw.pairs(),
        *signed.pairs(),
        *known_checkpoints.logs(place.memory, place.name, place.anchors),
    }
    logs = (name for name in names if "/" in name and name.partition("/")[0] not in _SHARED)
    shared = (name for name in _SHARED if _is_known(place, name, names))
    return [*sorted(f"raw/{name}" for name in logs), *shared]


def _is_known(place: LakeView, name: str, names: Iterable[str]) -> bool:
    """Return whether a log of no stream, or its table, is in the lake or known outside of it."""
    if place.shelf(name).files() or known_checkpoints.remembered(place.memory, _SHARED[name]):
        return True
    named = any(each.partition("/")[0] == name for each in names)
    return named or DeltaTable.is_deltatable(place.uri(name), dict(place.options or {}))


def table_of(place: LakeView, note: str) -> str:
    """Return the table of a checkpoint, from its origin <name>/<integration>/<stream>/<id>."""
    *_, integration, stream, _ = ("", *note.split("\n", 1)[0].split("/"))
    table = f"raw/{integration}/{stream}"
    # These logs have no integration: the origin of the acts is <name>/acts/<id>.
    return stream if stream in _SHARED and table not in tables(place) else table


def verify_acts(place: LakeView, since: Sequence[str] = ()) -> TableReport:
    """Verify the log of operator actions, such as retention, and return the report."""
    verdict = TableReport(table=ACTS, at=_now())
    shelf = place.shelf(ACTS)
    early = _read_note(shelf.read("checkpoint"), place.keys, ACTS)
    origin = early.origin if isinstance(early, Checkpoint) else None
    # Before the log itself is read: an act recorded meanwhile is no rollback.
    known = [*_kept(since), *_outside(place, _ACTS, origin)]
    known += witnesses.cosigned(place, ACTS, origin, verdict)
    note = shelf.read("checkpoint")
    try:
        done = operator_acts.entries(shelf, place.keys)
    except Invalid as error:
        verdict.found("changed", 0, str(error))
        return verdict
    try:
        operator_acts.check(done)
    except Invalid as error:
        verdict.found("changed", 0, str(error))
    verdict.size = verdict.read = len(done)
    head = _read_note(note, place.keys, ACTS)
    if note is not None and isinstance(head, str):
        verdict.found("checkpoint", None, head)
    if isinstance(head, Checkpoint):
        verdict.origin, verdict.root, verdict.signed_by = head.origin, head.root.hex(), head.signer
    for seen in restores.report(place, _ACTS, verdict, known):
        if isinstance(seen, Unavailable):
            verdict.notes.append(f"{seen.where}: {seen.reason}")
        elif seen.head.root == root_of([leaf_hash(entry) for entry in done[: seen.head.size]]):
            verdict.compared_with.append(seen.where)
            witnesses.agreed(verdict, seen)
        elif _is_valid(seen, place.keys, ACTS):
            detail = (
                f"{seen.where} covers {seen.head.size:,} acts; the log does not begin with them"
            )
            verdict.found("rolled back", len(done), detail)
    witnesses.count(place, ACTS, verdict, verdict.at)
    return verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verified:
    """The state stored by the last successful verification."""

    head: Checkpoint
    note: str
    peaks: dict[Span, bytes]
    """The perfect subtrees over the rows that need not be read again."""
    cosigned: Sequence[tuple[int, str]]
    """Size and root of the checkpoints of witnesses that the log agrees with."""

    @property
    def first(self) -> int:
        """The first row to read: rows are skipped in whole blocks of 256."""
        return max((until for _, until in self.peaks), default=0)

    def extended_by(self, head: Checkpoint) -> bool:
        return head.origin == self.head.origin and head.size >= self.head.size

    def agrees(self, seen: KnownCheckpoint | Unavailable) -> bool:
        """Return whether an earlier run compared this checkpoint of a witness, and it agreed."""
        if isinstance(seen, Unavailable) or seen.head.origin != self.head.origin:
            return False
        return (seen.head.size, seen.head.root.hex()) in self.cosigned

    def must_compare(self, seen: KnownCheckpoint | Unavailable) -> bool:
        """Return whether a checkpoint of a witness can only be compared by reading all rows."""
        if isinstance(seen, Unavailable) or not seen.cosigned_at:
            return False
        return seen.head.size < self.first and not self.agrees(seen)


def _verify(case: Job, crew: Crew, start: _Verified | None) -> tuple[TableReport, Tree | None]:
    verdict = TableReport(table=case.table, at=_now())
    early = _read_note(case.shelf.read("checkpoint"), case.place.keys, case.name)
    if start and not (isinstance(early, Checkpoint) and start.extended_by(early)):
        start = None
    verdict.first = start.first if start else 0
    # Before the lake's own checkpoint is read: the rounds that sign meanwhile are no rollback.
    known = list(_known_checkpoints(case, early, verdict))
    if start and any(map(start.must_compare, known)):
        return _verify(case, crew, None)
    head = _newest_head(case, verdict)
    if head is None:
        if case.shelf.read("checkpoint") is None:
            _report_lost_log(case, verdict, known)
        return verdict, None
    if not table_reader.has_room(case, head.size, verdict):
        return verdict, None
    board = LeafBuffer(start=verdict.first, size=head.size)
    acts, gone = events.recorded(case), table_reader.removed_rows(case).finished
    held = table_reader.read(case, crew, verdict, board)
    tree = table_reader.build_tree(
        case, crew, verdict, board, start.peaks if start else {}, gone=gone
    )
    _compare_root(case, verdict, tree, head)
    known = restores.report(case.place, case.table, verdict, known)
    _compare_known(case, verdict, tree, head, known)
    for seen in known:
        if start and isinstance(seen, KnownCheckpoint) and start.agrees(seen):
            witnesses.agreed(verdict, seen)
    _compare_counts(case, verdict, board, held)
    events.check(case, verdict, held, acts)
    return verdict, tree


def _newest_head(case: Job, verdict: TableReport) -> Checkpoint | None:
    """Return the newest validly signed checkpoint of this log, or None, and note it in the verdict.

    If the current checkpoint is missing or invalid, report that and fall back to the history.
    """
    head = _read_note(case.shelf.read("checkpoint"), case.place.keys, case.name)
    found = head if isinstance(head, Checkpoint) else _newest_former(case)
    if isinstance(head, str) and (found or not findings.are_none(case)):
        verdict.found("checkpoint", None, head)
    if found:
        verdict.origin, verdict.size, verdict.signed_by = found.origin, found.size, found.signer
        verdict.root = found.root.hex()
    return found


def _report_lost_log(
    case: Job, verdict: TableReport, known: Sequence[KnownCheckpoint | Unavailable]
) -> None:
    """Report the known checkpoints of a log that has none left in the lake."""
    rows_too = not DeltaTable.is_deltatable(case.place.uri(case.table), case.options)
    gone = "the table and its signed log are" if rows_too else "the signed log is"
    kind = "deleted" if rows_too else "checkpoint"
    for seen in known:
        if isinstance(seen, Unavailable):
            verdict.notes.append(f"{seen.where}: {seen.reason}")
        elif _is_valid(seen, case.place.keys, case.name):
            detail = f"{gone} missing; {seen.where} covers {seen.head.size:,} rows"
            verdict.found(kind, 0, detail)


def _newest_former(case: Job) -> Checkpoint | None:
    """Return the newest validly signed checkpoint in the history, or None."""
    for note in reversed(diagnosis.history(case.shelf)[-_FORMER:]):
        head = _read_note(note.encode(), case.place.keys, case.name)
        if isinstance(head, Checkpoint):
            return head
    return None


def _read_note(note: bytes | None, keys: Sequence[str], name: str) -> Checkpoint | str:
    """Return the checkpoint of the log `name` in a note, or the reason why there is none."""
    if note is None:
        return "no checkpoint: it was deleted, or the table was never signed"
    try:
        head = read_checkpoint(text_of(note), keys)
    except Invalid as error:
        return f"invalid checkpoint: {error}"
    if not head.origin.rpartition("/")[0].endswith(f"/{name}"):
        return f"the checkpoint belongs to another log: {head.origin}"
    return head


def _compare_root(case: Job, verdict: TableReport, tree: Tree, head: Checkpoint) -> None:
    if tree.root(head.size) != head.root:
        now, elsewhere = table_reader.field_reader(case), table_reader.elsewhere(case)
        found = diagnosis.cause(case.shelf, head, tree, case.place.keys, now, elsewhere=elsewhere)
        # The missing row may be the cause itself: do not report it twice.
        if not any(f.kind in ("deleted", "truncated") and f.seq == found.seq
                   for f in verdict.findings):  # fmt: skip
            verdict.found(found.kind, found.seq, found.detail)
    elif not verdict.first and _tile_damaged(case, tree, head.size):
        verdict.found("tiles", None, "the rows are as signed, but a damaged tile breaks proofs")


def _tile_damaged(case: Job, tree: Tree, size: int) -> bool:
    tiles = leaf_tiles(case.shelf, size)
    step = WIDTH * HASH
    leaves = memoryview(tree.board.hashes)
    return any(leaves[i * step : (i + 1) * step] != tile for i, tile in enumerate(tiles))


def _compare_known(
    case: Job,
    verdict: TableReport,
    tree: Tree,
    head: Checkpoint,
    known: Sequence[KnownCheckpoint | Unavailable],
) -> None:
    """Report each checkpoint known outside the lake that the log is not an extension of."""
    sound = tree.root(head.size) == head.root
    for seen in known:
        if isinstance(seen, Unavailable):
            verdict.notes.append(f"{seen.where}: {seen.reason}")
        elif seen.head.origin != head.origin:
            if _is_valid(seen, case.place.keys, case.name):
                _report_other_log(verdict, seen)
        elif seen.head.size > head.size:
            if _is_valid(seen, case.place.keys, case.name):
                detail = f"{seen.where} covers {seen.head.size:,} rows, the lake's {head.size:,}"
                verdict.found("rolled back", head.size, detail)
        elif seen.head.size < verdict.first or not (sound or seen.head.size == head.size):
            continue  # compared by an earlier run, or not comparable with altered rows
        elif (tree.root(seen.head.size) if sound else head.root) == seen.head.root:
            verdict.compared_with.append(seen.where)
            witnesses.agreed(verdict, seen)
        elif _is_valid(seen, case.place.keys, case.name):
            detail = (
                f"the log does not begin with the {seen.head.size:,} rows covered by {seen.where}: "
                "rows were changed, or the history was rewritten and signed again"
            )
            verdict.found("rewritten", None, detail)


def _report_other_log(verdict: TableReport, seen: KnownCheckpoint) -> None:
    detail = f"{seen.where} belongs to another log of this table: {seen.head.origin}"
    # Known to this machine only: most likely the operator recreated the lake.
    if seen.note is None:
        verdict.notes.append(f"{detail}; was the lake recreated?")
    else:
        verdict.found("replaced", None, detail)


def _is_valid(seen: KnownCheckpoint, keys: Sequence[str], name: str) -> bool:
    return seen.note is None or isinstance(_read_note(seen.note.encode(), keys, name), Checkpoint)


def _known_checkpoints(
    case: Job, early: Checkpoint | str, verdict: TableReport
) -> Iterator[KnownCheckpoint | Unavailable]:
    yield from _kept(case.since)
    earlier = _load_state(case)
    if earlier:
        where = "this machine's last verification"
        yield KnownCheckpoint(head=earlier.head, where=where, note=None)
    origin = early.origin if isinstance(early, Checkpoint) else None
    yield from _outside(case.place, case.table, origin, verdict.first)
    yield from witnesses.cosigned(case.place, case.name, origin, verdict)


def _kept(notes: Sequence[str]) -> Iterator[KnownCheckpoint | Unavailable]:
    for note in notes:
        yield known_checkpoints.sighting(note.encode(), "the checkpoint given with --since")


def _outside(
    place: LakeView, table: str, origin: str | None, first: int = 0
) -> Iterator[KnownCheckpoint | Unavailable]:
    yield from known_checkpoints.remembered(place.memory, table)
    name = table.removeprefix("raw/")
    folders = {f"{place.name}/{name}", *([origin.rpartition("/")[0]] if origin else [])}
    for anchor in place.anchors:
        yield from known_checkpoints.anchored(anchor, folders, origin, first, place.network)


def _compare_counts(case: Job, verdict: TableReport, board: LeafBuffer, held: TableFiles) -> None:
    beyond = sorted(board.beyond)
    if beyond and beyond[0] < 0:
        verdict.found("inserted", beyond[0], f"row {beyond[0]:,} was inserted")
    elif beyond and not _is_published(case, beyond[-1] + 1):
        verdict.found("unsigned", beyond[0], _unsigned_rows(beyond))
    expected = board.size - verdict.removed + len(beyond)
    if verdict.first and held.count != expected:
        detail = f"{held.count:,} rows found, {expected:,} expected"
        verdict.found("count", None, detail)


def _unsigned_rows(beyond: Sequence[int]) -> str:
    return (
        f"{len(beyond):,} rows from {beyond[0]:,} have no checkpoint: either a round was killed "
        "and the next one signs them, or they were inserted: compare them with the vendor"
    )


def _is_published(case: Job, size: int) -> bool:
    """Wait briefly for a checkpoint of `size` rows or more; return True if there is one."""
    deadline = time.monotonic() + _PUBLISHING
    while True:
        head = _read_note(case.shelf.read("checkpoint"), case.place.keys, case.name)
        if isinstance(head, Checkpoint) and head.size >= size:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 the verifier shares no code with the rest


def _load_state(case: Job) -> _Verified | None:
    """Return the stored state of the last verification, or None if it cannot be used."""
    try:
        held = parsed(_state_file(case).read_bytes())
        peaks = {(first, until): bytes.fromhex(root) for first, until, root in held["peaks"]}
        note, compared = str(held["note"]), held["events"]
        head = read_checkpoint(note, case.place.keys)
        cosigned = [(int(size), str(root)) for size, root in held.get("cosigned", ())]
    except (OSError, TypeError, ValueError, LookupError, Invalid):
        return None
    first = max((until for _, until in peaks), default=0)
    if list(peaks) != subtrees(first) or first % WIDTH or first > head.size:
        return None
    if case.kind and compared is not True:
        return None  # that run did not compare events
    return _Verified(head=head, note=note, peaks=peaks, cosigned=cosigned)


def _store_state(case: Job, verdict: TableReport, tree: Tree) -> None:
    """Store the verified state outside the lake for the next run."""
    note = case.shelf.read("checkpoint") or b""
    head = _read_note(note, case.place.keys, case.name)
    if not isinstance(head, Checkpoint) or head.size != verdict.size:
        return  # signed meanwhile: the tree does not cover the newest checkpoint
    if case.kind is None and _load_state(replace(case, kind="any")):
        return  # the stored state also covers events; keep it
    # Rows whose events were not there yet are read again by the next run.
    compared = verdict.size if case.kind is None else verdict.derived
    peaks = tree.peaks(compared // WIDTH * WIDTH)
    held = {
        "at": verdict.at.isoformat(),
        "note": note.decode(),
        "events": case.kind is not None,
        "cosigned": [[each.rows, each.root] for each in verdict.cosigned.values()],
        "peaks": [[first, until, root.hex()] for (first, until), root in peaks.items()],
    }
    path = _state_file(case)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_bytes(json.dumps(held).encode())
    draft.replace(path)


def _state_file(case: Job) -> Path:
    return case.place.memory / "verified" / f"{case.table.replace('/', '.')}.json"
