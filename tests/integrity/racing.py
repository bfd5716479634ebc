"""Writers of one table in processes of their own, as a poll, a push and a backfill are."""

from pipelines.integrity import signer
from pipelines.lake import raw
from tests.integrity.worlds import LOG, NOON, Signed, rows

BATCHES, BATCH = 6, 17


def write(folder, via, first):
    """Land and sign batches one after the other, whoever else does the same."""
    signed = Signed(folder)
    for begin in range(first, first + BATCHES * BATCH, BATCH):
        batch = rows(range(begin, begin + BATCH), via=via)
        landed = raw.append(signed.lake, LOG, batch, "cursor").frame
        signer.sign(signed.lake, LOG, landed["seq"][-1] + 1, NOON, landed)
