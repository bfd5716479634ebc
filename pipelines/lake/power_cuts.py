"""Finds a commit or checkpoint that a power cut left incomplete, before anything is built on it.

delta-rs writes data files and commit, and only then both can be flushed. A power cut in between
leaves a commit that nobody relies on yet, whole, in part, or without its data; reading on would
miss rows, fail in every query or, if only the fence is missing, store rows twice.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pipelines.errors import LakeError

FENCES = "auditlake.fences"
"""In the metadata of a commit: its number of fences, which are its last lines."""
_MAGIC = b"PAR1"
_BLOCK = 4096
_whole: set[Path] = set()
"""Tables whose newest commit was whole when this process first opened them."""


def check(table: str, folder: Path, version: int) -> None:
    """Raise LakeError if the newest commit of a table on a local disk is incomplete.

    A power cut ends all processes, so one look per process at the data files is enough.
    """
    # delta-rs reads an empty commit as none, so it may have stopped before one.
    for path in (_commit(folder, version), _commit(folder, version + 1)):
        if _is_empty(path):
            raise _error(table, path)
    if folder not in _whole:
        newest = _commit(folder, version)
        complete = _is_complete(newest, folder)
        # Another process may have committed meanwhile, and deleted files it replaced.
        if not complete and not _commit(folder, version + 1).exists():
            raise _error(table, newest)
        _whole.add(folder)


def explain(table: str, folder: Path) -> None:
    """Raise LakeError if a table cannot be opened because of what a power cut left."""
    log = folder / "_delta_log"
    for path in sorted(log.glob("*.json"))[-1:]:
        if not _is_complete(path, folder):
            raise _error(table, path)
    # Safe to remove: commits are only deleted once the checkpoint that replaces them is on disk.
    newest = sorted(log.glob("*.checkpoint.parquet"))[-1:]
    hint = log / "_last_checkpoint"
    unusable = [path for path in newest if not _is_parquet(path)]
    if not unusable and hint.exists() and _points_nowhere(hint, newest):
        unusable = [hint]
    for path in unusable:
        raise LakeError(
            f"{table}: its newest checkpoint is incomplete, as after a power cut: remove the file "
            f"{path} and run it again; the commits contain the same"
        )


def _points_nowhere(hint: Path, newest: list[Path]) -> bool:
    """Return True if there is no checkpoint of the version that `_last_checkpoint` names."""
    try:
        version = int(json.loads(hint.read_bytes())["version"])
    except (ValueError, TypeError, KeyError):
        return False  # as delta-rs does, which then looks for the newest
    return all(path.name < f"{version:020}" for path in newest)


def _error(table: str, commit: Path) -> LakeError:
    state = "empty" if _is_empty(commit) else "incomplete"
    return LakeError(
        f"{table}: its newest commit is {state}, as after a power cut: remove the file {commit} "
        "and poll again; its records are then fetched again"
    )


def _commit(folder: Path, version: int) -> Path:
    return folder / "_delta_log" / f"{version:020}.json"


def _is_empty(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return path.stat().st_size == 0 or not path.read_bytes()[:_BLOCK].strip(b"\0 \r\n")
    return False


def _is_complete(commit: Path, folder: Path) -> bool:
    """Return False if actions of a commit are missing, or data files that it adds."""
    try:
        actions = [json.loads(line) for line in commit.read_bytes().splitlines()]
        infos: list[dict[str, Any]] = [a["commitInfo"] for a in actions if "commitInfo" in a]
        info = infos[0] if infos else {}
        added = [each["add"] for each in actions if "add" in each]
        fences = sum("txn" in each for each in actions)
    except FileNotFoundError:  # maintenance has removed it
        return True
    except (ValueError, TypeError, AttributeError):
        return False
    return (
        bool(actions)
        and len(added) >= _files_added(info)
        and fences >= int(info.get(FENCES, 0))
        and all(_is_whole(folder / unquote(each["path"]), each["size"]) for each in added)
    )


def _files_added(info: dict[str, Any]) -> int:
    """Return how many files a commit of rows states to add; 0 for commits of maintenance."""
    metrics = info.get("operationMetrics", {}) if info.get("operation") == "WRITE" else {}
    return int(metrics.get("num_added_files", 0))


def _is_whole(data: Path, size: int) -> bool:
    with suppress(FileNotFoundError):
        return data.stat().st_size == size and _is_parquet(data)
    return False


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        start, size = file.read(len(_MAGIC)), path.stat().st_size
        file.seek(max(0, size - len(_MAGIC)))
        return start == file.read() == _MAGIC
