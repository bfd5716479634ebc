"""The table `rollups`: per-file aggregates of `events`, kept up to date by maintenance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from pipelines.engines import Engine, InProcess
from pipelines.lake import commits, per_file, rollup, row_codes, tables, workers
from pipelines.lake.commits import DERIVED, STATISTICS, Appended, Table
from pipelines.lake.tables import Lake
from pipelines.schemas import ROLLUPS
from pipelines.search.fields import SEARCHED, TARGETS

TABLE = Table(
    name="rollups",
    schema=ROLLUPS,
    about="Aggregates per data file of events",
    partitions=("part",),
    settings={**DERIVED, STATISTICS: "file,date"},
)


def rolled_up(lake: Lake) -> tuple[pl.DataFrame, int]:
    """Return the data files in `rollups` (file, path, current), and the number for the next one.

    Only those whose aggregates have another layout are not current.
    """
    handle = tables.newest(lake, TABLE.name)
    if handle is None:
        schema = {"file": pl.Int64(), "path": pl.String(), "current": pl.Boolean()}
        return pl.DataFrame(schema=schema), 0
    rows = rollup.completed(pl.scan_delta(handle)).filter(pl.col("part") == rollup.FILES)
    following = commits.fence(handle, TABLE.name)
    # A number from the next one on, in a table that was written without the fence, is given again.
    current = pl.col("layout").eq_missing(rollup.LAYOUT) & (pl.col("file") < following)
    return rows.select("file", "path", current=current).collect(), following


def append(
    lake: Lake, first: int, until: int, rows: pl.DataFrame, gone: Sequence[int] = ()
) -> Appended:
    """Commit the aggregates of the files [first, until), and delete those of the files `gone`.

    Raises FileNotFoundError if `events` has lost one of these files meanwhile.
    """
    paths = rows.filter(pl.col("part") == rollup.FILES)["path"].drop_nulls()
    return per_file.append(lake, TABLE, range(first, until), rows, paths=paths, gone=gone)


def forget(lake: Lake) -> None:
    """Delete the aggregates of files that `events` lacks, and the former files of this table."""
    per_file.forget(lake, TABLE, lambda lake: rolled_up(lake)[0])


_ROLLED_AT_ONCE = 500_000  # rows
_PLACE = "place"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Data files of `events` for a worker to aggregate (file, path, date, rows)."""

    lake: str
    files: pl.DataFrame


def roll_up(lake: Lake, today: date, engine: Engine | None = None) -> None:
    """Aggregate new files of past days, and delete the aggregates of files that are gone.

    Files whose aggregates have an older layout are aggregated again. Without an engine, this
    process aggregates them.
    """
    engine = engine or InProcess()
    try:
        _roll_up(lake, today, engine)
    except FileNotFoundError:  # retention also deletes files that are being read
        _roll_up(lake, today, engine)


def _roll_up(lake: Lake, today: date, engine: Engine) -> None:
    known, first = rolled_up(lake)
    files = per_file.event_files(lake)
    present = known.filter("current").join(files, on="path", how="semi")
    gone = known.join(present, on="file", how="anti")["file"].to_list()
    past = files.filter(pl.col("date") < today)
    batches = [
        _Batch(lake=workers.address(lake), files=files)
        for files in per_file.batches(past, present, first, _ROLLED_AT_ONCE)
    ]
    all_rows = sum(int(batch.files["rows"].sum()) for batch in batches)
    aggregated = engine.map(_aggregates, batches, all_rows)
    for batch, packed in zip(batches, aggregated, strict=True):
        rows, count = workers.unpacked(packed), batch.files.height
        # A file that was read incompletely would make every later count wrong.
        if rows.filter(part=rollup.FILES)["n"].sum() != batch.files["rows"].sum():
            raise per_file.incomplete()
        append(lake, first, first + count, rows, gone)
        first, gone = first + count, []
    if gone:
        append(lake, first, first, pl.DataFrame(schema=ROLLUPS), gone)


def _aggregates(batch: _Batch) -> bytes:
    lake = workers.lake(batch.lake)
    texts, groups = _by_file(lake, batch.files)
    rows = rollup.rolled(per_file.rows_of_files(lake, batch.files), texts, groups)
    return workers.packed(rows)


def _by_file(lake: Lake, batch: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the trigrams and the groups of these files, of which one at a time is in memory."""
    columns = {*SEARCHED, TARGETS, *row_codes.COLUMNS}
    trigrams, groups = [], []
    for file in batch.iter_slices(1):
        read = per_file.rows_of_files(lake, file, numbered=_PLACE).select(_PLACE, *sorted(columns))
        rows = read.collect(engine="streaming").sort(_PLACE)
        # Otherwise each code would belong to another row.
        if rows.height != file["rows"].item():
            raise per_file.incomplete()
        row = file.row(0, named=True)
        place = {name: pl.lit(row[name], ROLLUPS[name]) for name in ("file", "date")}
        trigrams.append(rollup.texts(rows).with_columns(**place))
        groups.append(row_codes.coded(rows).with_columns(**place))
    return pl.concat(trigrams), pl.concat(groups)
