"""The tree over leaves that arrive in any order, and its root at any size."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.integrity.verifier import rows
from pipelines.integrity.verifier.proofs import leaf_hash, root_of
from pipelines.integrity.verifier.tree import LeafBuffer, Tree, minus


def leaves(first, until):
    return [leaf_hash(b"%d" % number) for number in range(first, until)]


def filled(start, size):
    board = LeafBuffer(start=start, size=size)
    if size > start:
        board.put(range(start, size), b"".join(leaves(start, size)))
    return board


def tree(start, size, before=None):
    board = filled(start, size)
    return Tree(board=board, blocks=rows.subtree(bytes(board.hashes)), before=before or {})


def test_leaves_may_arrive_in_any_order_and_grouping():
    board, numbers = LeafBuffer(start=0, size=600), list(range(600))
    Random(1).shuffle(numbers)
    for at in range(0, 600, 70):
        seqs = sorted(numbers[at : at + 70])
        board.put(seqs, b"".join(leaves(0, 600)[seq] for seq in seqs))
    assert bytes(board.hashes) == bytes(filled(0, 600).hashes)
    assert (list(board.gaps()), board.twice, board.beyond) == ([], [], [])


def test_rows_that_were_not_read_are_gaps():
    board = LeafBuffer(start=256, size=600)
    board.put(range(300, 400), b"\1" * 32 * 100)
    board.put([599], b"\1" * 32)
    assert list(board.gaps()) == [(256, 300), (400, 599)]
    assert list(LeafBuffer(start=5, size=5).gaps()) == []


def test_each_further_copy_of_a_row_is_counted():
    board = LeafBuffer(start=0, size=10)
    board.put(range(10), b"\1" * 320)
    board.put(range(3, 5), b"\2" * 64)
    board.put([4, 4], b"\2" * 64)
    assert sorted(board.twice) == [3, 4, 4, 4]


def test_rows_outside_the_log_are_kept_apart():
    board = LeafBuffer(start=4, size=8)
    board.put(range(6, 10), b"\1" * 128)
    board.put([-1, 2, 8], b"\1" * 96)
    assert sorted(board.beyond) == [-1, 8, 8, 9]
    assert list(board.gaps()) == [(4, 6)], "row 2 was verified before"


def test_a_leaf_that_is_filled_in_leaves_its_row_unread():
    board = LeafBuffer(start=0, size=2)
    board.fill(1, b"short")
    assert board.leaf(1) == b"short".ljust(32, b"\0")
    assert list(board.gaps()) == [(0, 2)]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, 700, 1024, 1030])
def test_the_root_is_that_of_all_leaves(size):
    assert tree(0, size).root(size) == root_of(leaves(0, size))


@given(size=st.integers(1, 800), at=st.data())
def test_the_root_at_an_earlier_size_is_that_of_its_leaves(size, at):
    earlier = at.draw(st.integers(0, size))
    assert tree(0, size).root(earlier) == root_of(leaves(0, earlier))


@pytest.mark.parametrize("start", [256, 512, 768])
def test_verified_rows_need_not_be_read_again(start):
    """Only the perfect subtrees over them are kept."""
    peaks = tree(0, start + 100).peaks(start)
    assert len(peaks) == start.bit_count()
    later = tree(start, 1000, peaks)
    assert all(later.root(size) == root_of(leaves(0, size)) for size in (start, 999, 1000))
    assert later.peaks(768) == tree(0, 1000).peaks(768)


def test_one_wrong_peak_changes_the_root():
    peaks = dict.fromkeys(tree(0, 512).peaks(512), b"\0" * 32)
    assert tree(512, 600, peaks).root(600) != root_of(leaves(0, 600))


numbers = st.lists(st.integers(0, 30), max_size=8, unique=True).map(sorted)


def rows_of(spans):
    return {row for first, until in spans for row in range(first, until)}


@given(numbers, numbers)
def test_gaps_minus_allowed_spans_are_the_rows_in_neither(gap_ends, allowed_ends):
    gaps = list(zip(gap_ends[::2], gap_ends[1::2], strict=False))
    allowed = list(zip(allowed_ends[::2], allowed_ends[1::2], strict=False))
    left = minus(gaps, allowed)
    assert rows_of(left) == rows_of(gaps) - rows_of(allowed)
    assert left == sorted(left)
    assert all(first < until for first, until in left)
