"""A restore is recorded: what it lost is listed, and everything else is verified as before."""

import shutil

import polars as pl
import pytest
from deltalake import DeltaTable

from pipelines.errors import ConfigurationError, LakeError
from pipelines.integrity import backup, erasure, operator_acts, reports, restore, retention, signer
from pipelines.integrity.restore import Request
from pipelines.integrity.verifier import verify
from pipelines.lake import events
from pipelines.schemas import EVENTS
from tests.integrity.found import Found
from tests.integrity.test_backup import at
from tests.integrity.test_retention import REMOVAL
from tests.integrity.worlds import LOG, NOON, Signed

LOGS = [LOG]


@pytest.fixture
def kept(signed, tmp_path):
    """A backup of 700 rows, after which 60 more have landed and been signed."""
    made = backup.backup(signed.lake, tmp_path / "kept", NOON)
    signed.land(*range(700, 760), day=3)
    return made.folder


def back(signed, kept, minutes=1):
    request = Request(who="ada", why="a disk failed", source=kept)
    return restore.restore(signed.lake, request, at(minutes))


def land_again(signed):
    """The vendor still has the lost rows: they land again, once, after their own hashes."""
    none = pl.DataFrame(schema=EVENTS)
    events.append(signed.lake, LOG, 700, 760, lambda: none)  # as a round catches up
    signed.land(*range(650, 770), day=3)


def acts_of(signed):
    return verify.verify_acts(signed.place)


def test_lost_rows_are_listed_and_new_ones_follow_after_the_signed_ones(signed, kept):
    before = (signed.log / "checkpoint").read_text()
    (plan,) = back(signed, kept)
    assert (plan.whole, plan.lost) == (True, range(700, 760))
    verdict = signed.verify(full=True)
    assert (verdict.findings, verdict.size, verdict.lost) == ([], 760, 60)
    land_again(signed)
    assert signed.rows()["seq"].to_list() == [*range(700), *range(760, 880)][: 700 + 120]
    verdict = signed.verify(full=True, since=[before])
    assert (verdict.findings, verdict.size, verdict.lost) == ([], 880, 60)
    assert "60 lost in a restore" in reports.line(verdict)
    assert any(
        note.startswith("RESTORED on 2026-03-01T12:01") and "by ada" in note
        for note in verdict.notes
    )
    (act,) = operator_acts.recorded(signed.lake)
    assert (act["act"], act["rows"], act["why"]) == ("restore", 60, "a disk failed")
    assert acts_of(signed).findings == []


def test_the_former_tables_are_kept_next_to_the_lake(signed, kept):
    back(signed, kept)
    (former,) = signed.folder.glob("lake.before-restore-*")
    assert DeltaTable(str(former / LOG.table)).to_pyarrow_table().num_rows == 760
    assert not list(signed.folder.glob(".lake*"))


def test_an_older_state_put_there_in_silence_is_still_found(signed, kept):
    back(signed, kept)
    signed.land(*range(760, 790), day=3)
    shutil.rmtree(signed.folder / "lake")
    shutil.copytree(kept, signed.folder / "lake")
    verdict = signed.verify(full=True)
    assert {found.kind for found in verdict.findings} == {"rolled back"}
    assert acts_of(signed).findings
    with pytest.raises(signer.Alarm):
        signer.sign(signed.lake, LOG, 700, NOON)


def test_a_table_alone_put_back_in_silence_after_a_restore_is_found(signed, kept):
    """The rows that one restore has lost excuse no others."""
    back(signed, kept)
    signed.land(*range(760, 790), day=3)
    shutil.rmtree(signed.table)
    shutil.copytree(kept / LOG.table, signed.table)
    assert {found.kind for found in signed.verify(full=True).findings} == {"truncated"}


def test_a_lost_log_begins_again_and_names_its_newest_checkpoint(signed, kept):
    known = (signed.log / "checkpoint").read_text()
    early = (kept / "integrity" / LOG.app / "checkpoint").read_text()
    shutil.rmtree(signed.folder / "lake")
    (plan,) = back(signed, kept)
    assert (plan.whole, plan.head.size, plan.kept.size) == (False, 760, 700)
    signed.land(*range(690, 770), day=3)
    verdict = signed.verify(full=True, since=[early])
    assert (verdict.findings, verdict.size, verdict.lost) == ([], 780, 0)
    assert "the checkpoint given with --since" in verdict.compared_with
    assert any("after 700 entries, formerly " + plan.head.origin in note for note in verdict.notes)
    verdict = signed.verify(full=True, since=[known])
    assert verdict.findings == []
    assert any("760 entries of the former log" in note for note in verdict.notes)
    # The names of logs without a recorded restore are other logs still.
    assert operator_acts.recorded(signed.lake)[0]["former"].startswith(plan.head.origin)


