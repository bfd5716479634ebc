"""Evaluates the rules on pushed records, in a thread apart from those that store them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipelines import errors
from pipelines.detections.detector import Detector
from pipelines.errors import AuditlakeError
from pipelines.extraction.report import Report
from pipelines.lake.tables import StreamKey

_MAX_BACKOFF = 60.0
_MAX_PAUSE = 2.0
_PAUSE = 4.0
"""Pause after an evaluation, as a multiple of the time that it took."""
_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Detecting:
    """The streams with new rows; one thread evaluates them, so that no two commits race here."""

    detector: Detector
    on_findings: Callable[[], None] = lambda: None
    _streams: set[StreamKey] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _woken: threading.Event = field(default_factory=threading.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def landed(self, report: Report) -> None:
        """Note that a stream has new rows, if it has; returns at once."""
        if report.rows or report.events:
            self.add([StreamKey(report.integration, report.stream)])

    def add(self, streams: Sequence[StreamKey]) -> None:
        with self._lock:
            self._streams |= set(streams)
        self._woken.set()

    def run(self) -> None:
        """Evaluate until stopped; a failure is logged, and tried again after a pause.

        A short pause follows in any case: an evaluation of a few rows costs nearly as much as one
        of the many that land meanwhile.
        """
        backoff = 0.0
        while not self._stopped.is_set():
            self._woken.wait()
            self._woken.clear()
            began = time.monotonic()
            sound = self._stopped.is_set() or self.run_once()
            backoff = 0.0 if sound else min(_MAX_BACKOFF, max(1.0, 2 * backoff))
            self._stopped.wait(backoff or min(_MAX_PAUSE, _PAUSE * (time.monotonic() - began)))
            if not sound:
                self._woken.set()

    def run_once(self) -> bool:
        """Evaluate the rules on the noted streams; return False if they are to be tried again."""
        with self._lock:
            streams, self._streams = self._streams, set()
        if not streams:
            return True
        try:
            with errors.explained():
                for step in self.detector.detect(sorted(streams)):
                    for rule, reason in step.failed.items():
                        _log.warning("rule %s: %s", rule, reason)
                    if step.findings.height:
                        self.on_findings()
                    if self._stopped.is_set():
                        return True
        except AuditlakeError as error:
            _log.warning("detections: %s", error)
            with self._lock:
                self._streams |= streams
            return False
        return True

    def stop(self) -> None:
        """End after the commit in progress; the positions hold where to continue."""
        self._stopped.set()
        self._woken.set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run in a thread until the context ends."""
        thread = threading.Thread(target=self.run, name="detections")
        thread.start()
        try:
            yield
        finally:
            self.stop()
            thread.join()
