"""Whose turn it is to ask: what a credential's requests leave each other, in all processes here.

It is kept in a temporary folder behind a lock: losing it costs politeness and nothing else. Nothing
secret is in it, nor in its name.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
from pydantic import BaseModel

from pipelines.sdk.contract import Manners, Source

_LONGEST = 3600.0  # a clock that was set back must not keep us waiting


@dataclass(slots=True)
class State:
    """In seconds since 1970, where several processes share it."""

    not_before: float = 0.0
    sent: deque[float] = field(default_factory=deque)
    """When the requests were sent that still count."""


def folder() -> Path:
    """What this user's processes on this machine may tell each other."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    return Path(tempfile.gettempdir()) / f"auditlake-{user}"


def state_file(kind: str, settings: BaseModel) -> Path | None:
    """The file of a credential: by the service, the organisation and whoever asks, no secret.

    None where nothing can be kept: then each process goes by what it sends itself.
    """
    said = {name: value for name, value in sorted(settings) if isinstance(value, str)}
    text = json.dumps([kind, said]).encode()
    path = folder() / "turns" / f"{kind}-{hashlib.sha256(text).hexdigest()[:16]}"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return path if os.access(path.parent, os.W_OK) else None


@contextmanager
def locked(path: Path, now: float) -> Iterator[State]:
    """What is known, for nobody else to change meanwhile; what is changed is kept."""
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        turns = _read(file.read(), now)
        before = (turns.not_before, list(turns.sent))
        yield turns
        if before != (turns.not_before, list(turns.sent)):
            file.truncate(0)
            file.write(json.dumps([turns.not_before, *turns.sent]))


def _read(text: str, now: float) -> State:
    with suppress(ValueError, TypeError):
        not_before, *sent = map(float, json.loads(text))
        if not_before <= now + _LONGEST:
            return State(not_before, deque(time for time in sent if time <= now))
    return State()


@dataclass(slots=True)
class RateLimiter:
    """When the next request of a credential may be sent; shared by all who use that credential."""

    policy: Manners
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    path: Path | None = None
    """Where it is shared with other processes, if it is."""
    _own: State = field(default_factory=State)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self) -> None:
        """Blocks until a request may be sent, and counts it as sent."""
        while (seconds := self._claim()) > 0:
            self.sleep(seconds)

    def hold(self, seconds: float) -> None:
        """No request of this credential for so many seconds."""
        if seconds > 0:
            with self._turns() as known:
                known.not_before = max(known.not_before, self.clock() + seconds)

    @contextmanager
    def _turns(self) -> Iterator[State]:
        with self._lock:
            if self.path is None:
                yield self._own
            else:
                with locked(self.path, self.clock()) as shared:
                    yield shared

    def _claim(self) -> float:
        if self.policy.rate is None and self.path and not self.path.exists():
            return 0.0
        with self._turns() as known:
            now = self.clock()
            ready = known.not_before
            if self.policy.rate:
                count, seconds = self.policy.rate
                while known.sent and known.sent[0] <= now - seconds:
                    known.sent.popleft()
                if len(known.sent) >= count:
                    ready = max(ready, known.sent[-count] + seconds)
            if ready > now:
                return ready - now
            if self.policy.rate:
                known.sent.append(now)
            return 0.0


def policy(source: Source) -> Manners:
    """A simulated service needs no assumed rate; what it answers is obeyed all the same."""
    asked = source.integration.manners
    simulated = httpx.URL(source.settings.base_url).host in ("127.0.0.1", "localhost", "::1")
    return replace(asked, rate=None) if simulated else asked
