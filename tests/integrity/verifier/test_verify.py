"""Verification passes after maintenance, copies and a new start."""

import shutil

from deltalake import DeltaTable

from pipelines.integrity import signer
from tests.integrity.worlds import LOG, NOON, Signed


def test_compaction_z_order_vacuum_and_clean_up_raise_no_alarm(signed):
    handle = DeltaTable(str(signed.table))
    handle.optimize.compact()
    assert signed.verify(full=True).ok
    handle.optimize.z_order(["event_id"])
    handle.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    handle.create_checkpoint()
    handle.cleanup_metadata()
    assert signed.verify(full=True).ok
    signed.land(*range(700, 800), day=3)
    verdict = signed.verify()
    assert (verdict.ok, verdict.first, verdict.events) == (True, 512, 288)


def test_a_copied_lake_passes_verification(signed):
    shutil.copytree(signed.folder / "lake", signed.folder / "elsewhere/lake")
    shutil.copytree(signed.folder / "state", signed.folder / "elsewhere/state")
    assert Signed(signed.folder / "elsewhere").verify().ok


def test_a_recreated_lake_raises_no_alarm(signed):
    shutil.rmtree(signed.folder / "lake")
    signer.sign(signed.lake, LOG, 0, NOON)
    signed.land(*range(10))
    assert signed.verify().ok
