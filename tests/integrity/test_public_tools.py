"""The independent tool tlog-scales reads the logs; the verifier shares no code with the signer."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import copy

import pytest
from tlog_scales import tiles as their_tiles
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey
from tlog_scales.tlog import Checkpoint, ConsistencyProof, ConsistencyProofInvalid

from pipelines.integrity import bundles, merkle, prove, signer, tiles
from pipelines.integrity import verifier as verifiers
from tests.integrity.worlds import LOG, Signed


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A lake that tests must not change."""
    return Signed(tmp_path_factory.mktemp("filled")).fill()


@pytest.fixture
def reader(filled):
    found = TilesReader(LocalBackend(filled.log))
    found.get_checkpoint()
    return found


def test_tlog_scales_accepts_the_signature_and_the_root(filled, reader):
    checkpoint = reader.get_checkpoint()
    checkpoint.verify(Vkey.from_string(filled.vkeys()[0]))
    assert reader.calculate_root_hash() == checkpoint.root_hash


def test_its_inclusion_proofs_match_ours(filled, reader):
    checkpoint, ours = reader.get_checkpoint(), prove.prover(filled.lake, LOG.app)
    for index in (0, 1, 255, 256, 511, 699):
        theirs = reader.get_inclusion_proof(index, 700)
        assert theirs.node_hashes == merkle.inclusion(index, 0, 700, ours.subtree)
        entry = signer.entries(filled.rows()[index : index + 1])[0]
        theirs.check(their_tiles.leaf_hash(entry), checkpoint.root_hash)
        with pytest.raises(RuntimeError, match="tile"):
            reader.get_entry(index)


def test_it_reads_the_entries_of_a_log_that_was_written_for_it(filled, tmp_path):
    assert bundles.write(filled.lake, LOG.app, tmp_path / "log") == 700
    reader = TilesReader(LocalBackend(tmp_path / "log"))
    checkpoint = reader.get_checkpoint()
    checkpoint.verify(Vkey.from_string(filled.vkeys()[0]))
    assert reader.calculate_root_hash() == checkpoint.root_hash
    for index in (0, 255, 256, 699):
        entry = reader.get_entry(index)
        proof = reader.get_inclusion_proof(index, 700)
        proof.check(their_tiles.leaf_hash(entry), checkpoint.root_hash)


def test_it_finds_every_earlier_checkpoint_consistent(filled, reader):
    notes = verifiers_history(filled)
    assert len(notes) == 7
    last = Checkpoint.from_text(notes[-1])
    for note in notes:
        old = Checkpoint.from_text(note)
        proof = reader.get_consistency_proof(old.size, last.size)
        proof.check(old.root_hash, last.root_hash)
        ours = merkle.consistency(old.size, 0, 700, tiles.subtree(signer.of(
            filled.lake, LOG.app).folder, 700))  # fmt: skip
        assert proof.node_hashes == ours
    wrong = ConsistencyProof(400, 700, reader.get_consistency_proof(400, 700).node_hashes)
    with pytest.raises(ConsistencyProofInvalid):
        wrong.check(Checkpoint.from_text(notes[0]).root_hash, last.root_hash)


def verifiers_history(filled):
    from pipelines.integrity.verifier import diagnosis

    return diagnosis.history(filled.place.shelf(LOG.app))


def test_the_verifier_shares_no_code_with_the_writer():
    # Schemas are the format of the tables, which both have to agree on, and errors are what the
    # command line prints: both are no code.
    allowed = {f"pipelines.{name}" for name in ("integrity.verifier", "settings", "schemas")}
    allowed.add("pipelines.errors")
    # Functions that map records, open files and connect; they decide nothing.
    names = ("mapping.normalise", "registry", "visible", "sdk.record_versions", "disk")
    pure = {f"pipelines.{name}" for name in (*names, "web.network")}
    folder = Path(verifiers.__file__).parent
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("pipelines"):
                named = {f"{node.module}.{alias.name}" for alias in node.names}
                of_pure = named <= pure or node.module in pure
                assert of_pure or any(node.module.startswith(a) for a in allowed), file


def test_the_auditors_program_needs_only_python():
    files = [Path(verifiers.__file__).parent / f"{name}.py" for name in ("audit", "proofs")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    names = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import)
             for alias in node.names}  # fmt: skip
    names |= {node.module.split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    # The project's own name is imported within it only: a copy runs without it.
    assert names <= {*sys.stdlib_module_names, "proofs", "pipelines"}


def test_copies_of_the_auditors_program_run_on_their_own(filled, tmp_path):
    for name in ("audit", "proofs"):
        copy(Path(verifiers.__file__).parent / f"{name}.py", tmp_path)
    proof = tmp_path / "proof.json"
    proof.write_text(json.dumps(prove.prove(filled.lake, "okta:system_log:id-000417")))
    command = [sys.executable, "audit.py", str(proof), "--key", filled.vkeys()[0]]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=clean, check=False
    )
    assert (done.returncode, done.stdout[:6]) == (0, "ok    "), done.stderr
