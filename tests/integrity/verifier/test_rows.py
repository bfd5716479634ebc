"""Leaves are computed from the data files alone, and contradictions within them are reported."""

from datetime import timedelta
from hashlib import sha256

import polars as pl
import pytest

from pipelines.integrity import signer
from pipelines.integrity.verifier import rows
from pipelines.integrity.verifier.proofs import leaf_hash, root_of
from pipelines.integrity.verifier.rows import Task
from tests.integrity.worlds import LOG, NOON
from tests.integrity.worlds import rows as made


@pytest.fixture
def frame():
    """Twenty raw rows of one day."""
    return made(range(20)).with_columns(seq=pl.int_range(20, dtype=pl.Int64))


def task(tmp_path, *frames, **fields):
    files = []
    for number, frame in enumerate(frames):
        files.append(str(tmp_path / f"{number}.parquet"))
        frame.drop("date").write_parquet(files[-1])
    given = {"first": 0, "derived": 0, "events": None, **fields}
    return Task(table=LOG.table, files=files, day_files=files, options=None, day=NOON.date(),
                kind="okta", **given)  # fmt: skip


def hashes(frame):
    return b"".join(leaf_hash(entry) for entry in signer.entries(frame))


def test_leaves_are_those_that_were_signed_in_order_of_seq(tmp_path, frame):
    found = rows.leaves(task(tmp_path, frame[10:], frame[:10]))
    assert (found.seqs, found.odd) == (range(20), [])
    assert found.hashes == hashes(frame)


def test_rows_with_gaps_and_duplicates_keep_their_seqs(tmp_path, frame):
    found = rows.leaves(task(tmp_path, frame[:3], frame[2:3], frame[7:9]))
    assert list(found.seqs) == [0, 1, 2, 2, 7, 8]
    assert len(found.hashes) == 6 * 32


def test_rows_verified_earlier_are_passed_over_but_never_negative_ones(tmp_path, frame):
    negative = frame[:1].with_columns(seq=pl.lit(-1, pl.Int64))
    found = rows.leaves(task(tmp_path, pl.concat([frame, negative]), first=15))
    assert list(found.seqs) == [-1, 15, 16, 17, 18, 19]


def test_the_newest_version_of_a_record_is_looked_for_among_rows_with_events(tmp_path, frame):
    same = frame[:4].with_columns(event_id=pl.lit("one record"))
    derived = task(tmp_path, same[:2], same[2:], derived=3)
    assert rows._newest(derived, pl.col("event_id")).rows() == [("one record", 2)]


def test_a_removal_excuses_missing_events_of_its_own_rows_only(tmp_path):
    expected = pl.DataFrame({"seq": range(12)})
    removed = task(tmp_path, removed=[(2, 5), (8, 10)])
    for kept, excused in (
        ([0, 1, 5, 6, 7, 10, 11], {2, 3, 4, 8, 9}),
        ([0, 1, 2, 6, 7, 8], {3, 4, 9}),
        ([0, 11], {2, 3, 4, 8, 9}),
        ([2, 3], {4, 8, 9}),
        ([*range(12)], set()),
    ):
        stored = pl.DataFrame({"seq": kept})
        found = rows._not_removed(removed, expected, stored)
        assert {*range(12)} - {*found["seq"]} == excused


def test_a_panic_is_reported_without_its_text():
    panic = pl.exceptions.PanicException("called `Result::unwrap()` on an `Err` value")
    assert rows.reason_of(panic) == "a data file is damaged, or was rewritten"
    assert rows.reason_of(OSError("no\nsuch file")) == "no such file"


def test_a_task_without_rows_has_no_leaves(tmp_path, frame):
    for files in ([], [frame[:0]]):
        found = rows.leaves(task(tmp_path, *files))
        assert (list(found.seqs), found.hashes, found.odd) == ([], b"", [])


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 100, None])
def test_an_unreadable_file_is_reported_and_the_others_are_read(tmp_path, frame, content):
    given = task(tmp_path, frame[:10], frame[10:])
    broken = tmp_path / "0.parquet"
    broken.unlink() if content is None else broken.write_bytes(content)
    found = rows.leaves(given)
    assert found.seqs == range(10, 20)
    assert [(odd.kind, odd.seq) for odd in found.odd] == [("unreadable", None)]
    assert "0.parquet" in found.odd[0].detail
    assert "\n" not in found.odd[0].detail


def test_a_file_that_lacks_a_column_is_reported(tmp_path, frame):
    found = rows.leaves(task(tmp_path, frame.drop("via")))
    assert [odd.kind for odd in found.odd] == ["unreadable"]


@pytest.mark.parametrize("column", ["seq", "raw", "raw_sha256", "event_id", "time"])
def test_a_null_is_reported_and_its_row_is_no_leaf(tmp_path, frame, column):
    null = pl.when(pl.col("seq") != 7).then(pl.col(column)).alias(column)
    found = rows.leaves(task(tmp_path, frame.with_columns(null)))
    assert [odd.detail for odd in found.odd] == ["rows of 2026-03-01 contain nulls"]
    assert list(found.seqs) == [*range(7), *range(8, 20)]


def where(seq, **columns):
    chosen = pl.col("seq") == seq
    return [pl.when(chosen).then(new).otherwise(pl.col(c)).alias(c) for c, new in columns.items()]


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (where(7, raw=pl.lit("{}")), "raw_sha256 is not the hash of raw"),
        (where(7, raw_sha256=pl.lit("0" * 64)), "raw_sha256 is not the hash of raw"),
        (where(7, raw_sha256=pl.col("raw_sha256").str.to_uppercase()),
         "raw_sha256 is not the hash of raw"),
        (where(7, time=pl.col("time") + timedelta(days=1)), "date is not the date of time"),
        (where(7, via=pl.lit("poll\nx")), "via contains a newline"),
    ],
)  # fmt: skip
def test_a_contradiction_within_a_row_is_reported_with_its_seq(tmp_path, frame, change, detail):
    later = where(9, raw=pl.lit("[]"))
    found = rows.leaves(task(tmp_path, frame.with_columns(change).with_columns(later)))
    assert (detail, 7) in [(odd.detail, odd.seq) for odd in found.odd]
    assert {odd.kind for odd in found.odd} == {"changed"}


def test_the_digest_of_the_record_counts_not_the_stored_one(tmp_path, frame):
    """Otherwise a changed record would keep its leaf."""
    changed = frame.with_columns(where(7, raw=pl.lit("{}")))
    leaf = rows.leaves(task(tmp_path, changed)).hashes[7 * 32 : 8 * 32]
    honest = changed.with_columns(where(7, raw_sha256=pl.lit(sha256(b"{}").hexdigest())))
    assert leaf == hashes(honest)[7 * 32 : 8 * 32]
    assert leaf != hashes(frame)[7 * 32 : 8 * 32]


@pytest.mark.parametrize("count", [0, 1, 256, 257, 700])
def test_subtrees_cover_256_leaves_each(count):
    leaves = [leaf_hash(b"%d" % number) for number in range(count)]
    blocks = [leaves[at : at + 256] for at in range(0, count, 256)]
    assert rows.subtree(b"".join(leaves)) == [root_of(block) for block in blocks]


def test_the_fields_of_a_row_are_the_parts_of_its_entry(frame):
    (entry,) = signer.entries(frame[7:8])
    assert rows.fields(frame[7:8]) == entry.decode().split("\n")[1:]
