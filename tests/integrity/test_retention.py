"""Retention: days are deleted permanently and recorded, and all else stays verifiable."""

import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from pipelines import registry
from pipelines.errors import LakeError
from pipelines.extraction import renormalise
from pipelines.integrity import bundles, prove, retention, signer
from pipelines.integrity.verifier import audit, identities, operator_acts
from pipelines.integrity.verifier import events as events_verifier
from pipelines.lake import commits, deletions, events, identity_table, tables
from pipelines.lake.tables import Lake, StreamKey
from pipelines.orchestration import checks
from pipelines.settings.retention import RetentionSettings
from tests.integrity import attacks
from tests.integrity.test_verify_beside_signing import once
from tests.integrity.worlds import LOG, NOON, STREAM

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
    act, finished = operator_acts.read(signed.place.shelf("acts"), signed.vkeys())
    assert (finished["act"], finished["acts"]) == ("retention finished", 1)
    assert (act["who"], act["why"], act["rows"]) == ("ada", REMOVAL.why, 300)
    assert (act["before"], act["since"], act["at"]) == (
        "2026-03-02",
        "2026-03-01",
        "2026-03-01T12:00:00+00:00",
    )
    assert checkpoint.startswith(act["checkpoint"])


def test_what_is_left_of_removed_rows_is_on_disk_before_the_act(signed, monkeypatch):
    before = []

    def sync():
        acts = operator_acts.read(signed.place.shelf("acts"), signed.vkeys())
        listed = len(list((signed.log / "removed").glob("*.json")))
        before.append((len(acts), listed, signed.rows().height))

    monkeypatch.setattr(os, "sync", sync)
    retention.remove(signed.lake, REMOVAL, NOON)
    assert before == [(0, 1, 700)]


def test_the_accounts_of_persons_are_derived_again_from_what_is_left(signed):
    identity_table.derive(signed.lake)
    retention.remove(signed.lake, REMOVAL, NOON)
    left, derived = (DeltaTable(signed.lake.uri(name)) for name in ("events", "identities"))
    read = commits.fence(derived, f"events/{left.metadata().id}") - 1
    assert DeltaTable(signed.lake.uri("events"), read).file_uris() == left.file_uris()
    assert identities.verify(signed.place).ok


def test_rows_are_still_stored_and_signed_after_a_removal(signed):
    assert signed.verify().ok
    retention.remove(signed.lake, REMOVAL, NOON)
    signed.land(*range(700, 760), day=3)
    verdict = signed.verify()
    assert (verdict.ok, verdict.first) == (True, 512)
    handle = DeltaTable(str(signed.table))
    assert handle.metadata().configuration["delta.appendOnly"] == "true"


def test_nothing_that_reads_during_a_removal_raises_a_false_alarm(signed, monkeypatch):
    okta = registry.source("okta", {"base_url": "https://acme.okta.com", "api_token": "t"})
    (history,) = renormalise.histories(signed.lake, okta)
    delete, waits, waiting = (
        deletions.delete_rows,
        events_verifier._being_removed,
        threading.Event(),
    )
    faults, readers = [], ThreadPoolExecutor()

    def verified():
        faults.extend(signed.verify(full=True).findings)
        waiting.set()

    def noticed(*arguments):
        waiting.set()
        return waits(*arguments)

    def reading(*arguments, **options):
        delete(*arguments, **options)
        for seed in range(3):
            compared = renormalise.check(history, rows=200, seed=seed)
            faults.extend([compared] * (not compared.sound))
        readers.submit(verified)
        assert waiting.wait(300)
        waiting.clear()
        list(renormalise.renormalise(history, everything=True))

    monkeypatch.setattr(events_verifier, "_being_removed", noticed)
    monkeypatch.setattr(deletions, "delete_rows", reading)
    with readers:
        assert retention.remove(signed.lake, REMOVAL, NOON) == 300
    assert faults == []
    assert signed.verify(full=True).ok
    assert renormalise.check(history, rows=200, seed=9).events > 0


