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
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

_LONGEST = 3600.0  # a clock that was set back must not keep us waiting


@dataclass(slots=True)
class Turns:
    """In seconds since 1970, where several processes share it."""

    not_before: float = 0.0
    sent: deque[float] = field(default_factory=deque)
    """When the requests were sent that still count."""


def folder() -> Path:
    """What this user's processes on this machine may tell each other."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    return Path(tempfile.gettempdir()) / f"auditlake-{user}"


def place(kind: str, settings: BaseModel) -> Path | None:
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
def held(path: Path, now: float) -> Iterator[Turns]:
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


def _read(text: str, now: float) -> Turns:
    with suppress(ValueError, TypeError):
        not_before, *sent = map(float, json.loads(text))
        if not_before <= now + _LONGEST:
            return Turns(not_before, deque(time for time in sent if time <= now))
    return Turns()
