"""Progress of a long extraction: bars on a terminal, a line every few seconds elsewhere."""

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
    """Show one line per active stream; all disappear at the end."""
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
    """Return a callback that prints at most one line per stream every few seconds."""
    printed: dict[tuple[str, str], float] = {}

    def update(report: Report) -> None:
        key, now = (report.integration, report.stream), time.monotonic()
        if now - printed.setdefault(key, now) >= _EVERY:
            printed[key] = now
            say(line(report))

    return update


def line(report: Report) -> str:
    back_to = f", back to {report.oldest:%Y-%m-%d}" if report.oldest else ""
    return f"{report.integration} {report.stream}: {report.rows:,} new{back_to}"
