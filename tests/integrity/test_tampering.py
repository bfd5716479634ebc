"""Attacks with full write access to the lake's files are detected, located and classified."""

import shutil

import polars as pl
import pytest
from deltalake import DeltaTable

from pipelines.integrity import reports, signer
from pipelines.integrity.signer import Alarm
from pipelines.integrity.verifier import verify
from pipelines.integrity.verifier.job import WorkerPool
from pipelines.lake.tables import StreamKey
from pipelines.settings import Anchor
from tests.integrity import attacks, matrix
from tests.integrity.worlds import LOG, NOON, Signed

FOUND = {
    # attack: (kind, first bad row), detected with the rows and the checkpoint alone
    attacks.modify: ("changed", 417),
    attacks.modify_raw_only: ("changed", 417),
    attacks.modify_arrival: ("changed", 417),
    attacks.modify_identity: ("changed", 417),
    attacks.replace_via: ("changed", 417),
    attacks.swap: ("changed", 417),
    attacks.delete: ("deleted", 417),
    attacks.delete_and_renumber: ("deleted", 417),
    attacks.truncate: ("truncated", 600),
    attacks.insert: ("unsigned", 700),
    attacks.insert_in_between: ("inserted", 417),
    attacks.insert_under_a_taken_number: ("duplicated", 417),
    attacks.insert_below_zero: ("inserted", -1),
    attacks.duplicate: ("duplicated", 417),
    attacks.duplicate_and_renumber: ("duplicated", 417),
    attacks.reorder: ("reordered", 417),
    attacks.edit_statistics: ("inserted", -5),
    attacks.empty_the_last_commit: ("truncated", 600),
    attacks.delete_the_last_commit: ("truncated", 600),
    attacks.drop_an_added_file: ("deleted", 200),
    attacks.restore: ("truncated", 400),
    attacks.drop_the_table: ("deleted", 0),
    attacks.break_the_log: ("unreadable", 0),
}


@pytest.mark.parametrize("attack", FOUND, ids=lambda attack: attack.__name__)
def test_an_attack_on_the_rows_is_reported_with_its_kind_and_first_row(signed, attack):
    attack(signed)
    verdict = signed.verify()
    first = verdict.first_bad
    assert (first.kind, first.seq) == FOUND[attack], verdict.findings


@pytest.mark.parametrize("attack", [attacks.modify, attacks.delete, attacks.reorder])
def test_a_full_run_detects_attacks_on_rows_verified_before(signed, attack):
    assert signed.verify().ok
    attack(signed)
    assert not signed.verify(full=True).ok


@matrix.attack("hide rows from searches and rules by forged statistics", "STATISTICS", matrix.ROWS)
@pytest.mark.parametrize(
    ("column", "low", "high"),
    [
        ("seq", 10**6, 10**6),
        ("seq", 0, 1),
        ("time", "2020-01-01T00:00:00.000Z", "2020-01-02T00:00:00.000Z"),
        ("ingested_at", "2036-01-01T00:00:00.000Z", "2036-01-02T00:00:00.000Z"),
        ("via", "a", "b"),
    ],
)
def test_rows_outside_of_the_statistics_in_the_log_are_reported(signed, column, low, high):
    attacks.hide_from_searches(signed, column, low, high)
    first = signed.verify(full=True).first_bad
    assert first.kind == "statistics"
    assert f"{column} lies outside" in first.detail


@matrix.attack("flip bits in data files", "CHANGED or UNREADABLE", matrix.ROWS)
@pytest.mark.parametrize("seed", range(12))
def test_flipped_bits_are_detected_if_they_change_a_row(signed, seed):
    before = signed.rows()
    attacks.flip_bits(signed, seed)
    verdict = signed.verify()
    try:
        changed = not signed.rows().equals(before)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        changed = True
    assert verdict.ok is not changed, verdict.findings


@matrix.attack("lose a data file", "UNREADABLE, DELETED", matrix.ROWS)
def test_a_lost_data_file_is_reported(signed):
    attacks.lose_a_file(signed)
    verdict = signed.verify()
    assert {finding.kind for finding in verdict.findings} >= {"unreadable", "deleted"}


def test_the_changed_column_of_a_row_is_reported(signed):
    attacks.modify_arrival(signed)
    first = signed.verify().first_bad
    assert first.detail == "row 417 (event_id id-000417): ingested_at is not as signed"


@matrix.attack("rewrite a data file without the Delta log", "CHANGED", matrix.ROWS)
def test_a_data_file_rewritten_without_the_delta_log_is_reported(signed):
    for path in signed.table.rglob("*.parquet"):
        rows = pl.read_parquet(path, hive_partitioning=False)
        forged = pl.when(pl.col("seq") == 417).then(pl.lit("{}")).otherwise("raw")
        rows.with_columns(raw=forged).write_parquet(path, compression="uncompressed")
    first = signed.verify().first_bad
    assert (first.kind, first.seq) == ("changed", 417)


