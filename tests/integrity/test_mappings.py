"""Rows of another mapping version free no others, and need a signed act that allows them."""

import shutil

import polars as pl
import pytest

from pipelines import registry
from pipelines.extraction import renormalise
from pipelines.extraction.renormalise import History
from pipelines.integrity import bundles, mappings, operator_acts, signer
from pipelines.integrity.verifier import events, table_reader, verify
from pipelines.integrity.verifier import operator_acts as verified_acts
from pipelines.integrity.verifier.operator_acts import Mappings
from tests.integrity import attacks, matrix
from tests.integrity.test_tampering import edit_events
from tests.integrity.worlds import LOG, NOON, OKTA, STREAM, Signed, once

NOW = OKTA.mapping_version


def declare(signed, version=NOW):
    mappings._declared.clear()
    mappings.declare(signed.lake, LOG, version, NOON, rows=1)


def relabel(signed, condition, version=NOW - 1, **columns):
    """Give events that meet the condition another mapping version, and other values."""
    values = {**columns, "mapping_version": pl.lit(version, pl.Int32)}
    changed = [pl.when(condition).then(new).otherwise(pl.col(name)).alias(name)
               for name, new in values.items()]  # fmt: skip
    edit_events(signed, lambda rows: rows.with_columns(changed))


def forge_others(signed, older):
    """Rewrite who did it everywhere, and call the row `older` a result of an older mapping."""
    edit_events(signed, lambda rows: rows.with_columns(pl.lit("forged").alias("actor_email")))
    relabel(signed, pl.col("seq") == older)


SEQ = pl.col("seq")


@matrix.attack(
    "rewrite all events and call one a result of an older mapping", "EVENTS", matrix.AGAIN
)
@pytest.mark.parametrize("older", [0, 417])
def test_one_row_called_older_does_not_free_the_others(signed, older):
    forge_others(signed, older)
    assert "actor_email differs" in signed.verify(full=True).first_bad.detail


@pytest.fixture
def upgraded(signed):
    """Rows below 300 are of the mapping before, and an act states that later ones are not."""
    relabel(signed, SEQ < 300)
    act = {"act": "mapping", "table": "events", "log": LOG.app, "version": NOW, "from": 300}
    operator_acts.record(signed.lake, act, NOON)
    return signed


def test_rows_of_an_older_mapping_are_not_compared_and_not_ok(upgraded):
    report = upgraded.verify()
    assert (report.findings, report.uncompared, report.ok) == ([], 300, False)
    assert report.notes == [
        f"300 rows of events not compared: mapping version {NOW - 1}: run `auditlake renormalise`"
    ]


@matrix.attack("relabel an event as of another mapping version", "EVENTS", matrix.AGAIN)
@pytest.mark.parametrize("version", [NOW - 1, NOW - 2, NOW + 1, None])
def test_a_version_no_act_allows_is_forged(upgraded, version):
    relabel(upgraded, SEQ == 417, version)
    first = upgraded.verify().first_bad
    assert (first.kind, first.seq) == ("events", 417)
    assert f"1 of mapping version {version}" in first.detail


def history(signed):
    source = registry.source("okta", {"base_url": "https://x.okta.com", "api_token": "x" * 42})
    return History(lake=signed.lake, source=source, stream=STREAM)


@matrix.attack("relabel an old event as not renormalised yet", "EVENTS", matrix.AGAIN)
def test_after_renormalise_no_older_version_is_allowed(upgraded):
    list(renormalise.renormalise(history(upgraded)))
    assert upgraded.verify(full=True).ok
    acts = operator_acts.recorded(upgraded.lake)
    assert [act["act"] for act in acts] == ["mapping", "renormalised"]
    list(renormalise.renormalise(history(upgraded)))
    assert len(operator_acts.recorded(upgraded.lake)) == 2
    relabel(upgraded, SEQ == 17)
    assert upgraded.verify(full=True).first_bad.seq == 17


def test_rows_that_stay_older_leave_renormalise_unfinished(upgraded, monkeypatch):
    monkeypatch.setattr(renormalise, "_replace", lambda *_: 0)
    list(renormalise.renormalise(history(upgraded)))
    assert [act["act"] for act in operator_acts.recorded(upgraded.lake)] == ["mapping"]


def test_a_lake_without_acts_verifies_as_before_with_a_note(signed):
    relabel(signed, SEQ < 300)
    report = signed.verify()
    assert report.ok
    assert "signed without acts about its mapping versions" in report.notes[0]


def test_the_first_round_declares_the_version_once(signed):
    declare(signed)
    declare(signed)
    (act,) = operator_acts.recorded(signed.lake)
    assert (act["version"], act["from"], act["log"]) == (NOW, 700, LOG.app)
    declare(signed, NOW + 1)
    declare(signed, NOW)
    assert [act["version"] for act in operator_acts.recorded(signed.lake)] == [NOW, NOW + 1, NOW]


@matrix.attack("remove the signed acts about mappings", "ACTS", matrix.OUTSIDE)
def test_removed_acts_are_missed_where_the_signing_machine_recorded_them(upgraded):
    shutil.rmtree(upgraded.folder / "lake/integrity/acts")
    assert "acts" in {finding.kind for finding in upgraded.verify().findings}


