"""The local record of signed heads survives power cuts and is cut when it grows long."""

import fcntl
import stat

import pytest

from pipelines.integrity import last_signed
from pipelines.integrity.note import Head
from pipelines.lake.tables import Lake
from pipelines.settings import IntegritySettings
from tests.integrity.worlds import LOG


def head(size, origin="auditlake/okta/system_log/1"):
    return Head(origin=origin, size=size, root=bytes([size % 256]) * 32)


def record(place, table=LOG.table):
    """The file that holds the record of a table."""
    return place / "signed" / f"{table.replace('/', '.')}.ndjson"


@pytest.fixture
def place(tmp_path):
    with last_signed.alone(tmp_path / "state", LOG.table):
        return tmp_path / "state"


def test_the_newest_head_of_each_table_is_recalled(place):
    assert last_signed.recall(place, LOG.table) is None
    for size in (1, 7, 300):
        last_signed.remember(place, LOG.table, head(size))
    last_signed.remember(place, "raw/acts", head(2, "auditlake/acts/1"))
    assert last_signed.recall(place, LOG.table) == head(300)
    assert last_signed.recall(place, "raw/acts") == head(2, "auditlake/acts/1")


def test_a_forgotten_head_is_gone_and_may_be_forgotten_twice(place):
    last_signed.remember(place, LOG.table, head(1))
    for _ in range(2):
        last_signed.forget(place, LOG.table)
        assert last_signed.recall(place, LOG.table) is None


@pytest.mark.parametrize("left", [b"", b"{", b'{"origin": "a"', b'{"size": 9}', b"\0" * 64])
def test_a_line_cut_by_a_power_cut_is_passed_over_and_the_next_one_is_whole(place, left):
    last_signed.remember(place, LOG.table, head(1))
    with record(place).open("ab") as file:
        file.write(left)
    assert last_signed.recall(place, LOG.table) == head(1)
    last_signed.remember(place, LOG.table, head(2))
    assert last_signed.recall(place, LOG.table) == head(2)


def test_a_record_that_has_grown_long_is_cut_to_the_newest_head(place):
    longest = 0
    for size in range(700):
        last_signed.remember(place, LOG.table, head(size))
        longest = max(longest, record(place).stat().st_size)
        assert last_signed.recall(place, LOG.table) == head(size)
    assert 64 * 1024 < longest < 65 * 1024
    assert record(place).stat().st_size < longest / 2


def test_one_process_at_a_time_signs_a_table(place):
    """flock excludes any second opening of the file, in this process too."""
    lock = record(place).with_suffix(".lock")
    with last_signed.alone(place, LOG.table), lock.open() as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with last_signed.alone(place, "raw/okta/other_log"):
            pass
    with lock.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_lock_is_released_after_an_error(place):
    with pytest.raises(RuntimeError), last_signed.alone(place, LOG.table):
        raise RuntimeError
    with record(place).with_suffix(".lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_folder_of_the_records_is_readable_only_by_its_owner(place):
    assert stat.S_IMODE((place / "signed").stat().st_mode) == 0o700


def test_a_lake_has_one_record_however_its_path_is_written(tmp_path, monkeypatch):
    settings = IntegritySettings(folder=tmp_path / "state")
    (tmp_path / "lake").mkdir()
    (tmp_path / "link").symlink_to("lake")
    monkeypatch.chdir(tmp_path)
    paths = ("lake", "./lake/", "link", f"{tmp_path}/lake", f"{tmp_path}/other/../lake")
    assert len({last_signed.folder(Lake(path), settings) for path in paths}) == 1
    others = ("other", "lake/lake", "s3://bucket/lake", "s3://bucket/lake2")
    assert len({last_signed.folder(Lake(path), settings) for path in (*others, "lake")}) == 5


def test_a_truncated_line_in_the_local_record_is_skipped(signed):
    (memory,) = (signed.place.memory / "signed").glob("*.ndjson")
    memory.write_bytes(memory.read_bytes() + b'{"origin": "aud')
    signed.land(*range(700, 730), day=3)
    assert signed.verify().ok
    assert last_signed.recall(signed.place.memory, LOG.table).size == 730
