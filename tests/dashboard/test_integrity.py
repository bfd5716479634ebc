"""Verification reports as the dashboard reads them."""

from __future__ import annotations

from dashboard import integrity
from pipelines.integrity import reports
from pipelines.integrity.verifier.job import WorkerPool
from pipelines.integrity.verifier.log_reader import LogFiles
from pipelines.lake import identity_table
from tests.integrity.found import Found
from tests.integrity.worlds import NOON


def test_an_incremental_verification_keeps_the_time_of_the_last_full_one(signed):
    reports.keep(signed.lake, [signed.verify()])
    signed.land(*range(700, 750), day=3)
    reports.keep(signed.lake, [signed.verify()])
    (table,) = integrity.tables(LogFiles(root=str(signed.folder / "lake")))
    assert table.all_read_at < table.verified_at
    assert (table.since, table.found, table.state(table.verified_at)) == (0, "", "verified")
    assert (
        integrity.checkpoints(LogFiles(root=str(signed.folder / "lake")), table.name, 1)[0].at
        == NOON
    )


def test_a_derived_table_needs_no_signature_to_be_verified(signed):
    identity_table.derive(signed.lake)
    reports.keep(signed.lake, reports.verdicts(signed.place, ["identities"], {}, WorkerPool(1)))
    found = integrity.tables(LogFiles(root=str(signed.folder / "lake")))
    (table,) = [one for one in found if one.name == "identities"]
    assert (table.signed, table.since, table.state(table.verified_at)) == (None, 0, "verified")


def test_the_findings_are_one_table_with_their_checkpoint(tmp_path):
    world = Found(tmp_path / "world")
    world.find(3)
    reports.keep(world.lake, [world.verify()])
    (table,) = integrity.tables(LogFiles(root=str(world.folder / "lake")))
    assert (table.name, table.state(table.verified_at)) == ("findings", "verified")
    assert table.signed.size == 3
