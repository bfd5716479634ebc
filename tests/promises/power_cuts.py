"""Records what a run leaves unsynced at each fsync, and builds the disks a power cut may leave.

The kernel promises no more than fsync(2): a file's content is on disk once the file was flushed, a
name once its folder was. Until then each is there or not, independent of all others, and content
may be there in part. delta-rs writes outside of Python, so the folder is listed before each fsync
instead of intercepting writes; this misses only files that were gone again, whose loss is harmless.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from random import Random
from typing import NamedTuple

Folder = dict[str, tuple[int | None, ...]]
"""Names and the inodes that each may have on disk, oldest first; None: the name is missing."""


_SECTOR = 512
"""Bytes that a disk writes as a whole."""


class Content(NamedTuple):
    """The content of a file: as it was flushed, and as it was written since."""

    flushed: bytes
    written: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The state of the disk when the power may fail, with all that is uncertain about it."""

    about: str
    root: int
    folders: dict[int, Folder]
    files: dict[int, Content]
    acknowledged: object
    is_acknowledgement: bool


Choose = Callable[[str, list[bytes] | list[int | None]], int]
"""("name" or "content", the possibilities, oldest first) -> the index of the one on disk."""


class Recorder:
    """Watches a folder; `moments` has its state before each fsync and at each acknowledgement."""

    def __init__(self, folder: Path, acknowledged: object) -> None:
        self.folder = folder
        self.moments: list[Moment] = []
        self._acknowledged = acknowledged
        self._folders: dict[int, Folder] = {}
        self._files: dict[int, Content] = {}
        self._seen: dict[int, tuple[int, int]] = {}
        self._held: dict[int, int] = {}
        self._lock = threading.Lock()
        self._list(folder)
        for inode in [*self._folders, *self._files]:
            self._flushed(inode)

    def acknowledge(self, about: str, what: object) -> None:
        """Record that `what`, all acknowledged so far, has to survive from now on."""
        with self._lock:
            self._acknowledged = what
            self._moment(about, is_acknowledgement=True)

    @contextmanager
    def recording(self, without: Callable[[Path], bool] = lambda _: False) -> Iterator[None]:
        """Record each fsync of this process, but for those of paths that are `without` one."""
        real = os.fsync

        def fsync(descriptor: int) -> None:
            with self._lock:
                found = Path(f"/proc/self/fd/{descriptor}").readlink()
                if found.is_relative_to(self.folder) and not without(found):
                    self._moment(f"before fsync {found.relative_to(self.folder)}")
                    self._flushed(os.fstat(descriptor).st_ino)
                real(descriptor)

        os.fsync = fsync
        try:
            yield
        finally:
            os.fsync = real
            for descriptor in self._held.values():
                os.close(descriptor)

    def _moment(self, about: str, *, is_acknowledgement: bool = False) -> None:
        self._list(self.folder)
        moment = Moment(
            about=about,
            root=self.folder.stat().st_ino,
            folders={inode: dict(names) for inode, names in self._folders.items()},
            files=dict(self._files),
            acknowledged=self._acknowledged,
            is_acknowledgement=is_acknowledgement,
        )
        self.moments.append(moment)

    def _list(self, folder: Path) -> None:
        """Add what changed in a folder since it was last listed."""
        known = self._folders.setdefault(folder.stat().st_ino, {})
        present: dict[str, int] = {}
        for entry in os.scandir(folder):
            found = entry.stat(follow_symlinks=False)
            self._hold(Path(entry), found.st_ino)
            present[entry.name] = found.st_ino
            if stat.S_ISDIR(found.st_mode):
                self._list(Path(entry))
            elif self._seen.get(found.st_ino) != (found.st_mtime_ns, found.st_size):
                self._seen[found.st_ino] = (found.st_mtime_ns, found.st_size)
                before = self._files.get(found.st_ino, Content(b"", b""))
                self._files[found.st_ino] = before._replace(written=Path(entry).read_bytes())
        for name in {*known, *present}:
            versions = known.get(name, (None,))
            if versions[-1] != present.get(name):
                known[name] = (*versions, present.get(name))

    def _hold(self, path: Path, inode: int) -> None:
        # An open file keeps its inode number, so that no later file can be taken for it.
        if inode not in self._held:
            self._held[inode] = os.open(path, os.O_RDONLY)

    def _flushed(self, inode: int) -> None:
        if inode in self._folders:
            now = {name: each[-1:] for name, each in self._folders[inode].items()}
            self._folders[inode] = {name: each for name, each in now.items() if each != (None,)}
        elif inode in self._files:
            self._files[inode] = Content(*[self._files[inode].written] * 2)


