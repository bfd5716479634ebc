"""Retention: days are deleted permanently and recorded, and all else stays verifiable."""

import json
from datetime import date

import pytest
from deltalake import DeltaTable

from pipelines.errors import LakeError
from pipelines.integrity import prove, retention
from pipelines.integrity.verifier import audit, operator_acts
from pipelines.lake.tables import Lake
from tests.integrity import attacks
from tests.integrity.worlds import LOG, NOON

REMOVAL = retention.Removal(
    log=LOG, before=date(2026, 3, 2), who="ada", why="GDPR: two years are over"
)


def test_removed_days_are_gone_and_the_rest_is_verified(signed):
    proof = prove.prove(signed.lake, "raw/okta/system_log/10")
    raws = signed.rows()["raw"].to_list()
    assert retention.remove(signed.lake, REMOVAL, NOON) == 300
    assert signed.rows()["seq"].to_list() == list(range(300, 700))
    assert not any(raws[10].encode() in file.read_bytes() for file in signed.table.rglob("*.par*"))
    verdict = signed.verify(full=True)
    assert (verdict.ok, verdict.removed, verdict.events) == (True, 300, 400)
    audit.check_proof(proof, signed.vkeys())
    assert prove.prove(signed.lake, "raw/okta/system_log/300")


def test_the_act_records_who_when_why_and_the_checkpoint(signed):
    checkpoint = (signed.log / "checkpoint").read_text()
    retention.remove(signed.lake, REMOVAL, NOON)
    (act,) = operator_acts.read(signed.place.shelf("acts"), signed.vkeys())
    assert (act["who"], act["why"], act["rows"]) == ("ada", REMOVAL.why, 300)
    assert (act["before"], act["since"], act["at"]) == (
        "2026-03-02",
        "2026-03-01",
        "2026-03-01T12:00:00+00:00",
    )
    assert checkpoint.startswith(act["checkpoint"])


def test_rows_are_still_stored_and_signed_after_a_removal(signed):
    assert signed.verify().ok
    retention.remove(signed.lake, REMOVAL, NOON)
    signed.land(*range(700, 760), day=3)
    verdict = signed.verify()
    assert (verdict.ok, verdict.first) == (True, 512)
    handle = DeltaTable(str(signed.table))
    assert handle.metadata().configuration["delta.appendOnly"] == "true"


def test_a_second_removal_is_recorded_after_the_first(signed):
    retention.remove(signed.lake, REMOVAL, NOON)
    later = retention.Removal(log=LOG, before=date(2026, 3, 3), who="bob", why="again")
    assert retention.remove(signed.lake, later, NOON) == 300
    assert (signed.verify().removed, retention.remove(signed.lake, later, NOON)) == (600, 0)


def test_an_act_excuses_only_the_rows_it_lists(signed):
    retention.remove(signed.lake, REMOVAL, NOON)
    attacks.delete(signed)
    first = signed.verify().first_bad
    assert (first.kind, first.seq) == ("deleted", 417)


def test_an_altered_act_excuses_nothing(signed):
    retention.remove(signed.lake, REMOVAL, NOON)
    bundle = signed.folder / "lake/integrity/acts/tile/entries/000.p/1"
    bundle.write_bytes(bundle.read_bytes().replace(b"ada", b"eve"))
    first = signed.verify(full=True).first_bad
    assert (first.kind, first.seq) == ("deleted", 0)


def test_an_altered_list_of_removed_rows_excuses_nothing(signed):
    retention.remove(signed.lake, REMOVAL, NOON)
    (listed,) = (signed.log / "removed").glob("*.json")
    listed.write_text(json.dumps([[0, 500]]))
    assert signed.verify(full=True).first_bad.seq == 0


def test_a_removal_killed_after_its_act_can_be_resumed(signed):
    kept = retention.signer.of(signed.lake, LOG.app)
    gone = retention.rows(signed.lake, REMOVAL)
    retention._record(signed.lake, kept, REMOVAL, gone, NOON)
    assert signed.verify(full=True).ok
    retention.remove(signed.lake, REMOVAL, NOON)
    verdict = signed.verify(full=True)
    assert (verdict.ok, verdict.removed) == (True, 300)


def test_nothing_is_removed_without_a_record(signed):
    with pytest.raises(LakeError, match="must be recorded and signed"):
        retention.remove(Lake(signed.lake.root), REMOVAL, NOON)
    assert signed.rows().height == 700


def test_rows_are_still_stored_and_signed_after_all_were_removed(signed):
    everything = retention.Removal(log=LOG, before=date(2027, 1, 1), who="ada", why="the end")
    assert retention.remove(signed.lake, everything, NOON) == 700
    retention.signer.sign(signed.lake, LOG, 700, NOON)
    signed.land(*range(700, 760), day=3)
    assert signed.verify(full=True).ok
