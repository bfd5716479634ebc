"""Rows of detections about records: found and deleted with the records that are removed.

A finding that names a removed event is removed as a whole, with all its revisions, the
decisions and alerts about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from pipelines.lake import deletions, tables
from pipelines.lake.findings import DELIVERIES, FINDINGS, HITS, TRIAGE
from pipelines.lake.tables import Lake, StreamKey

TABLES = (FINDINGS, HITS, TRIAGE, DELIVERIES)
_AT_ONCE = 5000
_PART_OF_RECORD = r"#\d+$"
"""Ends the uid of one of several events of a record."""


def about(lake: Lake, log: StreamKey, rows: str) -> list[int]:
    """Return the seqs of the findings that name events of rows of a stream.

    `rows` are these as SQL on the columns of raw, and they have to be there still.
    """
    found, stored = tables.scan(lake, FINDINGS.name), tables.scan(lake, log.table)
    if found is None or stored is None:
        return []
    named = (
        found.select("finding_uid", uid="event_uids")
        .explode("uid", empty_as_null=False, keep_nulls=False)
        .filter(pl.col("uid").str.starts_with(_prefix(log)))
        .select("finding_uid", event=pl.concat_list(_ids(log)))
        .explode("event", empty_as_null=False, keep_nulls=False)
    )
    removed = stored.filter(pl.sql_expr(rows)).select(event="event_id")
    uids = named.join(removed, on="event", how="semi").select("finding_uid").collect()
    return _seqs(found, uids["finding_uid"])


def _seqs(found: pl.LazyFrame, uids: pl.Series) -> list[int]:
    ours = found.filter(pl.col("finding_uid").is_in(uids.unique().implode()))
    return ours.select("seq").collect()["seq"].sort().to_list()


def delete(lake: Lake, seqs: Sequence[int]) -> None:
    """Delete findings, the decisions about them and their alerts; the findings last."""
    stored = tables.scan(lake, FINDINGS.name)
    if stored is None:
        return
    uids = stored.filter(pl.col("seq").is_in(list(seqs))).select("finding_uid").collect()
    for listed in _listed(uids["finding_uid"].unique().sort()):
        deletions.delete_rows(lake, TRIAGE.name, f"finding_uid IN ({listed})")
    _delete_deliveries(lake, uids["finding_uid"])
    for first in range(0, len(seqs), _AT_ONCE):
        listed = ", ".join(map(str, seqs[first : first + _AT_ONCE]))
        deletions.delete_rows(lake, FINDINGS.name, f"seq IN ({listed})")


def _delete_deliveries(lake: Lake, uids: pl.Series) -> None:
    """Delete all rows of the deliveries about these findings."""
    stored = tables.scan(lake, DELIVERIES.name)
    if stored is None:
        return
    tells = pl.col("subjects").list.eval(pl.element().is_in(uids.unique().implode())).list.any()
    ours = stored.filter(tells).select("delivery").unique().collect()["delivery"]
    for listed in _listed(ours.sort()):
        deletions.delete_rows(lake, DELIVERIES.name, f"delivery IN ({listed})")


def delete_hits(lake: Lake, log: StreamKey, rows: str, days: str | None) -> None:
    """Delete matches of correlations' rules in these rows, or on these days."""
    stored, ours = tables.scan(lake, log.table), tables.stream_predicate(log)
    if days:
        deletions.delete_rows(lake, HITS.name, f"{ours} AND {days}")
    elif stored is not None and tables.open_table(lake, HITS.name) is not None:
        ids = stored.filter(pl.sql_expr(rows)).select("event_id").collect()["event_id"]
        hits = tables.existing(lake, HITS.name).filter(tables.of_stream(log)).select("uid")
        gone = pl.any_horizontal(id_.is_in(ids.implode()) for id_ in _ids(log))
        for listed in _listed(hits.filter(gone).unique().collect()["uid"].sort()):
            deletions.delete_rows(lake, HITS.name, f"{ours} AND uid IN ({listed})")


def _prefix(log: StreamKey) -> str:
    return f"{log.integration}:{log.stream}:"


def _ids(log: StreamKey) -> Sequence[pl.Expr]:
    """Return the ids that the record of an event `uid` may have: with the end, and without it."""
    name = pl.col("uid").str.strip_prefix(_prefix(log))
    return name, name.str.replace(_PART_OF_RECORD, "")


def _listed(values: pl.Series) -> Iterator[str]:
    """Yield the values as lists of SQL."""
    for part in values.to_frame().iter_slices(_AT_ONCE):
        yield tables.sql(*part.to_series())
