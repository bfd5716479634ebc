"""The parts of interrupted backtests are read as they were written, or evaluated again."""

import os
from datetime import timedelta

import polars as pl
import pytest

from pipelines.detections import evaluate, interrupted
from pipelines.detections.interrupted import Parts
from tests.detections.ruled import read
from tests.detections.watched import LATER, detect, findings, land, okta, rule


@pytest.fixture
def found(lake, tmp_path):
    land(lake, "okta", okta(0))
    detect(lake, read(tmp_path, rule(1, {"eventType": "user.session.start"})))
    empty = evaluate.nothing({})
    return evaluate.Found(findings=findings(lake).drop("seq"), hits=empty.hits)


def test_a_part_is_read_as_it_was_written(tmp_path, found):
    kept = Parts(tmp_path / "state" / "backtests")
    assert kept.read("one") is None
    kept.write("one", found, 7)
    again, rows = kept.read("one")
    assert rows == 7
    assert again.findings.equals(found.findings)
    assert again.hits.schema == found.hits.schema
    assert (tmp_path / "state" / "backtests").stat().st_mode & 0o077 == 0
    kept.remove(["one", "two"])
    assert kept.read("one") is None


@pytest.mark.parametrize("content", [b"", b"\x93", b"\x93\x01\xc4\x01x\xc4\x01x", b"{}"])
def test_a_damaged_part_is_evaluated_again(tmp_path, content):
    (tmp_path / "one.part").write_bytes(content)
    assert Parts(tmp_path).read("one") is None


def test_old_parts_are_removed(tmp_path, found):
    kept = Parts(tmp_path)
    for name in ("old", "new"):
        kept.write(name, found, 1)
    os.utime(tmp_path / "old.part", (LATER.timestamp(), LATER.timestamp()))
    os.utime(tmp_path / "new.part")
    kept.expire(timedelta(days=10_000))
    assert kept.read("old")
    os.utime(tmp_path / "old.part", (0, 0))
    kept.expire()
    assert (kept.read("old"), kept.read("new") is None) == (None, False)
    kept.expire(timedelta(0))
    assert kept.read("new") is None


def test_without_a_folder_nothing_is_kept(tmp_path, found):
    for kept in (Parts(None), Parts(tmp_path / "file" / "below")):
        (tmp_path / "file").touch()
        kept.write("one", found, 1)
        assert kept.read("one") is None
        kept.remove(["one"])
        kept.expire()


def test_the_folder_is_that_of_the_lake(lake):
    assert interrupted.of(lake).folder.parent.name == lake.digest
    assert interrupted.name("a", 1) != interrupted.name("a", 2)
    one, other = pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [2]})
    assert interrupted.digest(one) != interrupted.digest(other)
