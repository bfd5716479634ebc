"""Folders of small files behave alike on disk and in an object store."""

import os

import pytest

from pipelines.errors import LakeError
from pipelines.integrity import files
from pipelines.lake.tables import Lake


@pytest.fixture(params=["disk", "bucket"])
def folder(request, tmp_path):
    """The folder `log` of a lake on disk or behind a URL."""
    root = tmp_path / "lake"
    return files.of(Lake(str(root) if request.param == "disk" else f"file://{root}"), "log")


def test_a_path_that_does_not_exist_is_empty(folder):
    assert folder.get("a/b") is None
    assert folder.names("") == folder.names("a") == []
    assert list(folder.lines("a")) == []
    folder.delete(["a", "a/b"])


def test_a_file_is_replaced_as_a_whole(folder):
    folder.put("a/b/c", b"a long first text")
    folder.put("a/b/c", b"short")
    assert folder.get("a/b/c") == b"short"
    folder.put("a/b/empty", b"")
    assert folder.get("a/b/empty") == b""


def test_a_path_below_a_file_does_not_exist(tmp_path):
    folder = files.Disk(tmp_path)
    folder.put("a", b"x")
    assert folder.get("a/b") is None
    assert folder.names("a/b") == []


def test_names_are_those_directly_below_in_order(folder):
    for path in ("b/2", "b/10", "a", "c/d/e"):
        folder.put(path, b"x")
    assert folder.names("") == ["a", "b", "c"]
    assert folder.names("b") == ["10", "2"]


def test_lines_come_back_in_the_order_they_were_added(folder):
    for number in range(5):
        folder.add("history/2026-03", b'{"size": %d}\n' % number)
    folder.add("history/2026-04", b"other\n")
    assert list(folder.lines("history/2026-03")) == [b'{"size": %d}' % n for n in range(5)]
    assert folder.names("history") == ["2026-03", "2026-04"]


def test_only_the_deleted_files_are_gone(folder):
    for path in ("tile/0", "tile/1", "tile/2"):
        folder.put_once(path, b"x")
    folder.delete(["tile/0", "tile/2", "tile/7"])
    assert folder.names("tile") == ["1"]


def test_the_two_kinds_of_folder_read_each_others_files(tmp_path):
    disk = files.of(Lake(str(tmp_path)), "log")
    bucket = files.of(Lake(f"file://{tmp_path}"), "log")
    disk.put("a/b", b"1")
    bucket.put("a/c", b"2")
    assert (disk.get("a/c"), bucket.get("a/b")) == (b"2", b"1")
    assert disk.names("a") == bucket.names("a") == ["b", "c"]


def test_a_file_that_never_changes_is_not_written_again(tmp_path):
    """A kill during a second write in place would cut it short."""
    disk = files.Disk(tmp_path)
    disk.put_once("tile", b"hashes")
    os.utime(tmp_path / "tile", ns=(1, 1))
    disk.put_once("tile", b"hashes")
    assert (tmp_path / "tile").stat().st_mtime_ns == 1


def test_a_file_damaged_by_a_power_cut_is_written_again(tmp_path):
    disk = files.Disk(tmp_path)
    for damage in (b"", b"\0" * 6, b"has"):
        (tmp_path / "tile").write_bytes(damage)
        disk.put_once("tile", b"hashes")
        assert disk.get("tile") == b"hashes"


def test_drafts_left_by_a_kill_are_not_listed(tmp_path):
    disk = files.Disk(tmp_path)
    disk.put("a", b"x")
    (tmp_path / ".b.417.1").write_bytes(b"half")
    assert disk.names("") == ["a"]


@pytest.mark.parametrize("act", ["put", "put_once", "add"])
def test_a_write_that_fails_names_the_file_and_the_remedy(tmp_path, act):
    (tmp_path / "taken").write_bytes(b"a file where a folder has to be")
    with pytest.raises(LakeError, match=r"taken.*free disk space or grant this user write access"):
        getattr(files.Disk(tmp_path), act)("taken/tile", b"x")


def test_a_write_that_fails_replaces_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/kept").write_bytes(b"x")
    with pytest.raises(LakeError):
        files.Disk(tmp_path).put("folder", b"y")
    assert (tmp_path / "folder/kept").read_bytes() == b"x"
