"""Deliveries on disk: each is whole or not there, whatever is killed, full or damaged."""

import errno
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.errors import LakeError
from pipelines.webhooks.spool import Damaged, Full, Spool

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMIT = 2**20


def put(spool, body=b"{}", name="okta"):
    spool.put(name, {"content-type": "application/json"}, body, NOON)


def bodies(spool, name="okta"):
    return [spool.load(path).body for path in spool.waiting(name)]


def files(spool):
    found = (path for path in spool.root.rglob("*") if path.is_file())
    return sorted(path for path in found if path.name != ".lock")


@pytest.mark.parametrize("body", [b"", b"\n", b"{}\n\n{}", bytes(range(256)) * 400])
def test_a_delivery_is_loaded_as_it_was_received(spool, body):
    put(spool, body)
    (path,) = spool.waiting("okta")
    found = spool.load(path)
    assert (found.path, found.body, found.received_at) == (path, body, NOON)
    assert found.headers == {"content-type": "application/json"}


def test_deliveries_wait_in_the_order_in_which_they_came(spool):
    expected = [str(number).encode() for number in range(20)]
    for body in expected:
        put(spool, body)
        put(spool, b"other", "okta-eu")
    assert bodies(spool) == expected
    assert spool.waiting("unknown") == []


KILLED = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from pipelines.webhooks.spool import Spool

renamed = False

def kill(event, _):
    global renamed
    if renamed or (event == "os.rename" and sys.argv[2] == "before"):
        os._exit(9)
    renamed = event == "os.rename"

spool = Spool(Path(sys.argv[1]), limit=2**20)
with spool.open():
    spool.put("okta", {}, b"first", datetime.now(UTC))
    sys.addaudithook(kill)
    spool.put("okta", {}, b"second", datetime.now(UTC))
"""


@pytest.mark.parametrize(("moment", "left"), [("before", []), ("after", [b"second"])])
def test_a_kill_before_or_after_a_file_gets_its_name_leaves_no_partial_file(tmp_path, moment, left):
    spool = Spool(tmp_path / "spool", limit=LIMIT)
    program = [sys.executable, "-c", KILLED, str(spool.root), moment]
    assert subprocess.run(program, check=False, cwd=ROOT).returncode == 9
    with spool.open():
        assert bodies(spool) == [b"first", *left]
        assert files(spool) == spool.waiting("okta")
        put(spool)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b" ",
        lambda data: data.replace(b"the body", b"the b0dy"),
        lambda data: data.partition(b"\n")[0],
        lambda data: data.partition(b"\n")[2],
        lambda data: bytes(len(data)),
        lambda data: b"{}\n" + data,
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_never_loaded(spool, damage):
    put(spool, b"the body")
    (path,) = spool.waiting("okta")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Damaged, match=path.name):
        spool.load(path)
    spool.set_aside(path)
    assert (spool.waiting("okta"), spool.unreadable("okta")) == ([], 1)


def filled(spool):
    """Put deliveries until the spool is full; return their number."""
    for number in range(LIMIT):
        try:
            put(spool, b"x" * 10_000)
        except Full:
            return number
    raise AssertionError


def test_a_full_spool_has_room_again_once_files_are_removed(tmp_path):
    spool = Spool(tmp_path / "spool", limit=100_000)
    with spool.open():
        count = filled(spool)
        assert 5 < count < 10
        assert len(spool.waiting("okta")) == len(files(spool)) == count
        first, *others = spool.waiting("okta")
        spool.remove([first, first])
        assert filled(spool) == 1
        spool.remove([*others, *spool.waiting("okta")])
        assert filled(spool) == count


def test_files_left_by_an_earlier_receiver_count_towards_the_limit(tmp_path):
    spool = Spool(tmp_path / "spool", limit=100_000)
    with spool.open():
        filled(spool)
        spool.set_aside(spool.waiting("okta")[0])
    again = Spool(tmp_path / "spool", limit=100_000)
    with again.open():
        assert filled(again) == 0


def test_some_space_of_the_disk_is_left_to_others(tmp_path):
    spool = Spool(tmp_path / "spool", limit=LIMIT, spare=2**60)
    with spool.open():
        assert filled(spool) == 0
        assert files(spool) == []


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, Full), (errno.EDQUOT, Full), (errno.EIO, OSError)]
)
def test_a_write_that_fails_leaves_no_file_and_takes_no_room(tmp_path, monkeypatch, number, error):
    spool = Spool(tmp_path / "spool", limit=20_000)

    def fail(_):
        raise OSError(number, os.strerror(number))

    with spool.open():
        put(spool)  # which creates the folder
        with monkeypatch.context() as failing:
            failing.setattr(os, "fsync", fail)
            for _ in range(3):
                with pytest.raises(error):
                    put(spool, b"x" * 10_000)
        assert files(spool) == spool.waiting("okta")
        put(spool, b"x" * 10_000)
        assert len(spool.waiting("okta")) == 2


def test_two_receivers_do_not_share_a_spool(spool):
    with pytest.raises(LakeError, match=r"in use by another receiver: .*webhooks\.spool"):
        Spool(spool.root, limit=LIMIT).open().__enter__()
    put(spool)


def test_only_its_user_can_read_the_spool(spool):
    put(spool)
    folders = [spool.root, spool.root / "okta"]
    assert [folder.stat().st_mode & 0o077 for folder in folders] == [0, 0]


def test_a_spool_that_creates_the_lake_closes_it_to_others(tmp_path):
    before = os.umask(0o022)
    try:
        with Spool(tmp_path / "lake" / "spool", limit=LIMIT).open():
            assert (tmp_path / "lake").stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)