@dataclass(slots=True)
class Disk:
    """The files and folders after a power cut, by path."""

    moment: Moment
    how: str
    files: dict[str, bytes] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)

    @property
    def digest(self) -> bytes:
        parts = [
            *self.folders,
            *(f"{p}={hashlib.sha256(b).hexdigest()}" for p, b in self.files.items()),
        ]
        return hashlib.sha256("\n".join(sorted(parts)).encode()).digest()

    def write(self, target: Path) -> None:
        target.mkdir(parents=True)
        for folder in self.folders:
            (target / folder).mkdir(mode=0o700)
        for path, content in self.files.items():
            (target / path).write_bytes(content)
            (target / path).chmod(0o600)


def after_cut(moment: Moment, how: str, choose: Choose) -> Disk:
    """Return the disk on which `choose` decides about everything that is not flushed."""
    disk, contents = Disk(moment, how), dict[int, bytes]()

    def add(inode: int, path: str) -> None:
        for name, versions in sorted(moment.folders[inode].items()):
            chosen = versions[choose("name", list(versions))]
            below = f"{path}{name}"
            if chosen in moment.folders:
                disk.folders.append(below)
                add(chosen, f"{below}/")
            elif chosen is not None:
                if chosen not in contents:
                    possible = _contents(moment.files[chosen])
                    contents[chosen] = possible[choose("content", possible)]
                disk.files[below] = contents[chosen]

    add(moment.root, "")
    return disk


def _contents(content: Content) -> list[bytes]:
    """Return what a file may contain: as flushed, in part, with a hole of zeros, as written."""
    flushed, written = content
    if flushed == written:
        return [written]
    kept = len(flushed) if written.startswith(flushed) else 0
    half = max(kept, len(written) // 2)
    part = -(-half // _SECTOR) * _SECTOR
    part = part if part < len(written) else kept
    return [flushed, written[:part], written[:part] + bytes(len(written) - part), written]


def _oldest(_kind: str, _possible: object) -> int:
    return 0


def _newest(_kind: str, possible: list[bytes] | list[int | None]) -> int:
    return len(possible) - 1


def _names_only(kind: str, possible: list[bytes] | list[int | None]) -> int:
    return 0 if kind == "content" else len(possible) - 1


def _halves(kind: str, possible: list[bytes] | list[int | None]) -> int:
    return min(1, len(possible) - 1) if kind == "content" else len(possible) - 1


def _holes(kind: str, possible: list[bytes] | list[int | None]) -> int:
    return min(2, len(possible) - 1) if kind == "content" else len(possible) - 1


EXTREMES: dict[str, Choose] = {
    "nothing unflushed is there": _oldest,
    "everything is there": _newest,
    "new names are there, content is not": _names_only,
    "new content is there in part": _halves,
    "new content has holes": _holes,
}


def disks(moments: list[Moment], mixed: int, rng: Random) -> Iterator[Disk]:
    """Yield each different disk that a cut may leave, with `mixed` random ones per moment.

    Those that lose all they may at an acknowledgement come first, then all others in random order.
    """
    lost = "nothing unflushed is there"
    first = [after_cut(m, lost, _oldest) for m in moments if m.is_acknowledgement]
    others = [(m, how, choose) for m in moments for how, choose in EXTREMES.items()]
    for moment in moments:
        for _ in range(mixed):
            own = Random(rng.random())
            others.append((moment, "mixed", lambda _, each, own=own: own.randrange(len(each))))
    rng.shuffle(others)
    seen = set()
    for disk in chain(first, (after_cut(*parts) for parts in others)):
        if disk.digest not in seen:
            seen.add(disk.digest)
            yield disk
