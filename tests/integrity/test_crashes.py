"""SIGKILL between any two steps: signatures never contradict each other, and signing resumes."""

import json
import multiprocessing
import os
import shutil
import signal

import pytest

from pipelines.integrity import last_signed, signer
from pipelines.integrity.signer import Alarm
from pipelines.integrity.verifier import audit
from pipelines.lake import raw
from tests.integrity import attacks, crashing
from tests.integrity.worlds import LOG, NOON, Signed, rows

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
    leaves = [audit.leaf_hash(entry) for entry in signer.entries(signed.rows())]
    heads = [audit.read_checkpoint(note, signed.vkeys()) for note in seen]
    assert len({head.origin for head in heads}) == 1
    assert all(head.root == audit.root_of(leaves[: head.size]) for head in heads)
    assert signed.verify(events=False).ok
    return steps


def head(signed):
    """Return size and root of the checkpoint."""
    return tuple((signed.log / "checkpoint").read_text().split("\n")[1:3])


def test_a_commit_that_was_not_signed_is_signed_by_the_next_round(signed):
    signed.land(*range(700, 730), day=3, sign=False)
    assert signed.verify().first_bad.kind == "unsigned"
    signer.sign(signed.lake, LOG, 730, NOON)
    assert signed.verify().ok


def test_the_slower_of_two_writers_raises_no_alarm_if_its_rows_are_signed_already(signed):
    one = raw.append(signed.lake, LOG, rows(range(700, 710), day=3), "c").frame
    other = raw.append(signed.lake, LOG, rows(range(710, 720), day=3), "c").frame
    signer.sign(signed.lake, LOG, 720, NOON, other)
    signer.sign(signed.lake, LOG, 710, NOON, one)
    signer.sign(signed.lake, LOG, 700, NOON)
    signed.derive(one)
    signed.derive(other)
    assert (signed.verify().ok, signed.verify().size) == (True, 720)


def test_truncating_signed_rows_raises_an_alarm(signed):
    attacks.truncate(signed)
    with pytest.raises(Alarm, match="600 rows, but 700 were signed"):
        signer.sign(signed.lake, LOG, 700, NOON)


def test_lost_tiles_are_rebuilt_from_the_rows(signed):
    shutil.rmtree(signed.log / "tile")
    signed.land(*range(700, 730), day=3)
    assert signed.verify(full=True).ok


def test_a_checkpoint_emptied_by_a_power_cut_is_published_again(signed):
    for left in (b"", b"\0" * 190):
        before = (signed.log / "checkpoint").read_bytes()
        (signed.log / "checkpoint").write_bytes(left)
        signer.sign(signed.lake, LOG, 700, NOON)
        assert (signed.log / "checkpoint").read_bytes() == before


def test_a_truncated_line_in_the_local_record_is_skipped(signed):
    (memory,) = (signed.place.memory / "signed").glob("*.ndjson")
    memory.write_bytes(memory.read_bytes() + b'{"origin": "aud')
    signed.land(*range(700, 730), day=3)
    assert signed.verify().ok
    assert last_signed.recall(signed.place.memory, LOG.table).size == 730


def test_an_idle_round_signs_nothing(signed):
    before = {p: p.stat().st_mtime_ns for p in signed.log.rglob("*")}
    signer.sign(signed.lake, LOG, 700, NOON)
    assert {p: p.stat().st_mtime_ns for p in signed.log.rglob("*")} == before
