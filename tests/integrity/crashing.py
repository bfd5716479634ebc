"""A round in a process that kills itself at the n-th thing it does to a file."""

import os
import signal
import sys

from pipelines.integrity import signer
from pipelines.lake import raw
from tests.integrity.worlds import LOG, NOON, Signed

BATCH = 23
_TOUCHES = {"open", "os.rename", "os.remove", "os.mkdir", "os.link", "os.rmdir"}


def round_until(folder, touches):
    """Make up for what a kill prevented, then land a batch; die at touch number `touches`."""
    signed, left = Signed(folder), touches

    def count(event, arguments):
        nonlocal left
        if event in _TOUCHES and str(folder) in os.fsdecode(str(arguments[0])):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    # No row comes twice here, and to start Polars' readers takes longer than all the rest.
    raw._known = lambda *_: None
    sys.addaudithook(count)
    one_round(signed)


def one_round(signed):
    rows = raw.position(signed.lake, LOG).rows
    signer.sign(signed.lake, LOG, rows, NOON)
    signed.land(*range(rows, rows + BATCH), derive=False)
