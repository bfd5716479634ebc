"""Sends alerts about findings in pushed records within seconds, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Alerting:
    """Passes of alerts after new findings; Dagster, or `auditlake alerts send`, does the rest."""

    send: Callable[[], object]
    """Does a pass; it must not raise."""
    _woken: threading.Event = field(default_factory=threading.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def wake(self) -> None:
        """Note that there are new findings; returns at once."""
        self._woken.set()

    def run(self) -> None:
        """Do a pass each time there are new findings, until stopped."""
        while self._woken.wait() and not self._stopped.is_set():
            self._woken.clear()
            self.send()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run in a thread until the context ends, after the pass in progress."""
        thread = threading.Thread(target=self.run, name="alerts")
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            self._woken.set()
            thread.join()
