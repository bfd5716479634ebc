"""The fences and the metadata in a table's commits.

In an object store, delta-rs reads all commits since the last checkpoint again for each of them,
which costs a request per commit. Here, each commit is read once for as long as its handle is kept,
and only as far back as the answer takes.
"""

from __future__ import annotations

import io
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import msgspec
import polars as pl
from deltalake import DeltaTable

from pipelines.errors import AuditlakeError
from pipelines.lake import object_store

_AT_ONCE = 8
_LAST_CHECKPOINT = "_last_checkpoint"


class _Unreadable(Exception):
    """The log is not as this auditlake writes it, or a part of it is gone."""


class _Fence(msgspec.Struct):
    app: str = msgspec.field(name="appId")
    version: int


class _Action(msgspec.Struct):
    """A line of a commit; others than these two are skipped."""

    info: dict[str, Any] | None = msgspec.field(name="commitInfo", default=None)
    txn: _Fence | None = None


class _Checkpoint(msgspec.Struct):
    version: int
    parts: int | None = None


class _Commit(NamedTuple):
    info: dict[str, Any]
    fences: dict[str, int]


_FAILURES = (AuditlakeError, _Unreadable, msgspec.MsgspecError, pl.exceptions.PolarsError)
_logs: dict[int, tuple[weakref.ref[DeltaTable], _Log]] = {}
_lines = msgspec.json.Decoder(_Action)


class _Log:
    """What has been read of one log."""

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        self._url = url
        self._options = options
        self._lock = threading.Lock()
        self._commits: dict[int, _Commit | None] = {}
        self._base: tuple[int, dict[str, int]] | None = None
        """The version of a checkpoint, and its fences; -1 if there is none."""

    def fence(self, newest: int, app: str) -> int:
        """Return the fence of `app` at the version `newest`."""
        with self._lock:
            if app in (commit := self._commit(newest)).fences:
                return commit.fences[app]
            base, fences = self._checkpoint(newest)
            self._fetch(range(base + 1, newest))
            for version in range(newest - 1, base, -1):
                if app in (commit := self._commit(version)).fences:
                    return commit.fences[app]
            return fences.get(app, 0)

    def history(self, newest: int) -> Iterator[dict[str, Any]]:
        """Yield the metadata of the commits from the version `newest` down, while there are any."""
        upper, count = newest, 1
        while upper >= 0:
            versions = range(max(0, upper - count + 1), upper + 1)
            with self._lock:
                self._fetch(versions)
                found = [self._commits[version] for version in reversed(versions)]
            for commit in found:
                if commit is None:
                    return
                yield commit.info
            upper, count = versions.start - 1, _AT_ONCE

    def _commit(self, version: int) -> _Commit:
        self._fetch([version])
        if (found := self._commits[version]) is None:
            raise _Unreadable
        return found

    def _fetch(self, versions: Iterable[int]) -> None:
        missing = [version for version in versions if version not in self._commits]
        if len(missing) > 1:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                self._commits.update(zip(missing, pool.map(self._read, missing), strict=True))
        for version in missing[:1]:
            self._commits.setdefault(version, self._read(version))

    def _read(self, version: int) -> _Commit | None:
        content = self._get(f"{version:020}.json")
        actions = [_lines.decode(line) for line in content.splitlines()]
        info = next((action.info for action in actions if action.info), {})
        fences = {action.txn.app: action.txn.version for action in actions if action.txn}
        return _Commit({**info, "version": version}, fences) if content else None

    def _checkpoint(self, newest: int) -> tuple[int, dict[str, int]]:
        """Return the version of a checkpoint before `newest`, and its fences."""
        if self._base is None or self._base[0] > newest:
            last = self._get(_LAST_CHECKPOINT)
            known = msgspec.json.decode(last, type=_Checkpoint) if last else _Checkpoint(-1)
            if known.parts or known.version > newest:
                raise _Unreadable
            self._base = known.version, self._fences(known.version) if last else {}
        return self._base

    def _fences(self, version: int) -> dict[str, int]:
        content = self._get(f"{version:020}.checkpoint.parquet")
        if not content:
            raise _Unreadable
        rows = pl.read_parquet(io.BytesIO(content), columns=["txn"]).unnest("txn")
        return dict(rows.drop_nulls("appId").select("appId", "version").iter_rows())

    def _get(self, name: str) -> bytes:
        return object_store.get(self._url, self._options, name)[0]


def follow(handle: DeltaTable, options: Mapping[str, str] | None) -> None:
    """Read the log of this handle here, with these options, if it is in an object store."""
    if not handle.table_uri.startswith("file://") and id(handle) not in _logs:
        gone = weakref.ref(handle, lambda _, number=id(handle): _logs.pop(number, None))
        _logs[id(handle)] = gone, _Log(f"{handle.table_uri.rstrip('/')}/_delta_log", options or {})


def fence(handle: DeltaTable, app: str) -> int:
    """Return the value of the newest app transaction of `app` at the handle's version, or 0."""
    if (log := _of(handle)) is not None:
        try:
            return log.fence(handle.version(), app)
        except _FAILURES:
            pass  # delta-rs reads what is not understood here, or raises its own error
    return handle.transaction_version(app) or 0


def history(handle: DeltaTable) -> Iterator[dict[str, Any]]:
    """Yield the metadata of the commits up to the handle's version, newest first.

    As far as the log reaches.
    """
    last = handle.version() + 1
    if (log := _of(handle)) is not None:
        try:
            for info in log.history(last - 1):
                last = info["version"]
                yield info
            return
        except _FAILURES:
            pass  # as above, from where it ended
    limit = 1
    while True:
        # Newer commits than this handle's may be in front.
        found = handle.history(limit)
        for info in found:
            if info["version"] < last:
                last = info["version"]
                yield info
        if len(found) < limit:
            return
        limit *= 8


def _of(handle: DeltaTable) -> _Log | None:
    known, log = _logs.get(id(handle), (None, None))
    return log if known is not None and known() is handle else None
