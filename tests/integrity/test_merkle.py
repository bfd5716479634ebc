"""Merkle trees: published vectors, and proofs that fail after any change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.integrity import merkle, tiles
from pipelines.integrity.files import Disk
from pipelines.integrity.verifier import proofs
from pipelines.integrity.verifier.proofs import Checkpoint, Invalid

# RFC 6962's reference leaves and roots, as certificate-transparency publishes them.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]


ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_match_the_published_vectors_of_rfc_6962(size):
    edge, _ = merkle.grown((), 0, [merkle.leaf(leaf) for leaf in LEAVES[:size]])
    assert merkle.root(edge).hex() == ROOTS[size - 1]
    assert (
        proofs.root_of([proofs.leaf_hash(leaf) for leaf in LEAVES[:size]]).hex() == ROOTS[size - 1]
    )


def leaves(count):
    return [merkle.leaf(b"%d" % number) for number in range(count)]


def grow(folder, sizes):
    """Grow a log on disk to each of these sizes in turn; return its root at each size."""
    edge, size, roots = (), 0, {0: merkle.EMPTY}
    for after in sizes:
        edge, changed = merkle.grown(edge, size, leaves(after)[size:])
        tiles.write(folder, changed)
        size = after
        roots[size] = merkle.root(edge)
        assert tiles.edge(folder, size) == edge
    return roots


SIZES = st.lists(st.integers(1, 2000), min_size=1, max_size=6, unique=True).map(sorted)


@given(sizes=SIZES, at=st.data())
def test_any_growth_gives_the_same_tree_and_valid_proofs(tmp_path_factory, sizes, at):
    folder = Disk(tmp_path_factory.mktemp("log"))
    roots, size = grow(folder, sizes), sizes[-1]
    subtree = tiles.subtree(folder, size)
    for grown, root in roots.items():
        assert proofs.root_of(leaves(grown)) == root
        old, new = checkpoint(grown, root), checkpoint(size, roots[size])
        path = merkle.consistency(grown, 0, size, subtree) if grown else []
        proofs.check_consistency(old, new, path)
    index = at.draw(st.integers(0, size - 1))
    path = merkle.inclusion(index, 0, size, subtree)
    assert proofs.included(leaves(size)[index], index, size, path) == roots[size]


def checkpoint(size, root):
    return Checkpoint(origin="a/b/c/d", size=size, root=root, signer="s")


@given(size=st.integers(2, 700), at=st.data())
def test_every_mutated_inclusion_proof_fails(tmp_path_factory, size, at):
    folder = Disk(tmp_path_factory.mktemp("log"))
    root = grow(folder, [size])[size]
    index = at.draw(st.integers(0, size - 1))
    path, leaf = merkle.inclusion(index, 0, size, tiles.subtree(folder, size)), leaves(size)[index]
    for other in mutated(path, at):
        assert not leads_to(root, leaf, index, size, other)
    assert not leads_to(root, flipped(leaf, 0), index, size, path)
    for moved in {index + 1, index - 1, size, index ^ 1}:
        assert not leads_to(root, leaf, moved, size, path)


def leads_to(root, leaf, index, size, path):
    try:
        return proofs.included(leaf, index, size, path) == root
    except Invalid:
        return False


def mutated(path, at):
    """Yield the proof with one change: a flipped bit, or a hash lost, added, doubled or moved."""
    place = at.draw(st.integers(0, len(path) - 1))
    bit = at.draw(st.integers(0, 255))
    yield [*path[:place], flipped(path[place], bit), *path[place + 1 :]]
    yield path[:place] + path[place + 1 :]
    yield [*path, path[place]]
    yield [path[place], *path]
    if len(path) > 1:
        yield path[1:] + path[:1]


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@given(size=st.integers(2, 700), at=st.data())
def test_every_mutated_consistency_proof_fails(tmp_path_factory, size, at):
    old_size = at.draw(st.integers(1, size - 1))
    folder = Disk(tmp_path_factory.mktemp("log"))
    roots = grow(folder, [old_size, size])
    path = merkle.consistency(old_size, 0, size, tiles.subtree(folder, size))
    old, new = checkpoint(old_size, roots[old_size]), checkpoint(size, roots[size])
    for other in mutated(path, at):
        assert not agrees(old, new, other)
    assert not agrees(checkpoint(old_size, flipped(old.root, 3)), new, path)
    assert not agrees(old, checkpoint(size, flipped(new.root, 3)), path)
    assert not agrees(new, old, path)


def agrees(old, new, path):
    try:
        proofs.check_consistency(old, new, path)
    except Invalid:
        return False
    return True


def test_an_empty_proof_proves_nothing():
    old, new = checkpoint(3, b"a" * 32), checkpoint(5, b"b" * 32)
    assert not agrees(old, new, [])
    assert not agrees(old, checkpoint(3, b"b" * 32), [])
