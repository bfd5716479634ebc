"""A person's records are erased and stay away, and all else can be verified."""

from datetime import timedelta

import polars as pl
import pytest

from pipelines.errors import LakeError
from pipelines.integrity import erased_ids, erasure, prove, removing, reports
from pipelines.integrity.verifier import audit, operator_acts
from pipelines.integrity.verifier.job import WorkerPool
from pipelines.lake import commits, identity_table, raw, reconciliation, rollup_table, tables
from pipelines.lake.commits import Table
from pipelines.lake.tables import Lake
from tests.integrity import attacks, matrix
from tests.integrity.worlds import LOG, NOON, rows
from tests.promises.contents import content

REQUEST = erasure.Request(who="ada", why="request 2026-17")
PERSON = "u3@x.io"
THEIRS = [seq for seq in range(700) if seq % 7 == 3]
ACCESS = Table(
    name="access",
    about="as the dashboard writes it",
    schema={"who": pl.String(), "about": pl.String()},
    partitions=(),
    settings={"delta.appendOnly": "true"},
)


@pytest.fixture
def erased(signed):
    """A lake without the records of one person."""
    identity_table.derive(signed.lake)
    rollup_table.roll_up(signed.lake, NOON.date() + timedelta(days=30))
    assert erase(signed) == 100
    return signed


def find(signed, person=PERSON):
    return erasure.of_person(signed.lake, person, [])


def erase(signed, person=PERSON):
    return erasure.erase(signed.lake, find(signed, person), REQUEST, NOON)


def left(signed):
    """Return the files of the lake that contain the address."""
    files = (path for path in (signed.folder / "lake").rglob("*") if path.is_file())
    return [path for path in files if PERSON in content(path)]


def test_the_records_are_gone_and_the_rest_is_verified(signed):
    proof = prove.prove(signed.lake, "raw/okta/system_log/3")
    assert find(signed).rows == {LOG: THEIRS}
    assert left(signed)
    assert erase(signed) == 100
    assert left(signed) == []
    assert signed.rows()["seq"].to_list() == sorted({*range(700)} - {*THEIRS})
    verdict = signed.verify(full=True)
    assert (verdict.ok, verdict.removed, verdict.erased, verdict.events) == (True, 100, 100, 600)
    assert ", 100 erased on request" in reports.line(verdict)
    audit.check_proof(proof, signed.vkeys())
    assert prove.prove(signed.lake, "raw/okta/system_log/4")
    assert find(signed).empty


def test_the_act_lists_the_rows_but_names_no_person(erased):
    act, finished = operator_acts.read(erased.place.shelf("acts"), erased.vkeys())
    assert (act["act"], act["rows"], act["who"], act["why"]) == (
        *("erasure", 100, "ada"),
        "request 2026-17",
    )
    assert finished["act"] == "retention finished"
    folder = erased.place.shelf(LOG.app)
    found = operator_acts.removed(erased.place.shelf("acts"), folder, LOG.table, erased.vkeys())
    assert found.erased == found.finished == [(seq, seq + 1) for seq in THEIRS]


def test_what_was_derived_is_verified_too(erased):
    derived = reports.derived(erased.place)
    assert len(derived) > 1
    with WorkerPool(1) as workers:
        found = list(reports.verdicts(erased.place, derived, {"okta": "okta"}, workers, full=True))
    assert [each.findings for each in found] == [[]] * len(derived)


def test_any_other_missing_row_is_a_finding(erased):
    attacks.delete(erased)
    first = erased.verify(full=True).first_bad
    assert (first.kind, first.seq) == ("deleted", 417)


@matrix.attack("put an erased row back", "RESTORED", matrix.ROWS)
def test_an_erased_row_that_is_there_again_is_a_finding(signed):
    before = signed.rows()
    erase(signed)
    attacks.rewrite(signed, before)
    verdict = signed.verify(full=True)
    found = [each for each in verdict.findings if each.kind == "restored"]
    assert [(each.seq, each.detail) for each in found] == [
        (3, "row 3 and 99 others was deleted by a recorded act, but is there again")
    ]


def test_erased_records_are_recognised_and_others_are_not(erased):
    again = erased_ids.without(erased.lake, LOG, rows(range(20)), None)
    assert again["event_id"].to_list() == [f"id-{n:06}" for n in range(20) if n % 7 != 3]
    assert erased.land(*range(700, 720), day=3) == 720
    assert erased.verify().ok


def test_only_the_whole_address_counts(signed):
    for other in ("3@x.io", "u3@x.i", "u3@x.io.example", "x.u3@x.io", "u9@x.io"):
        assert find(signed, other).empty
    assert find(signed, "U3@X.io").rows == {LOG: THEIRS}


def test_single_events_are_erased_by_their_ids(signed):
    ids = ["id-000000", "id-000699", "id-999999"]
    found = erasure.of_events(signed.lake, "okta", ids, [])
    assert found.rows == {LOG: [0, 699]}
    assert erasure.of_events(signed.lake, "entra_id", ids, []).empty
    assert erasure.erase(signed.lake, found, REQUEST, NOON) == 2
    verdict = signed.verify(full=True)
    assert (verdict.ok, verdict.erased) == (True, 2)


def test_copies_in_other_tables_go_as_well(signed):
    theirs = signed.rows().filter(pl.col("seq").is_in([3, 4]))
    names = {"integration": pl.lit("okta"), "stream": pl.lit("system_log")}
    at = pl.lit(NOON).alias("ingested_at")
    rejected = theirs.select(
        at, "raw_sha256", **names, reason=pl.lit("?"), raw=pl.col("raw").cast(pl.Binary)
    )
    raw.append_rejected(signed.lake, LOG, rejected)
    echoes = theirs.select("event_id", "time", "date", way=pl.lit("webhook"), seen_at="ingested_at")
    reconciliation.record(signed.lake, {LOG: echoes})
    abouts = [f"q=actor:{PERSON}", "okta:system_log:id-000003", "okta:system_log:id-000004"]
    commits.append(signed.lake, ACCESS, pl.DataFrame({"who": "eve", "about": abouts}))
    assert erase(signed) == 100
    assert left(signed) == []
    counts = {
        name: tables.scan(signed.lake, name).collect().height
        for name in ("rejected", "echoes", "access")
    }
    assert counts == {"rejected": 1, "echoes": 1, "access": 1}
    assert find(signed).empty


def test_a_killed_erasure_is_finished_by_the_next_removal(signed):
    erasure._record(signed.lake, LOG, THEIRS, REQUEST, NOON)
    assert signed.verify(full=True).ok
    assert erasure.erase(signed.lake, find(signed), REQUEST, NOON) == 0
    verdict = signed.verify(full=True)
    assert (verdict.ok, verdict.erased, find(signed).empty) == (True, 100, True)
    assert removing.finish(signed.lake, NOON) == []


def test_nothing_is_erased_without_a_record(signed):
    with pytest.raises(LakeError, match="must be recorded and signed"):
        erasure.erase(Lake(signed.lake.root), find(signed), REQUEST, NOON)
    assert signed.rows().height == 700
