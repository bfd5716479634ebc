"""Entry bundles of raw logs are made on request, and those of an older auditlake are deleted."""

import shutil

import pytest

from pipelines.errors import LakeError
from pipelines.integrity import bundles, retention, signer, tiles
from pipelines.integrity.files import Disk
from tests.integrity import attacks
from tests.integrity.worlds import LOG, NOON


def written(signed):
    folder = signed.folder / "written"
    bundles.write(signed.lake, LOG.app, folder)
    return folder


def as_an_older_version(signed):
    """Store the bundles in the lake, one of them also as it was when it had fewer entries."""
    shutil.copytree(written(signed) / tiles.BUNDLES, signed.log / tiles.BUNDLES)
    entries = signer.entries(signed.rows()[512:530])
    tiles.write_entries(Disk(signed.log), 512, entries)


def test_a_raw_log_stores_none_and_they_can_be_written(signed):
    assert not (signed.log / tiles.BUNDLES).exists()
    folder = Disk(written(signed))
    found = [each for index in range(3) for each in tiles.entries(folder, 700, index)]
    assert found == signer.entries(signed.rows())


def test_entries_of_removed_rows_are_empty(signed):
    before = NOON.date().replace(day=2)
    rule = retention.Removal(log=LOG, before=before, who="ada", why="a rule")
    gone = retention.remove(signed.lake, rule, NOON)
    found = tiles.entries(Disk(written(signed)), 700, 0)
    assert gone > 0
    assert set(found[: min(gone, 256)]) == {b""}


def test_a_row_that_is_not_as_signed_is_not_written(signed):
    attacks.modify_arrival(signed)
    with pytest.raises(LakeError, match="row 417 is not as signed"):
        written(signed)


def test_nothing_is_written_over(signed):
    written(signed)
    with pytest.raises(LakeError, match="not empty"):
        written(signed)


def test_a_log_that_is_not_there_is_named(signed):
    with pytest.raises(LakeError, match="raw/okta/users has no signed log"):
        bundles.write(signed.lake, "okta/users", signed.folder / "written")


def test_stored_ones_are_deleted_and_the_lake_is_as_it_was(signed):
    as_an_older_version(signed)
    assert signed.verify(full=True).ok
    assert bundles.prune(signed.lake, [LOG]) == 4
    assert not (signed.log / tiles.BUNDLES).exists()
    assert bundles.prune(signed.lake, [LOG]) == 0
    assert signed.verify(full=True).ok
    signed.land(*range(700, 760), day=3)
    assert signed.verify(full=True).ok


def test_those_that_show_how_a_row_was_altered_stay(signed):
    as_an_older_version(signed)
    attacks.modify(signed)
    bundles.prune(signed.lake, [LOG])
    left = {path.name for path in (signed.log / tiles.BUNDLES).rglob("*") if path.is_file()}
    assert left == {"001"}
    found = signed.verify(full=True).first_bad
    assert found.detail == "row 417 (event_id id-000417): raw is not as signed"
