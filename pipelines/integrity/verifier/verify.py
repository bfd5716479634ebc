"""The verifier: every row, seq without gaps, leaves, root, signature, former checkpoints, events.

It reads the data files themselves, never through the statistics of the Delta log, and believes
nothing in the lake but what a known key has signed. What it verified it remembers outside the
lake, and next time reads only what came since; if a count looks odd it reads all.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from pipelines.integrity.verifier import (
    diagnosis,
    known_checkpoints,
    operator_acts,
    rows,
    table_reader,
)
from pipelines.integrity.verifier.audit import (
    Checkpoint,
    Invalid,
    leaf_hash,
    read_checkpoint,
    root_of,
)
from pipelines.integrity.verifier.job import ACTS, Case, Crew, Finding, Place, Progress, Verdict
from pipelines.integrity.verifier.known_checkpoints import Sighting, Unseen
from pipelines.integrity.verifier.log_reader import HASH, WIDTH, Shelf, leaf_tiles
from pipelines.integrity.verifier.table_reader import TableFiles
from pipelines.integrity.verifier.tree import Board, Span, Tree

__all__ = [
    "ACTS",
    "Case",
    "Crew",
    "Finding",
    "Place",
    "Progress",
    "Verdict",
    "table_of",
    "tables",
    "verify",
    "verify_acts",
]

_ACTS = "raw/acts"
_BOTH = ("raw", "integrity")
_PUBLISHING = 2.0
_FORMER = 100


def verify(case: Case, crew: Crew) -> Verdict:
    """Verify a table; what it finds is in the verdict, and nothing is raised for it."""
    started = time.perf_counter()
    start = None if case.full or case.since else _verified(case)
    verdict, tree = _verify(case, crew, start)
    if start and not verdict.ok:
        verdict, tree = _verify(case, crew, None)
    verdict.seconds = time.perf_counter() - started
    if verdict.ok and tree:
        _remember(case, verdict, tree)
    return verdict


def tables(place: Place) -> list[str]:
    """All raw tables that exist, that were signed, or that are known outside; and the acts."""
    raw, signed = (Shelf(root=place.uri(x), options=place.options or {}) for x in _BOTH)
    names = {
        *raw.pairs(),
        *signed.pairs(),
        *known_checkpoints.logs(place.memory, place.name, place.anchors),
    }
    logs = (name for name in names if "/" in name and not name.startswith(f"{ACTS}/"))
    found = sorted(f"raw/{name}" for name in logs)
    acted = place.shelf(ACTS).read("checkpoint") or known_checkpoints.remembered(
        place.memory, _ACTS
    )
    return [*found, ACTS] if acted else found


def table_of(place: Place, note: str) -> str:
    """The table a checkpoint speaks of; its log is called <name>/<integration>/<stream>/<id>."""
    *_, integration, stream, _ = ("", *note.split("\n", 1)[0].split("/"))
    table = f"raw/{integration}/{stream}"
    return ACTS if stream == ACTS and table not in tables(place) else table


def verify_acts(place: Place, since: Sequence[str] = ()) -> Verdict:
    """Verify the log of what people did on purpose, such as removing old rows."""
    verdict = Verdict(table=ACTS, at=datetime.now(UTC))
    shelf = place.shelf(ACTS)
    note = shelf.read("checkpoint")
    try:
        done = operator_acts.entries(shelf, place.keys)
    except Invalid as error:
        verdict.found("changed", 0, str(error))
        return verdict
    verdict.size = verdict.read = len(done)
    head = _opened(note, place.keys, ACTS)
    if isinstance(head, Checkpoint):
        verdict.origin, verdict.root, verdict.signed_by = head.origin, head.root.hex(), head.signer
    for seen in (*_given(since), *_seen_outside(place, _ACTS, verdict.origin or None)):
        if isinstance(seen, Unseen):
            verdict.notes.append(f"{seen.where}: {seen.reason}")
        elif seen.head.root == root_of([leaf_hash(entry) for entry in done[: seen.head.size]]):
            verdict.compared_with.append(seen.where)
        elif _counts(seen, place.keys, ACTS):
            detail = f"{seen.where} knows {seen.head.size:,} acts that these do not begin with"
            verdict.found("rolled back", len(done), detail)
    return verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verified:
    """What an earlier verification found to be in order."""

    head: Checkpoint
    note: str
    peaks: dict[Span, bytes]
    """The perfect subtrees over the rows that need not be read again."""

    @property
    def first(self) -> int:
        return self.head.size // WIDTH * WIDTH


def _verify(case: Case, crew: Crew, start: _Verified | None) -> tuple[Verdict, Tree | None]:
    verdict = Verdict(table=case.table, at=datetime.now(UTC))
    head = _head(case, verdict)
    if head is None:
        if case.shelf.read("checkpoint") is None:
            _say_who_knows(case, verdict)
        return verdict, None
    if start and (start.head.origin != head.origin or start.head.size > head.size):
        start = None
    verdict.first = start.first if start else 0
    board = Board(start=verdict.first, size=head.size)
    held = table_reader.read(case, crew, verdict, board)
    tree = table_reader.build_tree(case, crew, verdict, board, start.peaks if start else {})
    _compare_root(case, verdict, tree, head)
    _compare_sightings(case, verdict, tree, head)
    _compare_counts(case, verdict, board, held)
    return verdict, tree


def _head(case: Case, verdict: Verdict) -> Checkpoint | None:
    """The checkpoint to verify against: the newest of this log that a known key has signed."""
    head = _opened(case.shelf.read("checkpoint"), case.place.keys, case.name)
    found = head if isinstance(head, Checkpoint) else _former(case)
    if isinstance(head, str):
        verdict.found("checkpoint", None, head)
    if found:
        verdict.origin, verdict.size, verdict.signed_by = found.origin, found.size, found.signer
        verdict.root = found.root.hex()
    return found


def _say_who_knows(case: Case, verdict: Verdict) -> None:
    """Nothing is left of what was signed: what was there?"""
    rows_too = not DeltaTable.is_deltatable(case.place.uri(case.table), case.options)
    kind, what = ("deleted", "table and log are") if rows_too else ("checkpoint", "the log is")
    for seen in (*_given(case.since), *_seen_outside(case.place, case.table, None)):
        if isinstance(seen, Unseen):
            verdict.notes.append(f"{seen.where}: {seen.reason}")
        elif _counts(seen, case.place.keys, case.name):
            detail = f"{what} gone, of which {seen.where} knows {seen.head.size:,} rows"
            verdict.found(kind, 0, detail)


def _former(case: Case) -> Checkpoint | None:
    """The newest former checkpoint that counts."""
    for note in reversed(diagnosis.history(case.shelf)[-_FORMER:]):
        head = _opened(note.encode(), case.place.keys, case.name)
        if isinstance(head, Checkpoint):
            return head
    return None


def _opened(note: bytes | None, keys: Sequence[str], name: str) -> Checkpoint | str:
    """The checkpoint of log `name` in a note, or why there is none."""
    if note is None:
        return "there is no checkpoint: it was removed, or the table was never signed"
    try:
        head = read_checkpoint(note.decode(), keys)
    except (Invalid, UnicodeDecodeError) as error:
        return f"the checkpoint does not count: {error}"
    if not head.origin.rpartition("/")[0].endswith(f"/{name}"):
        return f"the checkpoint is of another log: {head.origin}"
    return head


def _compare_root(case: Case, verdict: Verdict, tree: Tree, head: Checkpoint) -> None:
    if tree.root(head.size) != head.root:
        found = diagnosis.cause(case.shelf, head, tree, case.place.keys, _row(case))
        if not any(f.kind in ("deleted", "truncated") and f.seq == found.seq
                   for f in verdict.findings):  # fmt: skip
            verdict.found(found.kind, found.seq, found.detail)
    elif not verdict.first and _damaged(case, tree, head.size):
        verdict.found("tiles", None, "the rows are as signed, but a tile is damaged: proofs fail")


def _damaged(case: Case, tree: Tree, size: int) -> bool:
    tiles = leaf_tiles(case.shelf, size)
    step = WIDTH * HASH
    leaves = memoryview(tree.board.hashes)
    return any(leaves[i * step : (i + 1) * step] != tile for i, tile in enumerate(tiles))


def _row(case: Case) -> Callable[[int], list[str]]:
    """A row's fields as they are now, for a person to see which one differs."""

    def fields(seq: int) -> list[str]:
        handle = DeltaTable(case.place.uri(case.table), storage_options=case.options)
        found = pl.scan_delta(handle).filter(pl.col("seq") == seq).collect()
        return rows.fields(found)

    return fields


