"""A verification: the lake, the table, the worker processes, and the report on it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pipelines.integrity.verifier.log_reader import Shelf
from pipelines.settings import Anchor

ACTS = "acts"
"""What the log of acts is called among the tables."""

_WORTH_PROCESSES = 200_000

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

    @property
    def options(self) -> dict[str, str] | None:
        return dict(self.place.options) if self.place.options else None


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
