"""Signing resumes after interruptions, signs nothing twice, and refuses a table that lost rows."""

import shutil

import pytest

from pipelines.errors import ConfigurationError
from pipelines.integrity import signer
from pipelines.integrity.signer import Alarm
from pipelines.lake import raw
from pipelines.lake.tables import Lake
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


def test_a_checkpoint_emptied_by_a_power_cut_is_published_again(signed):
    for left in (b"", b"\0" * 190):
        before = (signed.log / "checkpoint").read_bytes()
        (signed.log / "checkpoint").write_bytes(left)
        signer.sign(signed.lake, LOG, 700, NOON)
        assert (signed.log / "checkpoint").read_bytes() == before


def test_an_idle_round_signs_nothing(signed):
    before = {p: p.stat().st_mtime_ns for p in signed.log.rglob("*")}
    signer.sign(signed.lake, LOG, 700, NOON)
    assert {p: p.stat().st_mtime_ns for p in signed.log.rglob("*")} == before
