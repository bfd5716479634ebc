"""The fences and the metadata in a table's commits.

In an object store, delta-rs reads all commits since the last checkpoint again for each of them,
which costs a request per commit. Here, each commit is read once for as long as its handle is kept,
and only as far back as the answer takes.
"""

from __future__ import annotations

import io
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

import msgspec
import polars as pl
from deltalake import DeltaTable

from pipelines.errors import AuditlakeError
from pipelines.lake import object_store
from pipelines.lake.object_store import Listing

T = TypeVar("T")
_AT_ONCE = 8
_LAST_CHECKPOINT = "_last_checkpoint"


class _Unreadable(Exception):
    """The log is not as this auditlake writes it, or a part of it is gone."""


class _Fence(msgspec.Struct):
    app: str = msgspec.field(name="appId")
    version: int


class File(msgspec.Struct):
    """A data file; `stats` is JSON, as in the log."""

    path: str
    size: int = 0
    stats: str | None = None
    partition: dict[str, str | None] | None = msgspec.field(name="partitionValues", default=None)


class _Metadata(msgspec.Struct):
    description: str | None = None
    configuration: dict[str, str] = {}


class _Action(msgspec.Struct):
    """A line of a commit; all others are skipped."""

    info: dict[str, Any] | None = msgspec.field(name="commitInfo", default=None)
    txn: _Fence | None = None
    add: File | None = None
    remove: File | None = None
    metadata: _Metadata | None = msgspec.field(name="metaData", default=None)


class _Checkpoint(msgspec.Struct):
    version: int
    parts: int | None = None


class _Commit(NamedTuple):
    info: dict[str, Any]
    fences: dict[str, int]
    added: list[File]
    removed: list[str]
    metadata: _Metadata | None
    """That of the table, if this commit sets it."""


class _Base(NamedTuple):
    """A checkpoint; that of version -1 if there is none."""

    version: int
    fences: dict[str, int]
    files: list[File]
    metadata: _Metadata


FAILURES = (AuditlakeError, _Unreadable, msgspec.MsgspecError, pl.exceptions.PolarsError)
"""Of reading a log here; delta-rs may be able to read it."""
_logs: dict[int, tuple[weakref.ref[DeltaTable], _Log]] = {}
_FILE = ("path", "size", "stats", "partitionValues")
_lines = msgspec.json.Decoder(_Action)


class _Log:
    """What has been read of one log."""

    def __init__(self, url: str, options: Mapping[str, str], checkpoint: int | None = None) -> None:
        """`checkpoint` is the version of the newest one, or -1 if there is none, where known."""
        self._url = url
        self._newest_checkpoint = checkpoint
        self._options = options
        self._lock = threading.Lock()
        self._commits: dict[int, _Commit | None] = {}
        self._base: _Base | None = None
        self._answers: tuple[int, dict[str, Any]] = -1, {}

    def answer(self, newest: int, key: str, read: Callable[[], T]) -> T:
        """Return the result of `read` at the version `newest`, kept until a newer one is read."""
        if self._answers[0] != newest:
            self._answers = newest, {}
        answers = self._answers[1]
        if key not in answers:
            answers[key] = read()
        found: T = answers[key]
        return found

    def fence(self, newest: int, app: str) -> int:
        """Return the fence of `app` at the version `newest`."""
        with self._lock:
            # A checkpoint of this very version answers what its commit may not.
            if self._newest_checkpoint == newest or (self._base and self._base.version == newest):
                return self._checkpoint(newest).fences.get(app, 0)
            if app in (commit := self._commit(newest)).fences:
                return commit.fences[app]
            base = self._checkpoint(newest)
            self._fetch(range(base.version + 1, newest))
            for version in range(newest - 1, base.version, -1):
                if app in (commit := self._commit(version)).fences:
                    return commit.fences[app]
            return base.fences.get(app, 0)

    def files(self, newest: int) -> list[File]:
        """Return the data files at the version `newest`."""
        with self._lock:
            base = self._checkpoint(newest)
            self._fetch(range(base.version + 1, newest + 1))
            found = {file.path: file for file in base.files}
            for version in range(base.version + 1, newest + 1):
                commit = self._commit(version)
                for path in commit.removed:
                    found.pop(path, None)
                found.update((file.path, file) for file in commit.added)
            return list(found.values())

    def metadata(self, newest: int) -> _Metadata:
        """Return the metadata of the table at the version `newest`."""
        with self._lock:
            base = self._checkpoint(newest)
            self._fetch(range(base.version + 1, newest + 1))
            for version in range(newest, base.version, -1):
                if (found := self._commit(version).metadata) is not None:
                    return found
            return base.metadata

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
        if not (content := self._get(f"{version:020}.json")):
            return None
        actions = [_lines.decode(line) for line in content.splitlines()]
        info = next((action.info for action in actions if action.info), {})
        return _Commit(
            info={**info, "version": version},
            fences={action.txn.app: action.txn.version for action in actions if action.txn},
            added=[action.add for action in actions if action.add],
            removed=[action.remove.path for action in actions if action.remove],
            metadata=next((action.metadata for action in actions if action.metadata), None),
        )

    def _checkpoint(self, newest: int) -> _Base:
        """Return a checkpoint of a version up to `newest`."""
        if self._base is None or self._base.version > newest:
            known = self._newest_checkpoint
            if known is None:
                last = self._get(_LAST_CHECKPOINT)
                found = msgspec.json.decode(last, type=_Checkpoint) if last else _Checkpoint(-1)
                known = found.version if not found.parts else newest + 1
            if known > newest:
                raise _Unreadable
            self._base = self._read_base(known) if known >= 0 else _Base(-1, {}, [], _Metadata())
        return self._base

    def _read_base(self, version: int) -> _Base:
        content = self._get(f"{version:020}.checkpoint.parquet")
        if not content:
            raise _Unreadable
        rows = pl.read_parquet(io.BytesIO(content), columns=["txn", "add", "metaData"])
        fences = rows.select("txn").unnest("txn").drop_nulls("appId")
        files = rows.select("add").unnest("add").drop_nulls("path")
        about = rows.select("metaData").unnest("metaData").drop_nulls("id")
        stated = about.select("description", "configuration").rows()
        return _Base(
            version=version,
            fences=dict(fences.select("appId", "version").iter_rows()),
            files=[File(*each) for each in files.select(*_FILE).iter_rows()],
            metadata=_Metadata(*stated[0]) if stated else _Metadata(),
        )

    def _get(self, name: str) -> bytes:
        return object_store.get(self._url, self._options, name)[0]

    def content(self, path: str) -> bytes:
        """Return the content of a data file of the table."""
        table = self._url.removesuffix("/_delta_log")
        return object_store.get(table, self._options, unquote(path))[0]