def test_a_check_that_began_before_a_removal_reads_the_table_again(signed):
    before = checks.opened(signed.lake, LOG, STREAM, NOON, whole=True)
    retention.remove(signed.lake, REMOVAL, NOON)
    with pytest.raises(FileNotFoundError):
        checks._unique(before)
    for judge, _, _ in checks._CHECKS.values():
        outcome = checks.judged(judge, before)
        assert outcome.passed, outcome


def test_a_removal_of_files_that_a_verification_reads_is_no_finding(signed, monkeypatch):
    once(
        monkeypatch,
        events_verifier,
        "_count",
        lambda: retention.remove(signed.lake, REMOVAL, NOON),
    )
    verdict = signed.verify(full=True)
    assert (verdict.ok, verdict.removed) == (True, 300)


def test_events_whose_records_nobody_removed_by_an_act_are_kept(signed):
    okta = registry.source("okta", {"base_url": "https://acme.okta.com", "api_token": "t"})
    (history,) = renormalise.histories(signed.lake, okta)
    deletions.delete(signed.lake, LOG.table, "date < DATE '2026-03-02'")
    with pytest.raises(LakeError, match="has lost its rows of 2026-03-01"):
        list(renormalise.renormalise(history, everything=True))


def test_events_can_still_be_replaced_after_a_removal(signed):
    retention.remove(signed.lake, REMOVAL, NOON)
    before = tables.scan(signed.lake, "events").collect().sort("seq")
    day, seqs = date(2026, 3, 2), range(300, 600)
    derived = before.filter(pl.col("date") == day)
    assert events.replace(signed.lake, LOG, day, seqs, lambda _: derived).frame.height == 300
    assert tables.scan(signed.lake, "events").collect().sort("seq").equals(before)


def test_late_records_of_removed_days_stay_until_the_next_removal(signed, monkeypatch):
    """They land between the act and the deletion."""

    def record(*act):
        recorded(*act)
        signed.land(8000, 8001, sign=False)

    recorded = retention._record
    monkeypatch.setattr(retention, "_record", record)
    assert retention.remove(signed.lake, REMOVAL, NOON) == 300
    signer.sign(signed.lake, LOG, 702, NOON)
    assert signed.rows()["seq"].to_list() == list(range(300, 702))
    verdict = signed.verify(full=True)
    assert (verdict.ok, verdict.removed, verdict.events) == (True, 300, 402)
    monkeypatch.undo()
    assert retention.remove(signed.lake, REMOVAL, NOON) == 2
    assert signed.verify(full=True).ok


def test_polls_go_on_during_a_removal(signed, monkeypatch):
    """The properties of the table change between what a poll decides on and its commit."""

    def a_removal_is_first(handle, frame, **options):
        if not removed:
            removed.append(None)
            removed.append(retention.remove(signed.lake, REMOVAL, NOON))
        write_deltalake(handle, frame, **options)

    removed = []
    monkeypatch.setattr(commits, "write_deltalake", a_removal_is_first)
    signed.land(*range(700, 760), day=3)
    assert removed == [None, 300]
    assert signed.rows()["seq"].to_list() == list(range(300, 760))
    assert signed.verify(full=True).ok


def test_a_compaction_during_a_removal_makes_it_try_again(signed, monkeypatch):
    """It rewrites the files between the opening of the table and the deletion."""

    def compacted_meanwhile(*arguments):
        if not compacted:
            compacted.append(True)
            DeltaTable(signed.lake.uri(LOG.table)).optimize.compact()
        return commit(*arguments)

    commit, compacted = deletions._commit, []
    monkeypatch.setattr(deletions, "_commit", compacted_meanwhile)
    assert retention.remove(signed.lake, REMOVAL, NOON) == 300
    assert compacted
    verdict = signed.verify(full=True)
    assert (verdict.ok, verdict.removed, verdict.events) == (True, 300, 400)


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
    bundle = signed.folder / "lake/integrity/acts/tile/entries/000.p/2"
    bundle.write_bytes(bundle.read_bytes().replace(b"ada", b"eve"))
    first = signed.verify(full=True).first_bad
    assert (first.kind, first.seq) == ("deleted", 0)


