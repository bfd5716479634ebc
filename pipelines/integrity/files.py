"""Folders of small files, on disk or in an object store, for the signed logs."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from pipelines import disk
from pipelines.errors import LakeError
from pipelines.integrity import last_signed
from pipelines.lake import object_store
from pipelines.lake.tables import Lake

if TYPE_CHECKING:
    from obstore import UpdateVersion
    from obstore.store import ObjectStore


class Folder(Protocol):
    """A folder; paths in it are relative and use slashes."""

    def get(self, path: str) -> bytes | None: ...
    def put(self, path: str, data: bytes) -> None:
        """Write a file atomically, replacing an existing one."""

    def swap(self, path: str, data: bytes, seen: bytes | None) -> bool:
        """Write a file only if it still is as `seen` (None: absent); return whether it was."""

    def put_once(self, path: str, data: bytes) -> None:
        """Write a file that never changes and that nothing refers to before this returns."""

    def add(self, path: str, line: bytes) -> None:
        """Append a line that `lines` will return for this path."""

    def lines(self, path: str) -> Iterator[bytes]: ...
    def names(self, path: str) -> list[str]:
        """Return the names directly below `path`, sorted."""

    def delete(self, paths: Iterable[str]) -> None: ...
    def flush(self) -> None:
        """Return once everything written so far survives a power loss."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A local folder. Unless `durable`, nothing is fsynced: the rows are enough to rebuild it."""

    root: Path
    durable: bool = False

    def get(self, path: str) -> bytes | None:
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            disk.opened(self.root / path) as file,
        ):
            return file.read()
        return None

    def put(self, path: str, data: bytes) -> None:
        final = self.root / path
        with _explain_errors(final):
            _write(final, data, partial(_replace, durable=self.durable))

    def swap(self, path: str, data: bytes, seen: bytes | None) -> bool:
        lock = self.root / ".checkpoint.lock"
        with _explain_errors(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            with lock.open("w") as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                if self.get(path) != seen:
                    return False
                self.put(path, data)
                return True

    def put_once(self, path: str, data: bytes) -> None:
        final = self.root / path
        if final.exists() and final.read_bytes() == data:
            return  # rewriting it in place could truncate it if killed
        with _explain_errors(final):
            _write(
                final, data, partial(_replace, durable=True) if self.durable else Path.write_bytes
            )

    def add(self, path: str, line: bytes) -> None:
        with _explain_errors(self.root / path):
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            last_signed.add_line(self.root / path, line)

    def lines(self, path: str) -> Iterator[bytes]:
        yield from (self.get(path) or b"").splitlines()

    def names(self, path: str) -> list[str]:
        with suppress(FileNotFoundError, NotADirectoryError):
            return sorted(p.name for p in (self.root / path).iterdir() if p.name[0] != ".")
        return []

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            with _explain_errors(self.root / path):
                (self.root / path).unlink(missing_ok=True)

    def flush(self) -> None:
        os.sync()  # a log may have thousands of tiles, most of which are on disk already


@dataclass(frozen=True, slots=True)
class Bucket:
    """A prefix of an object store; each appended line is a separate object."""

    store: ObjectStore
    url: str
    _read: dict[str, tuple[bytes, UpdateVersion]] = field(default_factory=dict, compare=False)
    """The last content of each object of this folder that was read, and its version."""

    def get(self, path: str) -> bytes | None:
        with object_store.errors(self.url):
            try:
                content, version = self._held(path)
            except FileNotFoundError:
                return None
        if "/" not in path:  # such as the checkpoint, which may be swapped next
            self._read[path] = content, version
        return content

    def _held(self, path: str) -> tuple[bytes, UpdateVersion]:
        import obstore  # noqa: PLC0415 only where the lake is in an object store

        found = obstore.get(self.store, path)
        tags = {key: tag for key in ("e_tag", "version") if (tag := found.meta[key])}
        return bytes(found.bytes()), cast("UpdateVersion", tags)

    def put(self, path: str, data: bytes) -> None:
        import obstore  # noqa: PLC0415

        with object_store.errors(self.url):
            obstore.put(self.store, path, data)

    def swap(self, path: str, data: bytes, seen: bytes | None) -> bool:
        from obstore import exceptions as errors  # noqa: PLC0415

        with object_store.errors(self.url):
            try:
                return self._swapped(path, data, seen)
            except NotImplementedError:  # a local store has no conditional update
                self.put(path, data)
            except (errors.AlreadyExistsError, errors.PreconditionError, FileNotFoundError):
                return False
        return True

    def _swapped(self, path: str, data: bytes, seen: bytes | None) -> bool:
        import obstore  # noqa: PLC0415

        if seen is None:
            obstore.put(self.store, path, data, mode="create")
            return True
        known = self._read.get(path)
        content, version = known if known and known[0] == seen else self._held(path)
        if content != seen:
            return False
        obstore.put(self.store, path, data, mode=version)
        return True

    def put_once(self, path: str, data: bytes) -> None:
        self.put(path, data)

    def add(self, path: str, line: bytes) -> None:
        # Object stores cannot append; zero-padded nanoseconds sort in the order of writing.
        self.put(f"{path}/{time.time_ns():020}", line)

    def lines(self, path: str) -> Iterator[bytes]:
        for name in self.names(path):
            yield (self.get(f"{path}/{name}") or b"").strip()

    def names(self, path: str) -> list[str]:
        import obstore  # noqa: PLC0415

        with object_store.errors(self.url):
            found = obstore.list_with_delimiter(self.store, path)
        below = [*found["common_prefixes"], *(meta["path"] for meta in found["objects"])]
        return sorted(name.rstrip("/").rpartition("/")[2] for name in below)

    def delete(self, paths: Iterable[str]) -> None:
        import obstore  # noqa: PLC0415

        # A local store raises an error if the object is missing.
        if found := [path for path in paths if self.get(path) is not None]:
            with object_store.errors(self.url):
                obstore.delete(self.store, found)

    def flush(self) -> None:
        """Do nothing: an object is durable once it is written."""


def of(lake: Lake, path: str, *, durable: bool = False) -> Folder:
    """Return the folder `path` of the lake, on disk or in its object store.

    If `durable`, files on a disk survive a power loss once they are written.
    """
    if lake.local is not None:
        return Disk(lake.local / path, durable)
    return bucket(f"{lake.root.rstrip('/')}/{path}", lake.storage_options or {})


def bucket(url: str, options: Mapping[str, str]) -> Bucket:
    """Return the object store at `url`. Raises ConfigurationError and LakeError."""
    return Bucket(object_store.opened(url, options), url)


_replace = partial(disk.write_atomically, mode=disk.READABLE)


def _write(path: Path, data: bytes, write: Callable[[Path, bytes], object]) -> None:
    try:
        write(path, data)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, data)


@contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LakeError(
            f"{path}: {error.strerror}: free disk space or grant this user write access, then "
            "retry; no stored rows are lost"
        ) from error
