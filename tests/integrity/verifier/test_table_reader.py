"""The files of a table are read in batches per day, and missing rows are reported."""

from datetime import UTC, datetime
from hashlib import sha256

import polars as pl
import pytest
from deltalake import DeltaTable

from pipelines.integrity.verifier import table_reader
from pipelines.integrity.verifier.job import Job, LakeView, TableReport, WorkerPool
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


def gaps(signed, board, gone=()):
    case = Job(place=signed.place, table=LOG.table)
    verdict = TableReport(table=LOG.table, at=datetime(2026, 3, 1, tzinfo=UTC))
    with WorkerPool(1) as pool:
        table_reader.build_tree(case, pool, verdict, board, {}, gone=gone)
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


@pytest.mark.parametrize("first", [0, 512])
def test_statistics_decide_only_whether_rows_verified_earlier_are_read_again(signed, first):
    newest = attacks.commits(signed)[-1]
    hidden = newest.read_text().replace('\\"seq\\":699', '\\"seq\\":-1')
    assert hidden != newest.read_text()
    newest.write_text(hidden)
    verdict, _, held = read(signed, first=first)
    assert (verdict.read, held.count) == ((700, 700) if not first else (88, 700))


@pytest.mark.parametrize(("rows", "tasks"), [(1, 7), (250, 5), (10**6, 3)])
def test_files_of_a_day_are_read_together_up_to_a_number_of_rows(signed, monkeypatch, rows, tasks):
    monkeypatch.setattr(table_reader, "_TASK_ROWS", rows)
    _, board, held = read(signed)
    assert len(held.tasks) == tasks
    assert list(board.gaps()) == []


MIB_64 = 64 * 2**20


@pytest.mark.parametrize(
    ("rows", "sizes", "batches"),
    [
        ([1, 1, 1], [1, 1, 1], [3]),
        ([65_535, 1, 1], [1, 1, 1], [1, 2]),
        ([None, 1], [1, 1], [2]),
        ([1, None], [1, 1], [1, 1]),
        ([1, 1, 1], [MIB_64 - 1, 1, 1], [1, 2]),
        ([1, 65_535, 1], [1, MIB_64, 1], [1, 2]),
    ],
)
def test_a_batch_ends_at_65536_rows_or_at_64_mib(rows, sizes, batches):
    paths = [f"{number}" for number in range(len(rows))]
    files = pl.DataFrame({"path": paths, "num_records": rows, "size_bytes": sizes})
    day = files.with_columns(pl.lit("2026-03-01").alias("partition.date"))
    found = list(table_reader._batches(day.reverse()))
    assert [batch.height for batch in found] == batches
    assert pl.concat(found)["path"].to_list() == paths


@pytest.mark.parametrize(("first", "size", "room"), [(0, 2**20, True), (0, 2**20 + 1, False),
                                                     (9, 2**20 + 9, True)])  # fmt: skip
def test_a_checkpoint_of_more_rows_than_any_file_holds_is_not_followed(tmp_path, first, size, room):
    case = Job(place=LakeView(root=str(tmp_path), memory=tmp_path, keys=[]), table=LOG.table)
    verdict = TableReport(table=LOG.table, at=datetime(2026, 3, 1, tzinfo=UTC), first=first)
    assert table_reader.has_room(case, size, verdict) is room
    assert [found.kind for found in verdict.findings] == ([] if room else ["truncated"])


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


def test_removed_rows_that_are_there_again_are_reported_once(signed):
    _, board, _ = read(signed)
    assert gaps(signed, board, [(10, 12), (20, 21)]) == [
        ("restored", 10, "row 10 and 2 others was deleted by a recorded act, but is there again")
    ]
    board.taken[10:12] = bytes(2)
    assert [kind for kind, *_ in gaps(signed, board, [(10, 12)])] == ["deleted"]


def test_the_values_of_a_row_are_read_from_its_table_and_from_its_event(signed):
    case = Job(place=signed.place, table=LOG.table)
    row = signed.rows().row(417, named=True)
    times = [str(int(row[name].timestamp() * 10**6)) for name in ("time", "ingested_at")]
    digest = sha256(row["raw"].encode()).hexdigest()
    assert table_reader.field_reader(case)(417) == [digest, *times, "poll", "id-000417"]
    assert table_reader.elsewhere(case)(417) == [digest, *times, "", "id-000417"]
    assert table_reader.field_reader(case)(999) == table_reader.elsewhere(case)(999) == []


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