def test_an_altered_list_of_removed_rows_excuses_nothing(signed):
    retention.remove(signed.lake, REMOVAL, NOON)
    (listed,) = (signed.log / "removed").glob("*.json")
    listed.write_text(json.dumps([[0, 500]]))
    assert signed.verify(full=True).first_bad.seq == 0


def test_a_removal_killed_after_its_act_can_be_resumed(signed):
    gone = retention.rows(signed.lake, REMOVAL)
    retention._record(signed.lake, REMOVAL, gone, NOON)
    assert signed.verify(full=True).ok
    retention.remove(signed.lake, REMOVAL, NOON)
    verdict = signed.verify(full=True)
    assert (verdict.ok, verdict.removed) == (True, 300)


def test_only_events_of_rows_that_an_act_lists_may_be_missing_before_it_is_finished(signed):
    retention._record(signed.lake, REMOVAL, retention.rows(signed.lake, REMOVAL), NOON)
    deletions.delete_rows(signed.lake, "events", "seq < 300")
    assert signed.verify(full=True).ok
    deletions.delete_rows(signed.lake, "events", "seq < 301")
    first = signed.verify(full=True).first_bad
    assert (first.kind, first.seq) == ("events", 300)


def test_a_table_that_an_older_auditlake_left_open_is_append_only_again(signed):
    retention._record(signed.lake, REMOVAL, retention.rows(signed.lake, REMOVAL), NOON)
    commits.set_append_only(signed.lake, LOG.table, wanted=False)
    assert retention.finish(signed.lake, NOON) == [LOG.table]
    assert commits.is_append_only(DeltaTable(str(signed.table)))
    assert retention.finish(signed.lake, NOON) == []


def test_a_lost_list_of_rows_stops_what_cannot_be_finished(signed):
    retention._record(signed.lake, REMOVAL, retention.rows(signed.lake, REMOVAL), NOON)
    (listed,) = (signed.log / "removed").glob("*.json")
    listed.unlink()
    with pytest.raises(LakeError, match="missing or altered: run `auditlake verify`"):
        retention.finish(signed.lake, NOON)
    assert signed.rows().height == 700


def test_the_ids_of_days_removed_one_by_one_are_forgotten_across_their_border(signed):
    """A bundle of 256 entries, which an older auditlake stored, belongs to both acts together."""
    bundles.write(signed.lake, LOG.app, signed.folder / "written")
    shutil.copytree(signed.folder / "written/tile/entries", signed.log / "tile/entries")
    retention.remove(signed.lake, REMOVAL, NOON)
    later = retention.Removal(log=LOG, before=date(2026, 3, 3), who="ada", why="again")
    retention.remove(signed.lake, later, NOON)
    stored = signed.log / "tile/entries"
    assert {path.parent.name for path in stored.rglob("*") if path.is_file()} == {"002.p"}


def test_nothing_is_removed_without_a_record(signed):
    with pytest.raises(LakeError, match="must be recorded and signed"):
        retention.remove(Lake(signed.lake.root), REMOVAL, NOON)
    assert signed.rows().height == 700


def test_rows_are_still_stored_and_signed_after_all_were_removed(signed):
    everything = retention.Removal(log=LOG, before=date(2027, 1, 1), who="ada", why="the end")
    assert retention.remove(signed.lake, everything, NOON) == 700
    signer.sign(signed.lake, LOG, 700, NOON)
    signed.land(*range(700, 760), day=3)
    assert signed.verify(full=True).ok


