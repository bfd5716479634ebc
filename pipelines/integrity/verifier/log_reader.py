"""Reads the files of a signed log, on disk or in an object store; never writes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import disk
from pipelines.errors import LakeError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

WIDTH = 256
HASH = 32

# Options of the HTTP client, and of delta-rs alone, in names without "aws_" and the like.
_CLIENT = frozenset(
    {
        *("allow_http", "default_content_type", "user_agent", "randomize_addresses"),
        *("connect_timeout", "read_timeout", "timeout", "http1_only", "http2_only"),
        *("http2_keep_alive_interval", "http2_keep_alive_timeout", "http2_keep_alive_while_idle"),
        *("pool_idle_timeout", "pool_max_idle_per_host", "root_certificate"),
        *("proxy_url", "proxy_ca_certificate", "proxy_excludes"),
    }
)
_DELTA = (
    *("max_retries", "retry_timeout", "backoff_config", "s3_locking_provider"),
    *("s3_allow_unsafe_rename", "allow_unsafe_rename", "mount_allow_unsafe_rename"),
    *("dynamo", "delta_dynamo", "object_store_", "delta_log_", "endpoint_url_dynamodb"),
)
MOST = 64 * 2**20
"""The most bytes of a file that are read; only the history of checkpoints may be larger."""
_MOST_OF_DELTA = 2**30
_TOO_LARGE = "larger than any such file"
_FILE_NAME = re.compile(r".+\.(parquet|json|crc)|checkpoint|_last_checkpoint|\d{4}-\d\d|\d{3}")
_LIBRARIES = ("obstore", "pyo3_runtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFiles:
    """A folder on disk, or a prefix of an object store."""

    root: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    acts: dict[bytes, list[bytes]] | None = field(default=None, repr=False)
    """The entries that this run has read and verified, by the checkpoint of their log."""

    def below(self, path: str) -> LogFiles:
        return LogFiles(root=f"{self.root.rstrip('/')}/{path}", options=self.options)

    def read(self, path: str) -> bytes | None:
        """Return the content of a file, or None if it does not exist.

        Raises LakeError, as for one that is larger than any file of a signed log.
        """
        found = self._end(path, MOST + 1)
        if found is not None and len(found) > MOST:
            raise LakeError(f"{path}: {_TOO_LARGE}")
        return found

    def tail(self, path: str) -> bytes:
        """Return the end of a file, at most 64 MiB; nothing if it does not exist."""
        return self._end(path, MOST) or b""

    def _end(self, path: str, most: int) -> bytes | None:
        """Return the last bytes of a file, or None if it does not exist. Raises LakeError."""
        try:
            if self._remote:
                return self._object(path, most)
            with disk.opened(Path(self.root) / path) as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - most))
                return file.read(most)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise LakeError(f"{path}: {error.strerror}") from error

    def whole(self, path: str, most: int) -> bytes | None:
        """Return the content of an object; None if it does not exist or has more bytes."""
        import obstore  # noqa: PLC0415

        with _store_errors(self.root):
            try:
                found = obstore.get(self._store(), path)
                return bytes(found.bytes()) if found.meta["size"] <= most else None
            except FileNotFoundError:
                return None

    def size(self, path: str) -> int:
        """Return the number of bytes in all files below `path`."""
        if not self._remote:
            return sum(each.stat().st_size for each in _walk(Path(self.root) / path))
        import obstore  # noqa: PLC0415

        with _store_errors(self.root):
            pages = obstore.list(self._store(), path)
            return sum(meta["size"] for page in pages for meta in page)

    def obstacle(self, path: str) -> str | None:
        """Return which file below `path` can't be read as one, and why; None if all can be.

        Readers of Delta tables would wait for a FIFO for ever. An object store has only objects.
        """
        if self._remote:
            return None
        root = Path(self.root)
        try:
            for each in _walk(root / path):
                name = each.relative_to(root).as_posix()
                with suppress(FileNotFoundError):  # a writer has just deleted it
                    if reason := _oddness(each, name):
                        return f"{name}: {reason}"
        except OSError as error:
            return f"{Path(error.filename).relative_to(root)}: {error.strerror}"
        return None

    def files(self, path: str = "") -> list[str]:
        """Return all files below `path`, recursively, sorted, relative to this folder."""
        if not self._remote:
            found = (Path(self.root) / path).rglob("*")
            names = (file.relative_to(self.root).as_posix() for file in found if file.is_file())
            return sorted(name for name in names if "/." not in f"/{name}")
        import obstore  # noqa: PLC0415 only where it is an object store

        with _store_errors(self.root):
            pages = obstore.list(self._store(), path or None)
            return sorted(meta["path"] for page in pages for meta in page)

    def pairs(self, path: str = "") -> list[str]:
        """Return the folders two levels below `path`, such as okta/system_log."""
        found = (
            (one, two) for one in self._folders(path) for two in self._folders(f"{path}/{one}")
        )
        return sorted("/".join(pair) for pair in found)

    def _folders(self, path: str) -> list[str]:
        """Return the names of the folders directly below `path`."""
        if not self._remote:
            found = (Path(self.root) / path.strip("/")).glob("*/")
            return [folder.name for folder in found if folder.is_dir() and folder.name[0] != "."]
        import obstore  # noqa: PLC0415

        with _store_errors(self.root):
            below = obstore.list_with_delimiter(self._store(), path.strip("/") or None)
        return [folder.rstrip("/").rpartition("/")[2] for folder in below["common_prefixes"]]

    def _object(self, path: str, most: int) -> bytes | None:
        import obstore  # noqa: PLC0415

        with _store_errors(self.root):
            try:
                found = obstore.get(self._store(), path)
                if (size := found.meta["size"]) <= most:
                    return bytes(found.bytes())
                return bytes(obstore.get_range(self._store(), path, start=size - most, end=size))
            except FileNotFoundError:
                return None

    @property
    def _remote(self) -> bool:
        return "://" in self.root

    def _store(self) -> ObjectStore:
        return _opened(self.root, tuple(sorted(self.options.items())))


@lru_cache(maxsize=64)
def _opened(root: str, options: tuple[tuple[str, str], ...]) -> ObjectStore:
    from obstore.store import LocalStore, from_url  # noqa: PLC0415

    if root.startswith("file://"):
        return LocalStore(root.removeprefix("file://"), mkdir=True)
    config: dict[str, str] = {}
    client: Any = {}
    retry: Any = {}
    for key, text in options:
        name = re.sub("^(aws|azure|google)_", "", key.lower())
        if name in _CLIENT:
            client[name] = text
        elif name == "max_retries" and text.isdecimal():
            retry[name] = int(text)
        elif not name.startswith(_DELTA):
            config[key] = text
    settings: Any = config
    return from_url(root, config=settings, client_options=client, retry_config=retry)


@contextmanager
def _store_errors(root: str) -> Iterator[None]:
    """Raise LakeError, in one line, for an error or a panic of obstore."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, LakeError) or not type(error).__module__.startswith(_LIBRARIES):
            raise
        message = " ".join(str(error).partition("\n\nDebug source")[0].split())[:300]
        advice = "check lake.root and lake.storage_options, or those of the anchor"
        raise LakeError(f"{root}: {message}: {advice}, then run it again") from error


