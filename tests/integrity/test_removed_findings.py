"""With a record goes all that detections keep about it, and its findings are signed as removed."""

import polars as pl
import pytest

from pipelines import schemas
from pipelines.integrity import operator_acts, removing
from pipelines.lake import commits, findings, tables
from tests.integrity.found import Found
from tests.integrity.worlds import LOG, NOON

ABOUT = {"act": "erasure", "who": "ada", "why": "a test"}


def uid(number, part=""):
    return f"okta:system_log:id-{number:06}{part}"


def add(lake, table, **values):
    given = {"time": NOON, "date": NOON.date()} | values
    row = {name: given.get(name) for name in table.schema}
    commits.append(lake, table, pl.DataFrame([row], table.schema))


def stored(lake, table, column):
    return sorted(tables.existing(lake, table.name).select(column).collect()[column])


@pytest.fixture
def watched(tmp_path):
    """Findings 0 to 3: of row 5, of row 5 and others, of part 2 of row 6, and of row 7."""
    found = Found(tmp_path).fill(20, 10)
    for named in ([uid(5)], [uid(4), uid(5), uid(7)], [uid(6, "#2")], [uid(7)]):
        found.find(1, event_uids=named)
    for number in range(4):
        add(found.lake, findings.TRIAGE, finding_uid=f"{number:064x}", note="it's \N{BULLET} seen")
        add(found.lake, findings.DELIVERIES, delivery=f"d{number}", subjects=[f"{number:064x}"])
        name = {"integration": LOG.integration, "stream": LOG.stream}
        add(found.lake, findings.HITS, uid=uid(number + 5), event=uid(number + 5), **name)
    return found


def test_findings_of_removed_rows_are_removed_with_all_about_them(watched):
    lake = watched.lake
    removing.record(lake, LOG, [5, 6], ABOUT, NOON)
    assert removing.finish(lake, NOON) == [LOG.table]
    assert stored(lake, findings.FINDINGS, "seq") == [3]
    assert stored(lake, findings.TRIAGE, "finding_uid") == [f"{3:064x}"]
    assert stored(lake, findings.DELIVERIES, "delivery") == ["d3"]
    assert stored(lake, findings.HITS, "uid") == [uid(7), uid(8)]
    verdict = watched.verify(full=True)
    assert (verdict.ok, verdict.size, verdict.removed) == (True, 4, 3)
    assert watched.find(1, event_uids=[uid(9)]) == 5
    assert watched.verify().ok


def test_a_removal_that_was_killed_before_it_deleted_anything_is_finished(watched, monkeypatch):
    lake = watched.lake
    removing.record(lake, LOG, [5], ABOUT, NOON)
    with monkeypatch.context() as patched:
        patched.setattr(removing.removed_findings, "delete", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            removing.finish(lake, NOON)
    assert watched.verify(full=True).ok
    removing.finish(lake, NOON)
    assert stored(lake, findings.FINDINGS, "seq") == [2, 3]
    kinds = [act["act"] for act in operator_acts.recorded(lake)]
    assert kinds == ["erasure", "removal of findings", "retention finished"]
    assert removing.finish(lake, NOON) == []


def test_rows_without_findings_record_nothing_about_them(watched):
    removing.record(watched.lake, LOG, [15], ABOUT, NOON)
    removing.finish(watched.lake, NOON)
    assert stored(watched.lake, findings.FINDINGS, "seq") == [0, 1, 2, 3]
    kinds = [act["act"] for act in operator_acts.recorded(watched.lake)]
    assert kinds == ["erasure", "retention finished"]


def test_no_file_of_the_lake_has_what_was_removed(watched):
    removing.record(watched.lake, LOG, [5], ABOUT, NOON)
    removing.finish(watched.lake, NOON)
    for table in (findings.FINDINGS, findings.TRIAGE, findings.DELIVERIES, findings.HITS):
        folder = watched.folder / "lake" / table.name
        live = pl.read_delta(str(folder)).height
        files = [
            pl.read_parquet(each).height
            for each in folder.rglob("*.parquet")
            if "_delta_log" not in each.parts
        ]
        assert sum(files) == live
    assert (
        schemas.FINDINGS.keys() == tables.existing(watched.lake, "findings").collect_schema().keys()
    )