def test_the_event_id_of_a_deleted_row_is_reported(signed):
    attacks.delete(signed)
    assert "id-000417" in signed.verify().first_bad.detail


@matrix.attack("change a row and all tiles", "CHANGED, the batch", matrix.ROWS)
def test_altering_the_tiles_too_hides_the_row_but_not_its_batch(signed):
    attacks.modify(signed)
    forge_tiles(signed)
    first = signed.verify().first_bad
    assert (first.kind, first.seq) == ("changed", 400)
    assert "between 400 and 499" in first.detail


def forge_tiles(signed):
    """Replace the tiles by those of the altered table, signed with the attacker's key."""
    forger = Signed(signed.folder / "forger")
    shutil.copytree(signed.table, forger.table)
    signer.sign(forger.lake, LOG, signed.rows().height, NOON)
    shutil.rmtree(signed.log / "tile")
    shutil.copytree(forger.log / "tile", signed.log / "tile")
    return forger


@matrix.attack("sign the altered log with another key", "CHECKPOINT; the stream stops", matrix.ROWS)
def test_signatures_of_another_key_are_rejected(signed):
    attacks.modify(signed)
    forger = forge_tiles(signed)
    for name in ("checkpoint", "history"):
        if (signed.log / name).is_dir():
            shutil.rmtree(signed.log / name)
            shutil.copytree(forger.log / name, signed.log / name)
        else:
            shutil.copy(forger.log / name, signed.log / name)
    findings = signed.verify().findings
    assert [finding.kind for finding in findings] == ["checkpoint"]
    with pytest.raises(Alarm, match="not signed by any trusted key"):
        signer.sign(signed.lake, LOG, 700, NOON)


@matrix.attack("remove the checkpoint", "CHECKPOINT", matrix.ROWS)
def test_a_missing_checkpoint_is_reported_and_rows_are_still_checked(signed):
    (signed.log / "checkpoint").unlink()
    attacks.replace_via(signed)
    assert {f.kind for f in signed.verify().findings} == {"checkpoint", "changed"}


@matrix.attack("use the checkpoint of another table", "CHECKPOINT; the stream stops", matrix.ROWS)
def test_a_checkpoint_of_another_table_is_rejected(signed):
    other = StreamKey("okta", "other_log")
    signed.land(*range(50), log=other, derive=False)
    shutil.copy(signed.folder / "lake/integrity/okta/other_log/checkpoint", signed.log)
    (finding,) = signed.verify().findings
    assert "another log" in finding.detail
    with pytest.raises(Alarm):
        signer.sign(signed.lake, LOG, 700, NOON)


@matrix.attack("damage a tile", "TILES", matrix.ROWS)
def test_a_damaged_tile_is_reported_even_if_the_rows_are_right(signed):
    tile = signed.log / "tile/0/001"
    tile.write_bytes(tile.read_bytes()[::-1])
    (finding,) = signed.verify().findings
    assert finding.kind == "tiles"


# The following need a record outside the lake: the signer's own, a kept checkpoint, an anchor.


def rolled_back(signed, count):
    """Sign `count` more rows, then roll the lake back; return the lost checkpoint."""
    shutil.copytree(signed.folder / "lake", signed.folder / "copy")
    signed.land(*range(700, 700 + count), day=3)
    gone = (signed.log / "checkpoint").read_text()
    shutil.rmtree(signed.folder / "lake")
    (signed.folder / "copy").rename(signed.folder / "lake")
    return gone


def forget(signed):
    """Verify as another machine would, with the public keys but without local records."""
    shutil.rmtree(signed.place.memory)


@matrix.attack("roll back lake and checkpoint", "ROLLED BACK; the stream stops", matrix.OUTSIDE)
def test_the_signer_detects_a_rollback_of_lake_and_checkpoint(signed):
    rolled_back(signed, 50)
    first = signed.verify().first_bad
    assert (first.kind, first.seq) == ("rolled back", 700)
    with pytest.raises(Alarm, match="700 rows, but 750 were signed"):
        signer.sign(signed.lake, LOG, 700, NOON)


def test_a_kept_checkpoint_reveals_a_rollback(signed):
    kept = rolled_back(signed, 50)
    forget(signed)
    assert signed.verify().ok, "undetectable without the kept checkpoint"
    first = signed.verify(since=[kept]).first_bad
    assert (first.kind, first.seq) == ("rolled back", 700)


@pytest.fixture
def anchored(tmp_path):
    """A lake whose anchor is a directory that the attacker cannot reach."""
    (tmp_path / "worm").mkdir()
    settings = {"anchors": (Anchor(directory=tmp_path / "worm"),)}
    world = Signed(tmp_path / "world", settings).fill(500)
    deliver(world)
    return world


def deliver(world):
    from pipelines.integrity import anchors

    assert anchors.deliver(world.place.memory, world.integrity) == []


