"""No sequence of events leads to two signed checkpoints that contradict each other."""

import os
import shutil
import tempfile
from pathlib import Path

from deltalake import DeltaTable
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipelines.integrity import keys, signer
from pipelines.integrity.signer import Alarm
from pipelines.integrity.verifier import diagnosis, proofs
from tests.integrity.worlds import LOG, NOON, Signed

WORLDS = int(os.environ.get("AUDITLAKE_WORLDS", "8"))


class Signing(RuleBasedStateMachine):
    """A table that is written, signed, damaged, compacted and rolled back, with all its notes."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.world = Signed(self.folder)
        self.landed = 0
        self.seen = set()
        self.leaves = []

    def teardown(self):
        shutil.rmtree(self.folder)

    @rule(count=st.sampled_from([1, 7, 255, 300]), signs=st.booleans())
    def land(self, count, signs):
        """A complete round, or one killed between its commit and its signature."""
        numbers = range(self.landed, self.landed + count)
        self.landed = self.world.land(*numbers, sign=signs, derive=False)

    @rule()
    def idle_round(self):
        signer.sign(self.world.lake, LOG, self.landed, NOON)

    @precondition(lambda self: self.seen)
    @rule(left=st.sampled_from([b"", b"\0" * 190]))
    def power_cut_empties_the_checkpoint(self, left):
        (self.world.log / "checkpoint").write_bytes(left)

    @precondition(lambda self: self.seen)
    @rule()
    def tiles_are_lost(self):
        shutil.rmtree(self.world.log / "tile", ignore_errors=True)

    @precondition(lambda self: self.seen)
    @rule()
    def memory_is_cut_short(self):
        lines = (self.world.place.memory / "signed").glob("*.ndjson")
        for file in (*lines, *(self.world.log / "history").iterdir()):
            file.write_bytes(file.read_bytes() + b'{"origin": "aud')

    @precondition(lambda self: self.landed)
    @rule()
    def compaction(self):
        DeltaTable(str(self.world.table)).optimize.compact()

    @precondition(lambda self: self.seen)
    @rule()
    def a_key_is_replaced(self):
        keys.rotate(self.world.integrity)
        signer.sign(self.world.lake, LOG, self.landed, NOON)
        keys.retire(self.world.integrity)

    @precondition(lambda self: self.seen)
    @rule()
    def rolled_back_and_put_right(self):
        """Restore the lake of a round ago: the signer must refuse; then bring the real one back."""
        lake, before, true = (self.folder / name for name in ("lake", "before", "true"))
        shutil.copytree(lake, before)
        former = self.landed
        self.land(20, signs=True)
        lake.rename(true)
        before.rename(lake)
        try:
            signer.sign(self.world.lake, LOG, former, NOON)
            raise AssertionError("signed although signed rows are missing")
        except Alarm:
            shutil.rmtree(lake)
            true.rename(lake)

    @invariant()
    def all_that_was_signed_is_one_history(self):
        notes = set(diagnosis.history(self.world.place.shelf(LOG.app)))
        for note in notes - self.seen:
            head = proofs.read_checkpoint(note, self.world.vkeys())
            if head.size > len(self.leaves):
                grown = [proofs.leaf_hash(e) for e in signer.entries(self.world.rows())]
                assert grown[: len(self.leaves)] == self.leaves
                self.leaves = grown[: head.size]
            assert head.root == proofs.root_of(self.leaves[: head.size])
        self.seen |= notes


Signing.TestCase.settings = settings(max_examples=WORLDS, stateful_step_count=12, deadline=None)
TestNoTwoCheckpointsContradict = Signing.TestCase
