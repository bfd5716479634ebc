"""Files that are whole after a kill or a power loss, and folders that no other user can enter."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

READABLE = 0o666
"""The mode of files that others may read, as `open` creates them: the umask still applies."""
DRAFT = ".draft"
"""How the names of unfinished files end; they start with a dot."""
_flushed: set[tuple[Path, int]] = set()
"""Folders, with their inode numbers, whose names are on disk."""


class ForeignOwner(PermissionError):
    """Another user owns a file or folder that has to be ours."""


def check_owner(path: Path) -> None:
    """Raise ForeignOwner unless this user or root owns a path, and the link to it if it is one."""
    for found in (path.lstat(), path.stat()):
        if found.st_uid not in (os.geteuid(), 0):
            raise ForeignOwner(errno.EACCES, "belongs to another user", str(path))


def private_folder(path: Path) -> Path:
    """Create a directory that only this user can enter, if it is missing, and return it.

    Raises ForeignOwner, as for one that somebody created first in a folder open to all.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_owner(path)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)
    return path


def open_own(path: Path) -> TextIO:
    """Open a file for reading and writing, and create it if it is missing; never follow a link."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "r+", encoding="utf-8")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading. Raises OSError for anything that is not a file; never waits."""
    _check_kind(path, path.stat())
    # Opening a FIFO that took the file's place meanwhile would block without it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        _check_kind(path, os.fstat(descriptor))
        yield file


def _check_kind(path: Path, found: os.stat_result) -> None:
    if kind := odd_kind(found.st_mode):
        code = errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL
        raise OSError(code, f"{kind}, not a file", str(path))


def odd_kind(mode: int) -> str | None:
    """Return what something that is no file is, by its mode; None for a file."""
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return None if stat.S_ISREG(mode) else kinds.get(stat.S_IFMT(mode), "a device")


def sync(path: Path) -> None:
    """Flush a file, or the entries of a directory, to disk so that they survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_above(folder: Path) -> None:
    """Flush the entries of a folder, and of those it is in, once per process.

    Without them, a power loss may take away a new folder with all the flushed files in it.
    """
    made = []
    for each in (folder.absolute(), *folder.absolute().parents):
        found = (each, each.stat().st_ino)
        if found in _flushed or os.path.ismount(each):
            break
        with suppress(PermissionError):  # a folder of others, from before ours was made in it
            sync(each.parent)
        made.append(found)
    _flushed.update(made)


def write_atomically(
    path: Path,
    data: bytes | Iterable[bytes],
    *,
    durable: bool = True,
    mode: int = 0o600,
    overwrite: bool = True,
) -> None:
    """Write a file in full or not at all; until then, `path` keeps its old content.

    If `durable`, the file survives a power loss once this returns. Concurrent writers do not mix
    their contents. Raises FileExistsError for an existing file unless `overwrite`.
    """
    draft = path.with_name(f".{secrets.token_hex(8)}{DRAFT}")
    # O_EXCL also refuses a symlink that somebody placed there.
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            if durable:
                os.fsync(descriptor)
        if overwrite:
            draft.replace(path)
        else:
            os.link(draft, path)  # fails if another process was first, unlike a rename
    finally:
        draft.unlink(missing_ok=True)
    if durable:
        sync(path.parent)
        sync_above(path.parent)
