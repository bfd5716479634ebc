"""Findings are verified against their own Merkle tree."""

import json
import shutil

import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from pipelines.integrity import reports, signer
from pipelines.integrity.signer import Alarm
from pipelines.integrity.verifier import findings as verified
from pipelines.integrity.verifier import verify
from pipelines.integrity.verifier.job import Job, WorkerPool
from pipelines.integrity.verifier.rows import Task
from pipelines.lake import findings
from pipelines.schemas import FINDINGS
from pipelines.settings import Anchor
from tests.integrity import attacks
from tests.integrity.conftest import move_memory
from tests.integrity.found import Found, finding
from tests.integrity.worlds import NOON


@pytest.fixture(scope="module")
def _found(tmp_path_factory):
    world = Found(tmp_path_factory.mktemp("found"))
    for count in (100, 150, 50):
        world.find(count)
    return world


@pytest.fixture
def found(_found, tmp_path):
    """A lake of 300 findings in three commits, which a test may change."""
    shutil.copytree(_found.folder, tmp_path / "world")
    world = Found(tmp_path / "world")
    move_memory(_found, world)
    return world


def test_findings_as_they_were_signed_are_sound(found):
    verdict = found.verify()
    assert (verdict.ok, verdict.size, verdict.read, verdict.removed) == (True, 300, 300, 0)
    assert verdict.origin.startswith("auditlake/findings/")
    found.find(3)
    later = found.verify()
    assert (later.ok, later.size, later.first, later.read) == (True, 303, 256, 47)
    assert found.verify(full=True).read == 303


def evaluated(world):
    """Commit positions without a finding, as the engine does where no rule matches."""
    nothing = pl.DataFrame(schema=FINDINGS).drop("seq")
    made = findings.Evaluated(nothing, {"detect/okta/system_log/x": 7}, [])
    findings.commit(world.lake, lambda _: made)


def test_a_lake_whose_rules_have_found_nothing_is_sound(tmp_path):
    world = Found(tmp_path)
    evaluated(world)
    verdict = world.verify()
    assert (verdict.ok, verdict.size) == (True, 0)
    world.find(2)
    assert world.verify().ok


def test_findings_that_are_gone_with_their_log_are_missed(found):
    shutil.rmtree(found.log)
    shutil.rmtree(found.table)
    evaluated(found)
    (finding,) = found.verify().findings
    assert "the signed log is missing" in finding.detail
    (found.folder / "state").rename(found.folder / "elsewhere")
    write_deltalake(
        str(found.table),
        pl.DataFrame(schema=FINDINGS).to_arrow(),
        mode="append",
        commit_properties=CommitProperties(app_transactions=[Transaction(findings.SEQ, 300)]),
    )
    assert found.verify().findings[0].kind == "checkpoint"


def test_compacted_findings_and_those_of_another_layout_are_sound(found):
    assert found.verify().ok
    DeltaTable(str(found.table)).optimize.compact()
    assert (found.verify().read, found.verify().ok) == (300 - 256, True)
    assert found.verify(full=True).ok


def test_findings_verified_earlier_are_passed_over_but_never_negative_ones(tmp_path):
    rows = pl.DataFrame([finding(seq) for seq in (-1, 0, 1, 2, 3)], FINDINGS).drop("date")
    rows.write_parquet(tmp_path / "1.parquet")
    given = {"day_files": (), "options": None, "events": None, "kind": "", "derived": 0}
    file = str(tmp_path / "1.parquet")
    for first, read in ((0, [-1, 0, 1, 2, 3]), (1, [-1, 1, 2, 3]), (3, [-1, 3])):
        task = Task(table="findings", files=[file], day=NOON.date(), first=first, **given)
        assert verified.leaves(task).seqs == read


