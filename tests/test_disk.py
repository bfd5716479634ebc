"""A file is written as a whole or not at all, whenever its writer is killed."""

import errno
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines import disk

OLD, NEW = b"old" * 30_000, b"new" * 40_000
WRITER = """
import os, signal, sys
from pathlib import Path
from pipelines import disk

path, left, overwrite = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "overwrite"

def step(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def pieces():
    for _ in range(4):
        step()
        yield b"new" * 10_000

def count(event, arguments):
    if event in {"open", "os.rename", "os.remove", "os.link"}:
        step()

sys.addaudithook(count)
disk.write_atomically(path, pieces(), overwrite=overwrite)
"""


def write_until(path: Path, step: int, how: str) -> bool:
    """Return whether the writer was killed before its `step`-th operation."""
    command = [sys.executable, "-c", WRITER, str(path), str(step), how]
    code = subprocess.run(command, check=False, timeout=60).returncode
    assert code in (0, -signal.SIGKILL)
    return code != 0


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_writer_killed_at_any_step_leaves_the_old_file_or_the_new_one(tmp_path):
    path, found, step = tmp_path / "file", [], 1
    path.write_bytes(OLD)
    while write_until(path, step, "overwrite"):
        found.append(path.read_bytes())
        path.write_bytes(OLD)
        step += 1
    assert path.read_bytes() == NEW
    assert len(found) > 7
    assert found == sorted(found, key=[OLD, NEW].index)
    assert {OLD, NEW} == set(found)


def test_a_file_that_must_be_new_appears_whole_or_not_at_all(tmp_path):
    path, found, step = tmp_path / "file", [], 1
    while write_until(path, step, "create"):
        found.append(path.read_bytes() if path.exists() else None)
        path.unlink(missing_ok=True)
        step += 1
    assert path.read_bytes() == NEW
    assert set(found) == {None, NEW}


def test_a_file_that_must_be_new_does_not_replace_another(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(OLD)
    with pytest.raises(FileExistsError):
        disk.write_atomically(path, NEW, overwrite=False)
    assert path.read_bytes() == OLD
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("asked", "given"), [(None, 0o600), (0o600, 0o600), (disk.READABLE, 0o640)]
)
def test_only_the_owner_may_read_a_file_unless_it_is_meant_for_others(tmp_path, asked, given):
    path = tmp_path / "file"
    before = os.umask(0o027)
    try:
        disk.write_atomically(path, NEW, **({} if asked is None else {"mode": asked}))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == given


def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(OLD)

    def pieces():
        yield NEW
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        disk.write_atomically(path, pieces())
    assert path.read_bytes() == OLD
    assert names(tmp_path) == ["file"]


def test_a_folder_in_place_of_the_file_is_an_error_and_leaves_no_other_file(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        disk.write_atomically(tmp_path / "file", NEW)
    assert names(tmp_path) == ["file"]


def test_a_link_is_replaced_rather_than_followed(tmp_path):
    elsewhere, path = tmp_path / "elsewhere", tmp_path / "file"
    elsewhere.write_bytes(OLD)
    path.symlink_to(elsewhere)
    disk.write_atomically(path, NEW)
    assert (elsewhere.read_bytes(), path.read_bytes()) == (OLD, NEW)
    assert not path.is_symlink()


@pytest.mark.parametrize("durable", [True, False])
def test_a_durable_file_is_flushed_before_its_name_and_its_folder_after(
    tmp_path, monkeypatch, durable
):
    disk.sync_above(tmp_path)
    flushed, real = [], os.fsync

    def fsync(descriptor):
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        flushed.append((name.suffix or name, names(tmp_path).count("file")))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    disk.write_atomically(tmp_path / "file", NEW, durable=durable)
    assert flushed == ([(disk.DRAFT, 0), (tmp_path, 1)] if durable else [])


def test_the_names_of_new_folders_are_flushed_once(tmp_path, monkeypatch):
    disk.sync_above(tmp_path)
    flushed: list[Path] = []
    monkeypatch.setattr(disk, "sync", flushed.append)
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    disk.sync_above(folder)
    assert flushed == [tmp_path / "a", tmp_path]
    disk.sync_above(folder)
    assert len(flushed) == 2
    folder.rename(tmp_path / "old")
    folder.mkdir()
    disk.sync_above(folder)
    assert flushed[2:] == [tmp_path / "a"]


def test_a_folder_above_that_must_not_be_read_prevents_nothing(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(disk, "sync", refuse)
    disk.sync_above(tmp_path)


def test_concurrent_writers_never_mix_their_contents(tmp_path):
    path, contents = tmp_path / "file", [bytes([n]) * 100_000 for n in range(8)]
    path.write_bytes(contents[0])

    def write_and_read(content):
        disk.write_atomically(path, (content[:60_000], content[60_000:]), durable=False)
        return path.read_bytes()

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(write_and_read, contents * 20)) <= set(contents)
    assert path.read_bytes() in contents
    assert names(tmp_path) == ["file"]


def test_of_concurrent_creators_one_succeeds(tmp_path):
    path, contents = tmp_path / "file", [bytes([n]) * 1000 for n in range(16)]

    def create(content):
        try:
            disk.write_atomically(path, content, durable=False, overwrite=False)
        except FileExistsError:
            return None
        return content

    with ThreadPoolExecutor(8) as threads:
        (won,) = filter(None, threads.map(create, contents))
    assert path.read_bytes() == won
    assert names(tmp_path) == ["file"]


def test_a_private_folder_is_closed_to_others_even_if_it_existed(tmp_path):
    assert disk.private_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    (tmp_path / "open").mkdir(mode=0o777)
    disk.private_folder(tmp_path / "open")
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o700


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A folder that another user, who is not root, has created first."""
    path = tmp_path / "foreign"
    path.mkdir(mode=0o777)
    if os.geteuid() == 0:
        os.chown(path, 65534, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
    return path


def test_a_folder_of_another_user_is_refused_and_so_is_a_link_to_one(foreign, tmp_path):
    (tmp_path / "link").symlink_to(foreign)
    for path in (foreign, tmp_path / "link"):
        with pytest.raises(disk.ForeignOwner, match="belongs to another user"):
            disk.private_folder(path)
    assert foreign.stat().st_mode & 0o077


def test_a_file_of_our_own_is_never_opened_through_a_link(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        disk.open_own(tmp_path / "link")
    with disk.open_own(tmp_path / "new") as file:
        file.write("x")
    with disk.open_own(tmp_path / "new") as file:
        assert file.read() == "x"
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "victim").read_text() == "precious"
