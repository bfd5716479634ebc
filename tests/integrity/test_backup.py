"""A backup is a state of the lake, whatever happens to the lake meanwhile."""

import shutil
from datetime import timedelta

import pytest

from pipelines.errors import ConfigurationError, LakeError
from pipelines.integrity import backup, retention
from pipelines.integrity.backup import _Copy
from pipelines.lake import events, maintenance
from pipelines.lake.tables import Lake
from tests.integrity.conftest import move_memory
from tests.integrity.test_retention import REMOVAL
from tests.integrity.worlds import NOON, Signed, once


def opened(copy, signed, folder):
    """Return the backup as a lake of its own, with the keys of the first one."""
    shutil.copytree(copy, folder / "lake")
    shutil.copytree(signed.folder / "state", folder / "state")
    move_memory(signed, Signed(folder))
    return Signed(folder)


def at(minutes):
    return NOON + timedelta(minutes=minutes)


def test_a_backup_is_a_lake_that_verifies(signed, tmp_path):
    made = backup.backup(signed.lake, tmp_path / "kept", NOON)
    assert (made.folder, made.linked) == (tmp_path / "kept" / "2026-03-01T120000Z", 0)
    assert backup.newest(tmp_path / "kept") == made.folder
    assert not list(made.folder.rglob("*.key"))
    verdict = opened(made.folder, signed, tmp_path / "copy").verify(full=True)
    assert (verdict.findings, verdict.size, verdict.events) == ([], 700, 700)


def test_what_an_earlier_backup_has_is_not_copied_again(signed, tmp_path):
    first = backup.backup(signed.lake, tmp_path / "kept", at(0))
    signed.land(700, 701, day=3)
    second = backup.backup(signed.lake, tmp_path / "kept", at(1))
    assert second.files > first.files
    # New are a commit and a data file of both tables, and the files about the new rows.
    assert second.files - second.linked < 16
    data = [*first.folder.glob("raw/**/*.parquet")]
    assert {file.stat().st_nlink for file in data} == {2}


def test_rows_that_land_meanwhile_leave_it_consistent(signed, tmp_path, monkeypatch):
    """They are in the raw table, later than `events` and the checkpoint were copied."""
    real = _Copy._table

    def table(self, lake, name):
        if name.startswith("raw/"):
            signed.land(700, 701, day=3)
        real(self, lake, name)
        if name.startswith("raw/"):
            signed.land(702, day=3)

    monkeypatch.setattr(_Copy, "_table", table)
    made = backup.backup(signed.lake, tmp_path / "kept", NOON)
    monkeypatch.undo()
    copy = opened(made.folder, signed, tmp_path / "copy")
    assert copy.rows().height == 702
    assert events.derived(copy.lake, REMOVAL.log) == 700
    (copy.place.memory / "signed" / "raw.okta.system_log.ndjson").unlink()
    assert {found.kind for found in copy.verify(full=True).findings} == {"unsigned"}


def test_a_removal_meanwhile_starts_it_again(signed, tmp_path, monkeypatch):
    def remove():
        retention.remove(signed.lake, REMOVAL, NOON)

    once(monkeypatch, _Copy, "_signed_logs", remove)
    made = backup.backup(signed.lake, tmp_path / "kept", NOON)
    verdict = opened(made.folder, signed, tmp_path / "copy").verify(full=True)
    assert (verdict.findings, verdict.removed, verdict.events) == ([], 300, 400)


def test_compaction_meanwhile_does_not_matter(signed, tmp_path, monkeypatch):
    def maintain():
        list(maintenance.maintain(signed.lake, [REMOVAL.log], NOON.date() + timedelta(days=9)))

    once(monkeypatch, _Copy, "_table", maintain)
    made = backup.backup(signed.lake, tmp_path / "kept", NOON)
    assert opened(made.folder, signed, tmp_path / "copy").verify(full=True).findings == []


def test_a_killed_backup_leaves_the_earlier_one_and_is_no_backup_itself(
    signed, tmp_path, monkeypatch
):
    first = backup.backup(signed.lake, tmp_path / "kept", at(0))
    monkeypatch.setattr(backup, "_write_manifest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        backup.backup(signed.lake, tmp_path / "kept", at(1))
    monkeypatch.undo()
    assert backup.newest(tmp_path / "kept") == first.folder
    second = backup.backup(signed.lake, tmp_path / "kept", at(2))
    assert backup.newest(tmp_path / "kept") == second.folder


def test_folders_that_cannot_hold_a_backup_are_refused(signed, tmp_path):
    for target in (signed.folder / "lake" / "kept", signed.folder / "lake", signed.folder):
        with pytest.raises(ConfigurationError, match="choose another folder"):
            backup.backup(signed.lake, target, NOON)
    with pytest.raises(ConfigurationError, match="object store"):
        backup.backup(Lake("s3://bucket/lake"), tmp_path / "kept", NOON)
    with pytest.raises(LakeError, match="does not exist"):
        backup.backup(Lake(str(tmp_path / "none")), tmp_path / "kept", NOON)
    backup.backup(signed.lake, tmp_path / "kept", NOON)
    with pytest.raises(LakeError, match="exists"):
        backup.backup(signed.lake, tmp_path / "kept", NOON)