def test_findings_that_cannot_be_read_are_not_taken_for_none(found):
    shutil.rmtree(found.log)
    case = Job(place=found.place, table="findings")
    assert not verified.are_none(case)
    for commit in (found.table / "_delta_log").iterdir():
        commit.write_text("no log")
    assert not verified.are_none(case)


def test_verify_names_the_table_and_what_it_does_not_cover(found):
    assert verify.tables(found.place) == ["findings"]
    (verdict,) = reports.verdicts(found.place, ["findings"], {}, WorkerPool(1))
    assert reports.line(verdict) == "findings: ok, 300 signed, agrees with 1 known checkpoint"
    named = {"evaluations", "rulesets", "triage", "exceptions", "deliveries"}
    assert named <= {*reports.not_covered(found.place)}
    assert "findings" not in reports.not_covered(found.place)


def test_a_lake_without_findings_has_no_such_log(signed):
    assert verify.tables(signed.place) == ["raw/okta/system_log"]


CHANGED = {
    "level": pl.lit("low"),
    "exception": pl.lit("e1"),
    "status": pl.lit("withdrawn"),
    "finding_uid": pl.lit("0" * 64),
    "revision": pl.lit(1, pl.Int32),
    "found_at": pl.col("found_at") + pl.duration(microseconds=1),
    "event_uids": pl.lit([], pl.List(pl.String)),
    "provisional": pl.lit(None, pl.Boolean),
}


@pytest.mark.parametrize("column", CHANGED)
def test_a_changed_column_is_reported_with_its_finding(found, column):
    attacks.rewrite_of(found, changed(found, column, CHANGED[column]), findings.LOG.app)
    first = found.verify().first_bad
    assert (first.kind, first.seq) == ("changed", 117)
    assert f"row 117 (finding_uid {117:064x})" in first.detail


def changed(found, column, value):
    return found.rows().with_columns(attacks.where(117, column, value))


def test_a_finding_that_is_moved_to_another_day_is_reported(found):
    rows = found.rows()
    day = pl.when(pl.col("seq") == 117).then(rows["date"][0]).otherwise("date")
    attacks.rewrite_of(found, rows.with_columns(date=day), findings.LOG.app)
    assert found.verify().first_bad.seq == 117


FORGED = {
    "deleted": (lambda rows: rows.filter(pl.col("seq") != 117), "deleted", 117),
    "deleted and renumbered": (
        lambda rows: attacks.renumbered(rows.filter(pl.col("seq") != 117)),
        "deleted",
        117,
    ),
    "truncated": (lambda rows: rows.head(250), "truncated", 250),
    "inserted": (
        lambda rows: attacks.renumbered(pl.concat([rows[:117], forged(rows), rows[117:]])),
        "inserted",
        117,
    ),
    "appended": (
        lambda rows: pl.concat([rows, forged(rows).with_columns(seq=pl.lit(300, pl.Int64))]),
        "unsigned",
        300,
    ),
    "below zero": (
        lambda rows: pl.concat([rows, forged(rows).with_columns(seq=pl.lit(-1, pl.Int64))]),
        "inserted",
        -1,
    ),
    "doubled": (lambda rows: pl.concat([rows, rows[117:118]]), "duplicated", 117),
    "reordered": (
        lambda rows: attacks.renumbered(
            pl.concat([rows[:117], rows[200:201], rows[118:200], rows[117:118], rows[201:]])
        ),
        "reordered",
        117,
    ),
    "no number": (
        lambda rows: pl.concat([rows, forged(rows).with_columns(seq=pl.lit(None, pl.Int64))]),
        "changed",
        None,
    ),
}


def forged(rows):
    return rows[50:51].with_columns(finding_uid=pl.lit("f" * 64))


@pytest.mark.parametrize("attack", FORGED)
def test_forged_findings_are_reported_with_their_kind_and_place(found, attack):
    change, kind, seq = FORGED[attack]
    assert found.verify().ok
    attacks.rewrite_of(found, change(found.rows()), findings.LOG.app)
    first = found.verify(full=True).first_bad
    assert (first.kind, first.seq) == (kind, seq), first


