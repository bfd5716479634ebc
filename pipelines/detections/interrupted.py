"""What interrupted backtests have evaluated, in the state folder of this user.

A part is a stream on a day. Its file is named by all that its result depends on, so that a file
that exists is right, also for a backtest of another span. Files quote events: they are removed
when a backtest ends, or a week later.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec
import polars as pl

from pipelines import disk
from pipelines.clock import utc_now
from pipelines.detections import evaluate
from pipelines.detections.evaluate import Found
from pipelines.lake.tables import Lake
from pipelines.settings import folders

_KEPT = timedelta(days=7)
_ENDING = ".part"


class _File(msgspec.Struct, array_like=True):
    rows: int
    findings: bytes
    hits: bytes


@dataclass(frozen=True, slots=True)
class Parts:
    """The evaluated parts of one lake; without a folder, nothing is kept."""

    folder: Path | None

    def read(self, name: str) -> tuple[Found, int] | None:
        """Return the result of a part and its number of rows, if it is kept."""
        if self.folder is None:
            return None
        try:
            made = msgspec.msgpack.decode(
                (self.folder / f"{name}{_ENDING}").read_bytes(), type=_File
            )
            empty = evaluate.nothing({})
            findings = _frame(made.findings, empty.findings)
            return Found(findings=findings, hits=_frame(made.hits, empty.hits)), made.rows
        except (OSError, msgspec.MsgspecError, pl.exceptions.PolarsError):
            return None

    def write(self, name: str, found: Found, rows: int) -> None:
        """Keep the result of a part; does nothing if it cannot be written."""
        if self.folder is None:
            return
        made = _File(rows, _bytes(found.findings), _bytes(found.hits))
        with suppress(OSError):
            path = disk.private_folder(self.folder) / f"{name}{_ENDING}"
            disk.write_atomically(path, msgspec.msgpack.encode(made))

    def remove(self, names: Iterable[str]) -> None:
        if self.folder is None:
            return
        for name in names:
            with suppress(OSError):
                (self.folder / f"{name}{_ENDING}").unlink(missing_ok=True)

    def expire(self, age: timedelta = _KEPT) -> None:
        """Remove the files that are older; all with an age of zero."""
        if self.folder is None:
            return
        until = (utc_now() - age).timestamp()
        with suppress(OSError):
            for path in [*self.folder.glob(f"*{_ENDING}")]:
                if not age or path.stat().st_mtime < until:
                    path.unlink(missing_ok=True)


def of(lake: Lake) -> Parts:
    """Return the parts of a lake that this user's backtests have evaluated."""
    shared = folders.shared_folder()
    return Parts(shared / lake.digest / "backtests" if shared else None)


def name(*facts: object) -> str:
    """Return the name of the part that these facts determine."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def digest(frame: pl.DataFrame) -> str:
    """Return a hash of the values of a frame."""
    return hashlib.sha256(_bytes(frame)).hexdigest()


def _bytes(frame: pl.DataFrame) -> bytes:
    if frame.is_empty():
        return b""
    file = io.BytesIO()
    frame.write_ipc(file)
    return file.getvalue()


def _frame(content: bytes, empty: pl.DataFrame) -> pl.DataFrame:
    return pl.read_ipc(io.BytesIO(content)) if content else empty
