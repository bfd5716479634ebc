"""The reader of a signed log: the same on disk and in an object store, and calm about damage."""

import obstore
import pytest
from obstore import store

from pipelines.errors import LakeError
from pipelines.integrity import tiles
from pipelines.integrity.files import Disk
from pipelines.integrity.verifier import log_reader
from pipelines.integrity.verifier.log_reader import LogFiles
from tests.integrity.test_merkle import grow, leaves


@pytest.fixture(params=["", "file://"])
def shelf(request, tmp_path):
    return LogFiles(root=f"{request.param}{tmp_path}")


def write(tmp_path, *paths):
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(path.encode())


def test_what_does_not_exist_is_empty(shelf):
    assert shelf.read("okta/checkpoint") is None
    assert shelf.files() == shelf.files("okta") == shelf.pairs() == shelf.pairs("okta") == []


def test_files_are_listed_at_any_depth_in_order(shelf, tmp_path):
    write(tmp_path, "history/2026-03", "history/2026-04", "tile/0/x001/000", "checkpoint")
    assert shelf.files() == ["checkpoint", "history/2026-03", "history/2026-04", "tile/0/x001/000"]
    assert shelf.files("history") == ["history/2026-03", "history/2026-04"]
    assert shelf.read("tile/0/x001/000") == b"tile/0/x001/000"


def test_the_size_of_a_folder_is_that_of_all_files_below_it(shelf, tmp_path):
    write(tmp_path, "okta/a", "okta/deeper/b", "other")
    assert (shelf.size("okta"), shelf.size("none")) == (len("okta/a") + len("okta/deeper/b"), 0)


def test_logs_are_the_folders_two_levels_down(shelf, tmp_path):
    write(tmp_path, "okta/system_log/checkpoint", "entra_id/audits/history/1", "acts/checkpoint",
          "okta/file", "file")  # fmt: skip
    assert shelf.pairs() == ["entra_id/audits", "okta/system_log"]
    assert shelf.below("okta").read("system_log/checkpoint") == b"okta/system_log/checkpoint"


def test_a_folder_is_no_file(shelf, tmp_path):
    write(tmp_path, "okta/system_log/checkpoint")
    assert shelf.read("okta") is None


