"""A writer process, like a poll, a webhook worker or a backfill."""

from pipelines.integrity import signer
from pipelines.lake import raw
from tests.integrity.worlds import LOG, NOON, Signed, rows

BATCHES, BATCH = 6, 17


def write(folder, via, first):
    """Store and sign batches in sequence, while other processes do the same."""
    signed = Signed(folder)
    for begin in range(first, first + BATCHES * BATCH, BATCH):
        batch = rows(range(begin, begin + BATCH), via=via)
        landed = raw.append(signed.lake, LOG, batch, "cursor").frame
        signer.sign(signed.lake, LOG, landed["seq"][-1] + 1, NOON, landed)
