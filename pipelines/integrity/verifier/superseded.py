"""Finds the rows whose events another version of the same record replaces, and names the records.

The same choice is made when events are derived: `pipelines.sdk.record_versions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import chain

import polars as pl

from pipelines import registry
from pipelines.integrity.verifier import data_files
from pipelines.integrity.verifier.job import Job, TableReport
from pipelines.sdk import record_versions
from pipelines.sdk.record_versions import Comparison

_COLUMNS = {
    "event_id": pl.String(),
    "time": pl.Datetime("us", "UTC"),
    "via": pl.String(),
    "seq": pl.Int64(),
}
_NAMED = 5
_UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
Files = Mapping[date, Sequence[str]]


def find(
    case: Job, verdict: TableReport, new: Files, every: Files, derived: int
) -> dict[date, list[int]]:
    """Return the replaced rows by day, of those whose events are `derived`.

    `new` are the files to verify, `every` those of the whole table. Records whose versions differ
    are noted in the verdict: no row was altered, but somebody sent another content for their id.
    """
    if case.kind is None:
        return {}
    later = _rows(case, list(chain.from_iterable(new.values())), record_versions.is_later())
    later = later.filter(pl.col("seq") < derived)
    found: dict[date, list[int]] = {}
    for (day, *_), of_day in later.group_by(pl.col("time").dt.date(), maintain_order=True):
        records = of_day.select(record_versions.record_id())["event_id"].unique()
        ours = record_versions.record_id().is_in(records.implode()) & (pl.col("seq") < derived)
        versions = _rows(case, every.get(day, ()), ours, raw=True)
        found[day] = versions.filter(record_versions.superseded())["seq"].to_list()
        for each in record_versions.differences(versions, _rules(case)):
            verdict.differing[each.record] = each.words
    if verdict.differing:
        verdict.notes.append(_note(list(verdict.differing.values())))
    return found


def _rows(
    case: Job, files: Sequence[str], condition: pl.Expr, *, raw: bool = False
) -> pl.DataFrame:
    """Return the rows that meet a condition; files that cannot be read are reported elsewhere."""
    schema = {**_COLUMNS, "raw": pl.String()} if raw else _COLUMNS
    try:
        return _scanned(case, files, schema, condition)
    except _UNREADABLE:
        each = [pl.DataFrame(schema=schema), *_readable(case, files, schema, condition)]
        return pl.concat(each)


def _readable(
    case: Job, files: Sequence[str], schema: Mapping[str, pl.DataType], condition: pl.Expr
) -> Iterator[pl.DataFrame]:
    for file in files:
        try:
            yield _scanned(case, [file], schema, condition)
        except _UNREADABLE:
            continue


def _scanned(
    case: Job, files: Sequence[str], schema: Mapping[str, pl.DataType], condition: pl.Expr
) -> pl.DataFrame:
    if not files:
        return pl.DataFrame(schema=schema)
    # Statistics could be forged to hide a version.
    rows = data_files.scan(files, case.options, case.place.kept, use_statistics=False)
    return rows.select(pl.col(n).cast(t) for n, t in schema.items()).filter(condition).collect()


def _rules(case: Job) -> Comparison:
    streams = registry.kind(case.kind or "").streams(None)
    return next(each.versions for each in streams if each.name == case.table.split("/")[2])


def _note(differing: Sequence[str]) -> str:
    named = "; ".join(differing[-_NAMED:])
    more = f"; and {len(differing) - _NAMED:,} more" if len(differing) > _NAMED else ""
    return (
        "other content arrived for the same id: somebody who knows the webhook's secret sent it, "
        f"or the vendor has changed the record: {named}{more}"
    )
