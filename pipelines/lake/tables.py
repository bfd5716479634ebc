"""Open and read Delta tables, and turn the errors of their store into one line with advice."""

from __future__ import annotations

import grp
import hashlib
import io
import os
import re
import stat
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from pipelines.errors import ConfigurationError, LakeError
from pipelines.lake import formats, handles, log, object_store, parquet, power_cuts
from pipelines.lake.handles import Remote
from pipelines.settings import IntegritySettings, Settings

STORE_ERRORS = (DeltaError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
S = TypeVar("S")
T = TypeVar("T")
WHOLE = 8 * 2**20  # bytes of a table that is read as a whole
_AT_ONCE = 16
"""Tables that are read from an object store at the same time."""
_found: dict[int, tuple[weakref.ref[DeltaTable], int, dict[Hashable, Any]]] = {}
_seen: ContextVar[dict[Path | Remote, DeltaTable | None] | None] = ContextVar("seen", default=None)
_RETRIES = ("max_retries", "retry_timeout", "backoff_config")
_PLAIN = re.compile(r"[A-Za-z0-9/_.,@&+~:\\-]*")


class Numbered(Protocol):
    """A table whose rows are numbered by `seq`, from 0 and without gaps."""

    @property
    def table(self) -> str: ...
    @property
    def app(self) -> str:
        """Return the app id of the fence, whose value is the number of rows."""


class StreamKey(NamedTuple):
    """The name of a stream in the lake; its records are in raw/<integration>/<stream>."""

    integration: str
    stream: str

    @property
    def table(self) -> str:
        return f"raw/{self.integration}/{self.stream}"

    @property
    def app(self) -> str:
        """Return the app id of the fence, which all writers of this stream's rows share."""
        return f"{self.integration}/{self.stream}"


@dataclass(frozen=True, slots=True)
class Lake:
    """The location of the tables and the access to it; opens nothing by itself."""

    root: str
    storage_options: dict[str, str] | None = field(default=None, repr=False)
    integrity: IntegritySettings | None = field(default=None, repr=False)
    """The settings for signing raw tables; None if they are not signed."""

    @property
    def local(self) -> Path | None:
        return None if "://" in self.root else Path(self.root)

    @property
    def address(self) -> str:
        """Return the full path or the URL: the same in a process that changes its folder."""
        return str(self.local.resolve()) if self.local else self.root

    @property
    def digest(self) -> str:
        """Return the name of the folders that hold what this machine knows about the lake."""
        return hashlib.sha256(self.address.encode()).hexdigest()[:16]

    @property
    def scan_options(self) -> dict[str, str] | None:
        """Return the options without those about retries, whose text Polars refuses."""
        options = self.storage_options or {}
        return {k: v for k, v in options.items() if not k.lower().startswith(_RETRIES)} or None

    def uri(self, table: str) -> str:
        return f"{self.root.rstrip('/')}/{table}"


def configured(chosen: Settings) -> Lake:
    """Return the lake named in the settings. Raises ConfigurationError for an unusable path."""
    options = {k: v.get_secret_value() for k, v in chosen.lake.storage_options.items()}
    lake = Lake(chosen.lake.root, options or None, chosen.integrity)
    if lake.local is not None and not _PLAIN.fullmatch(path := str(lake.local.resolve())):
        raise ConfigurationError(
            f"lake.root: Polars cannot read tables below {path}: choose a folder "
            "whose full path contains only letters a to z, digits and /_.,@&+~-"
        )
    if lake.local is not None:
        _restrict(lake.local, chosen.lake.group)
    return lake


def require_safe_store(lake: Lake) -> None:
    """Raise ConfigurationError if writers could overwrite each other's commits in this store."""
    if lake.local is None:
        options = tuple(sorted((lake.storage_options or {}).items()))
        object_store.require_conditional_put(lake.root, options)


def _restrict(root: Path, group: str | None) -> None:
    """Close the lake's folder, and so all below it, to other users but the members of `group`.

    One that is missing, read-only or not ours stays as it is. Raises ConfigurationError.
    """
    with suppress(OSError):
        found = root.stat()
        if found.st_uid == os.geteuid() and found.st_mode & stat.S_IWUSR:
            mode = stat.S_IMODE(found.st_mode)
            if group is not None:
                _open_to(root, group, mode & ~0o007 | 0o2050)
            elif mode & 0o077:
                root.chmod(mode & ~0o077)


def _open_to(root: Path, group: str, mode: int) -> None:
    try:
        os.chown(root, -1, grp.getgrnam(group).gr_gid)
        # After chown, which removes the bit that lets new folders inherit the group.
        root.chmod(mode)
    except KeyError:
        raise ConfigurationError(f"lake.group: {group}: this machine has no such group") from None
    except PermissionError:
        raise ConfigurationError(f"lake.group: {group}: this user is not a member") from None


def open_table(lake: Lake, table: str) -> DeltaTable | None:
    """Return a handle at the newest version, or None if the table does not exist yet."""
    remote = None if lake.local else _remote(lake, table)
    with store_errors(table):
        if remote and handles.is_absent(remote):
            return None
        try:
            handle = open_at(lake, table)
        except TableNotFoundError:
            if remote:
                handles.note_absent(remote)
            return None
        except DeltaError:
            # The error of delta-rs does not name the file to be removed.
            if lake.local is not None:
                power_cuts.explain(table, lake.local / table)
            raise
    if lake.local is not None:
        power_cuts.check(table, lake.local / table, handle.version())
    return handle


def open_at(lake: Lake, table: str, version: int | None = None) -> DeltaTable:
    """Return a handle at a version, by default the newest.

    Raises the store's own errors, and NewerLake for a table of a newer auditlake.
    """
    handle = DeltaTable(lake.uri(table), version, storage_options=lake.storage_options)
    formats.check(table, handle)
    return scannable(lake, handle)


def scannable(lake: Lake, handle: DeltaTable) -> DeltaTable:
    """Return the same handle, with options that `pl.scan_delta` can pass on to Polars."""
    handle._storage_options = lake.scan_options
    log.follow(handle, lake.storage_options)
    return handle


def acquire(lake: Lake, table: str) -> DeltaTable | None:
    """Return an up-to-date handle, from the pool if possible; None if there is no table.

    The caller owns it until `release`.
    """
    if (handle := handles.acquire(_place(lake, table))) is None:
        return open_table(lake, table)
    if lake.local is not None:
        # A pooled handle skips the checks of `open_table`, so an emptied commit is looked for here.
        power_cuts.check(table, lake.local / table, handle.version())
    formats.check(table, handle)
    return handle


def is_open(lake: Lake, table: str) -> bool:
    """Return whether the pool, or the look that is in progress, has a handle of this table."""
    return _seen.get() is not None or handles.has(_place(lake, table))


def release(lake: Lake, table: str, handle: DeltaTable) -> None:
    """Give a handle back to the pool; the caller must not use it any more."""
    handles.release(_place(lake, table), handle)


def _place(lake: Lake, table: str) -> Path | Remote:
    return lake.local / table if lake.local is not None else _remote(lake, table)


def _remote(lake: Lake, table: str) -> Remote:
    return Remote(lake.uri(table), tuple(sorted((lake.storage_options or {}).items())))


@contextmanager
def one_look() -> Iterator[None]:
    """Read each table, in this block or the one around it, at the version of its first use."""
    before = _seen.set({} if (outer := _seen.get()) is None else outer)
    try:
        yield
    finally:
        _seen.reset(before)


def newest(lake: Lake, table: str) -> DeltaTable | None:
    """Return a handle at the newest version that others read, too, or None if there is no table.

    Nobody may update it or write through it.
    """
    seen = _seen.get()
    if seen is not None:
        place = _place(lake, table)
        with handles.turn(place):
            if place not in seen:
                seen[place] = open_table(lake, table)
            return seen[place]
    if lake.local is not None:
        return open_table(lake, table)  # costs little, and needs no sharing
    if (handle := handles.shared(_remote(lake, table))) is None:
        handle = open_table(lake, table)
        if handle is not None:
            share(lake, table, handle)
    return handle


def share(lake: Lake, table: str, handle: DeltaTable) -> None:
    """Let readers have a handle that its caller does not use any more."""
    if not lake.local:
        handles.share(_remote(lake, table), handle)


@contextmanager
def borrowed(lake: Lake, table: str) -> Iterator[DeltaTable | None]:
    """Yield a handle for reading, and return it to the pool unless an error occurs."""
    if _seen.get() is not None:
        yield newest(lake, table)
        return
    # Opening a table takes many requests, so threads wait for the one that is open already.
    with handles.turn(_place(lake, table)), held(lake, table) as handle:
        yield handle


@contextmanager
def held(lake: Lake, table: str) -> Iterator[DeltaTable | None]:
    """Yield a handle as `borrowed` does, but wait for no thread, so that several may be held."""
    handle = acquire(lake, table)
    yield handle
    if handle is not None:
        release(lake, table, handle)


def at_once(lake: Lake, work: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """Return what `work` returns for each item; in threads where requests take their time."""
    if lake.local is not None:
        return [work(item) for item in items]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        # Each thread shares the looks of `one_look`.
        tasks = [pool.submit(copy_context().run, work, item) for item in items]
        return [task.result() for task in tasks]


def cached(handle: DeltaTable, key: Hashable, read: Callable[[], T]) -> T:
    """Return what `read` found at this version, and keep it as long as the handle.

    Not longer: a lake that was restored from a copy has the same ids and versions.
    """
    version, number = handle.version(), id(handle)
    known = _found.get(number)
    if known is None or known[0]() is not handle or known[1] != version:
        gone = weakref.ref(handle, lambda _: _found.pop(number, None))
        known = _found[number] = gone, version, {}
    if key not in known[2]:
        known[2][key] = read()
    value: T = known[2][key]
    return value


def refuse_newer(lake: Lake) -> None:
    """Raise NewerLake if a newer auditlake has written the events of this lake."""
    with suppress(*STORE_ERRORS):  # left to whoever reads them
        open_at(lake, "events")


def scan(lake: Lake, table: str) -> pl.LazyFrame | None:
    """Return the rows of the newest version, or None if the table does not exist yet."""
    return None if (handle := newest(lake, table)) is None else pl.scan_delta(handle)


def existing(lake: Lake, table: str) -> pl.LazyFrame:
    """Return the rows of a table. Raises LakeError, with the next step, if it does not exist."""
    rows = scan(lake, table)
    if rows is None:
        raise LakeError(f"there are no {table}{_absence(lake)}")
    return rows


def missing_folder(lake: Lake) -> str | None:
    """Return a sentence if the lake's folder does not exist."""
    if lake.local is None or lake.local.exists():
        return None
    return (
        f"{lake.local} does not exist: correct lake.root if the lake was moved; "
        "`auditlake poll` begins a new one"
    )


def _absence(lake: Lake) -> str:
    if missing := missing_folder(lake):
        return f": {missing}"
    if lake.local and any(lake.local.glob("raw/*/*/_delta_log")):
        return ", but records are stored: `auditlake poll` derives them again"
    return " yet: run `auditlake poll` first"


def of_stream(key: StreamKey) -> pl.Expr:
    return (pl.col("integration") == key.integration) & (pl.col("stream") == key.stream)


def replace_predicate(key: StreamKey, days: Iterable[date], condition: str) -> str:
    """Return the SQL that selects the rows of a stream on these days that meet `condition`."""
    listed = ", ".join(f"DATE '{day}'" for day in days)
    return f"{stream_predicate(key)} AND date IN ({listed}) AND {condition}"


def stream_predicate(key: StreamKey) -> str:
    """Return the SQL that selects all rows of a stream."""
    return f"integration = {sql(key.integration)} AND stream = {sql(key.stream)}"


def sql(*texts: str) -> str:
    """Return texts as literals of SQL, separated by commas."""
    return ", ".join("'" + text.replace("'", "''") + "'" for text in texts)


def same_times(batch: pl.DataFrame) -> pl.Expr:
    """Return the condition for rows on the days of `batch`, from its first to its last time."""
    return pl.col("date").is_in(batch["date"].unique().to_list()) & pl.col("time").is_between(
        batch["time"].min(), batch["time"].max()
    )


def scan_partitions(
    lake: Lake,
    handle: DeltaTable,
    schema: dict[str, pl.DataType],
    filters: Sequence[tuple[str, str, str | list[str]]],
    names: set[str] | None = None,
) -> pl.LazyFrame:
    """Return the rows of some partitions, without the partition columns.

    If `names` is given, only data files with these names are read.
    """
    # For a round's small queries, `pl.scan_delta` would be the most expensive step by far.
    partitioned_by = handle.metadata().partition_columns
    stored = {name: dtype for name, dtype in schema.items() if name not in partitioned_by}
    files = handle.file_uris(list(filters))
    if names is not None:
        files = [file for file in files if file.rpartition("/")[2] in names]
    if not files:
        return pl.LazyFrame(schema=stored)
    return pl.scan_parquet(
        files,
        schema=stored,
        hive_partitioning=False,
        missing_columns="insert",
        extra_columns="ignore",
        storage_options=lake.scan_options,
    )


def read_whole(lake: Lake, handle: DeltaTable) -> pl.LazyFrame:
    """Return the rows of a small table; of an object store, each file takes one request, once."""
    if lake.local is not None:
        return parquet.scan(handle)
    return cached(handle, "whole", lambda: _read_whole(lake, handle))


def _read_whole(lake: Lake, handle: DeltaTable) -> pl.LazyFrame:
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    if files.is_empty() or files["size_bytes"].sum() > WHOLE:
        return parquet.scan(handle)
    names = handle.metadata().partition_columns
    rows = files.select("path", *(f"partition.{name}" for name in names)).rows()

    def one(row: tuple[str, ...]) -> pl.LazyFrame:
        url, options = handle.table_uri.rstrip("/"), lake.storage_options or {}
        content = object_store.get(url, options, unquote(row[0]))[0]
        values = {name: pl.lit(value) for name, value in zip(names, row[1:], strict=True)}
        return pl.read_parquet(io.BytesIO(content)).with_columns(**values).lazy()

    return pl.concat(at_once(lake, one, rows), how="diagonal")


# Errors of an object store are a tree with coloured arrows.
_ARROW = re.compile("\\s*\x1b\\[[0-9;]*m\N{DOWNWARDS ARROW WITH TIP RIGHTWARDS}\x1b\\[0m\\s*")


@contextmanager
def store_errors(table: str) -> Iterator[None]:
    """Raise LakeError for any error of the store: one line, with advice."""
    try:
        yield
    # Polars panics on a truncated file, and its PanicException is a BaseException.
    except STORE_ERRORS as error:
        message = " ".join(_ARROW.sub(": ", str(error)).split())[:300]
        raise LakeError(f"{table}: {message}: {_advice(message)}") from error


_FULL = ("no space left", "os error 28)", "too large (os", "quota exceeded", "os error 122)")


def _advice(message: str) -> str:
    match message.lower():
        case text if any(full in text for full in _FULL):
            return "free some space; nothing acknowledged is lost"
        case text if "permission denied" in text or "read-only" in text or "os error 13" in text:
            return "give this user write access to lake.root"
        case text if "append-only" in text:
            return (
                "an older version created it; remove its folder, and the next poll derives it again"
            )
        case text if "not a directory" in text or "file exists" in text or "os error 20" in text:
            return "set lake.root to a folder"
    return "check lake.root and lake.storage_options, then run it again"
