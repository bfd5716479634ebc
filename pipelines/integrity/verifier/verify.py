"""The verifier: every row, seq without gaps, leaves, root, signature, former checkpoints, events.

It reads the data files themselves, never through the statistics of the Delta log, and believes
nothing in the lake but what a known key has signed. What it verified it remembers outside the
lake, and next time reads only what came since; if a count looks odd it reads all.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from pipelines.integrity.verifier import acts, diagnosis, rows, sightings
from pipelines.integrity.verifier.audit import (
    Checkpoint,
    Invalid,
    leaf_hash,
    read_checkpoint,
    root_of,
)
from pipelines.integrity.verifier.rows import Leaves, Task
from pipelines.integrity.verifier.shelf import HASH, WIDTH, Shelf, leaf_tiles
from pipelines.integrity.verifier.sightings import Sighting, Unseen
from pipelines.integrity.verifier.tree import Board, Span, Tree, minus
from pipelines.settings import Anchor

ACTS = "acts"
"""What the log of acts is called among the tables."""

_ACTS = "raw/acts"
_BOTH = ("raw", "integrity")
_TASK_ROWS = 65_536
_TASK_BYTES = 64 * 2**20
_WORTH_PROCESSES = 200_000
_PUBLISHING = 2.0
_FORMER = 100

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[str, int, int], None]
"""(table, rows read, rows in all)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A lake, and what is known of it outside."""

    root: str
    options: Mapping[str, str] | None = field(default=None, repr=False)
    memory: Path
    """Where the signing machine and this verifier remember things; need not exist."""
    keys: Sequence[str]
    """The public keys that are believed."""
    name: str = "auditlake"
    """The first part of the names of this lake's logs."""
    anchors: Sequence[Anchor] = ()

    def uri(self, table: str) -> str:
        return f"{self.root.rstrip('/')}/{table}"

    def shelf(self, name: str) -> Shelf:
        return Shelf(root=self.uri(f"integrity/{name}"), options=self.options or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it was signed."""

    kind: str
    seq: int | None
    """The first row concerned."""
    detail: str


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What a verification found out about a table."""

    table: str
    at: datetime
    origin: str = ""
    size: int = 0
    """Rows that are under a checkpoint."""
    root: str = ""
    signed_by: str = ""
    first: int = 0
    """Rows before this one were verified at another time."""
    read: int = 0
    events: int = 0
    removed: int = 0
    """Rows that were deleted by a recorded act of retention."""
    compared_with: list[str] = field(default_factory=list)
    """Where else checkpoints of this log were seen, and agree."""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def first_bad(self) -> Finding | None:
        """The finding about the lowest row, raw before events; those about no row come last."""

        def order(found: Finding) -> tuple[bool, int, bool]:
            return found.seq is None, found.seq or 0, found.kind == "events"

        return min(self.findings, key=order, default=None)

    def found(self, kind: str, seq: int | None, detail: str) -> None:
        self.findings.append(Finding(kind=kind, seq=seq, detail=detail))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A table to be verified."""

    place: Place
    table: str
    kind: str | None = None
    """The integration's kind; None: its events are not compared."""
    since: Sequence[str] = ()
    """Checkpoints somebody kept, with which the log must still begin."""
    full: bool = False
    progress: Progress = lambda _table, _read, _all: None

    @property
    def name(self) -> str:
        return self.table.removeprefix("raw/")

    @property
    def shelf(self) -> Shelf:
        return self.place.shelf(self.name)


class Crew:
    """Processes that share the work, once there is enough of it."""

    def __init__(self, processes: int | None = None) -> None:
        self._processes = processes or os.cpu_count() or 1
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown()

    def map(self, work: Callable[[T], R], tasks: Sequence[T], count: int) -> Iterable[R]:
        if count < _WORTH_PROCESSES or self._processes == 1:
            return map(work, tasks)
        if self._pool is None:
            spawn = multiprocessing.get_context("spawn")  # Polars' threads do not survive a fork
            self._pool = ProcessPoolExecutor(self._processes, mp_context=spawn)
        return self._pool.map(work, tasks)


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
        *sightings.logs(place.memory, place.name, place.anchors),
    }
    logs = (name for name in names if "/" in name and not name.startswith(f"{ACTS}/"))
    found = sorted(f"raw/{name}" for name in logs)
    acted = place.shelf(ACTS).read("checkpoint") or sightings.remembered(place.memory, _ACTS)
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
        done = acts.entries(shelf, place.keys)
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
    held = _read(case, crew, verdict, board)
    tree = _tree(case, crew, verdict, board, start.peaks if start else {})
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
    rows_too = not DeltaTable.is_deltatable(case.place.uri(case.table), _options(case))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Events:
    """`events` as it was opened first."""

    files: Mapping[date, list[str]] = field(default_factory=dict)
    """By day."""
    derived: int = 0
    """Rows of the table that have their events."""
    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """The files of a table as its log lists them."""

    tasks: Sequence[Task]
    count: int
    """Rows in all, by the log's statistics."""
    events: _Events


