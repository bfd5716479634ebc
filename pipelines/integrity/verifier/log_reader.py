"""Reads the files of a signed log, on disk or in an object store; never writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.integrity import object_store

if TYPE_CHECKING:
    from obstore.store import ObjectStore

WIDTH = 256
HASH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFiles:
    """A folder on disk, or a prefix of an object store."""

    root: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def below(self, path: str) -> LogFiles:
        return LogFiles(root=f"{self.root.rstrip('/')}/{path}", options=self.options)

    def read(self, path: str) -> bytes | None:
        """Return the content of a file, or None if it does not exist. Raises LakeError."""
        try:
            return self._object(path) if self._remote else (Path(self.root) / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def files(self, path: str = "") -> list[str]:
        """Return all files below `path`, recursively, sorted, relative to this folder."""
        if not self._remote:
            found = (Path(self.root) / path).rglob("*")
            names = (file.relative_to(self.root).as_posix() for file in found if file.is_file())
            return sorted(name for name in names if "/." not in f"/{name}")
        import obstore  # noqa: PLC0415 only where it is an object store

        with object_store.errors(self.root):
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

        with object_store.errors(self.root):
            below = obstore.list_with_delimiter(self._store(), path.strip("/") or None)
        return [folder.rstrip("/").rpartition("/")[2] for folder in below["common_prefixes"]]

    def _object(self, path: str) -> bytes | None:
        import obstore  # noqa: PLC0415

        with object_store.errors(self.root):
            try:
                return bytes(obstore.get(self._store(), path).bytes())
            except FileNotFoundError:
                return None

    @property
    def _remote(self) -> bool:
        return "://" in self.root

    def _store(self) -> ObjectStore:
        return object_store.opened(self.root, self.options)


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
