"""Copies a lake to a folder while it is written to: tables at one version each, and signed logs.

The order makes the copy a state that the lake could be in after a kill: derived tables and coverage
are copied before the rows, and the rows after their checkpoint. Keys lie outside the lake and are
not copied.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from pipelines import disk
from pipelines.errors import ConfigurationError, LakeError
from pipelines.integrity import keys, merkle, note, removals, signer, tiles
from pipelines.integrity.files import Disk
from pipelines.lake import (
    coverage,
    events,
    findings,
    identity_table,
    maintenance,
    rollup_table,
    tables,
    text_index_table,
)
from pipelines.lake.tables import Lake

MANIFEST = "backup.json"
SIGNED = "integrity"
BEFORE_ROWS = (
    *(identity_table.TABLE, rollup_table.TABLE, text_index_table.TABLE, findings.FINDINGS),
    *(events.TABLE, coverage.TABLE),
)
"""The tables that state something about rows of others: copied, and put back, before these."""
_LOG_FILE = re.compile(r"([0-9]{20})\.(json|checkpoint\..*parquet)")
_TRIES = 5


@dataclass(slots=True, kw_only=True)
class Copied:
    """A backup that was made, and its size."""

    folder: Path
    tables: int = 0
    files: int = 0
    linked: int = 0
    """Those of the files that an earlier backup had already."""


class _Changed(Exception):
    """Rows were removed, or a log was rewritten, while it was copied."""


def backup(lake: Lake, target: Path, now: datetime) -> Copied:
    """Copy the lake to a new folder in `target`, named after the time.

    A file that an earlier backup in `target` has is linked to instead of copied. Raises
    ConfigurationError if one of the two folders cannot be used, and LakeError.
    """
    root = _root(lake)
    _check_target(root, target)
    with _alone(target):
        final, draft = target / f"{now:%Y-%m-%dT%H%M%SZ}", target / ".unfinished"
        if final.exists():
            raise LakeError(f"{final} exists: wait a second, then run it again")
        former = newest(target)
        for _ in range(_TRIES):
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(mode=0o700)
            copied = Copied(folder=final)
            with suppress(FileNotFoundError, _Changed):
                _Copy(root, draft, former, copied).lake(lake)
                _write_manifest(draft, now)
                draft.rename(final)
                disk.sync(target)
                return copied
    raise LakeError("rows were removed each time the lake was copied: run it again later")


def newest(target: Path) -> Path | None:
    """Return the newest complete backup in a folder of backups, or None."""
    found = sorted(path.parent for path in target.glob(f"[0-9]*/{MANIFEST}"))
    return found[-1] if found else None


def _root(lake: Lake) -> Path:
    if lake.local is None:
        raise ConfigurationError(
            "lake.root is in an object store: use versioning and replication of its bucket instead"
        )
    if missing := tables.missing_folder(lake):
        raise LakeError(missing)
    return lake.local.resolve()


def _check_target(root: Path, target: Path) -> None:
    if target.resolve().is_relative_to(root) or root.is_relative_to(target.resolve()):
        raise ConfigurationError(f"{target} and the lake are in each other: choose another folder")
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{target}: {error.strerror}: choose another folder") from error


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    with disk.open_own(target / ".lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LakeError(f"another backup to {target} is running: wait for it") from None
        yield


def _write_manifest(draft: Path, now: datetime) -> None:
    # Once, instead of after each of many small files; the manifest marks a complete backup.
    os.sync()
    text = json.dumps({"backup": 1, "at": now.isoformat()}).encode()
    disk.write_atomically(draft / MANIFEST, text, mode=0o600)


@dataclass(frozen=True, slots=True)
class _Copy:
    """One try to copy a lake."""

    root: Path
    into: Path
    former: Path | None
    copied: Copied

    def lake(self, lake: Lake) -> None:
        found = maintenance.tables_of(lake, [])
        first = [table.name for table in BEFORE_ROWS if table.name in found]
        rows = [table for table in found if table.startswith("raw/")]
        acts = self._checkpoint(signer.ACTS)
        notes = {signer.ACTS: acts, findings.LOG.app: self._checkpoint(findings.LOG.app)}
        for table in first:
            self._table(lake, table)
        for table in rows:
            name = table.removeprefix("raw/")
            notes[name] = self._checkpoint(name)
            self._table(lake, table)
        for table in found:
            if table not in (*first, *rows):
                self._table(lake, table)
        self._signed_logs(lake, notes)
        if self._checkpoint(signer.ACTS) != acts:
            raise _Changed

    def _checkpoint(self, name: str) -> bytes | None:
        return Disk(self.root / SIGNED / name).get("checkpoint")

    def _table(self, lake: Lake, table: str) -> None:
        handle = tables.open_table(lake, table)
        if handle is None:  # it is just being created
            return
        self.copied.tables += 1
        for file in sorted((self.root / table / "_delta_log").iterdir()):
            if _is_part_of(file, handle.version()):
                self._file(f"{table}/_delta_log/{file.name}")
        for path in pl.DataFrame(handle.get_add_actions(flatten=True))["path"]:
            self._file(f"{table}/{unquote(path)}")

    def _signed_logs(self, lake: Lake, notes: dict[str, bytes | None]) -> None:
        """Copy the signed logs with the checkpoints read before; all else in them only grows."""
        for path in sorted((self.root / SIGNED).rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if path.is_file() and path.name != "checkpoint" and "/." not in name:
                with suppress(FileNotFoundError):  # a tile that a full one has replaced
                    self._file(name)
        trusted = keys.trusted(lake.integrity) if lake.integrity else []
        for name, text in notes.items():
            if text is not None:
                log = Disk(self.into / SIGNED / name)
                log.put("checkpoint", text)
                head = note.opened(text, trusted)
                if head and not is_whole(log, head):
                    raise _Changed
                if head and name == signer.ACTS and removals.recorded(log, head) is None:
                    raise _Changed

    def _file(self, name: str) -> None:
        source, final = self.root / name, self.into / name
        former = self.former / name if self.former else None
        final.parent.mkdir(parents=True, exist_ok=True)
        self.copied.files += 1
        if former and _is_same(source, former):
            with suppress(OSError):  # a file system without hard links
                os.link(former, final)
                self.copied.linked += 1
                return
        shutil.copy2(source, final)


def _is_part_of(file: Path, version: int) -> bool:
    """Return whether a file of a Delta log belongs to a version."""
    if file.name == "_last_checkpoint":
        with suppress(ValueError, KeyError, TypeError):
            return bool(json.loads(file.read_bytes())["version"] <= version)
        return False
    found = _LOG_FILE.fullmatch(file.name)
    return found is not None and int(found[1]) <= version


def _is_same(source: Path, former: Path) -> bool:
    # Nothing that is copied is ever changed in place, so size and time are enough.
    with suppress(FileNotFoundError):
        ours, theirs = source.stat(), former.stat()
        return (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)
    return False


def is_whole(log: Disk, head: note.Head) -> bool:
    """Return whether the tiles of a log lead to the root of `head`."""
    edge = tiles.edge(log, head.size)
    return edge is not None and merkle.root(edge) == head.root