def _compare_sightings(case: Case, verdict: Verdict, tree: Tree, head: Checkpoint) -> None:
    """Does the log still begin with every checkpoint of it that was seen elsewhere?"""
    sound = tree.root(head.size) == head.root
    for seen in _seen(case, head, verdict.first):
        if isinstance(seen, Unseen):
            verdict.notes.append(f"{seen.where}: {seen.reason}")
        elif seen.head.origin != head.origin:
            if _counts(seen, case.place.keys, case.name):
                _another(verdict, seen)
        elif seen.head.size > head.size:
            if _counts(seen, case.place.keys, case.name):
                detail = f"{seen.where} knows {seen.head.size:,} rows, the checkpoint {head.size:,}"
                verdict.found("rolled back", head.size, detail)
        elif seen.head.size < verdict.first or not (sound or seen.head.size == head.size):
            continue  # it was compared before, or cannot be with these rows
        elif (tree.root(seen.head.size) if sound else head.root) == seen.head.root:
            verdict.compared_with.append(seen.where)
        elif _counts(seen, case.place.keys, case.name):
            detail = (
                f"the log does not begin with the {seen.head.size:,} rows that {seen.where} knows: "
                "rows were changed, or history was written anew and signed again"
            )
            verdict.found("rewritten", None, detail)


