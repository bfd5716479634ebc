"""Progress of a long extraction: bars on a terminal, one line every few seconds elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from pipelines import visible
from pipelines.extraction import service_clock
from pipelines.extraction.report import Progress as OnProgress
from pipelines.extraction.report import Report

_EVERY = 5.0


@contextmanager
def bars(console: Console) -> Iterator[OnProgress]:
    """Show one line per active stream; all disappear at the end."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        tasks: dict[tuple[str, str], TaskID] = {}
        lock = threading.Lock()

        def update(report: Report) -> None:
            key = (report.integration, report.stream)
            # Streams are polled in parallel threads.
            with lock:
                if key not in tasks:
                    tasks[key] = shown.add_task("", total=None)
            shown.update(tasks[key], description=line(report))

        yield update


@contextmanager
def step(console: Console) -> Iterator[Callable[[str], None]]:
    """Show the current step next to the time; on a terminal only, and it disappears at the end."""
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("", total=None)
        yield lambda text: shown.update(task, description=visible.text(text))


def lines(echo: Callable[[str], None]) -> OnProgress:
    """Return a callback that prints at most one line per stream every few seconds."""
    printed: dict[tuple[str, str], float] = {}

    def update(report: Report) -> None:
        key, now = (report.integration, report.stream), time.monotonic()
        # The first call only starts the clock: a short round prints nothing.
        if now - printed.setdefault(key, now) >= _EVERY:
            printed[key] = now
            echo(line(report))

    return update


def line(report: Report) -> str:
    """Return the progress of one stream, such as "okta system_log: 1,200 new"."""
    back_to = f", back to {report.oldest:%Y-%m-%d}" if report.oldest else ""
    clock = service_clock.difference(report.clock_ahead)
    differs = f" ({clock}; the service's clock is used)" if clock else ""
    return f"{report.integration} {report.stream}: {report.rows:,} new{back_to}{differs}"
