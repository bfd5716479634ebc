"""Rate-limit state of a credential, shared by all processes on this machine.

It is a locked file in the user's state folder. If it is lost, the only cost is a few throttled
requests. Neither the file nor its name contains a secret.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
from pydantic import BaseModel

from pipelines import disk
from pipelines.clock import unix_time
from pipelines.sdk.contract import RequestPolicy, Source
from pipelines.settings import is_loopback
from pipelines.settings.folders import shared_folder

_LONGEST = 3600.0  # a longer wait can only come from a clock that was set back: ignore it


@dataclass(slots=True)
class State:
    """Recent requests and the earliest next one, as Unix times where processes share them."""

    not_before: float = 0.0
    sent: deque[float] = field(default_factory=deque)
    """Times of the requests that still count against the rate limit."""


def state_file(kind: str, settings: BaseModel) -> Path | None:
    """Return the file for a credential.

    None without a folder that can be written: each process then limits only its own requests.
    """
    if (shared := shared_folder()) is None:
        return None
    path = shared / "rate_limits" / credential(kind, settings)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return None
    return path if os.access(path.parent, os.W_OK) else None


def credential(kind: str, settings: BaseModel) -> str:
    """Return a name for a credential: the kind, and a hash of the settings that are not secret."""
    # Secrets are SecretStr, so they never enter the name.
    public = {name: value for name, value in sorted(settings) if isinstance(value, str)}
    return f"{kind}-{hashlib.sha256(json.dumps([kind, public]).encode()).hexdigest()[:16]}"


@contextmanager
def locked(path: Path, now: float) -> Iterator[State]:
    """Lock and yield the state at `path`; changes are written back at the end."""
    with disk.open_own(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        state = _read(file.read(), now)
        before = (state.not_before, list(state.sent))
        yield state
        if before != (state.not_before, list(state.sent)):
            file.seek(0)
            file.truncate()
            file.write(json.dumps([state.not_before, *state.sent]))


def _read(text: str, now: float) -> State:
    with suppress(ValueError, TypeError):
        not_before, *sent = map(float, json.loads(text))
        if not_before <= now + _LONGEST:
            return State(not_before, deque(time for time in sent if time <= now))
    return State()


@dataclass(slots=True)
class RateLimiter:
    """The rate limiter of a credential, shared by all clients that use it."""

    policy: RequestPolicy
    clock: Callable[[], float] = unix_time
    sleep: Callable[[float], None] = time.sleep
    path: Path | None = None
    """The file that shares it with other processes, if any."""
    _own: State = field(default_factory=State)
    _changed: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self) -> None:
        """Block until a request may be sent, and count it as sent."""
        # Another process may claim the slot while we sleep, so claim again until it is ours.
        while (seconds := self._claim()) > 0:
            self.sleep(seconds)

    def hold(self, seconds: float) -> None:
        """Send no request with this credential for `seconds`."""
        if seconds > 0:
            with self._locked() as state:
                state.not_before = max(state.not_before, self.clock() + seconds)

    def claim(self, name: str, seconds: float) -> float:
        """Return 0 and note that something happens now, or the seconds until it may happen again.

        It is kept next to the state, so that a restart does not forget it.
        """
        with self._locked():
            now, known = self.clock(), self._changes()
            left = known.get(name, now - seconds) + seconds - now
            if 0 < left <= seconds:  # more than that: the clock was set back
                return left
            self._save_changes({**known, name: now})
        return 0.0

    def _changes(self) -> dict[str, float]:
        if self.path is None:
            return self._changed
        with suppress(OSError, ValueError, TypeError):
            found = json.loads(_beside(self.path).read_text(encoding="utf-8"))
            return {str(name): float(time) for name, time in dict(found).items()}
        return {}

    def _save_changes(self, known: dict[str, float]) -> None:
        self._changed = known
        if self.path is not None:
            with suppress(OSError):
                disk.write_atomically(_beside(self.path), json.dumps(known).encode(), durable=False)

    @contextmanager
    def _locked(self) -> Iterator[State]:
        with self._lock, ExitStack() as stack:
            state = self._own
            if self.path is not None:
                # A file that is not ours or is gone: this process limits its own requests.
                with suppress(OSError):
                    state = stack.enter_context(locked(self.path, self.clock()))
            yield state

    def _claim(self) -> float:
        """Count a request as sent and return 0, or return the seconds until one may be sent."""
        # Without a rate and without a file nobody holds requests back: skip the lock.
        if self.policy.rate is None and self.path and not self.path.exists():
            return 0.0
        with self._locked() as state:
            now = self.clock()
            ready = state.not_before
            if self.policy.rate:
                count, seconds = self.policy.rate
                while state.sent and state.sent[0] <= now - seconds:
                    state.sent.popleft()
                if len(state.sent) >= count:
                    ready = max(ready, state.sent[-count] + seconds)
            if ready > now:
                return ready - now
            if self.policy.rate:
                state.sent.append(now)
            return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The requests that a credential may send in one period of its rate limit."""

    limit: int
    left: int


def budget(source: Source, now: float) -> Budget | None:
    """Return the budget as this machine's processes have used it; None without a rate limit."""
    rate = policy(source).rate
    path = state_file(source.kind, source.settings)
    if rate is None or path is None:
        return None
    state = State()
    with suppress(OSError):
        state = _read(path.read_text(encoding="utf-8"), now)
    count, seconds = rate
    used = sum(time > now - seconds for time in state.sent)
    return Budget(limit=count, left=max(0, count - used))


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.changes")


def policy(source: Source) -> RequestPolicy:
    """Return the rate limits of `source`; a simulated service has no assumed rate.

    Its rate-limit headers and 429 responses still apply, and it may be changed at any time.
    """
    published = source.integration.request_policy
    simulated = is_loopback(httpx.URL(source.settings.base_url).host)
    return replace(published, rate=None, changes_every=0.0) if simulated else published
