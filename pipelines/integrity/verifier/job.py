"""The values of a verification: the lake, the table to verify, the workers and the report."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from deltalake import DeltaTable

from pipelines.integrity.verifier.data_files import Kept
from pipelines.integrity.verifier.log_reader import LogFiles
from pipelines.settings import Anchor, NetworkSettings, Witness

ACTS = "acts"
"""The name of the log of operator actions, used like a table name."""

FINDINGS = "findings"
"""The table of findings and the name of its log."""

IDENTITIES = "identities"
"""The table of persons, which is not signed but follows from `events`."""

_MIN_ROWS_FOR_PROCESSES = 200_000  # fewer rows are read faster in-process

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[str, int, int], None]
"""Called with (table, rows read so far, rows to read)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeView:
    """A lake as a verifier sees it, with the keys and records kept outside it."""

    root: str
    options: Mapping[str, str] | None = field(default=None, repr=False)
    memory: Path
    """The local state directory of signer and verifier; it need not exist."""
    keys: Sequence[str]
    """The trusted public keys."""
    name: str = "auditlake"
    """The first part of the origins of this lake's logs."""
    anchors: Sequence[Anchor] = ()
    witnesses: Sequence[Witness | str] = ()
    """The witnesses, or only their public keys."""
    quorum: int = 0
    """How many of them must have seen a checkpoint within an hour."""
    network: NetworkSettings = field(default_factory=NetworkSettings)
    """The way to anchors and witnesses."""
    kept: Kept | None = field(default=None, repr=False)
    """The files that this run has read; None: each is read whenever it is needed."""

    def events(self) -> DeltaTable:
        """Return `events` at its newest version. Raises the errors of opening it."""
        options = dict(self.options) if self.options else None
        return (self.kept or Kept()).events(self.uri("events"), options)

    def uri(self, table: str) -> str:
        return f"{self.root.rstrip('/')}/{table}"

    def shelf(self, name: str) -> LogFiles:
        acts = self.kept.acts if self.kept and name == ACTS else None
        return LogFiles(root=self.uri(f"integrity/{name}"), options=self.options or {}, acts=acts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """A difference between the lake and its signed state."""

    kind: str
    seq: int | None
    """The first row affected; None if it is unknown."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """A checkpoint that a witness has cosigned."""

    rows: int
    root: str
    at: str
    """By the clock of the witness."""


@dataclass(slots=True, kw_only=True)
class TableReport:
    """The report on one table."""

    table: str
    at: datetime
    origin: str = ""
    size: int = 0
    """Rows covered by the checkpoint."""
    root: str = ""
    signed_by: str = ""
    first: int = 0
    """Rows before this one were verified by an earlier run."""
    read: int = 0
    events: int = 0
    derived: int = 0
    """Rows whose events could be compared, from the first on."""
    uncompared: int = 0
    """Rows and events that no part of this run could compare; nothing is known to be wrong."""
    removed: int = 0
    """Rows deleted by recorded acts."""
    erased: int = 0
    """Those of them that were erased on request."""
    lost: int = 0
    """Those of them that a restore has lost; all others were removed by retention."""
    compared_with: list[str] = field(default_factory=list)
    """Places outside the lake with checkpoints that agree with the log."""
    cosigned: dict[str, Cosigned] = field(default_factory=dict)
    """Witness -> the newest checkpoint it is known to have cosigned, if the log agrees with it."""
    witnessed: str = ""
    """How many witnesses have seen how many rows, in words; empty without witnesses."""
    findings: list[Discrepancy] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    differing: dict[str, str] = field(default_factory=dict)
    """Record that arrived with contents that contradict each other -> its rows, in words."""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.findings and not self.uncompared

    @property
    def first_bad(self) -> Discrepancy | None:
        """Return the finding on the lowest row, raw before events; None if all is well."""

        def order(found: Discrepancy) -> tuple[bool, int, bool]:
            return found.seq is None, found.seq or 0, found.kind == "events"

        return min(self.findings, key=order, default=None)

    def found(self, kind: str, seq: int | None, detail: str) -> None:
        self.findings.append(Discrepancy(kind=kind, seq=seq, detail=detail))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A table to verify, and how."""

    place: LakeView
    table: str
    kind: str | None = None
    """The integration's kind, needed to compare events; None: skip them."""
    since: Sequence[str] = ()
    """Checkpoints the auditor kept; the log must be an extension of each."""
    full: bool = False
    """Read all rows, including those verified earlier."""
    progress: Progress = lambda _table, _read, _all: None

    @property
    def name(self) -> str:
        return self.table.removeprefix("raw/")

    @property
    def shelf(self) -> LogFiles:
        return self.place.shelf(self.name)

    @property
    def options(self) -> dict[str, str] | None:
        return dict(self.place.options) if self.place.options else None


class Crew(Protocol):
    """Whoever reads the files of a table: this process, or several."""

    def map(self, work: Callable[[T], R], tasks: Sequence[T], count: int, /) -> Iterable[R]:
        """Return the results of `work` on all tasks, in order; `count` is the rows they cover."""


class WorkerPool:
    """A pool of worker processes, started only if there is enough work."""

    def __init__(self, processes: int | None = None) -> None:
        self._processes = processes or os.cpu_count() or 1
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown()

    def map(self, work: Callable[[T], R], tasks: Sequence[T], count: int) -> Iterable[R]:
        """Return the results of `work` on all tasks, in order; `count` is the rows they cover."""
        if count < _MIN_ROWS_FOR_PROCESSES or self._processes == 1:
            return map(work, tasks)
        if self._pool is None:
            spawn = multiprocessing.get_context("spawn")  # Polars' threads do not survive a fork
            self._pool = ProcessPoolExecutor(self._processes, mp_context=spawn)
        return self._pool.map(work, tasks)
