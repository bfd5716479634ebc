"""The log entries of rows of `findings`; see docs/integrity.md."""

from __future__ import annotations

import json
from hashlib import sha256

import polars as pl

from pipelines.schemas import FINDINGS


def entries(rows: pl.DataFrame) -> list[bytes]:
    """Return the log entry of each row: the hash of its columns, its revision and its uid.

    `seq` is the place in the log, and as such no part of the entry. Columns without a value are
    left out, so that a table may be given more columns.
    """
    plain = rows.select(
        pl.col(name).dt.epoch("us") if isinstance(dtype, pl.Datetime) else pl.col(name)
        for name, dtype in FINDINGS.items()
    )
    return [
        f"auditlake/finding/1\n{_digest(row)}\n{row['revision']}\n{row['finding_uid']}".encode()
        for row in plain.iter_rows(named=True)
    ]


def _digest(row: dict[str, object]) -> str:
    held = {name: value for name, value in row.items() if value is not None and name != "seq"}
    text = json.dumps(
        {**held, "date": str(row["date"])},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return sha256(text.encode()).hexdigest()
