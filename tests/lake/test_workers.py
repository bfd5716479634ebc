"""A worker opens the lake with what its own machine knows, and rows survive being packed."""

import polars as pl
import pytest

from pipelines.lake import workers
from pipelines.lake.tables import Lake
from pipelines.schemas import EVENTS

ROOT = "s3://bucket/lake"
CONFIG = f"""
[lake]
root = "{ROOT}"
storage_options = {{ aws_region = "of this machine" }}
"""


@pytest.fixture(autouse=True)
def as_in_a_worker(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "_own", {})
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(tmp_path / "auditlake.toml"))
    workers._configured.cache_clear()
    yield
    workers._configured.cache_clear()


def test_the_options_of_the_store_come_from_the_configuration_of_this_machine(tmp_path):
    (tmp_path / "auditlake.toml").write_text(CONFIG)
    assert workers.lake(ROOT).storage_options == {"aws_region": "of this machine"}
    assert workers.lake("s3://bucket/another") == Lake("s3://bucket/another")


def test_without_a_configuration_the_store_looks_into_the_environment():
    assert workers.lake(ROOT) == Lake(ROOT)
    assert workers.lake("/srv/lake") == Lake("/srv/lake")


def test_the_process_that_gives_the_work_uses_its_own_lake(tmp_path):
    ours = Lake(ROOT, {"aws_region": "ours"})
    assert workers.lake(workers.address(ours)) is ours


def test_a_worker_is_told_the_full_path_of_a_relative_lake(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert workers.address(Lake("data")) == str(tmp_path / "data")


def test_packed_rows_are_the_same_rows():
    rows = pl.DataFrame({"targets": [[{"id": "1", "name": "ä", "type": None}], []]})
    rows = pl.concat([pl.DataFrame(schema=EVENTS), rows], how="diagonal")
    assert workers.unpacked(workers.packed(rows)).equals(rows)
