"""Files that take a while: made in a thread, with progress, and downloaded once."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.errors import AuditlakeError

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Job:
    """A file in the making; its thread changes the fields, pages read them."""

    name: str
    about: str
    path: Path | None = None
    """The finished file, alone in its folder."""
    events: int | None = None
    share: float = 0.0
    error: str = ""
    _thread: threading.Thread | None = field(default=None, repr=False)

    @property
    def running(self) -> bool:
        return self.path is None and not self.error

    def wait(self) -> None:
        if self._thread:
            self._thread.join()


Make = Callable[[Path, Callable[[int, int], None]], int | None]
"""Writes the file and reports its progress; returns the number of its events, if it has any."""


def start(name: str, about: str, make: Make) -> Job:
    """Start to make a file of this name, in a folder that only this user can read."""
    job = Job(name=name, about=about)
    # A daemon: a file that nobody waits for must not keep the server alive.
    job._thread = threading.Thread(target=_run, args=(job, make), daemon=True)
    job._thread.start()
    return job


def _run(job: Job, make: Make) -> None:
    path = Path(tempfile.mkdtemp(prefix="auditlake-")) / job.name

    def advance(done: int, of: int) -> None:
        job.share = done / max(1, of)

    try:
        job.events = make(path, advance)
        job.path = path
    except AuditlakeError as error:
        job.error = str(error)
    except Exception as error:  # shown as text: a thread has no page to fail
        _log.exception("%s was not made", job.name)
        job.error = f"the file could not be made ({type(error).__name__}): see the server's log"
