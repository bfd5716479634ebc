"""Opening and reading Delta tables, and the errors of their store in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import NamedTuple

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from pipelines.errors import ConfigurationError, LakeError
from pipelines.lake import handles
from pipelines.settings import IntegritySettings, Settings

_PLAIN = re.compile(r"[A-Za-z0-9/_.,@&+~:\\-]*")


class StreamKey(NamedTuple):
    """A stream's place in the lake: raw/<integration>/<stream>."""

    integration: str
    stream: str

    @property
    def table(self) -> str:
        return f"raw/{self.integration}/{self.stream}"

    @property
    def app(self) -> str:
        """The app id of the fence that all writers of this log's rows share."""
        return f"{self.integration}/{self.stream}"


@dataclass(frozen=True, slots=True)
class Lake:
    """Where the tables are; opens nothing by itself."""

    root: str
    storage_options: dict[str, str] | None = field(default=None, repr=False)
    integrity: IntegritySettings | None = field(default=None, repr=False)
    """How the raw tables are signed; None: they are not."""

    @property
    def local(self) -> Path | None:
        return None if "://" in self.root else Path(self.root)

    def uri(self, table: str) -> str:
        return f"{self.root.rstrip('/')}/{table}"


def configured(chosen: Settings) -> Lake:
    """The lake the settings name."""
    options = {k: v.get_secret_value() for k, v in chosen.lake.storage_options.items()}
    lake = Lake(chosen.lake.root, options or None, chosen.integrity)
    if lake.local is not None and not _PLAIN.fullmatch(path := str(lake.local.resolve())):
        raise ConfigurationError(
            f"lake.root: {path}: Polars cannot read tables below such a name: choose a folder "
            "whose whole path has only letters a to z, digits and /_.,@&+~- in it"
        )
    return lake


def open_table(lake: Lake, table: str) -> DeltaTable | None:
    """A handle at the newest version, or None where there is no such table yet."""
    with store_errors(table):
        try:
            handle = DeltaTable(lake.uri(table), storage_options=lake.storage_options)
        except TableNotFoundError:
            return None
        except DeltaError:
            _refuse_emptied(table, _commits_on_disk(lake, table)[-1:])
            raise
    _refuse_emptied(table, _newest_files(lake, table, handle))
    return handle


def acquire(lake: Lake, table: str) -> DeltaTable | None:
    """Like `open_table`, but one that is open already if there is one; it belongs to the caller."""
    if lake.local is None or (handle := handles.acquire(lake.local / table)) is None:
        return open_table(lake, table)
    _refuse_emptied(table, _newest_files(lake, table, handle))
    return handle


def release(lake: Lake, table: str, handle: DeltaTable) -> None:
    if lake.local is not None:
        handles.release(lake.local / table, handle)


@contextmanager
def borrowed(lake: Lake, table: str) -> Iterator[DeltaTable | None]:
    """A handle to read by, until this ends well."""
    handle = acquire(lake, table)
    yield handle
    if handle is not None:
        release(lake, table, handle)


def _newest_files(lake: Lake, table: str, handle: DeltaTable) -> list[Path]:
    """The newest commit, and where one lies that a reader may have stopped at."""
    newest = (handle.version(), handle.version() + 1)
    return [path for version in newest if (path := _commit_file(lake, table, version))]


def _refuse_emptied(table: str, commits: Sequence[Path]) -> None:
    """Raises LakeError where a commit holds nothing, as a power cut may leave the newest.

    Delta would read it as a commit that did nothing, and its rows as never written.
    """
    for path in commits:
        with suppress(FileNotFoundError):
            if path.stat().st_size == 0 or not path.read_bytes()[:4096].strip(b"\0 \r\n"):
                raise LakeError(
                    f"{table}: its newest commit is empty, as after a power cut: remove the file "
                    f"{path} and poll again; what it held is asked for again"
                )


def _commit_file(lake: Lake, table: str, version: int) -> Path | None:
    """Where the commit is on this machine's disk, or would be."""
    return lake.local / table / "_delta_log" / f"{version:020}.json" if lake.local else None


def _commits_on_disk(lake: Lake, table: str) -> list[Path]:
    return sorted((lake.local / table / "_delta_log").glob("*.json")) if lake.local else []


def scan(lake: Lake, table: str) -> pl.LazyFrame | None:
    """The rows of a table as they are now, or None where there is no such table yet."""
    handle = open_table(lake, table)
    return None if handle is None else pl.scan_delta(handle)


def of_stream(log: StreamKey) -> pl.Expr:
    return (pl.col("integration") == log.integration) & (pl.col("stream") == log.stream)


def replace_predicate(log: StreamKey, days: Iterable[date], among: str) -> str:
    """A condition in the words of Delta: rows of `log` on these days that are also `among`."""
    integration, stream = (name.replace("'", "''") for name in log)
    listed = ", ".join(f"DATE '{day}'" for day in days)
    return (
        f"integration = '{integration}' AND stream = '{stream}' AND date IN ({listed}) AND {among}"
    )


def same_times(batch: pl.DataFrame) -> pl.Expr:
    """Rows of the same days and between the times of `batch`."""
    return pl.col("date").is_in(batch["date"].unique().to_list()) & pl.col("time").is_between(
        batch["time"].min(), batch["time"].max()
    )


def scan_partitions(
    lake: Lake,
    handle: DeltaTable,
    schema: dict[str, pl.DataType],
    chosen: Sequence[tuple[str, str, str | list[str]]],
    among: set[str] | None = None,
) -> pl.LazyFrame:
    """The rows of some partitions (of the files `among` others), but for the columns they are
    named by.

    Of a round's small questions `pl.scan_delta` would be the dearest part, in time and in memory.
    """
    named = handle.metadata().partition_columns
    stored = {name: dtype for name, dtype in schema.items() if name not in named}
    files = handle.file_uris(list(chosen))
    if among is not None:
        files = [file for file in files if file.rpartition("/")[2] in among]
    if not files:
        return pl.LazyFrame(schema=stored)
    return pl.scan_parquet(
        files,
        schema=stored,
        hive_partitioning=False,
        missing_columns="insert",
        extra_columns="ignore",
        storage_options=lake.storage_options,
    )


@contextmanager
def store_errors(table: str) -> Iterator[None]:
    """What the store says, as one line with the remedy."""
    try:
        yield
    except (DeltaError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        said = " ".join(str(error).split())[:300]
        raise LakeError(f"{table}: {said}: {_advice(said)}") from error


_FULL = ("no space left", "os error 28)", "too large (os", "quota exceeded", "os error 122)")


def _advice(said: str) -> str:
    match said.lower():
        case text if any(full in text for full in _FULL):
            return "free some space; nothing acknowledged is lost"
        case text if "permission denied" in text or "read-only" in text or "os error 13" in text:
            return "give this user write access to lake.root"
        case text if "append-only" in text:
            return "an older version made it; remove its folder, and the next poll derives it anew"
        case text if "not a directory" in text or "file exists" in text or "os error 20" in text:
            return "set lake.root to a folder"
    return "check lake.root and lake.storage_options, then run it again"