def _walk(folder: Path) -> Iterator[Path]:
    """Yield all that is no folder below `folder`, and folders with the name of a file."""
    for parent, folders, names in os.walk(folder):
        yield from (Path(parent) / name for name in names)
        partial = parent.endswith(".p")  # tiles/000.p has files such as 17
        for name in folders:
            if partial or _FILE_NAME.fullmatch(name):
                yield Path(parent) / name


def _oddness(path: Path, name: str) -> str | None:
    found = path.stat()
    if kind := disk.odd_kind(found.st_mode):
        return f"{kind}, not a file"
    if "/history/" in name or (name.endswith(".parquet") and "/_delta_log/" not in name):
        return None
    limit = _MOST_OF_DELTA if "/_delta_log/" in name else MOST
    return _TOO_LARGE if found.st_size > limit else None


def tile(shelf: LogFiles, level: int | str, index: int, width: int) -> bytes:
    """Return a tile of at least `width` hashes, or b"" if there is none.

    Its path is defined by https://c2sp.org/tlog-tiles.
    """
    groups = f"{index:,}".split(",")
    name = "/".join([*(f"x{group:0>3}" for group in groups[:-1]), f"{groups[-1]:0>3}"])
    full = f"tile/{level}/{name}"
    if width < WIDTH and (found := shelf.read(f"{full}.p/{width}")) is not None:
        return found
    return shelf.read(full) or b""  # the log may have grown: full tiles replace partial ones


def leaf_tiles(shelf: LogFiles, size: int) -> Iterator[bytes]:
    """Yield the leaf hashes in the tiles, 256 at a time; fewer where a tile is damaged."""
    for index in range(-(-size // WIDTH)):
        width = min(WIDTH, size - index * WIDTH)
        yield tile(shelf, 0, index, width)[: width * HASH]


def bundle(shelf: LogFiles, size: int, index: int) -> list[bytes]:
    """Return the entries of a bundle; empty if it was removed."""
    data = tile(shelf, "entries", index, min(WIDTH, size - index * WIDTH))
    found, at = [], 0
    while at + 2 <= len(data):  # each entry follows its length in two bytes
        until = at + 2 + int.from_bytes(data[at : at + 2])
        found.append(data[at + 2 : until])
        at = until
    return found