def test_a_file_larger_than_any_of_a_signed_log_is_refused(shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(log_reader, "MOST", 8)
    write(tmp_path, "8bytes__", "9bytes___")
    assert shelf.read("8bytes__") == b"8bytes__"
    with pytest.raises(LakeError, match="9bytes___: larger than any such file"):
        shelf.read("9bytes___")
    assert (shelf.tail("9bytes___"), shelf.tail("none")) == (b"bytes___", b"")


def test_an_object_is_read_whole_up_to_a_size(tmp_path):
    write(tmp_path, "object")
    shelf = LogFiles(root=f"file://{tmp_path}")
    assert (shelf.whole("object", 6), shelf.whole("object", 5)) == (b"object", None)
    assert shelf.whole("none", 6) is None


def test_options_of_a_store_its_client_and_its_retries_are_told_apart(monkeypatch):
    given = {
        "AWS_ACCESS_KEY_ID": "key",
        "azure_timeout": "5s",
        "allow_http": "true",
        "max_retries": "3",
        "aws_s3_allow_unsafe_rename": "true",
        "dynamo_table": "locks",
    }
    monkeypatch.setattr(store, "from_url", lambda url, **options: (url, options))
    url, options = LogFiles(root="s3://its-own-options", options=given)._store()
    assert url == "s3://its-own-options"
    assert options == {
        "config": {"AWS_ACCESS_KEY_ID": "key"},
        "client_options": {"timeout": "5s", "allow_http": "true"},
        "retry_config": {"max_retries": 3},
    }
    url, options = LogFiles(root="s3://odd", options={"max_retries": "many"})._store()
    assert options == {"config": {}, "client_options": {}, "retry_config": {}}


def test_only_errors_of_the_store_become_one_line_with_the_remedy(monkeypatch, tmp_path):
    def denied(*_arguments):
        raise obstore.exceptions.PermissionDeniedError("no\n access\n\nDebug source: secret")

    shelf = LogFiles(root=f"file://{tmp_path}")
    monkeypatch.setattr(obstore, "get", denied)
    with pytest.raises(LakeError, match=r"no access: check lake\.root") as caught:
        shelf.read("checkpoint")
    assert "secret" not in str(caught.value)
    monkeypatch.setattr(obstore, "get", lambda *_: {}["a mistake of ours"])
    with pytest.raises(KeyError):
        shelf.read("checkpoint")


def test_drafts_are_not_listed(tmp_path):
    write(tmp_path, "a", ".b.1234", ".hidden/c", "d/.e")
    assert LogFiles(root=str(tmp_path)).files() == ["a"]


def test_credentials_are_not_shown():
    shelf = LogFiles(root="s3://bucket", options={"aws_secret_access_key": "s3cret"})
    assert "s3cret" not in repr(shelf.below("acts"))


@pytest.mark.parametrize("index", [0, 7, 999, 1000, 1_234_067, 12_345_678])
def test_reader_and_writer_use_the_same_paths(tmp_path, index):
    write(tmp_path, tiles.path(0, index), tiles.path(0, index, 7))
    shelf = LogFiles(root=str(tmp_path))
    assert log_reader.tile(shelf, 0, index, 256) == tiles.path(0, index).encode()
    assert log_reader.tile(shelf, 0, index, 7) == tiles.path(0, index, 7).encode()


def test_a_full_tile_stands_in_for_its_partial_one(tmp_path):
    write(tmp_path, tiles.path(0, 0))
    assert log_reader.tile(LogFiles(root=str(tmp_path)), 0, 0, 7) == b"tile/0/000"


def test_leaf_hashes_are_read_for_any_size_the_log_had(tmp_path):
    grow(Disk(tmp_path), [600])
    shelf = LogFiles(root=str(tmp_path))
    for size in (0, 1, 256, 300, 600):
        assert b"".join(log_reader.leaf_tiles(shelf, size)) == b"".join(leaves(size))


def test_a_damaged_tile_gives_fewer_hashes_and_no_error(tmp_path):
    grow(Disk(tmp_path), [600])
    (tmp_path / "tile/0/000").write_bytes(b"\0" * 100)
    (tmp_path / "tile/0/001").unlink()
    found = list(log_reader.leaf_tiles(LogFiles(root=str(tmp_path)), 600))
    assert [len(tile) for tile in found] == [100, 0, 88 * 32]


def test_entries_are_read_as_they_were_written(tmp_path):
    entries = [b"x" * (number % 7) for number in range(300)]
    tiles.write_entries(Disk(tmp_path), 0, entries)
    shelf = LogFiles(root=str(tmp_path))
    assert log_reader.bundle(shelf, 300, 0) == entries[:256]
    assert log_reader.bundle(shelf, 300, 1) == entries[256:]
    assert log_reader.bundle(shelf, 300, 2) == []


@pytest.mark.parametrize("damage", [b"", b"\0", b"\xff\xff", b"\0\3ab", b"\0\1a\0"])
def test_a_damaged_bundle_ends_early_and_raises_no_error(tmp_path, damage):
    tiles.write_entries(Disk(tmp_path), 0, [b"whole"])
    bundle = tmp_path / tiles.path("entries", 0, 1)
    bundle.write_bytes(bundle.read_bytes() + damage)
    assert log_reader.bundle(LogFiles(root=str(tmp_path)), 1, 0)[0] == b"whole"


@pytest.mark.parametrize(
    ("data", "entries"),
    [
        (b"", []),
        (b"\0\1a\0\0", [b"a", b""]),
        (b"\0\0\0\2ab", [b"", b"ab"]),
        (b"\0\1a\0", [b"a"]),
        (b"\0\5ab", [b"ab"]),
        (b"\1\0" + b"x" * 256, [b"x" * 256]),
    ],
)
def test_a_bundle_is_read_as_far_as_it_goes(tmp_path, data, entries):
    write(tmp_path, "tile/entries/000")
    (tmp_path / "tile/entries/000").write_bytes(data)
    assert log_reader.bundle(LogFiles(root=str(tmp_path)), 2, 0) == entries
