"""Data files that a run of the verifier reads once."""

import copy
from pathlib import Path

import polars as pl
import pytest

from pipelines.integrity.verifier import data_files
from pipelines.integrity.verifier.data_files import Kept


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Three files, of which the second is large; and those that were read, in order."""
    for number in range(3):
        pl.DataFrame({"seq": [number]}).write_parquet(tmp_path / f"{number}.parquet")
    paths = [str(tmp_path / f"{number}.parquet") for number in range(3)]
    read = []

    def small(file, _):
        read.append(file)
        return None if file == paths[1] else Path(file).read_bytes()

    monkeypatch.setattr(data_files, "_small", small)
    return paths, read


def test_rows_come_in_the_order_of_files_and_each_is_read_once(files):
    paths, read = files
    kept = Kept()
    for _ in range(2):
        rows = data_files.scan(paths, None, kept, named="file").collect()
        assert rows["seq"].to_list() == [0, 1, 2]
        assert rows["file"].to_list() == paths
    assert read == paths


def test_more_than_there_is_room_for_is_read_again(files):
    paths, read = files
    kept = Kept(_room=1)
    for _ in range(2):
        assert data_files.scan(paths[:1], None, kept).collect()["seq"].to_list() == [0]
    assert read == paths[:1] * 2


def test_up_to_256_mib_are_kept(monkeypatch):
    sizes, read = {"s3://b/1": 256 * 2**20, "s3://b/2": 1}, []

    def small(file, _):
        read.append(file)
        return range(sizes[file])  # as long as the content, in less memory

    monkeypatch.setattr(data_files, "_small", small)
    kept = Kept()
    for file in [*sizes] * 2:
        assert len(kept.content(file, None)) == sizes[file]
    assert read == ["s3://b/1", "s3://b/2", "s3://b/2"]


def test_an_object_is_read_with_the_options_of_its_store_up_to_4_mib(monkeypatch):
    def whole(shelf, name, most):
        return f"{shelf.root} {dict(shelf.options)} {name} {most}".encode()

    monkeypatch.setattr(data_files.LogFiles, "whole", whole)
    for options in ({"key": "value"}, None):
        found = Kept().content("s3://b/raw/x.parquet", options)
        assert found == f"s3://b/raw {options or {}} x.parquet {4 * 2**20}".encode()


def test_another_process_begins_with_nothing(files):
    paths, read = files
    kept = Kept(acts={b"note": [b"act"]})
    data_files.scan(paths, None, kept).collect()
    sent = copy.copy(kept)  # as pickle does it
    assert sent.acts == {}
    data_files.scan(paths, None, sent).collect()
    assert read == paths * 2


def test_files_on_a_disk_are_left_to_polars():
    for name in ("/lake/a.parquet", "file:///lake/a.parquet"):
        assert Kept().content(name, None) is None
