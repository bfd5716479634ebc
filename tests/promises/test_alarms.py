"""A short form of the soak that `make soak` runs."""

from __future__ import annotations

from pathlib import Path

from pipelines.integrity import signer
from pipelines.lake import tables
from tests.integrity.worlds import LOG, Signed
from tests.promises import alarms


def test_a_busy_lake_raises_no_alarm_but_that_of_a_planted_rollback(tmp_path: Path) -> None:
    assert list(alarms.soak(tmp_path, verifications=6, seed=1)) == []
    lake = Signed(tmp_path).lake
    stored = tables.scan(lake, LOG.table)
    assert stored is not None
    assert set(stored.select("via").unique().collect()["via"]) == {"poll", "webhook"}
    assert signer.removed(lake, LOG.app)
