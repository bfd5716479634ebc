"""Several processes write and sign one table at once."""

import multiprocessing

from pipelines.integrity.verifier import diagnosis, proofs
from tests.integrity import racing
from tests.integrity.worlds import LOG, Signed


def test_writers_that_race_on_one_table_sign_one_history(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.integrity.racing"])
    crowd = [
        context.Process(target=racing.write, args=(tmp_path, via, number * 1000))
        for number, via in enumerate(("poll", "webhook", "backfill", "poll"))
    ]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join()
    assert [process.exitcode for process in crowd] == [0] * len(crowd)
    total = len(crowd) * racing.BATCHES * racing.BATCH
    signed = Signed(tmp_path)
    verdict = signed.verify(events=False)
    assert (verdict.ok, verdict.size, len(signed.vkeys())) == (True, total, 1)
    assert set(signed.rows()["via"]) == {"poll", "webhook", "backfill"}
    one_history(signed)


def one_history(signed):
    """Check that the table is an extension of every checkpoint ever published."""
    from pipelines.integrity import signer

    leaves = [proofs.leaf_hash(entry) for entry in signer.entries(signed.rows())]
    notes = diagnosis.history(signed.place.shelf(LOG.app))
    heads = [proofs.read_checkpoint(note, signed.vkeys()) for note in notes]
    assert [head.size for head in heads] == sorted({head.size for head in heads})
    assert {head.origin for head in heads} == {heads[0].origin}
    assert all(head.root == proofs.root_of(leaves[: head.size]) for head in heads)
