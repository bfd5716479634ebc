"""The table `identities`: the account of each person in each integration, derived from `events`.

Its fence is the number of versions of `events` that it stands for: the newest one plus one. Data
files of past days come from the aggregates in `rollups`, so that only new files are read; without
those, all are.
"""

from __future__ import annotations

import polars as pl
from deltalake import DeltaTable

from pipelines.lake import (
    commits,
    deletions,
    events,
    identity,
    per_file,
    rollup,
    rollup_table,
    tables,
    versions,
)
from pipelines.lake.commits import DERIVED, STATISTICS, Decision, Table
from pipelines.lake.tables import Lake
from pipelines.lake.versions import TableVersion
from pipelines.schemas import IDENTITIES, ROLLUPS
from pipelines.search import people
from pipelines.search.people import NOBODY, People

TABLE = Table(
    name="identities",
    schema=IDENTITIES,
    about="Accounts and the persons that they belong to, derived from events",
    partitions=(),
    settings={**DERIVED, STATISTICS: "integration"},
)
_ALL = "1 = 1"


def derive(lake: Lake) -> None:
    """Replace the rows by those of the newest version of `events`, unless they are the same."""
    source = versions.newest(lake, events.TABLE.name)
    if source is None:
        return

    versions_now = source.number + 1

    def decide(handle: DeltaTable, versions_then: int) -> Decision | None:
        if versions_then >= versions_now:
            return None
        rows = _rows(lake, source)
        if pl.scan_delta(handle).collect().sort(rows.columns).equals(rows):
            return Decision(rows.clear(), versions_now)
        return Decision(rows, versions_now, _ALL)

    commits.write(lake, TABLE, f"{events.TABLE.name}/{source.id}", decide, {})


def forget(lake: Lake) -> None:
    """Derive the table, if there is one, without removed persons, and delete its former files."""
    if tables.newest(lake, TABLE.name) is None:
        return
    derive(lake)
    deletions.vacuum(lake, TABLE.name)


def read(lake: Lake) -> People:
    """Return the persons of the newest version; nobody in a lake of an older auditlake."""
    with tables.store_errors(TABLE.name), tables.borrowed(lake, TABLE.name) as handle:
        if handle is None:
            return NOBODY
        return tables.cached(handle, "people", lambda: people_of(pl.scan_delta(handle)))


def people_of(rows: pl.LazyFrame | None) -> People:
    """Return the persons of these rows of the table; nobody if it does not exist."""
    if rows is None:
        return NOBODY
    with tables.store_errors(TABLE.name):
        return people.people(rows.collect())


def _rows(lake: Lake, source: TableVersion) -> pl.DataFrame:
    files = source.files().select("path") if source.count() else pl.DataFrame({"path": [""]})[:0]
    rollups = _rollups(lake)
    known = rollups.filter(pl.col("part") == rollup.FILES, pl.col("layout") == rollup.LAYOUT)
    rolled = files.join(known.select("file", "path").collect(), on="path")
    found = [
        rollups.filter(pl.col("part") == rollup.IDENTITIES).join(
            rolled.lazy(), on="file", how="semi"
        )
    ]
    fresh = files.join(rolled, on="path", how="anti").with_row_index("file")
    if fresh.height:
        found.append(identity.pairs(per_file.rows_of_files(lake, fresh)))
    return identity.identities(found)


def _rollups(lake: Lake) -> pl.LazyFrame:
    rows = tables.scan(lake, rollup_table.TABLE.name)
    return pl.LazyFrame(schema=ROLLUPS) if rows is None else rollup.completed(rows)
