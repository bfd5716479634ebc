"""A machine: a process with a state folder of its own that polls Okta without a pause."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pipelines import registry
from pipelines.extraction import rounds, schedule
from pipelines.lake import commits
from pipelines.lake.tables import Lake
from tests.waiting import until

TERM = 4.0
"""Seconds without a renewal after which another machine takes over."""
ELSEWHERE = "another machine polls"
_PAUSE = 0.2
processes = get_context("forkserver")
processes.set_forkserver_preload(["tests.objects.machine"])


def work(
    lake: Lake, keys: dict[str, Any], state: Path, tell: Connection, *, most: int, freeze: bool
) -> None:
    """Run at most so many rounds; tell the new rows or the error of each, or ELSEWHERE.

    If `freeze`, it stops itself once, between the decision about new rows and their commit.
    """
    os.environ["XDG_STATE_HOME"] = str(state)
    real = schedule.lease_of
    schedule.lease_of = lambda lake, source: replace(real(lake, source), term=TERM)
    if freeze:
        _freeze_before_rows()
    source = registry.source("okta", keys)
    for _ in range(most):
        held: list[Any] = []
        reports = rounds.poll(lake, [source], held=held.append)
        tell.send(ELSEWHERE if held else reports[0].error or reports[0].rows)
        time.sleep(_PAUSE)


def _freeze_before_rows() -> None:
    real = commits._write_once

    def write(lake: Lake, table: Any, *arguments: Any) -> bool:
        if table.name.startswith("raw/"):
            commits._write_once = real
            os.kill(os.getpid(), signal.SIGSTOP)
        return real(lake, table, *arguments)

    commits._write_once = write


@dataclass(frozen=True, slots=True)
class Machine:
    process: BaseProcess
    told: Connection

    def signal(self, number: int) -> None:
        assert self.process.pid
        os.kill(self.process.pid, number)

    def heard(self, wanted: Any) -> list[Any]:
        """Wait for a message for which `wanted` is true; return all up to it."""
        found: list[Any] = []

        def arrived() -> bool:
            with suppress(EOFError):
                while self.told.poll() and not (found and wanted(found[-1])):
                    found.append(self.told.recv())
            return bool(found) and bool(wanted(found[-1]))

        until(arrived, "a message of the machine")
        return found


@contextmanager
def started(
    lake: Lake, keys: dict[str, Any], state: Path, *, most: int = 100_000, freeze: bool = False
) -> Iterator[Machine]:
    told, tell = processes.Pipe(duplex=False)
    options = {"most": most, "freeze": freeze}
    process = processes.Process(target=work, args=(lake, keys, state, tell), kwargs=options)
    process.start()
    tell.close()
    try:
        yield Machine(process, told)
    finally:
        process.kill()
        process.join()
