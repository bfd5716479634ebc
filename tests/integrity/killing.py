"""A retention run in a process that kills itself at its n-th step."""

import os
import signal
from datetime import date

from pipelines import disk
from pipelines.integrity import retention, signer
from pipelines.lake import commits, deletions, identity_table, rollup_table, text_index_table
from tests.integrity.worlds import LOG, NOON, Signed

REMOVAL = retention.Removal(log=LOG, before=date(2026, 3, 2), who="ada", why="a rule")
STEPS = (
    (disk, "write_atomically"),
    (signer, "announce"),
    (signer, "_publish"),
    (deletions, "delete_rows"),
    (deletions, "_commit"),
    (deletions, "vacuum"),
    (commits, "_write_once"),
    (identity_table, "derive"),
    (rollup_table, "forget"),
    (text_index_table, "forget"),
)
"""The functions that change something; a kill comes before or after a call of one of them."""


def retain_until(folder, number, name=None):
    """Retain; kill this process at the step `number`, of those that call `name` if it is given."""
    left = number

    def step(called):
        nonlocal left
        if name in (None, called):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def deadly(real, called):
        def call(*arguments, **options):
            step(called)
            result = real(*arguments, **options)
            step(called)
            return result

        return call

    for module, called in STEPS:
        setattr(module, called, deadly(getattr(module, called), called))
    retention.remove(Signed(folder).lake, REMOVAL, NOON)
