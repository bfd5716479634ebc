"""The verifier believes acts only as they were signed, and counts removed rows once."""

import json
from hashlib import sha256

import pytest

from pipelines.integrity import keys, note, signer
from pipelines.integrity import operator_acts as writer
from pipelines.integrity.note import Head
from pipelines.integrity.verifier import operator_acts
from pipelines.integrity.verifier.operator_acts import Mappings
from pipelines.integrity.verifier.proofs import Invalid
from tests.integrity.test_removals import remove
from tests.integrity.worlds import LOG, NOON, Signed


@pytest.fixture
def world(tmp_path):
    return Signed(tmp_path)


def shelves(world):
    return world.place.shelf("acts"), world.place.shelf(LOG.app)


def removed(world, keys=None, table=LOG.table):
    found = operator_acts.removed(*shelves(world), table, keys or world.vkeys())
    return list(found.rows)


def test_a_lake_without_acts_has_none(world):
    assert operator_acts.read(shelves(world)[0], []) == []
    assert removed(world, ["none"]) == []


def test_acts_are_read_as_they_were_recorded(world):
    for number in (0, 299):
        writer.record(world.lake, {"act": "retention", "n": number}, NOON)
    first, last = operator_acts.read(shelves(world)[0], world.vkeys())
    assert (first["n"], last["n"], last["at"]) == (0, 299, NOON.isoformat())


def test_overlapping_and_adjoining_spans_are_merged(world):
    remove(world, (300, 400), (0, 100))
    remove(world, (100, 150), (120, 130), (390, 500))
    assert removed(world) == [(0, 150), (300, 500)]
    assert removed(world, table="raw/okta/other_log") == []


@pytest.mark.parametrize("damage", [b"", b"x", b"\0\0"])
def test_acts_that_are_not_as_signed_are_invalid_and_excuse_nothing(world, damage):
    remove(world, (0, 100))
    bundle = world.folder / "lake/integrity/acts/tile/entries/000.p/1"
    bundle.write_bytes(damage)
    with pytest.raises(Invalid, match="not as it was signed"):
        operator_acts.read(shelves(world)[0], world.vkeys())
    assert removed(world) == []


def test_an_act_added_without_a_signature_is_invalid(world):
    remove(world, (0, 100))
    acts = world.folder / "lake/integrity/acts/tile/entries/000.p/1"
    forged = json.dumps({"table": LOG.table, "rows_sha256": sha256(b"[]").hexdigest()}).encode()
    acts.write_bytes(acts.read_bytes() + len(forged).to_bytes(2) + forged)
    assert removed(world) == []


def test_acts_signed_with_another_key_excuse_nothing(world, tmp_path):
    remove(world, (0, 100))
    other = Signed(tmp_path / "other")
    writer.record(other.lake, {"act": "retention"}, NOON)
    assert removed(world, other.vkeys()) == []


def test_a_list_that_does_not_match_its_signed_hash_is_ignored(world):
    digest = remove(world, (0, 100))
    remove(world, (200, 300))
    signer.of(world.lake, LOG.app).folder.put(f"removed/{digest}.json", b"[[0, 1000]]")
    assert removed(world) == [(200, 300)]


def signed_acts(world, *entries):
    """Record these bytes as acts, properly signed; return the log of acts."""
    kept = signer.of(world.lake, signer.ACTS)
    head, _ = signer.grow(kept, signer.new_head(kept), (), list(entries))
    kept.folder.put("checkpoint", note.signed(head.text, keys.signing(world.integrity)))
    return shelves(world)[0]


MAPPING = {"act": "mapping", "log": LOG.app, "version": 5, "from": 0}


@pytest.mark.parametrize(
    "entry",
    [b"[]", b'[["act", "mapping"]]', b"7", b"\xff", b"[" * 50_000, b'{"at": 1, "at": 2}', b"NaN"],
)
def test_signed_entries_that_are_no_acts_are_another_log(world, entry):
    shelf = signed_acts(world, json.dumps(MAPPING).encode(), entry)
    with pytest.raises(Invalid):
        operator_acts.read(shelf, world.vkeys())
    assert removed(world) == []


@pytest.mark.parametrize("odd", [{"version": "5"}, {"version": [5]}, {"from": None}, {"from": 0.5},
                                 {"from": True}, {"version": {}}])  # fmt: skip
def test_an_act_about_a_mapping_without_its_numbers_is_invalid(world, odd):
    shelf = signed_acts(world, json.dumps({**MAPPING, **odd}).encode())
    with pytest.raises(Invalid, match="has no number"):
        operator_acts.mappings(shelf, LOG.app, world.vkeys())


def test_an_act_of_an_unknown_kind_means_nothing(world):
    others = ({"log": LOG.app}, {"log": LOG.app, "act": 7}, {"log": 7}, {**MAPPING, "log": "x"})
    shelf = signed_acts(world, *(json.dumps(act).encode() for act in (MAPPING, *others)))
    assert operator_acts.mappings(shelf, LOG.app, world.vkeys()).versions == {5}


