"""The files of a table are read in batches per day, and missing rows are reported."""

from datetime import UTC, datetime

import pytest
from deltalake import DeltaTable

from pipelines.integrity.verifier import table_reader
from pipelines.integrity.verifier.job import Job, TableReport, WorkerPool
from pipelines.integrity.verifier.tree import LeafBuffer
from tests.integrity import attacks
from tests.integrity.worlds import LOG


def read(signed, *, table=LOG.table, first=0, kind=None, size=700, progress=None):
    """Return the report, the board and the files after the table was read."""
    steps = {"progress": progress} if progress else {}
    case = Job(place=signed.place, table=table, kind=kind, **steps)
    verdict = TableReport(table=table, at=datetime(2026, 3, 1, tzinfo=UTC), first=first)
    board = LeafBuffer(start=first, size=size)
    with WorkerPool(1) as pool:
        held = table_reader.read(case, pool, verdict, board)
    return verdict, board, held


def gaps(signed, board):
    case = Job(place=signed.place, table=LOG.table)
    verdict = TableReport(table=LOG.table, at=datetime(2026, 3, 1, tzinfo=UTC))
    with WorkerPool(1) as pool:
        table_reader.build_tree(case, pool, verdict, board, {})
    return [(found.kind, found.seq, found.detail) for found in verdict.findings]


def test_every_row_of_every_day_is_read(signed):
    steps = []
    verdict, board, held = read(signed, progress=lambda *step: steps.append(step))
    assert (verdict.read, held.count, verdict.findings) == (700, 700, [])
    assert list(board.gaps()) == []
    assert {task.day.isoformat() for task in held.tasks} == {
        "2026-03-01", "2026-03-02", "2026-03-03"
    }  # fmt: skip
    assert steps[-1] == (LOG.table, 700, 700)


def test_files_of_rows_verified_earlier_are_not_opened(signed):
    verdict, board, held = read(signed, first=512)
    assert (verdict.read, held.count) == (188, 700)
    assert len([file for task in held.tasks for file in task.files]) == 2
    assert list(board.gaps()) == []


@pytest.mark.parametrize(("rows", "tasks"), [(1, 7), (250, 5), (10**6, 3)])
def test_files_of_a_day_are_read_together_up_to_a_number_of_rows(signed, monkeypatch, rows, tasks):
    monkeypatch.setattr(table_reader, "_TASK_ROWS", rows)
    _, board, held = read(signed)
    assert len(held.tasks) == tasks
    assert list(board.gaps()) == []


def test_events_are_compared_only_if_their_kind_is_known(signed):
    assert read(signed)[0].events == 0
    verdict, _, held = read(signed, kind="okta")
    assert (verdict.events, held.events.derived) == (700, 700)


def test_a_missing_table_is_reported_as_deleted(signed):
    verdict, board, held = read(signed, table="raw/okta/other_log", size=5)
    assert [(f.kind, f.seq, f.detail) for f in verdict.findings] == [
        ("deleted", 0, "the table is missing")
    ]
    assert (held.count, list(held.tasks), list(board.gaps())) == (0, [], [(0, 5)])


def test_a_broken_delta_log_is_reported_in_one_line(signed):
    attacks.break_the_log(signed)
    (found,) = read(signed)[0].findings
    assert (found.kind, found.seq) == ("unreadable", 0)
    assert "\n" not in found.detail


def test_deletion_vectors_are_reported(signed):
    """Delta's readers skip rows that such a vector marks; the signer never writes one."""
    log = signed.table / "_delta_log"
    number = len(attacks.commits(signed))
    features = '["deletionVectors"]'
    (log / f"{number:020}.json").write_text(
        '{"protocol":{"minReaderVersion":3,"minWriterVersion":7,'
        f'"readerFeatures":{features},"writerFeatures":["appendOnly","deletionVectors"]}}}}\n'
    )
    assert DeltaTable(str(signed.table)).protocol().min_reader_version == 3
    assert "log" in {found.kind for found in read(signed)[0].findings}


def test_missing_rows_are_reported_by_their_first_with_its_event_id(signed):
    _, board, _ = read(signed)
    board.taken[417] = board.taken[500] = 0
    assert gaps(signed, board) == [
        ("deleted", 417, "row 417 (event_id id-000417) and 1 others missing")
    ]


def test_rows_missing_at_the_end_are_reported_as_truncated(signed):
    _, board, _ = read(signed)
    board.taken[690:700] = bytes(10)
    ((kind, seq, detail),) = gaps(signed, board)
    assert (kind, seq) == ("truncated", 690)
    assert detail.startswith("the newest 10 rows, from 690 (event_id id-000690), are missing")


def test_a_row_that_is_present_several_times_is_reported_once(signed):
    _, board, _ = read(signed)
    board.twice += [417, 417, 500]
    assert gaps(signed, board) == [("duplicated", 417, "row 417 is present 3 times")]


def test_leaves_of_missing_rows_are_taken_from_the_tiles(signed):
    """So the root still shows whether all other rows are as signed."""
    _, board, _ = read(signed)
    whole = bytes(board.hashes)
    board.taken[250:260] = bytes(10)
    board.hashes[250 * 32 : 260 * 32] = bytes(320)
    gaps(signed, board)
    assert bytes(board.hashes) == whole