@pytest.mark.parametrize(
    ("column", "value"),
    [("seq", 10**6), ("time", "2036-01-01T00:00:00.000Z"), ("found_at", "2020-01-01T00:00:00Z")],
)
def test_findings_outside_of_the_statistics_in_the_log_are_reported(found, column, value):
    attacks.hide_from_searches(found, column, value, value)
    first = found.verify(full=True).first_bad
    assert first.kind == "statistics"
    assert f"{column} lies outside" in first.detail


def test_a_removed_table_is_reported(found):
    shutil.rmtree(found.table)
    assert verify.tables(found.place) == ["findings"]
    assert found.verify().first_bad.kind == "deleted"
    shutil.rmtree(found.log)
    assert verify.tables(found.place) == ["findings"]
    assert "300 rows" in found.verify().first_bad.detail


def test_a_file_that_cannot_be_read_is_reported(found):
    file = attacks.files(found)[3]
    file.write_bytes(file.read_bytes()[:100])
    assert "unreadable" in {each.kind for each in found.verify().findings}


def test_columns_of_another_type_are_reported(found):
    path = str(found.table)
    rows = found.rows().with_columns(level=pl.lit([1.5]))
    shutil.rmtree(path)
    write_deltalake(path, rows, partition_by=["date"])
    assert not found.verify().ok


def test_a_rollback_of_table_and_log_is_reported_and_stops_the_signer(found):
    shutil.copytree(found.folder / "lake", found.folder / "copy")
    found.find(10)
    shutil.rmtree(found.folder / "lake")
    (found.folder / "copy").rename(found.folder / "lake")
    first = found.verify().first_bad
    assert (first.kind, first.seq) == ("rolled back", 300)
    with pytest.raises(Alarm, match="findings: has 300 rows, but 310 were signed"):
        signer.sign(found.lake, findings.LOG, 300, NOON)


def test_an_anchor_reveals_that_findings_were_removed(tmp_path):
    from pipelines.integrity import anchors

    (tmp_path / "worm").mkdir()
    settings = {"anchors": (Anchor(directory=tmp_path / "worm"),)}
    world = Found(tmp_path / "world", settings)
    world.find(5)
    assert anchors.deliver(world.place.memory, world.integrity) == []
    shutil.rmtree(world.folder / "lake")
    shutil.rmtree(world.place.memory)
    assert verify.tables(world.place) == ["findings"]
    assert "worm" in world.verify().first_bad.detail


def test_findings_that_a_kill_left_unsigned_are_signed_by_the_next_call(found):
    found.find(5, sign=False)
    assert found.verify().first_bad.kind == "unsigned"
    signer.sign(found.lake, findings.LOG, 305, NOON)
    assert found.verify().ok


def test_a_log_whose_tiles_are_damaged_is_built_again_from_the_findings(found):
    shutil.rmtree(found.log / "tile")
    found.find(5)
    assert found.verify(full=True).ok


def test_rows_from_before_a_column_was_added_keep_their_entries(found):
    older = found.rows().drop("exception")
    fence = found.rows().height
    shutil.rmtree(found.table)
    write_deltalake(
        str(found.table),
        older,
        partition_by=["date"],
        commit_properties=CommitProperties(app_transactions=[Transaction(findings.LOG.app, fence)]),
    )
    assert "exception" in FINDINGS
    assert found.verify(full=True).ok


def test_the_checkpoint_of_findings_names_its_table(found):
    note = (found.log / "checkpoint").read_text()
    assert verify.table_of(found.place, note) == "findings"


def test_the_local_state_of_the_verifier_is_used_and_may_be_damaged(found):
    assert found.verify().ok
    (state,) = (found.place.memory / "verified").glob("findings*")
    state.write_text(json.dumps({"peaks": "x"}))
    assert found.verify().ok