def test_an_anchor_reveals_a_rollback(anchored):
    shutil.copytree(anchored.folder / "lake", anchored.folder / "copy")
    anchored.land(*range(500, 550), day=3)
    deliver(anchored)
    shutil.rmtree(anchored.folder / "lake")
    (anchored.folder / "copy").rename(anchored.folder / "lake")
    forget(anchored)
    first = anchored.verify().first_bad
    assert (first.kind, first.seq) == ("rolled back", 500)


@matrix.attack("rewrite the history with the stolen key", "REWRITTEN", matrix.OUTSIDE)
def test_an_anchor_reveals_a_history_rewritten_with_the_stolen_key(anchored):
    attacks.replace_via(anchored)
    forget(anchored)
    origin = (anchored.log / "checkpoint").read_text().split("\n")[0]
    shutil.rmtree(anchored.log)
    sign_again(anchored, origin)
    verdict = Signed(anchored.folder).verify()
    assert verdict.ok, "undetectable without the anchor"
    kinds = {finding.kind for finding in anchored.verify().findings}
    assert kinds == {"rewritten"}


def sign_again(signed, origin):
    """Sign the altered table with the stolen key under the log's own origin."""
    thief = Signed(signed.folder)
    kept = signer.of(thief.lake, LOG.app)
    head = signer.new_head(kept).__class__(origin=origin, size=0, root=signer.merkle.EMPTY)
    head, _ = signer.grow(kept, head, (), signer.entries(signed.rows()))
    kept.place.joinpath("signed").mkdir(parents=True)
    signer.announce(kept, head, NOON, None)


@matrix.attack("replace the whole lake", "REPLACED", matrix.OUTSIDE)
def test_an_anchor_reveals_that_a_log_was_replaced(anchored):
    forget(anchored)
    shutil.rmtree(anchored.folder / "lake")
    Signed(anchored.folder).fill(300)
    assert "replaced" in {finding.kind for finding in anchored.verify().findings}


@matrix.attack("remove a table and its log", "DELETED", matrix.OUTSIDE)
def test_the_local_record_and_anchors_reveal_that_a_table_and_its_log_were_removed(anchored):
    shutil.rmtree(anchored.table)
    shutil.rmtree(anchored.log.parent)
    assert verify.tables(anchored.place) == ["raw/okta/system_log"]
    first = anchored.verify().first_bad
    assert (first.kind, first.seq) == ("deleted", 0)
    assert "record of signed checkpoints covers 500 rows" in first.detail
    forget(anchored)
    assert verify.tables(anchored.place) == ["raw/okta/system_log"]
    assert "worm" in anchored.verify().first_bad.detail
    assert verify.tables(Signed(anchored.folder).place) == [], "undetectable without the anchor"


# Events are derived, so they are compared with the mapping of raw.


def edit_events(signed, change):
    path = str(signed.folder / "lake/events")
    rows = change(pl.read_delta(path))
    handle = DeltaTable(path)
    fence = handle.transaction_version(LOG.app)
    shutil.rmtree(path)
    attacks.write_deltalake(
        path,
        rows,
        partition_by=["date"],
        commit_properties=attacks.CommitProperties(
            app_transactions=[attacks.Transaction(LOG.app, fence)]
        ),
    )


@matrix.attack(
    "change, delete, duplicate or rename an event", "EVENTS, row and column", matrix.AGAIN
)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda e: e.with_columns(attacks.where(417, "actor_email", pl.lit("x"))), "actor_email"),
        (lambda e: e.filter(pl.col("seq") != 417), "is missing"),
        (lambda e: pl.concat([e, e.filter(pl.col("seq") == 417)]), "once"),
        (lambda e: e.with_columns(attacks.where(417, "event_uid", pl.lit("x"))), "is missing"),
    ],
)
def test_events_that_differ_from_raw_are_reported(signed, change, reason):
    edit_events(signed, change)
    first = signed.verify().first_bad
    assert (first.kind, first.seq) == ("events", 417)
    assert reason in first.detail


def test_the_table_of_events_is_not_reported_as_ok_if_they_differ_from_raw(signed):
    edit_events(signed, lambda e: e.with_columns(attacks.where(417, "actor_id", pl.lit("x"))))
    with WorkerPool(1) as crew:
        named = (LOG.table, "events")
        _, found = reports.verdicts(signed.place, named, {"okta": "okta"}, crew, full=True)
    assert found.first_bad.detail == "differ from raw/okta/system_log: see there"


@matrix.attack("invent an event", "EVENTS", matrix.AGAIN)
def test_events_without_a_raw_row_are_counted(signed):
    def invented(events):
        extra = events.tail(1).with_columns(
            pl.lit("x").alias("event_uid"), seq=pl.lit(-1, pl.Int64)
        )
        return pl.concat([events, extra])

    edit_events(signed, invented)
    (finding,) = signed.verify().findings
    assert finding.detail == "events: 1 events belong to no row of this table"
