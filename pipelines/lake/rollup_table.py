"""The table `rollups`: per-file aggregates of `events`, kept up to date by maintenance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable

from pipelines.errors import LakeError
from pipelines.lake import commits, deletions, events, rollup, tables
from pipelines.lake.commits import DERIVED, STATISTICS, Appended, Decision, Table
from pipelines.lake.tables import Lake
from pipelines.schemas import EVENTS, ROLLUPS
from pipelines.search.fields import SEARCHED, TARGETS

TABLE = Table(
    name="rollups",
    schema=ROLLUPS,
    about="Aggregates per data file of events",
    partitions=("part",),
    settings={**DERIVED, STATISTICS: "file,date"},
)


def event_files(lake: Lake) -> pl.DataFrame:
    """Return the data files of `events`: path, date, rows."""
    schema = pl.Schema({"path": pl.String(), "date": pl.Date(), "rows": pl.Int64()})
    handle = tables.open_table(lake, events.TABLE.name)
    if handle is None:
        return pl.DataFrame(schema=schema)
    actions = pl.DataFrame(handle.get_add_actions(flatten=True))
    return actions.select("path", date="partition.date", rows="num_records").cast(schema)


def rows_of_files(lake: Lake, files: pl.DataFrame) -> pl.LazyFrame:
    """Return the rows of these data files (path, file), each with its `path` and `file`."""
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
        storage_options=lake.scan_options,
    )
    return rows.join(places.lazy(), on="uri")


def rolled_up(lake: Lake) -> tuple[pl.DataFrame, int]:
    """Return the data files in `rollups` (file, path, current), and the number for the next one.

    Only those whose aggregates have another layout are not current.
    """
    handle = tables.open_table(lake, TABLE.name)
    if handle is None:
        schema = {"file": pl.Int64(), "path": pl.String(), "current": pl.Boolean()}
        return pl.DataFrame(schema=schema), 0
    rows = rollup.completed(pl.scan_delta(handle)).filter(pl.col("part") == rollup.FILES)
    current = pl.col("layout").eq_missing(rollup.LAYOUT)
    return rows.select("file", "path", current=current).collect(), commits.fence(handle, TABLE.name)


def append(
    lake: Lake, first: int, until: int, rows: pl.DataFrame, gone: Sequence[int] = ()
) -> Appended:
    """Commit the aggregates of the files [first, until), and delete those of the files `gone`.

    Raises FileNotFoundError if `events` has lost one of these files meanwhile.
    """
    named, lost = rows.filter(pl.col("part") == rollup.FILES).drop_nulls("path"), list[str]()

    def decide(_: DeltaTable, done: int) -> Decision | None:
        if done != first:
            return None
        # `forget` commits after such a loss, so that this decision is made again.
        lost[:] = named.join(event_files(lake), on="path", how="anti")["path"]
        if lost:
            return None
        replaces = f"file >= {first} OR file IN ({', '.join(map(str, gone))})" if gone else None
        return Decision(rows, until, replaces)

    appended = commits.write(lake, TABLE, TABLE.name, decide, {})
    if lost:
        raise FileNotFoundError(lost[0])
    return appended


def forget(lake: Lake) -> None:
    """Delete the aggregates of files that `events` lacks, and the former files of this table.

    To be called after rows of `events` were deleted. The files that replace theirs are left to the
    next maintenance.
    """
    if tables.open_table(lake, TABLE.name) is None:
        return

    def decide(_: DeltaTable, done: int) -> Decision:
        known, _next = rolled_up(lake)
        gone = known.join(event_files(lake), on="path", how="anti")["file"].to_list()
        replaces = f"file IN ({', '.join(map(str, gone))})" if gone else None
        # Even without rows to delete: a process that aggregates a deleted file then loses the race.
        return Decision(pl.DataFrame(schema=ROLLUPS), done, replaces)

    commits.write(lake, TABLE, TABLE.name, decide, {})
    deletions.vacuum(lake, TABLE.name)


_ROLLED_AT_ONCE = 500_000  # rows


def roll_up(lake: Lake, today: date) -> None:
    """Aggregate new files of past days, and delete the aggregates of files that are gone.

    Files whose aggregates have an older layout are aggregated again.
    """
    try:
        _roll_up(lake, today)
    except FileNotFoundError:  # retention also deletes files that are being read
        _roll_up(lake, today)


def _roll_up(lake: Lake, today: date) -> None:
    known, first = rolled_up(lake)
    files = event_files(lake).sort("date", "path")
    present = known.filter("current").join(files, on="path", how="semi")
    gone = known.join(present, on="file", how="anti")["file"].to_list()
    fresh = files.filter(pl.col("date") < today).join(
        present, on="path", how="anti", maintain_order="left"
    )
    numbered = fresh.with_row_index("file", first).with_columns(
        pl.col("file").cast(pl.Int64),
        batch=(pl.col("rows").cum_sum() - pl.col("rows")) // _ROLLED_AT_ONCE,
    )
    for batch in numbered.partition_by("batch", maintain_order=True):
        rows = rollup.rolled(rows_of_files(lake, batch), _texts(lake, batch))
        # A file that was read incompletely would make every later count wrong.
        if rows.filter(part=rollup.FILES)["n"].sum() != batch["rows"].sum():
            raise LakeError(
                "events: its files have another number of rows than its Delta log states: run "
                "`auditlake verify`"
            )
        append(lake, first, first + batch.height, rows, gone)
        first, gone = first + batch.height, []
    if gone:
        append(lake, first, first, pl.DataFrame(schema=ROLLUPS), gone)


def _texts(lake: Lake, batch: pl.DataFrame) -> pl.DataFrame:
    """Return the trigrams of these files, reading one file into memory at a time."""
    columns = [*SEARCHED, TARGETS]
    trigrams = []
    for file in batch.iter_slices(1):
        rows = rows_of_files(lake, file).select(columns).collect(engine="streaming")
        row = file.row(0, named=True)
        place = {name: pl.lit(row[name], ROLLUPS[name]) for name in ("file", "date")}
        trigrams.append(rollup.texts(rows).with_columns(**place))
    return pl.concat(trigrams)
