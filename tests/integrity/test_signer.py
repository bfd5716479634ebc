"""Signing resumes after interruptions, signs nothing twice, and refuses a table that lost rows."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime
from hashlib import sha256

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import ConfigurationError
from pipelines.integrity import last_signed, note, operator_acts, retention, signer
from pipelines.integrity.signer import Alarm
from pipelines.integrity.verifier import proofs
from pipelines.lake import raw
from pipelines.lake.tables import Lake, StreamKey
from pipelines.schemas import RAW
from pipelines.settings import IntegritySettings
from tests.integrity import attacks
from tests.integrity.worlds import LOG, NOON, rows


def test_a_key_folder_inside_the_lake_is_refused(tmp_path):
    lake = Lake(str(tmp_path), None, IntegritySettings(folder=tmp_path / "state"))
    with pytest.raises(ConfigurationError, match="move it out"):
        signer.of(lake, "okta/system_log")


def test_a_commit_that_was_not_signed_is_signed_by_the_next_round(signed):
    signed.land(*range(700, 730), day=3, sign=False)
    assert signed.verify().first_bad.kind == "unsigned"
    signer.sign(signed.lake, LOG, 730, NOON)
    assert signed.verify().ok


def test_the_slower_of_two_writers_raises_no_alarm_if_its_rows_are_signed_already(signed):
    one = raw.append(signed.lake, LOG, rows(range(700, 710), day=3), "c").frame
    other = raw.append(signed.lake, LOG, rows(range(710, 720), day=3), "c").frame
    signer.sign(signed.lake, LOG, 720, NOON, other)
    signer.sign(signed.lake, LOG, 710, NOON, one)
    signer.sign(signed.lake, LOG, 700, NOON)
    signed.derive(one)
    signed.derive(other)
    assert (signed.verify().ok, signed.verify().size) == (True, 720)


def test_truncating_signed_rows_raises_an_alarm(signed):
    attacks.truncate(signed)
    with pytest.raises(Alarm, match="600 rows, but 700 were signed"):
        signer.sign(signed.lake, LOG, 700, NOON)


def test_lost_tiles_are_rebuilt_from_the_rows(signed):
    shutil.rmtree(signed.log / "tile")
    signed.land(*range(700, 730), day=3)
    assert signed.verify(full=True).ok


def test_an_announcement_that_a_kill_interrupted_is_completed_once(signed, monkeypatch):
    def kill(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(signer, "_add_history", kill)
        with pytest.raises(KeyboardInterrupt):
            signed.land(*range(700, 730), day=3)
    kept = signer.of(signed.lake, LOG.app)
    assert last_signed.recall(kept.place, kept.table).size == 700
    for _ in range(2):
        signer.sign(signed.lake, LOG, 730, NOON)
    (month,) = (signed.log / "history").iterdir()
    sizes = [json.loads(line)["size"] for line in month.read_text().splitlines()]
    assert sizes[-2:] == [700, 730]
    assert last_signed.recall(kept.place, kept.table) == signer.published(kept)


def test_a_checkpoint_of_a_key_that_was_not_used_here_yet_is_known(signed):
    (signed.folder / "state" / "trusted.txt").unlink()
    signer.sign(signed.lake, LOG, 700, NOON)
    assert signed.vkeys()
    (signed.folder / "state" / "trusted.txt").unlink()
    shutil.rmtree(signed.folder / "state" / "keys")
    with pytest.raises(Alarm, match="not signed by any trusted key"):
        signer.sign(signed.lake, LOG, 700, NOON)


@pytest.mark.parametrize(
    ("change", "sound"),
    [({"size": 600}, True), ({"size": 800}, True), ({}, False), ({"origin": "x/1"}, False)],
)
def test_the_local_record_contradicts_only_another_log_or_another_root(signed, change, sound):
    kept = signer.of(signed.lake, LOG.app)
    held = signer.published(kept)
    last_signed.remember(kept.place, kept.table, replace(held, root=b"r" * 32, **change))
    if sound:
        assert signer.newest_signed(kept).size == max(700, change["size"])
    else:
        with pytest.raises(Alarm, match="contradicts the one signed here"):
            signer.newest_signed(kept)


def test_the_name_of_a_new_log_shows_whether_an_act_recorded_its_mapping(signed):
    other = StreamKey("okta", "other_log")
    act = {"act": "mapping", "log": LOG.app, "version": 1, "from": 0}
    operator_acts.record(signed.lake, act, NOON)
    for log, marked in ((LOG, True), (other, False)):
        kept = signer.of(signed.lake, log.app)
        head, _ = signer._load_tree(signed.lake, log, kept, None)
        assert head.origin.startswith(f"auditlake/{log.app}/mapped-") is marked


def test_a_checkpoint_emptied_by_a_power_cut_is_published_again(signed):
    for left in (b"", b"\0" * 190):
        before = (signed.log / "checkpoint").read_bytes()
        (signed.log / "checkpoint").write_bytes(left)
        signer.sign(signed.lake, LOG, 700, NOON)
        assert (signed.log / "checkpoint").read_bytes() == before


def test_anchors_and_witnesses_receive_what_was_signed(signed, monkeypatch):
    told = []
    monkeypatch.setattr(signer.anchors, "deliver_soon", lambda *_: told.append("anchors"))
    monkeypatch.setattr(signer.witnesses, "submit_soon", lambda *_: told.append("witnesses"))
    signed.land(*range(700, 710), day=3)
    assert told == ["anchors", "witnesses"]


def test_nothing_is_recorded_of_a_checkpoint_that_another_machine_forestalled(signed):
    kept = signer.of(signed.lake, LOG.app)
    head, seen = signer.published(kept), kept.folder.get("checkpoint")
    (month,) = (signed.log / "history").iterdir()
    for expected, published in ((b"another", False), (seen, True)):
        before = month.read_bytes()
        assert signer.announce(kept, head, NOON, expected) is published
        assert (month.read_bytes() != before) is published


def test_an_idle_round_signs_nothing(signed):
    before = {p: p.stat().st_mtime_ns for p in signed.log.rglob("*")}
    signer.sign(signed.lake, LOG, 700, NOON)
    assert {p: p.stat().st_mtime_ns for p in signed.log.rglob("*")} == before


def test_an_unsigned_lake_has_no_log_to_sign(signed):
    plain = Lake(signed.lake.root)
    off = Lake(signed.lake.root, None, IntegritySettings(sign=False, folder=signed.folder / "off"))
    for lake in (plain, off):
        assert signer.of(lake, LOG.app) is None
        signer.sign(lake, LOG, 700, NOON)
    assert not (signed.folder / "off").exists(), "no key is created"


texts = st.text(max_size=20)
times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001
    lambda time: time.replace(tzinfo=UTC)
)


@given(raw_=texts, identity=texts, via=texts.filter(lambda text: "\n" not in text),
       time=times, arrival=times)  # fmt: skip
def test_signer_and_auditor_agree_on_the_entry_of_any_row(raw_, identity, via, time, arrival):
    row = {"event_id": identity, "time": time, "ingested_at": arrival, "via": via, "raw": raw_}
    digest = sha256(raw_.encode()).hexdigest()
    frame = pl.DataFrame([{**row, "raw_sha256": digest}], schema=RAW)
    (entry,) = signer.entries(frame)
    moments = (("time", time), ("ingested_at", arrival))
    shown = {name: f"{time:%Y-%m-%dT%H:%M:%S.%f}Z" for name, time in moments}
    assert entry == proofs.entry({**row, **shown})


def test_entries_of_raw_rows_are_not_stored_again(signed):
    assert (signed.log / "tile/0").is_dir()
    assert not (signed.log / "tile/entries").exists()


def test_an_entry_too_long_for_a_bundle_is_replaced_by_its_hash(signed):
    frame = signed.rows().head(1)
    (empty,) = signer.entries(frame.with_columns(event_id=pl.lit("")))
    (longest,) = signer.entries(frame.with_columns(event_id=pl.lit("x" * (65_535 - len(empty)))))
    assert longest == empty + b"x" * (65_535 - len(empty))
    for length in (65_000, 65_536 - len(empty), 65_535, 10**6):
        (entry,) = signer.entries(frame.with_columns(event_id=pl.lit("x" * length)))
        assert len(entry) <= 65_535
        assert entry.startswith(b"auditlake/1 long\n") is (length > 65_000)


def test_a_new_log_has_a_name_of_its_own(signed):
    """Otherwise a recreated lake would contradict the checkpoints of the old one."""
    kept = signer.of(signed.lake, LOG.app)
    one, other = signer.new_head(kept), signer.new_head(kept)
    assert one.origin != other.origin
    assert one.origin.startswith("auditlake/okta/system_log/")
    assert (one.size, one.root) == (0, sha256().digest())


def test_the_checkpoint_is_the_newest_note_of_the_history(signed):
    (month,) = (signed.log / "history").iterdir()
    notes = [json.loads(line)["note"] for line in month.read_text().splitlines()]
    assert notes[-1] == (signed.log / "checkpoint").read_text()
    kept = signer.of(signed.lake, LOG.app)
    assert signer.published(kept) == signer.newest_signed(kept) == note.opened(
        notes[-1].encode(), signed.vkeys()
    )  # fmt: skip


def test_rows_missing_in_the_middle_stop_the_signing_of_later_ones(signed):
    """Signing reads them back if the tiles are lost."""
    shutil.rmtree(signed.log / "tile")
    attacks.delete(signed)
    with pytest.raises(Alarm, match="missing rows"):
        signed.land(*range(700, 730), day=3)


def test_changed_rows_are_not_signed_again_where_tiles_are_lost(signed):
    shutil.rmtree(signed.log / "tile")
    attacks.modify(signed)
    with pytest.raises(Alarm, match="its rows differ from the signed ones"):
        signed.land(*range(700, 730), day=3)
    assert signer.published(signer.of(signed.lake, LOG.app)).size == 700


def test_rows_removed_by_recorded_acts_are_listed(signed):
    assert signer.removed(signed.lake, LOG.app) == []
    removal = retention.Removal(log=LOG, before=date(2026, 3, 2), who="ada", why="old")
    retention.remove(signed.lake, removal, NOON)
    assert signer.removed(signed.lake, LOG.app) == [(0, 300)]
    assert signer.removed(signed.lake, "okta/other_log") == []
    assert signer.removed(Lake(signed.lake.root), LOG.app) == []
