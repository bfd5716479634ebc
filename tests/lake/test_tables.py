"""Tables are opened and read, or the error is one line with advice."""

import errno
import grp
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import polars as pl
import pytest
from deltalake.exceptions import DeltaError

from pipelines import settings
from pipelines.errors import ConfigurationError, LakeError
from pipelines.lake import commits, raw, tables
from pipelines.lake.commits import Decision, Table
from pipelines.lake.tables import Lake
from pipelines.settings import Settings
from tests.integrity import matrix
from tests.lake.batches import LOG, batch


def test_the_coloured_arrows_of_an_object_store_become_colons():
    arrow = "\n\x1b[31m\u21b3\x1b[0m "
    with pytest.raises(LakeError) as caught, tables.store_errors("events"):
        raise DeltaError(f"Kernel error{arrow}no credentials{arrow}refused")
    assert str(caught.value).startswith("events: Kernel error: no credentials: refused: check")


def test_an_unusable_root_is_reported_in_one_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LakeError, match=r"lake\.root") as error:
        raw.append(Lake(str(tmp_path / "file")), LOG, batch("a"), "c")
    assert "\n" not in str(error.value)


def test_a_damaged_delta_log_is_reported_in_one_line(lake):
    raw.append(lake, LOG, batch("a"), "c")
    log = Path(lake.uri(LOG.table)) / "_delta_log"
    (log / f"{1:020}.json").write_text('{"add": {"path"')
    with pytest.raises(LakeError) as error:
        raw.position(lake, LOG)
    assert "\n" not in str(error.value)


def test_a_table_that_does_not_exist_yet_is_none(lake):
    assert tables.open_table(lake, "events") is None
    assert tables.acquire(lake, "events") is None
    assert tables.scan(lake, "events") is None
    with tables.borrowed(lake, "events") as handle:
        assert handle is None


@pytest.mark.parametrize("left", [b"", bytes(512), b"\n"], ids=["empty", "zeros", "blank"])
@pytest.mark.parametrize("version", [2, 3], ids=["newest", "next"])
@pytest.mark.parametrize("read", [tables.open_table, tables.acquire, tables.scan])
def test_an_emptied_commit_is_refused_instead_of_read_as_one_without_rows(
    lake, version, left, read
):
    for number in range(2):
        raw.append(lake, LOG, batch(number), f"c{number}")
    emptied = lake.local / LOG.table / "_delta_log" / f"{version:020}.json"
    emptied.write_bytes(left)
    with pytest.raises(LakeError, match="its newest commit is empty") as error:
        read(lake, LOG.table)
    assert f"remove the file {emptied} and poll again" in str(error.value)
    emptied.unlink()
    assert tables.open_table(lake, LOG.table).version() == version - 1


def test_a_truncated_data_file_is_reported_in_one_line(lake):
    raw.append(lake, LOG, batch("a"), "c")
    (data,) = lake.local.rglob("*.parquet")
    data.write_bytes(data.read_bytes()[:-20])
    with pytest.raises(LakeError, match=f"^{LOG.table}: ") as error:
        raw.rows(lake, LOG, 0, 1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "free some space"),
        (DeltaError("Generic error: File too large (os error 27)"), "free some space"),
        (PermissionError(errno.EACCES, "Permission denied"), "write access to lake.root"),
        (DeltaError("the table is append-only"), "remove its folder"),
        (DeltaError("Unable to open file: Not a directory"), "set lake.root to a folder"),
        (pl.exceptions.ComputeError("some\n\n  thing"), "check lake.root"),
        (DeltaError("x" * 10_000), "check lake.root"),
    ],
)
def test_an_error_of_the_store_becomes_one_short_line_with_advice(error, advice):
    with pytest.raises(LakeError, match=f"^events: .*{advice}") as found, \
         tables.store_errors("events"):  # fmt: skip
        raise error
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 500


def test_an_error_of_the_program_is_not_taken_for_one_of_the_store():
    with pytest.raises(KeyError), tables.store_errors("events"):
        raise KeyError


def test_rows_written_before_a_column_existed_have_nulls_in_it(lake):
    narrow = {"day": pl.String(), "n": pl.Int64()}
    for schema in (narrow, wide := {**narrow, "word": pl.String()}):
        table = Table(name="parts", schema=schema, about="Parts", partitions=("day",))
        row = pl.DataFrame([{"day": "1", "n": len(schema), "word": "new"}]).select(*schema)
        commits.write(lake, table, "a", lambda _, done, row=row: Decision(row, done + 1), {})
    handle = tables.open_table(lake, "parts")
    found = tables.scan_partitions(lake, handle, wide, [("day", "=", "1")]).sort("n").collect()
    assert found.rows() == [(2, None), (3, "new")]
    none = tables.scan_partitions(lake, handle, wide, [("day", "=", "2")]).collect()
    assert (none.height, none.columns) == (0, ["n", "word"])


