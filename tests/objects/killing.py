"""Work on a lake in an object store, in a process that the store kills at a request."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import polars as pl

from pipelines import disk
from pipelines.engines import InProcess
from pipelines.extraction import exporting
from pipelines.integrity import erasure, retention, signer
from pipelines.lake import raw, tables
from pipelines.lake.tables import Lake
from pipelines.mapping.export import Wanted
from tests.integrity.worlds import LOG, NOON, Signed
from tests.objects.s3 import S3, Fault

REMOVAL = retention.Removal(log=LOG, before=date(2026, 3, 2), who="ada", why="a rule")
REQUEST = erasure.Request(who="ada", why="request 2026-17")
PERSON = "u3@x.io"
BATCH = 7
processes = get_context("forkserver")
processes.set_forkserver_preload(["tests.objects.killing"])


@dataclass
class Stored(Signed):
    """A signed lake in a store, whose state folder is a local one."""

    store: S3 | None = None
    root: str = ""

    @property
    def lake(self) -> Lake:
        assert self.store
        return Lake(self.root, self.store.options, self.integrity)

    def rows(self) -> pl.DataFrame:
        return tables.existing(self.lake, LOG.table).collect().sort("seq")


def retain(world: Stored) -> None:
    retention.finish(world.lake, NOON)
    retention.remove(world.lake, REMOVAL, NOON)


def erase(world: Stored) -> None:
    retention.finish(world.lake, NOON)
    erasure.erase(world.lake, erasure.of_person(world.lake, PERSON, [LOG]), REQUEST, NOON)


def sign(world: Stored) -> None:
    """Sign what a round left, then land and sign two more batches."""
    for _ in range(2):
        rows = raw.position(world.lake, LOG).rows
        signer.sign(world.lake, LOG, rows, NOON)
        world.land(*range(rows, rows + BATCH), derive=False)


def export(world: Stored) -> None:
    pieces = exporting.chunks(world.lake, Wanted(), "ndjson", InProcess())
    disk.write_atomically(world.folder / EXPORTED, pieces, durable=False)


EXPORTED = "events.ndjson"
_WRITES = "^(PUT|POST|DELETE) "
WORK: dict[str, tuple[Callable[[Stored], None], str]] = {
    "retention": (retain, _WRITES),
    "erasure": (erase, _WRITES),
    "signing": (sign, _WRITES),
    "export": (export, "^GET "),
}
"""Each work, and at which of its requests it is killed."""


def until(world: Stored, name: str, number: int, kind: str) -> None:
    """Do the work; the store kills this process at its request `number`."""
    assert world.store
    work, match = WORK[name]
    deadly = Fault(match=match, kind=kind, after=number - 1, times=1, pid=os.getpid())
    world.store.order(deadly)
    work(world)


def killed(world: Stored, name: str, number: int, kind: str) -> bool:
    """Return whether the work was killed before it ended by itself."""
    assert world.store
    process = processes.Process(target=until, args=(world, name, number, kind))
    process.start()
    process.join()
    world.store.order()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def filled(store: S3, folder: Path) -> Stored:
    """Return a new lake with 28 rows, of which 21 are of its first day."""
    world = Stored(folder, store=store, root=store.root())
    for number in range(4):
        first = number * BATCH
        world.land(*range(first, first + BATCH), day=number // 3)
    return world