@pytest.mark.parametrize("before", [date(2026, 3, 2), date(2027, 1, 1)])
@pytest.mark.parametrize("whole", [False, True])
def test_the_checks_of_the_table_pass_after_a_removal(signed, before, whole):
    later = retention.Removal(log=LOG, before=before, who="ada", why="the end")
    retention.remove(signed.lake, later, NOON)
    table = checks.opened(signed.lake, LOG, STREAM, NOON, whole)
    verdicts = {name: judge(table) for name, (judge, *_) in checks._CHECKS.items()}
    assert {name: v.description for name, v in verdicts.items() if not v.passed} == {}


def test_a_row_that_is_missing_beside_removed_ones_is_found(signed):
    retention.remove(signed.lake, REMOVAL, NOON)
    attacks.delete(signed)
    table = checks.opened(signed.lake, LOG, STREAM, NOON, whole=False)
    assert not checks._dense(table).passed


def test_streams_with_older_rows_are_due(signed):
    def due(**days):
        kept = RetentionSettings(why="a rule", days=days)
        found = retention.due(signed.lake, kept, [], datetime(2026, 3, 3, tzinfo=UTC))
        return [(each.log, each.before, each.why) for each in found]

    assert due() == due(okta=2) == due(entra_id=1) == []
    assert due(okta=1) == [(LOG, date(2026, 3, 2), "a rule (1 days)")]
    assert due(**{"okta": 1, "okta/system_log": 2}) == []
    assert due(**{"okta/system_log": 1}) == due(okta=1)


def test_a_clock_that_is_ahead_deletes_nothing_too_early(signed):
    kept = RetentionSettings(days={"okta": 2})
    assert retention.due(signed.lake, kept, [], datetime(2030, 1, 1, tzinfo=UTC)) == []


def test_a_clock_that_is_behind_deletes_nothing_too_early(signed):
    kept = RetentionSettings(days={"okta": 1})
    assert retention.due(signed.lake, kept, [], datetime(2026, 3, 2, tzinfo=UTC)) == []


def test_a_plan_counts_the_rows_of_every_table_and_changes_nothing(signed):
    before = {path: path.stat().st_mtime_ns for path in signed.folder.rglob("*")}
    planned = retention.planned(signed.lake, REMOVAL)
    first = date(2026, 3, 1)
    assert [(each.table, each.rows, each.first, each.last) for each in planned] == [
        (LOG.table, 300, first, first),
        ("events", 300, first, first),
    ]
    assert {path: path.stat().st_mtime_ns for path in signed.folder.rglob("*")} == before


def test_the_settings_are_applied_as_acts_and_a_killed_run_is_finished(signed):
    later = datetime(2026, 3, 3, tzinfo=UTC)
    kept = RetentionSettings(why="a rule", days={"okta": 1})
    retention._record(signed.lake, REMOVAL, retention.rows(signed.lake, REMOVAL)[:10], NOON)
    (done,) = retention.apply(signed.lake, kept, [], later)
    assert (done.table, done.rows, done.error) == (LOG.table, 290, None)
    acts = operator_acts.read(signed.place.shelf("acts"), signed.vkeys())
    assert [act["act"] for act in acts] == ["retention", "retention", "retention finished"]
    assert (acts[1]["who"], acts[1]["why"]) == ("maintenance", "a rule (1 days)")
    assert retention.apply(signed.lake, kept, [], later) == []
    verdict = signed.verify(full=True)
    assert (verdict.ok, verdict.removed, verdict.events) == (True, 300, 400)


def test_an_error_about_one_stream_stops_no_other(signed):
    other = StreamKey("okta_2", "system_log")
    signed.land(*range(20), log=other)
    (signed.folder / "lake/integrity/okta_2/system_log/checkpoint").write_bytes(b"forged\n")
    kept = RetentionSettings(days={"okta": 1, "okta_2": 1})
    found = retention.apply(signed.lake, kept, [], datetime(2026, 3, 3, tzinfo=UTC))
    assert {each.table: (each.rows, bool(each.error)) for each in found} == {
        LOG.table: (300, False),
        other.table: (0, True),
    }
    assert signed.rows().height == 400
