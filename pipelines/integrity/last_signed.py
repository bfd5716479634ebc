"""The last signed head of each log, stored outside the lake to detect rollbacks.

A head is stored after its checkpoint is published, so it never names more rows than the lake's
checkpoint. A kill or a power cut may lose the newest entry; the next round takes it from the lake.
"""

from __future__ import annotations

import fcntl
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines import disk
from pipelines.integrity.note import Head
from pipelines.lake.tables import Lake
from pipelines.settings import IntegritySettings

_MAX_BYTES = 64 * 1024


def folder(lake: Lake, settings: IntegritySettings) -> Path:
    """Return the local state directory of this lake; it need not exist."""
    return settings.folder.expanduser() / "lakes" / lake.digest


def recall(place: Path, table: str) -> Head | None:
    """Return the last head signed for `table`, or None if none is stored."""
    path = _path(place, table)
    for line in reversed(path.read_bytes().splitlines() if path.exists() else ()):
        with suppress(ValueError, KeyError):  # a power cut may leave half a line
            held = json.loads(line)
            return Head(origin=held["origin"], size=held["size"], root=b64decode(held["root"]))
    return None


def remember(place: Path, table: str, head: Head) -> None:
    path = _path(place, table)
    held = {"origin": head.origin, "size": head.size, "root": b64encode(head.root).decode()}
    line = b"%s\n" % json.dumps(held).encode()
    if path.exists() and path.stat().st_size > _MAX_BYTES:
        # Only the last line counts, so a long file is cut to it.
        disk.write_atomically(path, line, durable=False, mode=disk.READABLE)
        return
    add_line(path, line)


def add_line(path: Path, line: bytes) -> None:
    """Append `line`, after a newline if a power cut left an unfinished line before it."""
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        whole = file.read() in (b"", b"\n")
        file.write(line if whole else b"\n" + line)


def forget(place: Path, table: str) -> None:
    _path(place, table).unlink(missing_ok=True)


@contextmanager
def alone(place: Path, table: str) -> Iterator[None]:
    """Hold the lock that allows one process at a time to sign `table`."""
    path = _path(place, table).with_suffix(".lock")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _path(place: Path, table: str) -> Path:
    return place / "signed" / f"{table.replace('/', '.')}.ndjson"
