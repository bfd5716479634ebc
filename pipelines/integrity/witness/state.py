"""The state of a witness: the newest checkpoint it has cosigned of each log, on disk.

Losing it is as bad as losing the key: the witness would cosign a second view of each log.
"""

from __future__ import annotations

import fcntl
import re
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TextIO

from pipelines import disk
from pipelines.errors import ConfigurationError

_TEXT = re.compile(
    "([^\n]+)\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)\n((?:[^\n]+\n)*)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The size and the root of a log."""

    origin: str
    size: int
    root: bytes


def tree_in(text: str) -> Tree | None:
    """Return the tree in the text of a checkpoint, which may have further lines, or None."""
    found = _TEXT.fullmatch(text)
    if not found:
        return None
    return Tree(origin=found[1], size=int(found[2]), root=b64decode(found[3]))


class State:
    """The cosigned checkpoints in a folder; a file named by the hash of the origin for each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._trees = {tree.origin: tree for tree in map(_read, _files(folder))}

    def newest(self, origin: str) -> Tree | None:
        """Return the newest cosigned tree of a log, or None if none was ever cosigned."""
        return self._trees.get(origin)

    def origins(self) -> list[str]:
        return sorted(self._trees)

    def keep(self, tree: Tree, note: bytes) -> None:
        """Store a cosigned checkpoint; it survives a power loss once this returns."""
        disk.write_atomically(self._folder / name_of(tree.origin), note)
        self._trees[tree.origin] = tree

    def note(self, name: str) -> bytes | None:
        """Return the newest cosigned checkpoint of the log with this hash, or None."""
        known = re.fullmatch("[0-9a-f]{64}", name) and (self._folder / name).is_file()
        return (self._folder / name).read_bytes() if known else None


@contextmanager
def opened(folder: Path) -> Iterator[State]:
    """Open a folder for one process. Raises ConfigurationError if it cannot be used."""
    with _locked(folder):
        yield State(folder)


def _locked(folder: Path) -> TextIO:
    """Return the open lock of a folder, which is made if it is missing."""
    try:
        lock = disk.open_own(disk.private_folder(folder) / ".lock")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigurationError(
            f"{folder}: another witness uses this state: one process only may"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{folder}: {error.strerror}: use a folder of this user for the state"
        ) from None
    return lock


def name_of(origin: str) -> str:
    return sha256(origin.encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name[0] != ".")


def _read(path: Path) -> Tree:
    """Return the tree in a file. Raises ConfigurationError if it is not one of a state."""
    text = path.read_text(encoding="utf-8", errors="replace").rpartition("\n\n")[0] + "\n"
    tree = tree_in(text)
    if tree is None or name_of(tree.origin) != path.name:
        raise ConfigurationError(
            f"{path}: damaged, or not part of a witness's state: restore it from a backup; "
            "without it, this witness could cosign a second view of the log"
        )
    return tree
