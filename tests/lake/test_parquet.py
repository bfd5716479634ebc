"""Every reader gets the same rows from fresh and packed files, whose statistics the log needs."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, WriterProperties, write_deltalake
from polars.testing import assert_frame_equal

from pipelines.lake import coverage, parquet, raw
from pipelines.lake.coverage import Entry
from pipelines.lake.tables import Lake, StreamKey
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
    assert {"seq", "time", "ingested_at", "via"} <= stated
    assert not stated & {"raw", "raw_sha256", "event_id"}


def test_only_days_of_raw_are_packed_later() -> None:
    assert parquet.properties("raw/okta/system_log") == {}
    assert parquet.properties("events") == {parquet.PACKED: parquet.ALL_DAYS}


def _written(folder: Path, rows: pl.DataFrame, properties: WriterProperties) -> Path:
    plain = rows.drop("date").to_arrow(compat_level=pl.CompatLevel.oldest())
    write_deltalake(str(folder), plain, writer_properties=properties)
    (file,) = folder.glob("*.parquet")
    return file


def test_rows_are_scanned_with_the_values_of_their_partitions(tmp_path: Path) -> None:
    days = [date(2026, 3, day) for day in (1, 2, 2)]
    rows = pl.DataFrame({"date": days, "n": [1, 2, 3], "stream": ["a.b-c", "x", "x"]})
    write_deltalake(tmp_path, rows, partition_by=["stream", "date"])
    more = pl.DataFrame({"date": [days[0]], "n": [4], "stream": ["x"], "about": ["new"]})
    write_deltalake(
        tmp_path, more, mode="append", partition_by=["stream", "date"], schema_mode="merge"
    )
    handle = DeltaTable(tmp_path)
    assert_frame_equal(parquet.scan(handle).sort("n").collect(), pl.read_delta(handle).sort("n"))
    late = parquet.scan(handle, [("date", ">=", "2026-03-02"), ("stream", "=", "x")])
    assert late.collect()["n"].to_list() == [2, 3]
    none = parquet.scan(handle, [("date", ">", "2026-03-02")]).collect()
    assert_frame_equal(none, pl.read_delta(handle).clear())


def test_the_state_of_streams_is_shown_without_pyarrow(tmp_path: Path) -> None:
    lake, key, now = Lake(str(tmp_path)), StreamKey("okta", "system_log"), datetime.now(UTC)
    raw.append(lake, key, batch(1, 2), None)
    coverage.record(lake, key, [Entry(since=now - timedelta(hours=1), until=now, asked_at=now)])
    code = """if True:
        import sys
        from datetime import UTC, datetime
        from pipelines.lake import coverage, raw
        from pipelines.lake.tables import Lake, StreamKey
        lake, key = Lake(sys.argv[1]), StreamKey("okta", "system_log")
        assert not coverage.entries(lake, key).is_empty()
        for table in raw.logs(lake, [key]).values():
            assert table.since(datetime(2020, 1, 1, tzinfo=UTC).date()).collect().height == 2
        assert "pyarrow" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
