"""The spool: deliveries on disk, one file each, between acknowledgement and commit.

A file gets its name only once it is complete and flushed, and is deleted only after its rows are
committed, so a kill at any moment loses nothing that was acknowledged. A delivery that is stored
twice adds no rows: the lake skips records it already has.
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
from pipelines.lake.tables import Lake
from pipelines.settings import Settings

_SUFFIX, _ODD = ".push", ".odd"
_OVERHEAD = 4096  # bytes that even a small file takes, with its directory entry
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Full(Exception):
    """The spool or its disk is full; the vendor has to retry later."""


class Damaged(ValueError):
    """The file is not as it was written."""


class _Label(msgspec.Struct, frozen=True):
    """The first line of a file, as JSON; the body follows as received."""

    at: datetime
    headers: dict[str, str]
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledDelivery:
    """An acknowledged delivery that is not in the lake yet."""

    path: Path
    received_at: datetime
    headers: Mapping[str, str]
    body: bytes
    """As received, possibly compressed."""


class Spool:
    """One directory per integration, one file per delivery; limited in size; thread-safe."""

    def __init__(self, root: Path, *, limit: int, spare: int = 0) -> None:
        """`limit` is the size in bytes; `spare` is the space to leave free on the disk."""
        self.root = root
        self._limit = limit
        self._spare = spare
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._used = 0

    @contextmanager
    def open(self) -> Iterator[None]:
        """Lock the spool for this process. Raises LakeError if another one has it."""
        _create_folder(self.root)
        with (self.root / ".lock").open("w") as lock:
            _lock(lock, self.root)
            # Left by a kill while writing; they were never acknowledged.
            for draft in self.root.glob(f"*/.*{disk.DRAFT}"):
                draft.unlink(missing_ok=True)
            kept = (*self.root.glob(f"*/*{_SUFFIX}"), *self.root.glob(f"*/*{_ODD}"))
            self._used = sum(map(_cost, kept))
            yield

    def put(self, name: str, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
        """Store a delivery so that it survives a kill and a power loss. Raises Full."""
        label = _label(headers, body, now)
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
        """Return the files of an integration, oldest first."""
        with suppress(FileNotFoundError):
            # Names start with the time in nanoseconds, so they sort by age.
            names = sorted(e.name for e in os.scandir(self.root / name) if _is_delivery(e.name))
            return [self.root / name / found for found in names]
        return []

    def load(self, path: Path) -> SpooledDelivery:
        """Return the delivery in a file. Raises Damaged."""
        line, _, body = path.read_bytes().partition(b"\n")
        try:
            label = msgspec.json.decode(line, type=_Label)
        except msgspec.DecodeError as error:
            raise Damaged(path.name) from error
        if label.size != len(body) or label.sha256 != hashlib.sha256(body).hexdigest():
            raise Damaged(path.name)
        return SpooledDelivery(
            path=path, received_at=label.at.astimezone(UTC), headers=label.headers, body=body
        )

    def remove(self, paths: Sequence[Path]) -> None:
        """Delete files whose rows are committed."""
        for path in paths:
            with suppress(FileNotFoundError):
                cost = _cost(path)
                path.unlink()
                self._release(cost)

    def set_aside(self, path: Path) -> None:
        """Rename an unreadable file, so that it is kept for inspection and delays nothing."""
        with suppress(FileNotFoundError):
            path.rename(path.with_suffix(_ODD))

    def unreadable(self, name: str) -> int:
        """Return the number of files that were set aside."""
        return len(list((self.root / name).glob(f"*{_ODD}")))

    def _write(self, name: str, label: bytes, body: bytes) -> None:
        folder = self.root / name
        if not folder.is_dir():
            _create_folder(folder)
        stem = f"{time.time_ns():020}-{os.getpid()}-{next(self._numbers)}"
        disk.write_atomically(folder / f"{stem}{_SUFFIX}", (label, body))

    def _reserve(self, cost: int) -> None:
        # Reserved before writing: threads that write at once must not exceed the limit together.
        with self._lock:
            room = shutil.disk_usage(self.root).free - self._spare
            if self._used + cost > self._limit or cost > room:
                raise Full
            self._used += cost

    def _release(self, cost: int) -> None:
        with self._lock:
            self._used = max(0, self._used - cost)


def _label(headers: Mapping[str, str], body: bytes, now: datetime) -> bytes:
    digest = hashlib.sha256(body).hexdigest()
    return msgspec.json.encode(_Label(now, dict(headers), len(body), digest)) + b"\n"


def _create_folder(path: Path) -> None:
    """Create a directory that only this user can read."""
    # The mode does not apply to parents, of which the first may be the lake.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


def _lock(file: IO[str], root: Path) -> None:
    try:
        # Released by the kernel when the process dies, so a kill leaves no stale lock.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LakeError(
            f"{root}: in use by another receiver: stop it, or set webhooks.spool to another path"
        ) from None


def _is_delivery(name: str) -> bool:
    return name.endswith(_SUFFIX) and not name.startswith(".")


def _cost(path: Path) -> int:
    """Return the bytes that a file counts towards the limit; 0 if it is gone."""
    try:
        return path.stat().st_size + _OVERHEAD
    except FileNotFoundError:
        return 0


def configured_spool(chosen: Settings, lake: Lake) -> Spool:
    """Return the spool that the settings name, without creating it."""
    listen = chosen.webhooks
    next_to_keys = chosen.integrity.folder.expanduser() / "spool"
    root = listen.spool or (lake.local / "spool" if lake.local else next_to_keys)
    return Spool(
        root.absolute(),
        limit=listen.spool_megabytes * 2**20,
        spare=listen.spare_megabytes * 2**20,
    )
