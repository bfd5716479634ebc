"""Every reader gets the same rows from fresh and packed files, whose statistics the log needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from deltalake import WriterProperties, write_deltalake

from pipelines.lake import parquet
from tests.lake.batches import batch


@pytest.mark.parametrize("properties", [parquet.fresh, parquet.packed])
def test_rows_of_raw_are_read_back_by_other_readers_too(tmp_path: Path, properties: Any) -> None:
    found = batch(*range(100)).with_row_index("seq").cast({"seq": pl.Int64})
    file = _written(tmp_path, found, properties("raw/okta/system_log"))
    columns = ["event_id", "time", "seq", "raw", "raw_sha256"]
    assert pl.read_parquet(file).select(columns).equals(found.select(columns))
    assert pl.DataFrame(pq.read_table(file)).select(columns).equals(found.select(columns))
    read = duckdb.read_parquet(str(file)).order("seq").project("raw, raw_sha256").fetchall()
    assert read == found.select("raw", "raw_sha256").rows()


def test_packed_rows_have_the_statistics_that_prune_and_none_of_texts(tmp_path: Path) -> None:
    found = batch(*range(100)).with_row_index("seq").cast({"seq": pl.Int64})
    group = pq.ParquetFile(_written(tmp_path, found, parquet.packed("raw/x/y"))).metadata.row_group(
        0
    )
    stated = {group.column(at).path_in_schema for at in range(group.num_columns)
              if group.column(at).is_stats_set}  # fmt: skip
    assert {"seq", "time", "ingested_at"} <= stated
    assert not stated & {"raw", "raw_sha256", "event_id", "via"}


def test_only_days_of_raw_are_packed_later() -> None:
    assert parquet.properties("raw/okta/system_log") == {}
    assert parquet.properties("events") == {parquet.PACKED: parquet.ALL_DAYS}


def _written(folder: Path, rows: pl.DataFrame, properties: WriterProperties) -> Path:
    plain = rows.drop("date").to_arrow(compat_level=pl.CompatLevel.oldest())
    write_deltalake(str(folder), plain, writer_properties=properties)
    (file,) = folder.glob("*.parquet")
    return file