CONFIGURED = {"act": "configuration", "at": NOON.isoformat(), "part": "okta", "now": {"a": 1}}


@pytest.mark.parametrize(
    ("change", "complete"),
    [
        ({}, True),
        ({"now": None}, True),
        ({"act": "retention", "part": None}, True),
        ({"at": "2026-03-01T12:00:00"}, False),
        ({"at": "yesterday"}, False),
        ({"at": None}, False),
        ({"part": 7}, False),
        ({"now": "off"}, False),
    ],
)
def test_an_act_about_the_configuration_states_a_time_a_part_and_its_state(change, complete):
    listed = [json.dumps(act).encode() for act in (MAPPING, {**CONFIGURED, **change})]
    if complete:
        operator_acts.check(listed)
    else:
        with pytest.raises(Invalid, match="act 1 is about the configuration, and malformed"):
            operator_acts.check(listed)


@pytest.mark.parametrize(("size", "reason"), [(2**20, "not as it was"), (2**63 - 1, "claims")])
def test_a_checkpoint_of_any_size_ends_the_search_where_the_acts_end(
    world, size, reason, monkeypatch
):
    read, real = [], operator_acts.bundle
    monkeypatch.setattr(operator_acts, "bundle", lambda *at: read.append(at) or real(*at))
    shelf = signed_acts(world, json.dumps(MAPPING).encode())
    huge = Head(origin="auditlake/acts/1", size=size, root=b"r" * 32)
    path = world.folder / "lake/integrity/acts/checkpoint"
    path.write_bytes(note.signed(huge.text, keys.signing(world.integrity)))
    with pytest.raises(Invalid, match=reason):
        operator_acts.entries(shelf, world.vkeys())
    assert len(read) <= 1


def test_a_checkpoint_that_is_no_text_is_invalid(world):
    shelf = signed_acts(world, json.dumps(MAPPING).encode())
    (world.folder / "lake/integrity/acts/checkpoint").write_bytes(b"\xff")
    with pytest.raises(Invalid, match="not UTF-8"):
        operator_acts.entries(shelf, world.vkeys())


@pytest.mark.parametrize(
    "listed",
    [
        b"", b"{}", b"7", b"\xff", b"[7]", b'["ab"]', b"[[0]]", b"[[0, 1, 2]]", b'[[0, "9"]]',
        b"[[0, 9.0]]", b"[[0, null]]", b"[[false, 9]]", b"[[0, [9]]]", b"[[-5, 9]]", b"[[9, 0]]",
        b"[" * 50_000, b"[[0, 1e999]]", b"[[0, " + b"9" * 5_000 + b"]]",
    ],
)  # fmt: skip
def test_a_list_of_anything_but_spans_of_rows_excuses_nothing(world, listed):
    digest = sha256(listed).hexdigest()
    signed_acts(world, json.dumps({"table": LOG.table, "rows_sha256": digest}).encode())
    signer.of(world.lake, LOG.app).folder.put(f"removed/{digest}.json", listed)
    assert removed(world) == []


@pytest.mark.parametrize("digest", [7, None, [], {"a": 1}, "../../x", "a\0b", "x" * 5_000])
def test_an_act_that_names_no_list_excuses_nothing(world, digest):
    signed_acts(world, json.dumps({"table": LOG.table, "rows_sha256": digest}).encode())
    assert removed(world) == []


def test_erased_rows_and_finished_removals_are_known_apart(world):
    remove(world, (0, 100))
    writer.record(world.lake, {"act": "retention finished", "acts": 1}, NOON)
    listed = b"[[200, 201]]"
    digest = sha256(listed).hexdigest()
    signer.of(world.lake, LOG.app).folder.put(f"removed/{digest}.json", listed)
    act = {"act": "erasure", "table": LOG.table, "rows_sha256": digest}
    writer.record(world.lake, act, NOON)
    found = operator_acts.removed(*shelves(world), LOG.table, world.vkeys())
    assert (found.rows, found.erased) == ([(0, 100), (200, 201)], [(200, 201)])
    assert found.finished == [(0, 100)]


ACTS = Mappings(versions=frozenset({3, 4}), newest=4, start=100)


@pytest.mark.parametrize(
    ("acts", "version", "seq", "current", "excused"),
    [
        (Mappings(), 3, 5, 4, True),
        (Mappings(), 5, 5, 4, False),
        (ACTS, 3, 99, 4, True),
        (ACTS, 3, 100, 4, False),
        (ACTS, 4, 100, 5, True),
        (ACTS, 5, 100, 4, False),
        (Mappings(versions=frozenset({4, 5}), newest=4, start=9), 5, 100, 4, True),
        (Mappings(versions=frozenset({4, 5}), newest=4, start=9, finished=True), 5, 1, 4, False),
        (Mappings(versions=frozenset({4}), newest=4, finished=True), 3, 0, 4, False),
        (ACTS, None, 0, 4, False),
    ],
)
def test_an_act_excuses_only_what_it_states(acts, version, seq, current, excused):
    assert acts.excuses(version, seq, current) is excused
