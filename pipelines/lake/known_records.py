"""Finds the records of a batch that raw does not have: new ids, and known ids with other content.

A record with the same id and bytes is recognised by its digest. Only where digests differ are
records parsed and compared, and the outcome is remembered while this process runs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl
from deltalake import DeltaTable

from pipelines.lake import pruning, tables
from pipelines.lake.tables import Lake, StreamKey
from pipelines.schemas import RAW
from pipelines.sdk import record_versions
from pipelines.sdk.record_versions import MOST, SAME_TIME, Comparison, Content

_REMEMBERED = 200_000
_log = logging.getLogger(__name__)
_settled: set[tuple[str, str, str, str]] = set()
"""(table, event_id, way, digest) of records that were compared and need not be stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The rows of a raw table with times like those of a batch, read as far as they are needed."""

    rows: pl.LazyFrame
    ids: pl.DataFrame
    """event_id, time, via and raw_sha256 of those with an id of the batch."""
    later: pl.DataFrame
    """Those of later versions of a record, with the `record` that they belong to."""


def stored(lake: Lake, handle: DeltaTable | None, batch: pl.DataFrame) -> Stored:
    """Return the stored rows that include all duplicates of a batch; none without a handle.

    The same id implies the same time. Some vendors push a time with less precision than their API
    returns, hence the tolerance.
    """
    found = pl.LazyFrame(schema=RAW)
    if handle is not None and batch.height:
        found = _near(lake, handle, batch)
    ids = found.select("event_id", "time", "via", "raw_sha256").collect()
    later = ids.filter(record_versions.is_later()).with_columns(record=record_versions.record_id())
    return Stored(rows=found, ids=ids.join(batch, on="event_id", how="semi"), later=later)


def fresh(key: str, batch: pl.DataFrame, known: Stored, rules: Comparison) -> pl.DataFrame:
    """Return the rows of a batch to be stored; of a later version, the event_id is marked.

    `key` names the table.
    """
    once = batch.unique("event_id", keep="first", maintain_order=True)
    met = known.ids
    if met.is_empty() and known.later.is_empty() and once.height == batch.height:
        return once
    new = once
    if met.height:
        new = once.join(met, on="event_id", how="anti", maintain_order="left")
    other = pl.concat([_other(once, met, known), _repeated(batch, once)])
    other = other.filter(~_is_settled(key, other))
    if other.is_empty():
        return new
    versions = _versions(known, new, other, rules)
    changed = list(_changed(key, other, versions, rules))
    return pl.concat([new, pl.DataFrame(changed, other.schema, orient="row")])


def _other(once: pl.DataFrame, met: pl.DataFrame, known: Stored) -> pl.DataFrame:
    """Return the rows whose id is stored, but not for certain with this content."""
    first = met.select("event_id", digest="raw_sha256").unique("event_id")
    found = once.join(first, on="event_id", maintain_order="left")
    differs = pl.col("digest") != pl.col("raw_sha256")
    if known.later.height:
        # Even a true copy of the first version may have to be stored, if a push came between.
        differs |= pl.col("event_id").is_in(known.later["record"].implode())
    return found.filter(differs).drop("digest")


def _repeated(batch: pl.DataFrame, once: pl.DataFrame) -> pl.DataFrame:
    """Return the rows whose id is in the batch more than once, other than the first of each."""
    if once.height == batch.height:
        return batch.clear()
    content = ["event_id", "raw_sha256"]
    distinct = batch.unique(content, keep="first", maintain_order=True)
    return distinct.join(once, on=content, how="anti", maintain_order="left")


def _versions(
    known: Stored, new: pl.DataFrame, other: pl.DataFrame, rules: Comparison
) -> dict[str, list[Content]]:
    """Return the versions of each record in `other`, the first one first."""
    ids = other["event_id"].unique()
    later = known.later.filter(pl.col("record").is_in(ids.implode()))["event_id"]
    wanted = pl.col("event_id").is_in(pl.concat([ids, later]).implode())
    # Rows without a seq come with this batch, after all that are stored.
    columns = (record_versions.record_id(), "via", "raw")
    held = known.rows.filter(wanted).sort("seq").select(*columns).collect()
    found: dict[str, list[Content]] = {}
    for rows in (held, new.filter(wanted).select(*columns)):
        for record, via, raw in rows.iter_rows():
            found.setdefault(record, []).append(_content(raw, via, rules))
    return found


def _changed(
    key: str, other: pl.DataFrame, versions: dict[str, list[Content]], rules: Comparison
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows whose content no version of the record has, with the event_id marked."""
    left_out = 0
    names = other.columns
    for values in other.iter_rows():
        row = dict(zip(names, values, strict=True))
        held, content = versions[row["event_id"]], _content(row["raw"], row["via"], rules)
        if record_versions.is_known(content, held):
            _settle(key, row)
        elif sum(each.pushed == content.pushed for each in held) >= MOST:
            left_out += 1
            _settle(key, row)
        else:
            held.append(content)
            row["event_id"] = record_versions.marked(row["event_id"], content)
            yield tuple(row.values())
    if left_out:
        _log.warning(
            "%s: %d records have an id with %d other versions already and were not stored",
            key, left_out, MOST,
        )  # fmt: skip


def _content(raw: str, via: str, rules: Comparison) -> Content:
    return record_versions.content(
        raw.encode(), pushed=not record_versions.is_polled(via), rules=rules
    )


def _is_settled(key: str, rows: pl.DataFrame) -> pl.Series:
    found = [
        (key, *row) in _settled for row in rows.select("event_id", "via", "raw_sha256").iter_rows()
    ]
    return pl.Series(found, dtype=pl.Boolean)


def _settle(key: str, row: dict[str, Any]) -> None:
    if len(_settled) >= _REMEMBERED:
        _settled.clear()
    _settled.add((key, row["event_id"], row["via"], row["raw_sha256"]))


def any_fresh(lake: Lake, key: StreamKey, batch: pl.DataFrame, rules: Comparison) -> bool:
    """Return whether a batch (schemas.RAW without `seq`) has a record that would be stored."""
    with tables.store_errors(key.table), tables.borrowed(lake, key.table) as handle:
        known = stored(lake, handle, batch)
        return not fresh(lake.uri(key.table), batch, known, rules).is_empty()


def existing(lake: Lake, key: StreamKey, rows: pl.DataFrame) -> list[str]:
    """Return the ids of those events (event_id, time) that are stored in raw."""
    with tables.borrowed(lake, key.table) as handle:
        return stored(lake, handle, rows).ids["event_id"].to_list()


def _near(lake: Lake, handle: DeltaTable, batch: pl.DataFrame) -> pl.LazyFrame:
    oldest, newest = batch.select(pl.col("time").min(), last=pl.col("time").max()).row(0)
    since, until = oldest - SAME_TIME, newest + SAME_TIME
    shifts = (-SAME_TIME, SAME_TIME)
    days = pl.concat([(batch["time"] + shift).dt.date() for shift in shifts]).unique()
    filters = [("date", "in", [str(day) for day in days])]
    near_files = pruning.overlapping(pruning.files(handle), "time", since, until)
    names = pruning.names(near_files)
    near = tables.scan_partitions(lake, handle, RAW, filters, names)
    return near.filter(pl.col("time").is_between(since, until))