def test_a_root_below_which_nothing_can_be_read_is_refused(tmp_path):
    document = {"lake": {"root": str(tmp_path / "a*b")}}
    with pytest.raises(ConfigurationError, match=r"lake\.root: .*choose a folder"):
        tables.configured(settings.validated(Settings, document, "test"))


def test_the_options_of_the_store_are_not_shown():
    lake = Lake("s3://bucket/lake", {"aws_secret_access_key": "s3cret"})
    assert "s3cret" not in repr(lake)
    assert (lake.local, lake.uri("events")) == (None, "s3://bucket/lake/events")


NOBODY = 65534


@pytest.fixture
def umask():
    """Files that everybody may read, as on most machines."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def shared():
    """A folder like /srv, which other users can enter; unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def readable(root, group=NOBODY):
    """The number of the lake's files that a user of this group can read."""
    # Not Python, which may lie in a folder of root.
    found = subprocess.run(
        ["/usr/bin/find", str(root), "-type", "f", "-readable"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        check=False,
        user=NOBODY,
        group=group,
        extra_groups=[],
    )
    return len(found.stdout.splitlines())


def configured(root, **keys):
    document = {"lake": {"root": str(root), **keys}}
    return tables.configured(settings.validated(Settings, document, "test"))


def test_a_new_lake_is_closed_to_other_users(umask, shared):
    raw.append(configured(shared / "lake"), LOG, batch("a"), "c")
    assert mode(shared / "lake") == 0o700


def test_the_lake_of_an_older_version_is_closed(umask, shared):
    raw.append(configured(shared / "lake"), LOG, batch("a"), "c")
    (shared / "lake").chmod(0o755)
    configured(shared / "lake")
    assert mode(shared / "lake") == 0o700


def test_a_group_may_read_the_lake_and_nobody_else(umask, shared):
    raw.append(configured(shared / "lake"), LOG, batch("a"), "c")
    group = grp.getgrgid(os.getgid())
    configured(shared / "lake", group=group.gr_name)
    assert mode(shared / "lake") == 0o2750
    assert (shared / "lake").stat().st_gid == group.gr_gid
    configured(shared / "lake")
    assert mode(shared / "lake") & 0o777 == 0o700


@matrix.attack(
    "read the files of a lake",
    "no file is readable",
    matrix.MODES,
)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_other_users_read_no_file_of_a_lake_but_members_of_its_group_do(umask, shared):
    (shared / "lake").mkdir(mode=0o755)
    raw.append(Lake(str(shared / "lake")), LOG, batch("a"), "c")
    assert readable(shared / "lake") > 2
    configured(shared / "lake")
    assert readable(shared / "lake") == 0
    configured(shared / "lake", group=grp.getgrgid(1).gr_name)
    assert readable(shared / "lake") == 0
    assert readable(shared / "lake", group=1) > 2


def test_a_group_that_does_not_exist_is_one_clear_line(shared):
    (shared / "lake").mkdir()
    with pytest.raises(ConfigurationError, match=r"lake\.group: no-such-group: .* no such group"):
        configured(shared / "lake", group="no-such-group")


def test_a_folder_of_another_user_or_a_read_only_one_stays_as_it_is(shared, monkeypatch):
    (shared / "lake").mkdir()
    for changed in (0o555, 0o755):
        (shared / "lake").chmod(changed)
        if changed == 0o755:
            monkeypatch.setattr(os, "geteuid", lambda: 4242)
        configured(shared / "lake")
        assert mode(shared / "lake") == changed
    assert configured(shared / "missing").local == shared / "missing"
    assert not (shared / "missing").exists()


def test_a_lake_restored_from_a_copy_is_read_anew(lake, tmp_path):
    raw.append(lake, LOG, batch("a"), "1")
    shutil.copytree(lake.root, tmp_path / "copy")
    raw.append(lake, LOG, batch("b", "c"), "2")
    assert raw.position(lake, LOG).rows == 3
    shutil.rmtree(lake.root)
    shutil.copytree(tmp_path / "copy", lake.root)
    assert raw.append(lake, LOG, batch("d"), "3").frame["seq"].to_list() == [1]
    assert (raw.position(lake, LOG).rows, raw.position(lake, LOG).cursor) == (2, "3")
