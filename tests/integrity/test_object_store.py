"""A lake in an object store is signed and verified like one on disk."""

import pytest

from pipelines.integrity import prove, retention, signer
from pipelines.integrity.signer import Alarm
from pipelines.integrity.verifier import audit, diagnosis
from pipelines.lake import tables
from pipelines.lake.tables import Lake
from tests.integrity.test_retention import REMOVAL
from tests.integrity.worlds import LOG, NOON, Signed


class Stored(Signed):
    """A lake with a URL as its root, so all access goes through the object store interface."""

    @property
    def lake(self):
        return Lake(f"file://{self.folder}/lake", None, self.integrity)


@pytest.fixture
def stored(tmp_path):
    return Stored(tmp_path).fill(300)


def test_it_is_signed_and_verified(stored):
    assert stored.lake.local is None
    verdict = stored.verify()
    assert (verdict.ok, verdict.read, verdict.events) == (True, 300, 300)
    assert len(diagnosis.history(stored.place.shelf(LOG.app))) == 3


def test_proofs_and_retention_work(stored):
    proof = prove.prove(stored.lake, "raw/okta/system_log/257")
    assert audit.check_proof(proof, stored.vkeys()).size == 300
    stored.land(*range(300, 350), day=1)
    retention.remove(stored.lake, REMOVAL, NOON)
    assert stored.verify(full=True).removed == 300


def test_a_rollback_raises_an_alarm(stored):
    handle = tables.open_table(stored.lake, LOG.table)
    handle.restore(2)
    with pytest.raises(Alarm):
        signer.sign(stored.lake, LOG, 200, NOON)
    assert stored.verify().first_bad.kind == "truncated"