def _read(case: Case, crew: Crew, verdict: Verdict, board: Board) -> _Held:
    """Put every row's leaf on the board."""
    try:
        held = _held(case, verdict)
    except (DeltaError, OSError) as error:
        said = " ".join(str(error).split())[:200]
        gone = isinstance(error, TableNotFoundError)
        what = "the table is gone" if gone else f"the table's log cannot be read: {said}"
        verdict.found("deleted" if gone else "unreadable", 0, what)
        return _Held(tasks=(), count=0, events=_Events())
    for found in crew.map(rows.leaves, held.tasks, held.count - board.start):
        verdict.read += len(found.seqs)
        verdict.events += found.events
        _put(board, found)
        for odd in found.odd:
            verdict.found(odd.kind, odd.seq, odd.detail)
        case.progress(case.table, verdict.read, board.size - board.start)
    return held


def _put(board: Board, found: Leaves) -> None:
    if found.seqs:
        board.put(found.seqs, found.hashes)


def _held(case: Case, verdict: Verdict) -> _Held:
    # Events first: rows that land meanwhile lie beyond `derived`, and replace no older version yet.
    events = _events(case)
    handle = DeltaTable(case.place.uri(case.table), storage_options=_options(case))
    if handle.protocol().min_reader_version > 1:
        detail = "the log asks for features the writer never uses, such as hidden rows"
        verdict.found("log", None, detail)
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    if files.is_empty():
        return _Held(tasks=(), count=0, events=events)
    wanted = files
    if verdict.first and "max.seq" in files.columns:
        wanted = files.filter(pl.col("max.seq").fill_null(verdict.first) >= verdict.first)
    by_day = _by_day(handle, wanted)
    base = handle.table_uri.rstrip("/").removeprefix("file://")
    tasks = [
        Task(
            table=case.table,
            files=[f"{base}/{path}" for path in batch["path"]],
            day_files=by_day[day],
            options=case.place.options,
            day=day,
            events=events.files.get(day, ()) if case.kind else None,
            kind=case.kind or "",
            first=verdict.first,
            derived=events.derived,
        )
        for batch in _batches(wanted)
        for day in [_day(batch["partition.date"][0])]
    ]
    return _Held(tasks=tasks, count=int(files["num_records"].sum()), events=events)


def _events(case: Case) -> _Events:
    if case.kind is None:
        return _Events()
    try:
        handle = DeltaTable(case.place.uri("events"), storage_options=_options(case))
    except TableNotFoundError:
        return _Events()
    return _Events(
        files=_by_day(handle, pl.DataFrame(handle.get_add_actions(flatten=True))),
        derived=handle.transaction_version(case.name) or 0,
        version=handle.version(),
    )


def _by_day(handle: DeltaTable, files: pl.DataFrame) -> dict[date, list[str]]:
    base = handle.table_uri.rstrip("/").removeprefix("file://")
    found: dict[date, list[str]] = {}
    if files.height:
        for path, day in files.select("path", "partition.date").iter_rows():
            found.setdefault(_day(day), []).append(f"{base}/{path}")
    return found


