"""Tiles: paths by the specification, damaged files and reading a tree that has grown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.integrity import merkle, tiles
from pipelines.integrity.files import Disk
from tests.integrity.test_merkle import grow, leaves


def test_tile_paths_follow_the_specification(tmp_path):
    """The example in the specification: 70,000 leaves."""
    grow(Disk(tmp_path), [70_000])
    found = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert len(found) == 273 + 1 + 1 + 1 + 1
    assert {"tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"} <= set(found)
    assert tiles.path(0, 1_234_067) == "tile/0/x001/x234/067"


def test_the_edge_is_unknown_if_a_tile_is_missing_or_short(tmp_path):
    folder = Disk(tmp_path)
    grow(folder, [600])
    assert len(tiles.edge(folder, 600)) == 2
    tile = tmp_path / "tile/0/002.p/88"
    for damaged in (tile.read_bytes()[:-32], b""):
        tile.write_bytes(damaged)
        assert tiles.edge(folder, 600) is None
    tile.unlink()
    assert tiles.edge(folder, 600) is None
    assert tiles.edge(folder, 512) is not None, "full tiles need no edge"
    assert tiles.edge(folder, 0) == ()


def test_a_full_tile_replaces_its_partial_ones(tmp_path):
    folder = Disk(tmp_path)
    grow(folder, [1, 200, 255])
    assert folder.names("tile/0/000.p") == ["1", "200", "255"]
    grow(folder, [255, 256])
    assert folder.names("tile/0/000.p") == []
    assert len(folder.get("tile/0/000")) == 256 * 32


@given(old=st.integers(1, 300), more=st.integers(0, 600))
def test_a_tree_is_read_at_any_earlier_size_after_it_has_grown(tmp_path_factory, old, more):
    """A reader may hold a checkpoint while the writer replaces partial tiles."""
    folder = Disk(tmp_path_factory.mktemp("log"))
    roots = grow(folder, sorted({old, old + more}))
    assert tiles.subtree(folder, old)(0, old) == roots[old]
    assert merkle.root(tiles.edge(folder, old)) == roots[old]


def entries(first, until):
    return [b"entry %d\n" % number * (number % 3) for number in range(first, until)]


@pytest.mark.parametrize("steps", [[700], [1, 2, 3], [255, 256, 257], [100, 600, 700]])
def test_entries_are_read_back_in_bundles_of_256(tmp_path, steps):
    folder = Disk(tmp_path)
    for before, after in zip([0, *steps], steps, strict=False):
        tiles.write_entries(folder, before, entries(before, after))
    size = steps[-1]
    found = [tiles.entries(folder, size, index) for index in range(-(-size // 256))]
    assert [each for bundle in found for each in bundle] == entries(0, size)
    assert all(len(bundle) == 256 for bundle in found[:-1])
    assert size < 256 or folder.names("tile/entries/000.p") == []


def test_a_lost_bundle_is_not_rebuilt_but_the_next_ones_are_written(tmp_path):
    """Bundles serve readers only; the tree itself lies in the tiles."""
    folder = Disk(tmp_path)
    tiles.write_entries(folder, 0, entries(0, 100))
    folder.delete(["tile/entries/000.p/100"])
    tiles.write_entries(folder, 100, entries(100, 300))
    assert tiles.entries(folder, 300, 0) == []
    assert tiles.entries(folder, 300, 1) == entries(256, 300)


def test_an_empty_and_a_very_long_entry_survive(tmp_path):
    folder = Disk(tmp_path)
    odd = [b"", b"x" * 65_535, b"", b"\x00\x01"]
    tiles.write_entries(folder, 0, odd)
    assert tiles.entries(folder, 4, 0) == odd


@pytest.mark.parametrize(
    ("index", "width", "path"),
    [
        (0, 256, "tile/0/000"),
        (999, 1, "tile/0/999.p/1"),
        (1000, 256, "tile/0/x001/000"),
        (12_345_678, 255, "tile/0/x012/x345/678.p/255"),
    ],
)
def test_each_three_digits_of_an_index_are_a_folder(index, width, path):
    assert tiles.path(0, index, width) == path


def test_subtrees_are_those_of_the_leaves(tmp_path):
    folder = Disk(tmp_path)
    grow(folder, [700])
    over = tiles.subtree(folder, 700)
    assert over(699, 700) == leaves(700)[699]
    assert over(0, 256) == merkle.perfect(leaves(256))
    assert over(512, 700) == merkle.root(merkle.grown((), 0, leaves(700)[512:])[0])


def test_the_entries_of_removed_rows_are_deleted_or_left_empty(tmp_path):
    folder = Disk(tmp_path)
    entries = [b"entry %d" % number for number in range(600)]
    tiles.write_entries(folder, 0, entries)
    tiles.forget_entries(folder, [(100, 512), (590, 600)], [(100, 101), (300, 600)])
    left = [tiles.entries(folder, 600, index) for index in range(3)]
    assert left[0] == entries[:100] + [b""] * 156
    assert left[1] == []
    assert left[2] == entries[512:590] + [b""] * 10
    tiles.write_entries(folder, 600, [b"next"])
    assert tiles.entries(folder, 601, 2) == [*left[2], b"next"]
    tiles.forget_entries(folder, [(0, 601)], [(600, 601)])
    assert any(tiles.entries(folder, 601, 0)), "only the bundles with fresh rows"
    tiles.forget_entries(folder, [(0, 601)], [(0, 601)])
    assert [any(tiles.entries(folder, 601, index)) for index in range(3)] == [False] * 3
