"""Data files in an object store, of which one run reads each small one once.

`events` has the rows of all streams, so each of its files is read for many tables. A run keeps
nothing for the next one, which has to see any change made meanwhile.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import polars as pl
from deltalake import DeltaTable

from pipelines.errors import LakeError
from pipelines.integrity.verifier.log_reader import LogFiles

_SMALL = 4 * 2**20
_MOST = 256 * 2**20


@dataclass(slots=True, eq=False)
class Kept:
    """The files of a lake that one run has read; a copy in another process is empty."""

    acts: dict[bytes, list[bytes]] = field(default_factory=dict)
    """The entries of the log of acts, by the checkpoint that they were verified with."""
    _events: DeltaTable | None = None
    _files: dict[str, bytes | None] = field(default_factory=dict)
    _room: int = _MOST

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()

    def events(self, uri: str, options: dict[str, str] | None) -> DeltaTable:
        """Return the newest version of `events`. Raises the errors of opening it."""
        found, self._events = self._events, None
        if found is None or "://" not in uri:
            found = DeltaTable(uri, storage_options=options)
        else:
            found.update_incremental()
        self._events = found
        return found

    def content(self, file: str, options: Mapping[str, str] | None) -> bytes | None:
        """Return the content of a file; None if it is large, on a disk, or cannot be read."""
        if file not in self._files:
            found = _small(file, options)
            if found is not None and len(found) > self._room:
                return found
            self._room -= len(found or b"")
            self._files[file] = found
        return self._files[file]


def _small(file: str, options: Mapping[str, str] | None) -> bytes | None:
    if "://" not in file or file.startswith("file://") or "%" in file:
        return None
    folder, _, name = file.rpartition("/")
    try:
        return LogFiles(root=folder, options=options or {}).whole(name, _SMALL)
    except LakeError:  # reading it again raises the error that is reported
        return None


def scan(
    files: Sequence[str],
    options: Mapping[str, str] | None,
    kept: Kept | None,
    *,
    named: str | None = None,
    **how: Any,
) -> pl.LazyFrame:
    """Return the rows of Parquet files in their order, as `pl.scan_parquet` does.

    If `named` is given, a column of this name has the file of each row.
    """
    return pl.concat(_parts(files, options, kept, named, how))


def _parts(
    files: Sequence[str],
    options: Mapping[str, str] | None,
    kept: Kept | None,
    named: str | None,
    how: Mapping[str, Any],
) -> Iterator[pl.LazyFrame]:
    found = [(file, kept.content(file, options) if kept else None) for file in files]
    for small, part in groupby(found, key=lambda each: each[1] is not None):
        if not small:
            paths = [file for file, _ in part]
            given = dict(options) if options else None
            yield pl.scan_parquet(paths, include_file_paths=named, storage_options=given, **how)
            continue
        for file, content in part:
            rows = pl.scan_parquet(io.BytesIO(content or b""), **how)
            yield rows.with_columns(pl.lit(file).alias(named)) if named else rows