def _batches(files: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Files of one day, some 65,000 rows together."""
    for day in files.sort("path").partition_by("partition.date"):
        rows_before = day["num_records"].fill_null(_TASK_ROWS).cum_sum() // _TASK_ROWS
        bytes_before = day["size_bytes"].cum_sum() // _TASK_BYTES
        yield from day.with_columns(batch=rows_before + bytes_before).partition_by("batch")


def _day(value: Any) -> date:
    return value if isinstance(value, date) else date.fromisoformat(str(value))


def _options(case: Case) -> dict[str, str] | None:
    return dict(case.place.options) if case.place.options else None


def _tree(
    case: Case, crew: Crew, verdict: Verdict, board: Board, before: Mapping[Span, bytes]
) -> Tree:
    """Report rows that are gone or doubled, and build the tree over all others."""
    removed = acts.removed(case.place.shelf(ACTS), case.shelf, case.table, case.place.keys)
    verdict.removed = sum(until - first for first, until in removed)
    gaps = list(board.gaps())
    _report_gaps(case, verdict, board, minus(gaps, removed))
    for seq in sorted(board.twice)[:1]:
        verdict.found("duplicated", seq, f"row {seq:,} is there {_times(board.twice.count(seq))}")
    _fill(case, board, gaps)
    step = _TASK_ROWS * HASH
    chunks = [bytes(board.hashes[at : at + step]) for at in range(0, len(board.hashes), step)]
    blocks = [
        root for part in crew.map(rows.subtree, chunks, board.size - board.start) for root in part
    ]
    return Tree(board=board, blocks=blocks, before=before)


def _times(count: int) -> str:
    return "twice" if count == 1 else f"{count + 1} times"


def _report_gaps(case: Case, verdict: Verdict, board: Board, gaps: Sequence[Span]) -> None:
    for first, until in gaps[:1]:
        fields = diagnosis.entry_of(case.shelf, board.size, first)
        who = f" (event_id {fields[-1]})" if fields else ""
        count = sum(end - begin for begin, end in gaps)
        if until == board.size:
            what = f"the newest {count:,} rows, from {first:,}{who}, are gone"
            verdict.found("truncated", first, f"{what}: deleted, rolled back, or a commit was lost")
        else:
            more = f" and {count - 1:,} others" if count > 1 else ""
            verdict.found("deleted", first, f"row {first:,}{who}{more} gone")


def _fill(case: Case, board: Board, gaps: Sequence[Span]) -> None:
    """Leaves of rows that are gone, from the tiles; the root will tell whether they are true."""
    if not gaps:
        return
    for index, hashes in enumerate(leaf_tiles(case.shelf, board.size)):
        for first, until in gaps:
            low, high = max(first, index * WIDTH), min(until, (index + 1) * WIDTH)
            for seq in range(low, high):
                at = (seq - index * WIDTH) * HASH
                board.fill(seq, hashes[at : at + HASH])


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
        handle = DeltaTable(case.place.uri(case.table), storage_options=_options(case))
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
        yield sightings.sighting(note.encode(), "the checkpoint given with --since")


def _seen_outside(
    place: Place, table: str, origin: str | None, first: int = 0
) -> Iterator[Sighting | Unseen]:
    yield from sightings.remembered(place.memory, table)
    name = table.removeprefix("raw/")
    folders = {f"{place.name}/{name}", *([origin.rpartition("/")[0]] if origin else [])}
    for anchor in place.anchors:
        yield from sightings.anchored(anchor, folders, origin, first)


def _compare_counts(case: Case, verdict: Verdict, board: Board, held: _Held) -> None:
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


def _count_events(case: Case, verdict: Verdict, held: _Held) -> None:
    """Every event was compared with the row it comes from; are there some that have none?"""
    _, integration, stream = case.table.split("/")
    ours = (pl.col("integration") == integration) & (pl.col("stream") == stream)
    place = ~pl.col("seq").is_between(0, verdict.first, "left")
    try:
        uri, version = case.place.uri("events"), held.events.version
        # The version that was compared: a newer one may have other events of the same rows.
        events = DeltaTable(uri, version, storage_options=_options(case))
        counted = pl.scan_delta(events).filter(ours, place, pl.col("seq") < held.events.derived)
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
