"""Where pushed deliveries wait: a file each, on the disk before the vendor is told "taken".

A file appears under its name only once it is whole and synced, and goes only after its rows are
committed; so a kill at any moment leaves what was acknowledged, and nothing half written. What is
drained twice is dropped by the lake's anti-join.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import msgspec

from pipelines import disk
from pipelines.errors import LakeError

_SUFFIX, _ODD, _DRAFT = ".push", ".odd", ".draft"
_OVERHEAD = 4096  # what a small file takes at least, names and folders included
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Full(Exception):
    """There is no room: the vendor has to send it again later."""


class Damaged(ValueError):
    """The file is not what was written."""


class _Label(msgspec.Struct, frozen=True):
    """The first line of a file; the body follows as it came."""

    at: datetime
    headers: dict[str, str]
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A delivery that was acknowledged and is not in the lake yet."""

    path: Path
    received_at: datetime
    headers: Mapping[str, str]
    body: bytes
    """As it came, perhaps packed."""


class Spool:
    """A folder an integration, a file a delivery; bounded in size. Safe to share by threads."""

    def __init__(self, root: Path, *, limit: int, spare: int = 0) -> None:
        """`limit`: the most bytes that may wait; `spare`: what is left free on the disk."""
        self.root = root
        self._limit = limit
        self._spare = spare
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._used = 0

    @contextmanager
    def open(self) -> Iterator[None]:
        """To be held by the one process that fills and drains it. Raises LakeError."""
        _folder(self.root)
        with (self.root / ".lock").open("w") as lock:
            _alone(lock, self.root)
            for draft in self.root.glob(f"*/.*{_DRAFT}"):
                draft.unlink(missing_ok=True)
            kept = (*self.root.glob(f"*/*{_SUFFIX}"), *self.root.glob(f"*/*{_ODD}"))
            self._used = sum(map(_cost, kept))
            yield

    @property
    def used(self) -> int:
        """Bytes that wait, more or less."""
        return self._used

    def put(self, name: str, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
        """Once this returns, the delivery survives a kill and a power cut. Raises Full."""
        label = _text(headers, body, now)
        cost = len(label) + len(body) + _OVERHEAD
        self._reserve(cost)
        try:
            self._write(name, label, body)
        except OSError as error:
            self._release(cost)
            if error.errno in _FULL:
                raise Full from None
            raise
        except BaseException:
            self._release(cost)
            raise

    def waiting(self, name: str) -> list[Path]:
        """The oldest first."""
        with suppress(FileNotFoundError):
            names = sorted(e.name for e in os.scandir(self.root / name) if _is_push(e.name))
            return [self.root / name / found for found in names]
        return []

    def load(self, path: Path) -> Waiting:
        """Raises Damaged."""
        line, _, body = path.read_bytes().partition(b"\n")
        try:
            label = msgspec.json.decode(line, type=_Label)
        except msgspec.DecodeError as error:
            raise Damaged(path.name) from error
        if label.size != len(body) or label.sha256 != hashlib.sha256(body).hexdigest():
            raise Damaged(path.name)
        return Waiting(
            path=path, received_at=label.at.astimezone(UTC), headers=label.headers, body=body
        )

    def remove(self, paths: Sequence[Path]) -> None:
        """After their rows are committed."""
        for path in paths:
            with suppress(FileNotFoundError):
                cost = _cost(path)
                path.unlink()
                self._release(cost)

    def set_aside(self, path: Path) -> None:
        """What cannot be read stays for a person to look at, and holds nothing up."""
        with suppress(FileNotFoundError):
            path.rename(path.with_suffix(_ODD))

    def odd(self, name: str) -> int:
        """How many deliveries were set aside."""
        return len(list((self.root / name).glob(f"*{_ODD}")))

    def _write(self, name: str, label: bytes, body: bytes) -> None:
        folder = self.root / name
        if not folder.is_dir():
            _folder(folder)
        stem = f"{time.time_ns():020}-{os.getpid()}-{next(self._numbers)}"
        draft = folder / f".{stem}{_DRAFT}"
        try:
            with draft.open("xb") as file:
                file.write(label)
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(folder / f"{stem}{_SUFFIX}")
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        disk.sync(folder)

    def _reserve(self, cost: int) -> None:
        with self._lock:
            room = shutil.disk_usage(self.root).free - self._spare
            if self._used + cost > self._limit or cost > room:
                raise Full
            self._used += cost

    def _release(self, cost: int) -> None:
        with self._lock:
            self._used = max(0, self._used - cost)


def _text(headers: Mapping[str, str], body: bytes, now: datetime) -> bytes:
    digest = hashlib.sha256(body).hexdigest()
    return msgspec.json.encode(_Label(now, dict(headers), len(body), digest)) + b"\n"


def _folder(path: Path) -> None:
    """Nobody else may read what waits."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    disk.sync(path.parent)


def _alone(lock: IO[str], root: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LakeError(
            f"{root}: another receiver is at work here: stop it, or set webhooks.spool"
        ) from None


def _is_push(name: str) -> bool:
    return name.endswith(_SUFFIX) and not name.startswith(".")


def _cost(path: Path) -> int:
    try:
        return path.stat().st_size + _OVERHEAD
    except FileNotFoundError:
        return 0
