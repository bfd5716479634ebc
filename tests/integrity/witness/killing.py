"""Witnesses that are killed at their n-th file operation, each in a process of its own.

`python -m tests.integrity.witness.killing FOLDER` prints a JSON line for each: what was answered.
"""

import json
import os
import signal
import sys
from pathlib import Path

from pipelines.integrity import cosignatures, note
from pipelines.integrity.witness import state
from pipelines.integrity.witness.protocol import Witness
from tests.integrity.witness.trees import Log

LOG = Log(note.new_key("audit.example"))
KEY = cosignatures.new_key("witness.example/w1")
SIZES = (3, 8, 9)
_TOUCHES = {"open", "os.rename", "os.remove", "os.link"}


def answer_until(folder, touches, pipe):
    """Answer requests to cosign a growing log; kill this process at file operation `touches`."""
    left = touches

    def count(event, arguments):
        nonlocal left
        if event in _TOUCHES and str(folder) in os.fsdecode(str(arguments[0])):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    with state.opened(folder) as opened:
        witness = Witness(KEY, [LOG.key.vkey], opened, lambda: 1000)
        for old, size in zip((0, *SIZES), SIZES, strict=False):
            if witness.add_checkpoint(LOG.request(old, size)).status == 200:
                os.write(pipe, b"%d\n" % size)


def answered(folder, touches):
    """Return (sizes answered, whether it was killed)."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        answer_until(folder, touches, write)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as lines:
        sizes = [int(line) for line in lines]
    return sizes, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def refused(folder, size):
    """Return the statuses for a smaller tree and for another one, as a witness started again."""
    with state.opened(folder) as opened:
        witness = Witness(KEY, [LOG.key.vkey], opened, lambda: 1000)
        seen = opened.newest(LOG.origin)
        held = seen.size if seen else 0
        fork = Log(LOG.key, fork={0: "!"})
        bodies = (LOG.request(0, 2), LOG.request(2, 2), fork.request(held, 12))
        return held, [witness.add_checkpoint(body).status for body in bodies if size]


if __name__ == "__main__":
    for number in range(1, 100):
        place = Path(sys.argv[1]) / str(number)
        sizes, killed = answered(place, number)
        held, statuses = refused(place, len(sizes))
        print(json.dumps({"answered": sizes, "killed": killed, "held": held, "then": statuses}))
        if not killed:
            break
