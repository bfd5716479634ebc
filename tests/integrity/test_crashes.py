"""SIGKILL between any two steps: signatures never contradict each other, and signing resumes."""

import json
import multiprocessing
import os
import signal

from pipelines.integrity import signer
from pipelines.integrity.verifier import proofs
from pipelines.lake import raw
from tests.integrity import crashing
from tests.integrity.worlds import LOG, NOON, Signed

KILLS = int(os.environ.get("AUDITLAKE_SIGNING_KILLS", "30"))  # `make soak`: 200


ROUNDS = 14  # per lake; more would only be slower


def killed_rounds(folder, first):
    """Run rounds, each killed one step later than the one before; yield the step it died at."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.integrity.crashing"])
    finished, touches = 0, first
    while finished < ROUNDS:
        process = context.Process(target=crashing.round_until, args=(folder, touches))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if process.exitcode:
            yield touches
        touches = touches + 1 if process.exitcode else 1
        finished = raw.position(Signed(folder).lake, LOG).rows // crashing.BATCH


def everything_signed(signed):
    """Return the notes of the checkpoint and the history."""
    checkpoint = signed.log / "checkpoint"
    notes = {checkpoint.read_text()} if checkpoint.exists() else set()
    for month in (signed.log / "history").glob("*"):
        notes |= {json.loads(line)["note"] for line in month.read_text().splitlines()}
    return notes


def test_kills_at_every_step_leave_consistent_logs(tmp_path):
    steps, number = [], 0
    while len(steps) < KILLS:
        number += 1
        steps += survived(Signed(tmp_path / f"world{number}"), steps[-1] + 1 if steps else 1)
    assert len(set(steps)) > 20, "a round has more steps than that"
    never_killed = Signed(tmp_path / "calm")
    for _ in range(ROUNDS):
        crashing.one_round(never_killed)
    heads = {head(Signed(tmp_path / f"world{n}")) for n in range(1, number + 1)}
    assert heads == {head(never_killed)}


def survived(signed, first):
    """Return the steps at which rounds were killed, after checking every signature ever made."""
    steps, seen = [], set()
    for step in killed_rounds(signed.folder, first):
        seen |= everything_signed(signed)
        steps.append(step)
    signer.sign(signed.lake, LOG, raw.position(signed.lake, LOG).rows, NOON)
    seen |= everything_signed(signed)
    leaves = [proofs.leaf_hash(entry) for entry in signer.entries(signed.rows())]
    heads = [proofs.read_checkpoint(note, signed.vkeys()) for note in seen]
    assert len({head.origin for head in heads}) == 1
    assert all(head.root == proofs.root_of(leaves[: head.size]) for head in heads)
    assert signed.verify(events=False).ok
    return steps


def head(signed):
    """Return size and root of the checkpoint."""
    return tuple((signed.log / "checkpoint").read_text().split("\n")[1:3])
