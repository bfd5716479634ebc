"""Tables with rows about each data file of `events`, whose files have numbers in them.

A data file never changes, so such rows are right as long as it exists. The fence of a table is the
number for the next file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable

from pipelines.errors import LakeError
from pipelines.lake import commits, deletions, events, tables
from pipelines.lake.commits import Appended, Decision, Table
from pipelines.lake.tables import Lake
from pipelines.schemas import EVENTS


def event_files(lake: Lake) -> pl.DataFrame:
    """Return the data files of `events`: path, date, rows."""
    schema = pl.Schema({"path": pl.String(), "date": pl.Date(), "rows": pl.Int64()})
    handle = tables.newest(lake, events.TABLE.name)
    if handle is None:
        return pl.DataFrame(schema=schema)
    actions = pl.DataFrame(handle.get_add_actions(flatten=True))
    return actions.select("path", date="partition.date", rows="num_records").cast(schema)


def rows_of_files(lake: Lake, files: pl.DataFrame, *, numbered: str | None = None) -> pl.LazyFrame:
    """Return the rows of these data files (path, file), each with its `path` and `file`.

    If a column `numbered` is given, it has the place of each row, from 0.
    """
    root = lake.uri(events.TABLE.name)
    places = files.select("path", "file").with_columns(
        uri=pl.Series([f"{root}/{unquote(path)}" for path in files["path"]], dtype=pl.String)
    )
    rows = pl.scan_parquet(
        places["uri"].to_list(),
        schema={
            name: dtype for name, dtype in EVENTS.items() if name not in events.TABLE.partitions
        },
        hive_schema={name: EVENTS[name] for name in events.TABLE.partitions},
        hive_partitioning=True,
        missing_columns="insert",  # files that an older auditlake wrote
        include_file_paths="uri",
        row_index_name=numbered,
        storage_options=lake.scan_options,
    )
    return rows.join(places.lazy(), on="uri")


def append(
    lake: Lake,
    table: Table,
    files: range,
    rows: pl.DataFrame,
    *,
    paths: pl.Series,
    gone: Sequence[int] = (),
) -> Appended:
    """Commit the rows of these files, whose `paths` are given, and delete those of files `gone`.

    Raises FileNotFoundError if `events` has lost one of these files meanwhile.
    """
    named, lost = pl.DataFrame({"path": paths}, {"path": pl.String}), list[str]()

    def decide(_: DeltaTable, done: int) -> Decision | None:
        if done != files.start:
            return None
        # `forget` commits after such a loss, so that this decision is made again.
        lost[:] = named.join(event_files(lake), on="path", how="anti")["path"]
        if lost:
            return None
        selected = f"file >= {files.start} OR file IN ({', '.join(map(str, gone))})"
        return Decision(rows, files.stop, selected if gone else None)

    appended = commits.write(lake, table, table.name, decide, {})
    if lost:
        raise FileNotFoundError(lost[0])
    return appended


def forget(lake: Lake, table: Table, listed: Callable[[Lake], pl.DataFrame]) -> None:
    """Delete the rows about files that `events` lacks, and the former files of this table.

    `listed` returns the files in the table (file, path). To be called after rows of `events` were
    deleted. The files that replace theirs are left to the next maintenance.
    """
    if tables.newest(lake, table.name) is None:
        return

    def decide(_: DeltaTable, done: int) -> Decision:
        gone = listed(lake).join(event_files(lake), on="path", how="anti")["file"].to_list()
        replaces = f"file IN ({', '.join(map(str, gone))})" if gone else None
        # Even without rows to delete: a process that aggregates a deleted file then loses the race.
        return Decision(pl.DataFrame(schema=table.schema), done, replaces)

    commits.write(lake, table, table.name, decide, {})
    deletions.vacuum(lake, table.name)


def batches(
    files: pl.DataFrame, current: pl.DataFrame, first: int, rows: int
) -> list[pl.DataFrame]:
    """Return the `files` that are not `current`, numbered from `first`, about so many rows a time.

    Ordered by date, each batch has `file`, path, date and rows.
    """
    fresh = files.sort("date", "path").join(current, on="path", how="anti", maintain_order="left")
    numbered = fresh.with_row_index("file", first).with_columns(
        pl.col("file").cast(pl.Int64),
        batch=(pl.col("rows").cum_sum() - pl.col("rows")) // rows,
    )
    return numbered.partition_by("batch", maintain_order=True)


def incomplete() -> LakeError:
    """Return the error for a file that has other rows than its table states."""
    return LakeError(
        "events: its files have another number of rows than its Delta log states: run "
        "`auditlake verify`"
    )
