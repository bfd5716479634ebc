"""How a long extraction shows its progress: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from pipelines.extraction.report import Progress as Told
from pipelines.extraction.report import Report

_EVERY = 5.0


@contextmanager
def bars(console: Console) -> Iterator[Told]:
    """A line a stream that is at work; all vanish in the end."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        tasks: dict[tuple[str, str], TaskID] = {}
        lock = threading.Lock()

        def update(report: Report) -> None:
            key = (report.integration, report.stream)
            with lock:
                if key not in tasks:
                    tasks[key] = shown.add_task("", total=None)
            shown.update(tasks[key], description=line(report))

        yield update


def lines(say: Callable[[str], None]) -> Told:
    """A line a stream every few seconds."""
    said: dict[tuple[str, str], float] = {}

    def update(report: Report) -> None:
        key, now = (report.integration, report.stream), time.monotonic()
        if now - said.setdefault(key, now) >= _EVERY:
            said[key] = now
            say(line(report))

    return update


def line(report: Report) -> str:
    back_to = f", back to {report.oldest:%Y-%m-%d}" if report.oldest else ""
    return f"{report.integration} {report.stream}: {report.rows:,} new{back_to}"
