"""Leases: work that only one machine does at a time on a lake in an object store.

A lease is an object that its holder renews by compare-and-swap. Another machine takes it over once
the object has not changed for a whole term by its own monotonic clock, so the clocks of machines
are never compared. The processes of a machine that share a state folder hold it together. A lease
saves requests and throttling only: the fence of each commit keeps two holders from losing or
doubling a row. A lake on a local disk needs none.
"""

from __future__ import annotations

import fcntl
import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from pipelines import disk
from pipelines.errors import AuditlakeError, LakeError
from pipelines.lake import object_store
from pipelines.lake.tables import Lake
from pipelines.settings import folders

TERM = 120.0
"""Seconds without a renewal after which others may take a lease over."""
_RACES = 20
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class _Seen(NamedTuple):
    """A lease as this machine last saw it change."""

    tag: str
    holder: str
    since: float
    """By the monotonic clock, which counts from the boot."""
    boot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The lease `name` of a lake, for the machine with the state folder `folder`.

    Without a state folder, or in a lake on a local disk, every claim succeeds.
    """

    lake: Lake
    name: str
    folder: Path | None
    term: float = TERM
    clock: Callable[[], float] = time.monotonic

    def claim(self) -> bool:
        """Take or renew the lease; return False while another machine holds it.

        Sends no request if this machine renewed it within a quarter of the term. Raises LakeError.
        """
        if self.lake.local is not None or self.folder is None:
            return True
        with _locked(self.folder / "leases") as place:
            path, machine = place / self._file, _machine(place)
            for _ in range(_RACES):
                if (held := self._claim(path, machine)) is not None:
                    return held
        raise LakeError(f"{self._key}: other machines kept changing it: run it again")

    def release(self) -> None:
        """Let others take the lease at once, if this machine holds it. Raises LakeError."""
        if self.lake.local is not None or self.folder is None:
            return
        with _locked(self.folder / "leases") as place:
            seen = _load(place / self._file)
            if seen is not None and seen.holder == _machine(place):
                self._swap("", seen.tag)
            (place / self._file).unlink(missing_ok=True)

    @contextmanager
    def kept(self) -> Iterator[bool]:
        """Claim the lease, yield whether this machine has it, and renew it until the end."""
        held, done = self.claim(), threading.Event()
        renewing = threading.Thread(target=self._renew, args=(done,), daemon=True)
        if held and self.lake.local is None:
            renewing.start()
        try:
            yield held
        finally:
            done.set()

    def _renew(self, done: threading.Event) -> None:
        while not done.wait(self.term / 3):
            with suppress(AuditlakeError):  # the store may be back at the next renewal
                self.claim()

    def _claim(self, path: Path, machine: str) -> bool | None:
        """Return whether this machine has the lease; None if it changed between two requests."""
        seen, now = _load(path), self.clock()
        quiet = now - seen.since if seen else 0.0
        if seen and seen.holder == machine and 0 <= quiet < self.term / 4:
            return True
        content, tag = object_store.get(self.lake.root, self._options, self._key)
        holder = content.decode(errors="replace").partition(" ")[0][:64]
        unchanged = seen is not None and seen.tag == tag and quiet >= self.term
        if holder not in (machine, "") and not unchanged:
            if seen is None or seen.tag != tag or quiet < 0:
                _save(path, tag or "", holder, now)
            return False
        renewed = self._swap(machine, tag)
        if renewed is None:
            return None
        _save(path, renewed, machine, now)
        return True

    def _swap(self, holder: str, tag: str | None) -> str | None:
        # The second word differs each time, since an e-tag may be a hash of the content.
        content = f"{holder} {secrets.token_hex(8)}".encode()
        return object_store.swap(self.lake.root, self._options, self._key, content, tag)

    @property
    def _options(self) -> dict[str, str]:
        return self.lake.storage_options or {}

    @property
    def _key(self) -> str:
        return f"leases/{self.name}"

    @property
    def _file(self) -> str:
        return hashlib.sha256(f"{self.lake.root} {self.name}".encode()).hexdigest()[:16]


def of(lake: Lake, name: str) -> Lease:
    return Lease(lake=lake, name=name, folder=folders.shared_folder())


@contextmanager
def _locked(place: Path) -> Iterator[Path]:
    """Create and lock the folder of what this machine knows about leases."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with disk.open_own(place / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield place


def _machine(place: Path) -> str:
    """Return the random name of this machine; the folder is locked."""
    path = place / "machine"
    if not path.exists():
        disk.write_atomically(path, secrets.token_hex(8).encode())
    return path.read_text(encoding="utf-8")


def _load(path: Path) -> _Seen | None:
    with suppress(OSError, msgspec.MsgspecError):
        seen = msgspec.json.decode(path.read_bytes(), type=_Seen)
        if seen.boot == _boot():
            return seen
    return None


def _save(path: Path, tag: str, holder: str, since: float) -> None:
    seen = _Seen(tag, holder, since, _boot())
    disk.write_atomically(path, msgspec.json.encode(seen), durable=False)


def _boot() -> str:
    """Return the id of this boot; "" where the system has none."""
    with suppress(OSError):
        return _BOOT.read_text(encoding="ascii").strip()
    return ""
