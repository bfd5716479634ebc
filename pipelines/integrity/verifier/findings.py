"""Computes the leaf hashes of `findings` from its data files: of all columns of each row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
from deltalake import DeltaTable

from pipelines.integrity.verifier import data_files
from pipelines.integrity.verifier.job import FINDINGS as TABLE
from pipelines.integrity.verifier.job import Job
from pipelines.integrity.verifier.proofs import bounded
from pipelines.integrity.verifier.rows import UNREADABLE, Leaves, Odd, Task, outside, reason_of
from pipelines.schemas import FINDINGS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_STORED = {name: dtype for name, dtype in FINDINGS.items() if name != "date"}
_NUMBERED = {"seq", "finding_uid", "revision"}


def are_none(case: Job) -> bool:
    """Return whether this is a table of findings without one ever, so that none is signed."""
    if case.table != TABLE or case.shelf.read("checkpoint") is not None:
        return False
    try:
        handle = DeltaTable(case.place.uri(case.table), storage_options=case.options)
        return not handle.file_uris() and not handle.transaction_version(TABLE)
    except UNREADABLE:
        return False


def leaves(task: Task) -> Leaves:
    """Return the leaves of all rows in the task's files, with any inconsistencies found."""
    seqs: list[int] = []
    hashes: list[bytes] = []
    odd: list[Odd] = []
    for file in task.files:
        try:
            for seq, entry in _entries(file, task, odd):
                seqs.append(seq)
                hashes.append(hashlib.sha256(b"\0" + entry).digest())
        except (*UNREADABLE, OverflowError) as error:
            detail = f"{file}: {reason_of(error)}"
            odd.append(Odd(seq=None, kind="unreadable", detail=detail))
    return Leaves(seqs=seqs, hashes=b"".join(hashes), odd=odd)


def _entries(file: str, task: Task, odd: list[Odd]) -> Iterator[tuple[int, bytes]]:
    rows = _rows(file, task).collect()
    odd += outside(task, file, rows)
    if rows.select(_NUMBERED).null_count().sum_horizontal().item():
        odd.append(Odd(seq=None, kind="changed", detail=f"rows of {task.day} contain nulls"))
        rows = rows.drop_nulls(list(_NUMBERED))
    for row in rows.filter((pl.col("seq") >= task.first) | (pl.col("seq") < 0)).to_dicts():
        yield row["seq"], bounded("\n".join(["auditlake/finding/1", *fields(row, task.day)]))


def _rows(file: str, task: Task) -> pl.LazyFrame:
    how: dict[str, Any] = {"hive_partitioning": False, "use_statistics": False}
    found = data_files.scan([file], task.options, task.kept, **how)
    present = found.collect_schema()
    return found.select(
        pl.col(name).cast(dtype) if name in present else pl.lit(None, dtype).alias(name)
        for name, dtype in _STORED.items()
    )


def fields(row: Mapping[str, Any], day: date) -> list[str]:
    """Return the parts of a row's leaf as text: digest of the columns, revision, finding_uid."""
    held = {name: _plain(value) for name, value in row.items() if value is not None}
    held["date"] = day.isoformat()
    del held["seq"]  # the place of the leaf
    text = json.dumps(held, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return [digest, str(row["revision"]), str(row["finding_uid"])]


def _plain(value: Any) -> Any:
    return (value - _EPOCH) // _MICROSECOND if isinstance(value, datetime) else value
