"""Verification: sound after maintenance, incremental from a state that only success stores."""

import json
import shutil
import time

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from pipelines.integrity import note, operator_acts, signer
from pipelines.integrity.verifier import table_reader, verify
from pipelines.integrity.verifier.job import Job, TableReport
from pipelines.integrity.verifier.known_checkpoints import KnownCheckpoint, Unavailable
from pipelines.integrity.verifier.proofs import Checkpoint
from pipelines.integrity.verifier.table_reader import EventFiles, TableFiles
from pipelines.integrity.verifier.tree import LeafBuffer
from pipelines.lake.tables import StreamKey
from tests.integrity import attacks
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


def test_only_new_rows_are_read_after_a_success(signed):
    assert (signed.verify().read, signed.verify().read) == (700, 188)
    signed.land(*range(700, 800), day=3)
    verdict = signed.verify()
    assert (verdict.ok, verdict.first, verdict.read) == (True, 512, 288)


def test_a_failed_verification_is_no_starting_point(signed):
    attacks.modify(signed)
    for _ in range(2):
        verdict = signed.verify()
        assert (verdict.ok, verdict.first, verdict.read) == (False, 0, 700)


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"peaks": [[0, 25', b"\0" * 64, b"\xff"])
def test_a_damaged_state_leads_to_a_full_verification(signed, damage):
    assert signed.verify().ok
    (state,) = (signed.place.memory / "verified").iterdir()
    state.write_bytes(damage)
    verdict = signed.verify()
    assert (verdict.ok, verdict.first) == (True, 0)


def test_a_state_signed_with_another_key_is_not_believed(signed):
    """The state is a file: its checkpoint must be signed like any other."""
    assert signed.verify().ok
    (state,) = (signed.place.memory / "verified").iterdir()
    held = json.loads(state.read_text())
    text = held["note"].partition("\n\n")[0] + "\n"
    held["note"] = note.signed(text, [note.new_key("auditlake")]).decode()
    state.write_text(json.dumps(held))
    assert signed.verify().first == 0


def test_a_run_without_events_does_not_replace_the_state_of_one_with_them(signed):
    assert signed.verify(events=False).ok
    assert signed.verify().first == 0, "events were not compared yet"
    assert signed.verify(events=False).first == 512
    assert signed.verify().first == 512


def test_tables_are_those_that_exist_were_signed_or_are_remembered(signed):
    other = StreamKey("okta", "other_log")
    signed.land(*range(5), log=other, derive=False)
    every = ["raw/okta/other_log", LOG.table]
    assert verify.tables(signed.place) == every
    shutil.rmtree(signed.folder / "lake" / other.table)
    assert verify.tables(signed.place) == every
    shutil.rmtree(signed.folder / "lake/integrity/okta/other_log")
    assert verify.tables(signed.place) == every
    operator_acts.record(signed.lake, {"act": "retention"}, NOON)
    assert verify.tables(signed.place) == [*every, "acts"]


def test_a_log_of_no_stream_is_known_by_its_table_alone_or_by_an_anchor_alone(signed):
    assert "findings" not in verify.tables(signed.place)
    assert verify._is_known(signed.place, "findings", ["okta/system_log", "findings/1a2b"])
    assert not verify._is_known(signed.place, "findings", ["okta/findings"])
    write_deltalake(str(signed.folder / "lake/findings"), pl.DataFrame({"seq": [0]}))
    assert "findings" in verify.tables(signed.place)


@pytest.mark.parametrize(
    ("beyond", "kind"), [([0], "unsigned"), ([0, 1], "unsigned"), ([-1, 0], "inserted"), ([], "")]
)
def test_rows_beyond_the_checkpoint_are_unsigned_and_those_below_zero_inserted(
    signed, beyond, kind
):
    case, verdict = Job(place=signed.place, table="raw/okta/new"), TableReport(table="", at=NOON)
    board = LeafBuffer(start=0, size=0)
    board.beyond += beyond
    held = TableFiles(tasks=(), count=len(beyond), events=EventFiles())
    verify._compare_counts(case, verdict, board, held)
    assert [found.kind for found in verdict.findings] == ([kind] if kind else [])


def test_a_missing_file_is_looked_for_three_more_times(signed, monkeypatch):
    """Retention deletes files, too."""
    real, reads = table_reader.read, []
    monkeypatch.setattr(table_reader, "read", lambda *case: reads.append(case) or real(*case))
    file = next(signed.table.glob("date=*/*.parquet"))
    file.rename(file.with_suffix(".gone"))
    assert "unreadable" in {found.kind for found in signed.verify(full=True).findings}
    assert len(reads) == 1 + 3


def test_a_checkpoint_belongs_to_the_table_in_its_origin(signed):
    assert verify.table_of(signed.place, (signed.log / "checkpoint").read_text()) == LOG.table
    assert verify.table_of(signed.place, "my/name/entra_id/audits/1a2b\n7\n") == (
        "raw/entra_id/audits"
    )
    assert verify.table_of(signed.place, "auditlake/acts/1a2b\n7\n") == "acts"


@pytest.fixture
def acted(signed):
    """A lake with two recorded acts."""
    for number in range(2):
        operator_acts.record(signed.lake, {"act": "retention", "n": number}, NOON)
    return signed


def test_the_log_of_acts_is_verified_like_a_table(acted):
    verdict = verify.verify_acts(acted.place)
    assert (verdict.ok, verdict.size, len(verdict.compared_with)) == (True, 2, 1)
    assert verdict.origin.startswith("auditlake/acts/")


def test_a_witness_of_the_acts_is_noted_if_the_log_agrees_with_it(acted, monkeypatch):
    head = verify._read_note(
        (acted.folder / "lake/integrity/acts/checkpoint").read_bytes(), acted.place.keys, "acts"
    )
    seen = KnownCheckpoint(head=head, where="the witness w", note=None, cosigned_at=1)
    monkeypatch.setattr(verify.witnesses, "cosigned", lambda *_: [seen])
    (cosigned,) = verify.verify_acts(acted.place).cosigned.items()
    assert (cosigned[0], cosigned[1].rows) == ("w", 2)


def test_a_changed_act_is_found(acted):
    bundle = acted.folder / "lake/integrity/acts/tile/entries/000.p/2"
    bundle.write_bytes(bundle.read_bytes().replace(b"retention", b"RETENTION"))
    assert verify.verify_acts(acted.place).first_bad.kind == "changed"


def test_a_log_of_acts_that_was_rolled_back_or_removed_is_found(acted):
    acts, former = acted.folder / "lake/integrity/acts", acted.folder / "former"
    shutil.copytree(acts, former)
    newest = (acts / "checkpoint").read_text()
    operator_acts.record(acted.lake, {"act": "retention", "n": 2}, NOON)
    shutil.rmtree(acts)
    removed = verify.verify_acts(acted.place).first_bad
    assert (removed.kind, removed.seq) == ("rolled back", 0)
    former.rename(acts)
    back = verify.verify_acts(acted.place)
    assert (back.first_bad.kind, back.first_bad.seq) == ("rolled back", 2)
    assert "covers 3 acts" in back.first_bad.detail
    assert verify.verify_acts(acted.place, [newest]).compared_with


KEPT = {"size": 300, "root": b"r" * 32, "origin": "a/1"}


@pytest.mark.parametrize(
    ("change", "cosigned_at", "agrees", "must_compare"),
    [
        ({}, 1, True, False),
        ({"size": 299}, 1, False, True),
        ({"size": 511}, 1, False, True),
        ({"size": 512}, 1, False, False),
        ({"size": 299}, 0, False, False),
        ({"root": b"s" * 32}, 1, False, True),
        ({"origin": "b/1"}, 1, False, True),
    ],
)
def test_a_checkpoint_of_a_witness_that_no_run_has_compared_takes_all_rows(
    change, cosigned_at, agrees, must_compare
):
    head = Checkpoint(origin="a/1", size=700, root=b"h" * 32, signer="")
    peaks, cosigned = {(0, 512): b"p" * 32}, [(300, (b"r" * 32).hex())]
    start = verify._Verified(head=head, note="", peaks=peaks, cosigned=cosigned)
    shown = Checkpoint(**{**KEPT, **change}, signer="")
    seen = KnownCheckpoint(head=shown, where="w", note=None, cosigned_at=cosigned_at)
    assert (start.agrees(seen), start.must_compare(seen)) == (agrees, must_compare)
    away = Unavailable(where="w", reason="no route")
    assert not start.agrees(away)
    assert not start.must_compare(away)


def changed(held, **changes):
    return json.dumps({**held, **changes}).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda held: b"",
        lambda held: b"[" * 50_000,
        lambda held: b"[]",
        lambda held: changed(held, note=7),
        lambda held: changed(held, note=[held["note"]]),
        lambda held: changed(held, peaks=7),
        lambda held: changed(held, peaks=[7]),
        lambda held: changed(held, peaks=[["0", 512, "00" * 32]]),
        lambda held: changed(held, peaks=[[0, 512, 7]]),
        lambda held: changed(held, peaks=[[256, 512, "00" * 32]]),
        lambda held: changed(held, peaks=[[0, 512, "00" * 32], [512, 100_000, "00" * 32]]),
        lambda held: changed(held, peaks=[[0, 100, "00" * 32]]),
        lambda held: changed(held, peaks=[[0, 512, "00" * 32]]),
        lambda held: changed(held, peaks=[[0, 512, "00"]]),
        lambda held: changed(held, events="no"),
        lambda held: json.dumps({"note": held["note"], "peaks": held["peaks"]}).encode(),
    ],
)
def test_a_damaged_record_of_the_last_run_only_costs_time(signed, damage):
    assert signed.verify().ok
    path = signed.place.memory / "verified" / "raw.okta.system_log.json"
    path.write_bytes(damage(json.loads(path.read_bytes())))
    verdict = signed.verify()
    assert (verdict.ok, verdict.read) == (True, 700), verdict.findings
    assert signed.verify().first == 512


def test_rows_whose_checkpoint_is_just_being_published_are_not_unsigned(signed, monkeypatch):
    signed.land(*range(700, 710), day=3, sign=False)
    assert [found.kind for found in signed.verify().findings] == ["unsigned"]
    monkeypatch.setattr(verify, "_PUBLISHING", 60.0)
    waited = []

    def publish(seconds):
        waited.append(seconds)
        signer.sign(signed.lake, LOG, 710, NOON)

    monkeypatch.setattr(verify.time, "sleep", publish)
    assert signed.verify().findings == []
    assert len(waited) == 1


def test_a_report_contains_how_long_the_verification_took(signed):
    began = time.perf_counter()
    verdict = signed.verify()
    assert 0 < verdict.seconds < time.perf_counter() - began
