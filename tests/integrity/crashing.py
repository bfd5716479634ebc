"""A round in a process that kills itself at its n-th file operation."""

import os
import signal
import sys

from pipelines.integrity import signer
from pipelines.lake import raw
from tests.integrity.worlds import LOG, NOON, Signed

BATCH = 23
_TOUCHES = {"open", "os.rename", "os.remove", "os.mkdir", "os.link", "os.rmdir"}


def round_until(folder, touches):
    """Sign leftover rows, then store a batch; kill this process at file operation `touches`."""
    signed, left = Signed(folder), touches

    def count(event, arguments):
        nonlocal left
        if event in _TOUCHES and str(folder) in os.fsdecode(str(arguments[0])):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    # No row is repeated here, and starting Polars' readers takes longer than everything else.
    raw._known = lambda *_: None
    sys.addaudithook(count)
    one_round(signed)


def one_round(signed):
    rows = raw.position(signed.lake, LOG).rows
    signer.sign(signed.lake, LOG, rows, NOON)
    signed.land(*range(rows, rows + BATCH), derive=False)
