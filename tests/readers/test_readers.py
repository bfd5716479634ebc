"""Programs that read Delta tables or Parquet return the rows of every table as they were written.

Dask, Daft and Sail (Spark's API) are installed by `make test-readers`; the others run always.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import chdir
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable

from pipelines import settings
from pipelines.integrity import retention
from pipelines.integrity.retention import Removal
from pipelines.lake import tables
from tests.promises import old_lake
from tests.promises.old_lake import ANCHOR, LOGS

TABLES = [
    *(log.table for log in LOGS),
    *("access", "coverage", "echoes", "events", "identities", "reconciliation", "rejected"),
    *("rollups", "streams", "text_index", "views"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with every table, from which retention has removed a day."""
    folder = tmp_path_factory.mktemp("readers")
    old_lake.make(folder)
    with chdir(folder):
        lake = tables.configured(settings.load(Path("auditlake.toml")))
        before = date(2026, 3, 4)
        removal = Removal(log=LOGS[0], before=before, who="ada", why="a test")
        assert retention.remove(lake, removal, ANCHOR)
    return folder / "data"


def polars(root: Path, table: str) -> pl.DataFrame:
    return pl.read_delta(str(root / table))


def pyarrow(root: Path, table: str) -> pl.DataFrame:
    return frame(DeltaTable(str(root / table)).to_pyarrow_dataset().to_table())


def pandas(root: Path, table: str) -> pl.DataFrame:
    return frame(DeltaTable(str(root / table)).to_pandas())


def in_duckdb(root: Path, table: str) -> pl.DataFrame:
    rows = DeltaTable(str(root / table)).to_pyarrow_dataset()  # noqa: F841 DuckDB finds it
    return duckdb.sql("SELECT * FROM rows").pl()


def in_dask(root: Path, table: str) -> pl.DataFrame:
    reader = pytest.importorskip("dask_deltatable", reason="make test-readers installs it")
    import dask

    # Otherwise lists become strings.
    with dask.config.set({"dataframe.convert-string": False}):
        return frame(reader.read_deltalake(str(root / table)).compute())


def in_daft(root: Path, table: str) -> pl.DataFrame:
    reader = pytest.importorskip("daft", reason="make test-readers installs it")
    return frame(reader.read_deltalake(str(root / table)).to_arrow())


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """A session of Spark's API, answered by Sail."""
    pytest.importorskip("pysail", reason="make test-readers installs it")
    import pyspark
    from pysail.spark import SparkConnectServer
    from pyspark.sql import SparkSession

    os.environ.setdefault("SPARK_HOME", str(Path(pyspark.__file__).parent))
    server = SparkConnectServer()
    server.start()
    _, port = server.listening_address
    session = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").getOrCreate()
    yield session
    session.stop()
    server.stop()


def frame(found: Any) -> pl.DataFrame:
    made = pl.from_pandas(found) if hasattr(found, "iloc") else pl.from_arrow(found)
    assert isinstance(made, pl.DataFrame)
    return made


def same(found: pl.DataFrame, root: Path, table: str) -> bool:
    """Return whether these are the rows of the table, in whatever order."""
    written = polars(root, table)
    by = [name for name, dtype in written.schema.items() if not dtype.is_nested()]
    read = found.select(pl.col(name).cast(dtype) for name, dtype in written.schema.items())
    return read.sort(by).equals(written.sort(by))


Reader = Callable[[Path, str], pl.DataFrame]


@pytest.mark.parametrize("read", [pyarrow, pandas, in_duckdb], ids=lambda read: read.__name__)
def test_a_reader_returns_the_rows_of_every_table(root: Path, read: Reader) -> None:
    assert sorted(str(path.parent.relative_to(root)) for path in root.glob("**/_delta_log")) == (
        sorted(TABLES)
    )
    assert all(polars(root, table).height for table in TABLES)
    assert [table for table in TABLES if not same(read(root, table), root, table)] == []


@pytest.mark.readers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("read", [in_dask, in_daft], ids=lambda read: read.__name__)
def test_a_distributed_reader_returns_the_rows_of_every_table(root: Path, read: Reader) -> None:
    assert [table for table in TABLES if not same(read(root, table), root, table)] == []


@pytest.mark.readers
@pytest.mark.filterwarnings("ignore")
def test_spark_returns_the_rows_of_every_table(root: Path, spark: Any) -> None:
    found = {table: spark.read.format("delta").load(str(root / table)) for table in TABLES}
    assert [t for t, rows in found.items() if not same(frame(rows.toArrow()), root, t)] == []


def test_strings_are_stored_as_plain_strings(root: Path) -> None:
    """Not as views, which Daft and older readers of Arrow do not know."""
    import pyarrow.parquet as pq

    for table in TABLES:
        for file in DeltaTable(str(root / table)).file_uris():
            types = {str(field.type) for field in pq.read_schema(file)}
            assert not any("view" in each for each in types), (table, types)