@matrix.attack("alter a signed act about mappings", "ACTS", matrix.ROWS)
def test_altered_acts_excuse_nothing(upgraded):
    bundle = next((upgraded.folder / "lake/integrity/acts/tile/entries").rglob("1"))
    bundle.write_bytes(bundle.read_bytes().replace(b'"from": 300', b'"from": 900'))
    assert "acts" in {finding.kind for finding in upgraded.verify().findings}


@matrix.attack(
    "remove the acts of a log that began with them, and the local record", "ACTS", matrix.ROWS
)
def test_removed_acts_are_missed_without_any_record_in_a_log_that_began_with_them(tmp_path):
    """Also where the whole log of acts and the local record are gone."""
    signed = Signed(tmp_path)
    declare(signed)
    signed.fill(50)
    assert "/mapped-" in (signed.log / "checkpoint").read_text()
    assert signed.verify().ok
    shutil.rmtree(signed.folder / "lake/integrity/acts")
    shutil.rmtree(signed.place.memory)
    assert [finding.kind for finding in signed.verify().findings] == ["acts"]


def test_a_lake_that_was_created_again_starts_a_new_log_of_acts(signed):
    declare(signed)
    shutil.rmtree(signed.folder / "lake")
    mappings.declare(signed.lake, LOG, NOW, NOON, rows=0)
    (act,) = operator_acts.recorded(signed.lake)
    assert act["from"] == 0


def test_a_damaged_log_of_acts_stops_no_round(signed):
    declare(signed, NOW - 1)
    shutil.rmtree(signed.folder / "lake/integrity/acts/tile")
    declare(signed)
    assert (LOG, NOW) not in {key[1:] for key in mappings._declared}


@pytest.mark.parametrize(
    ("module", "name"),
    [(events, "recorded"), (table_reader, "_event_files"), (table_reader, "_by_day"),
     (events, "check")],
)  # fmt: skip
def test_renormalising_during_a_verification_is_no_forgery(upgraded, monkeypatch, module, name):
    def meanwhile():
        list(renormalise.renormalise(history(upgraded)))

    once(monkeypatch, module, name, meanwhile)
    assert upgraded.verify(full=True).findings == []


def test_an_upgrade_during_a_verification_is_no_forgery(signed, monkeypatch):
    """The verification runs with the older version, and sees rows of the newer one."""
    declare(signed)

    def upgrade():
        declare(signed, NOW + 1)
        signed.land(*range(700, 720), day=3)
        relabel(signed, SEQ >= 700, NOW + 1)

    once(monkeypatch, table_reader, "_event_files", upgrade)
    assert signed.verify(full=True).findings == []


def test_events_that_are_not_derived_yet_are_counted(signed):
    signed.land(*range(700, 720), day=3, derive=False)
    report = signed.verify()
    assert (report.findings, report.uncompared) == ([], 20)


@matrix.attack("lower the number of derived rows", "EVENTS", matrix.AGAIN)
def test_a_lowered_number_of_derived_rows_frees_no_event(signed):
    forge_others(signed, 0)
    path = str(signed.folder / "lake/events")
    rows = pl.read_delta(path)
    shutil.rmtree(path)
    lowered = attacks.CommitProperties(app_transactions=[attacks.Transaction(LOG.app, 0)])
    attacks.write_deltalake(path, rows, partition_by=["date"], commit_properties=lowered)
    assert not signed.verify().ok
    assert "events" in {finding.kind for finding in signed.verify().findings}


@matrix.attack("delete events, or roll it back behind a signed act", "EVENTS", matrix.AGAIN)
def test_events_that_were_there_when_an_act_was_signed_are_missed(upgraded):
    shutil.rmtree(upgraded.folder / "lake/events")
    first = upgraded.verify().first_bad
    assert (first.kind, first.seq) == ("events", 0)
    assert first.detail == "events: of 0 rows; of 300 when it was signed"


@matrix.attack("replace the acts by another signed log", "ACTS, CHECKPOINT", matrix.ROWS)
def test_another_log_in_place_of_the_acts_is_found(upgraded):
    acts = upgraded.folder / "lake/integrity/acts"
    shutil.rmtree(acts)
    bundles.write(upgraded.lake, LOG.app, acts)
    assert "acts" in {finding.kind for finding in upgraded.verify().findings}
    kinds = {finding.kind for finding in verify.verify_acts(upgraded.place).findings}
    assert kinds == {"changed", "checkpoint", "rolled back"}


@matrix.attack("remove a column of events", "EVENTS", matrix.AGAIN)
def test_a_column_removed_from_events_is_found(signed):
    edit_events(signed, lambda rows: rows.drop("actor_email"))
    assert "actor_email differs" in signed.verify().first_bad.detail


def test_the_verifier_reads_what_was_recorded(signed):
    declare(signed, NOW - 1)
    shelf, keys = signed.place.shelf("acts"), signed.place.keys
    declare(signed)
    read = verified_acts.mappings(shelf, LOG.app, keys)
    assert read == Mappings(versions=frozenset({NOW - 1, NOW}), newest=NOW, start=700)
    mappings.finish(signed.lake, LOG, NOW, NOON)
    assert verified_acts.mappings(shelf, LOG.app, keys).finished
    assert verified_acts.mappings(shelf, "okta/other", keys) == Mappings()
    assert signer.removed(signed.lake, LOG.app) == []