def follow(handle: DeltaTable, options: Mapping[str, str] | None) -> None:
    """Read the log of this handle here, with these options, if it is in an object store."""
    number = id(handle)
    if not handle.table_uri.startswith("file://") and _of(handle) is None:
        gone = weakref.ref(handle, lambda _: _logs.pop(number, None))
        _logs[number] = gone, _Log(f"{handle.table_uri.rstrip('/')}/_delta_log", options or {})


def fence(handle: DeltaTable, app: str) -> int:
    """Return the value of the newest app transaction of `app` at the handle's version, or 0."""
    # Whatever is not understood here is left to delta-rs, which may raise its own error.
    with suppress(*FAILURES):
        if (log := _of(handle)) is not None:
            return log.fence(handle.version(), app)
    return handle.transaction_version(app) or 0


def history(handle: DeltaTable) -> Iterator[dict[str, Any]]:
    """Yield the metadata of the commits up to the handle's version, newest first.

    As far as the log reaches.
    """
    last = handle.version() + 1
    with suppress(*FAILURES):  # as above, from where it ended
        if (log := _of(handle)) is not None:
            for info in log.history(last - 1):
                last = info["version"]
                yield info
            return
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


class Head:
    """A table in an object store at its newest version, as a listing of many logs shows it."""

    def __init__(self, version: int, tag: str, log: _Log) -> None:
        self.version = version
        self.tag = tag
        """The e-tag of the newest commit."""
        self._log = log

    def fence(self, app: str) -> int:
        return self._log.fence(self.version, app)

    def history(self) -> Iterator[dict[str, Any]]:
        return self._log.history(self.version)

    def files(self) -> list[File]:
        return self._log.files(self.version)

    def properties(self) -> dict[str, str]:
        return self._log.metadata(self.version).configuration

    def description(self) -> str:
        return self._log.metadata(self.version).description or ""

    def answer(self, key: str, read: Callable[[], T]) -> T:
        """Return the result of `read` at this version, which is computed once."""
        return self._log.answer(self.version, key, read)

    def content(self, path: str) -> bytes:
        """Return the content of a data file."""
        return self._log.content(path)

    def at(self, version: int, tag: str) -> Head:
        """Return the same table at a later version."""
        return Head(version, tag, self._log)


_heads: dict[str, Head] = {}
"""The URL of each table -> its newest version in the last listing."""


def head(url: str, options: Mapping[str, str], table: str) -> Head | None:
    """Return a table of the store at `url`, or None if it does not exist. Raises LakeError."""
    place, below = f"{url.rstrip('/')}/{table}", f"{table}/_delta_log"
    known = _heads.get(place)
    if known is not None:
        first = f"{below}/{known.version:020}"
        found = object_store.logs(url, options, below, first).get(table)
        if found and found.commits.get(known.version) == known.tag:
            return _follow(place, options, found)
    found = object_store.logs(url, options, below).get(table)
    return _follow(place, options, found) if found else None


def heads(url: str, options: Mapping[str, str], below: str) -> dict[str, Head]:
    """Return all tables below a folder of the store at `url`, by their paths.

    The log of a table is read on up to its next checkpoint, unless it was replaced. Raises
    LakeError.
    """
    found = object_store.logs(url, options, below)
    return {
        table: _follow(f"{url.rstrip('/')}/{table}", options, each) for table, each in found.items()
    }


def _follow(place: str, options: Mapping[str, str], found: Listing) -> Head:
    newest, checkpoint = max(found.commits), max(found.checkpoints, default=-1)
    known, tag = _heads.get(place), found.commits[newest]
    same = known is not None and found.commits.get(known.version) == known.tag
    if known is not None and same and checkpoint <= known.version:
        made = known.at(newest, tag)
    else:
        made = Head(newest, tag, _Log(f"{place}/_delta_log", options, checkpoint))
    _heads[place] = made
    return made
