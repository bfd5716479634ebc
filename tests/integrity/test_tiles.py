"""Tiles: paths by the specification, damaged files and reading a tree that has grown."""

from pipelines.integrity import tiles
from pipelines.integrity.files import Disk
from tests.integrity.test_merkle import grow


def test_tile_paths_follow_the_specification(tmp_path):
    """The example in the specification: 70,000 leaves."""
    grow(Disk(tmp_path), [70_000])
    found = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert len(found) == 273 + 1 + 1 + 1 + 1
    assert {"tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"} <= set(found)
    assert tiles.path(0, 1_234_067) == "tile/0/x001/x234/067"
