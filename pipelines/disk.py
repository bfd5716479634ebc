"""Files on disk that are whole after a kill and, where asked for, after a power loss."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

READABLE = 0o666
"""The mode of files that others may read, as `open` creates them: the umask still applies."""
DRAFT = ".draft"
"""How the names of unfinished files end; they start with a dot."""


def sync(path: Path) -> None:
    """Flush a file, or the entries of a directory, to disk so that they survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
