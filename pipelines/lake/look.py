"""Several tables, of which each is opened once and read at one version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import polars as pl
from deltalake import DeltaTable

from pipelines.lake import commits, events, pruning, tables
from pipelines.lake.tables import Lake, StreamKey
from pipelines.schemas import EVENTS, RAW


@dataclass(slots=True)
class Look:
    """Tables at the versions that they had when they were first opened."""

    _lake: Lake
    _stack: ExitStack
    _handles: dict[str, DeltaTable | None] = field(default_factory=dict)

    def fence(self, table: str, app: str) -> int:
        """Return the number of rows that a table accounts for, 0 if it does not exist."""
        handle = self.handle(table)
        return commits.fence(handle, app) if handle else 0

    def raw(self, key: StreamKey, seqs: range) -> pl.DataFrame:
        """Return the raw rows of a stream with these `seq`, in their order."""
        handle = self.handle(key.table)
        if handle is None or not seqs:
            return pl.DataFrame(schema=RAW)
        with tables.store_errors(key.table):
            found = pruning.files(handle)
            found = pruning.overlapping(found, "seq", seqs.start, seqs.stop - 1)
            rows = pruning.scan(self._lake, key.table, RAW, found)
            ours = pl.col("seq").is_between(seqs.start, seqs.stop, "left")
            return rows.filter(ours).sort("seq").collect()

    def events(self, raw: Mapping[StreamKey, tuple[range, pl.Series]]) -> pl.LazyFrame:
        """Return the events of rows of streams, which have these `seq` and are of these days."""
        handle = self.handle(events.TABLE.name)
        if handle is None or not raw:
            return pl.LazyFrame(schema=EVENTS)
        days = pl.concat([days for _, days in raw.values()]).unique()
        every = pruning.of_days(pruning.files(handle), days)
        parts = [_files(every, key, seqs) for key, (seqs, _) in raw.items() if seqs]
        chosen = pl.concat(parts).unique() if parts else every.clear()
        wanted = [
            tables.of_stream(key)
            & pl.col("seq").is_between(seqs.start, seqs.stop, "left")
            & pl.col("date").is_in(of_rows.unique().implode())
            for key, (seqs, of_rows) in raw.items()
        ]
        return pruning.matching(self._lake, events.TABLE.name, EVENTS, chosen, wanted)

    def handle(self, table: str) -> DeltaTable | None:
        """Return a table for reading, None if it does not exist."""
        if table not in self._handles:
            with tables.store_errors(table):
                held = tables.held(self._lake, table)
                self._handles[table] = self._stack.enter_context(held)
        return self._handles[table]


@contextmanager
def look(lake: Lake) -> Iterator[Look]:
    """Yield tables as they are now; nothing of them may be used after the block."""
    with ExitStack() as stack:
        yield Look(lake, stack)


def _files(every: pl.DataFrame, key: StreamKey, seqs: range) -> pl.DataFrame:
    """Return the files that may have the events of these rows."""
    found = pruning.overlapping(every, "integration", key.integration, key.integration)
    found = pruning.overlapping(found, "stream", key.stream, key.stream)
    found = pruning.overlapping(found, "seq", seqs.start, seqs.stop - 1)
    return found.select("path", "num_records")