def _another(verdict: Verdict, seen: Sighting) -> None:
    what = f"{seen.where} knows another log of this table: {seen.head.origin}"
    if seen.note is None:
        verdict.notes.append(f"{what}; was the lake begun anew?")
    else:
        verdict.found("replaced", None, what)


def _counts(seen: Sighting, keys: Sequence[str], name: str) -> bool:
    return seen.note is None or isinstance(_opened(seen.note.encode(), keys, name), Checkpoint)


def _seen(case: Case, head: Checkpoint, first: int) -> Iterator[Sighting | Unseen]:
    yield from _given(case.since)
    earlier = _verified(case)
    if earlier:
        where = "this machine's last verification"
        yield Sighting(head=earlier.head, where=where, note=None)
    yield from _seen_outside(case.place, case.table, head.origin, first)


def _given(notes: Sequence[str]) -> Iterator[Sighting | Unseen]:
    for note in notes:
        yield known_checkpoints.sighting(note.encode(), "the checkpoint given with --since")


def _seen_outside(
    place: Place, table: str, origin: str | None, first: int = 0
) -> Iterator[Sighting | Unseen]:
    yield from known_checkpoints.remembered(place.memory, table)
    name = table.removeprefix("raw/")
    folders = {f"{place.name}/{name}", *([origin.rpartition("/")[0]] if origin else [])}
    for anchor in place.anchors:
        yield from known_checkpoints.anchored(anchor, folders, origin, first)


def _compare_counts(case: Case, verdict: Verdict, board: Board, held: TableFiles) -> None:
    beyond = sorted(board.beyond)
    if beyond and beyond[0] < 0:
        verdict.found("inserted", beyond[0], f"row {beyond[0]:,} was slipped in")
    elif beyond and not _published(case, beyond[-1] + 1):
        verdict.found("unsigned", beyond[0], _unsigned(beyond))
    expected = board.size - verdict.removed + len(beyond)
    if verdict.first and held.count != expected:
        detail = f"{held.count:,} rows are there, {expected:,} should be"
        verdict.found("count", None, detail)
    if case.kind and held.tasks and not any(f.kind == "events" for f in verdict.findings):
        _count_events(case, verdict, held)


def _unsigned(beyond: Sequence[int]) -> str:
    return (
        f"{len(beyond):,} rows from {beyond[0]:,} are under no checkpoint: a round was killed and "
        "the next one signs them, or somebody slipped them in: compare them with the vendor"
    )


def _published(case: Case, size: int) -> bool:
    """Did the checkpoint of rows that were being landed come meanwhile?"""
    deadline = time.monotonic() + _PUBLISHING
    while time.monotonic() < deadline:
        head = _opened(case.shelf.read("checkpoint"), case.place.keys, case.name)
        if isinstance(head, Checkpoint) and head.size >= size:
            return True
        time.sleep(0.05)
    return False


def _count_events(case: Case, verdict: Verdict, held: TableFiles) -> None:
    """Every event was compared with the row it comes from; are there some that have none?"""
    _, integration, stream = case.table.split("/")
    ours = (pl.col("integration") == integration) & (pl.col("stream") == stream)
    place = ~pl.col("seq").is_between(0, verdict.first, "left")
    try:
        events = DeltaTable(case.place.uri("events"), storage_options=case.options)
        counted = pl.scan_delta(events).filter(ours, place, pl.col("seq") < held.derived)
        count = counted.select(pl.len()).collect().item()
    except (DeltaError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        said = " ".join(str(error).split())[:200]
        verdict.found("events", None, f"events cannot be read: {said}")
        return
    if count != verdict.events:
        extra = count - verdict.events
        verdict.found("events", None, f"events: {extra:,} rows belong to no row of this table")


def _verified(case: Case) -> _Verified | None:
    try:
        held = json.loads(_state(case).read_bytes())
        peaks = {(first, until): bytes.fromhex(root) for first, until, root in held["peaks"]}
        head = read_checkpoint(held["note"], case.place.keys)
    except (OSError, ValueError, KeyError, Invalid):
        return None
    if case.kind and not held["events"]:
        return None
    return _Verified(head=head, note=held["note"], peaks=peaks)


def _remember(case: Case, verdict: Verdict, tree: Tree) -> None:
    note = case.shelf.read("checkpoint") or b""
    head = _opened(note, case.place.keys, case.name)
    if not isinstance(head, Checkpoint) or head.size != verdict.size:
        return
    if case.kind is None and _verified(replace(case, kind="any")):
        return  # what is known now says more: it holds for the events too
    peaks = tree.peaks(verdict.size // WIDTH * WIDTH)
    held = {
        "at": verdict.at.isoformat(),
        "note": note.decode(),
        "events": case.kind is not None,
        "peaks": [[first, until, root.hex()] for (first, until), root in peaks.items()],
    }
    path = _state(case)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(held), encoding="utf-8")
    draft.replace(path)


def _state(case: Case) -> Path:
    return case.place.memory / "verified" / f"{case.table.replace('/', '.')}.json"