def test_lost_acts_begin_again_too(signed, kept, tmp_path):
    retention.remove(signed.lake, REMOVAL, NOON)
    late = backup.backup(signed.lake, tmp_path / "kept", at(1)).folder
    for minute in (2, 3):
        operator_acts.record(signed.lake, {"act": "x", "minute": minute}, at(minute))
    shutil.rmtree(signed.folder / "lake")
    back(signed, late, minutes=4)
    assert acts_of(signed).findings == []
    assert any("formerly auditlake/acts/" in note for note in acts_of(signed).notes)
    verdict = signed.verify(full=True)
    assert (verdict.findings, verdict.removed, verdict.events) == ([], 300, 460)
    signed.land(900, day=3)
    assert signed.verify(full=True).findings == []


def test_rows_that_were_removed_after_the_backup_are_removed_again(signed, kept):
    found = erasure.of_events(signed.lake, "okta", ["id-000650"], LOGS)
    erasure.erase(signed.lake, found, erasure.Request(who="ada", why="request 1"), at(1))
    retention.remove(signed.lake, REMOVAL, at(2))
    back(signed, kept, minutes=3)
    rows = signed.rows()
    assert rows["seq"].min() == 300
    assert "id-000650" not in rows["event_id"]
    verdict = signed.verify(full=True)
    assert (verdict.findings, verdict.removed, verdict.erased, verdict.lost) == ([], 361, 1, 60)


def test_a_restore_killed_between_two_tables_is_completed_by_the_next(signed, kept, monkeypatch):
    real, done = restore._replace, []

    def replace(*paths):
        if done:
            raise KeyboardInterrupt
        real(*paths)
        done.append(paths)

    monkeypatch.setattr(restore, "_replace", replace)
    with pytest.raises(KeyboardInterrupt):
        back(signed, kept)
    monkeypatch.undo()
    assert signed.verify(full=True).findings == []
    back(signed, kept, minutes=2)
    land_again(signed)
    verdict = signed.verify(full=True)
    assert (verdict.findings, verdict.lost, len(verdict.notes)) == ([], 60, 2)


def test_events_of_an_older_mapping_may_be_there_again(signed, kept):
    """It was changed after the backup, and all events were derived again."""
    for act in ("mapping", "renormalised"):
        about = {"act": act, "log": LOG.app, "version": 1, "from": 700}
        operator_acts.record(signed.lake, about, at(1))
    back(signed, kept, minutes=2)
    newest = operator_acts.recorded(signed.lake)[-1]
    assert (newest["act"], newest["from"]) == ("mapping", 700)


def test_what_is_no_backup_of_this_lake_is_refused(signed, kept, tmp_path):
    with pytest.raises(ConfigurationError, match="no complete backup"):
        restore.chosen(signed.folder)
    assert restore.chosen(kept.parent) == kept == restore.chosen(kept)
    other = Signed(tmp_path / "other")
    other.land(1, 2, 3)
    with pytest.raises(LakeError, match="not as it was signed"):  # by another key
        back(other, kept)
    shutil.copytree(signed.folder / "state", tmp_path / "third" / "state")
    third = Signed(tmp_path / "third")
    third.land(1, 2, 3)
    with pytest.raises(LakeError, match="backup is of another signed log"):
        back(third, kept)
    inside = signed.folder / "lake" / "kept"
    shutil.copytree(kept, inside)
    with pytest.raises(ConfigurationError, match="inside the lake"):
        back(signed, inside)
    tile = kept / "integrity" / LOG.app / "tile/0/000"
    tile.write_bytes(tile.read_bytes()[:-1] + b"x")
    (kept / "integrity" / LOG.app / "tile/1/000.p/2").unlink()
    with pytest.raises(LakeError, match="not as it was signed"):
        back(signed, kept)


def test_findings_that_a_restore_loses_are_listed_and_new_ones_follow(tmp_path):
    world = Found(tmp_path / "world")
    Signed(world.folder).land(1, 2, 3)
    world.find(20)
    kept = backup.backup(world.lake, tmp_path / "kept", NOON).folder
    world.find(5)
    _, plan = back(world, kept)
    assert (plan.log.table, plan.lost) == ("findings", range(20, 25))
    assert world.find(3) == 28
    verdict = world.verify(full=True)
    assert (verdict.findings, verdict.size, verdict.lost) == ([], 28, 5)
    assert world.rows()["seq"].to_list() == [*range(20), 25, 26, 27]
    shutil.rmtree(world.log)
    back(world, kept, minutes=2)
    assert world.find(2) == 22
    verdict = world.verify(full=True)
    assert (verdict.findings, verdict.size, verdict.read) == ([], 22, 22)
